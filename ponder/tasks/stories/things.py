"""Things that people have at first: bought, collected, baked, picked; what happens then is in `changes.py`."""

from __future__ import annotations

from fractions import Fraction

from ponder.tasks.stories import wordbook as book
from ponder.tasks.stories.changes import LEFT, MOVES, NOW
from ponder.tasks.stories.story import Source, State, Story, go_on

HOW_MANY = "How many {things} <does/did> {p} [have|end up with|have in the end|have in total]?"


def things(s: Story) -> None:
    sources = [owned, owned, grouped, grouped, coloured, compared, daily, dozens, baked, picked, twice_a_day, kept_back]
    go_on(s, s.pick(sources)(s), MOVES)


def _state(s: Story, value: Fraction | int, p: object, plural: str, singular: str, ask: str = NOW) -> State:
    fields = {"p": p, "things": plural, "thing": singular}
    return State("things", Fraction(value), ask, fields)


def owned(s: Story) -> State:
    p, (things, thing) = s.person(), s.thing(book.COLLECTED, book.PICKED, book.BAKED)
    n = s.some(8, 150)
    s.say(
        "[{p} <has/had> {n} {things}[| in {p.his} room| at home| in a big box| in {p.his} bag].|"
        "{p} <buys/bought> {n} {things}[| at {shop}| for {p.his} {kin}|].|"
        "{p} <starts/started> the [day|week|month] with {n} {things}.|"
        "{p} <gets/got> {n} {things} [from {p.his} {kin}|as a present|for {p.his} birthday].|"
        "[There <are/were> {n} {things} in {p}'s [basket|box|drawer|kitchen|bag].]]",
        p=p,
        n=n,
        things=things,
        shop=s.pick(book.SHOPS),
        kin=s.pick(book.KIN),
    )
    return _state(s, n, p, things, thing)


def grouped(s: Story) -> State:
    p, (things, thing) = s.person(), s.thing(book.COLLECTED, book.PICKED, book.BAKED)
    holders, holder = s.thing(book.HOLDERS)
    a, b = s.some(2, 12), s.some(3, 24)
    s.say(
        "[{p} <has/had> {a} {holders} of {things}. [Each {holder} <holds/held> {b} {things}.|There "
        "<are/were> {b} {things} in "
        "each {holder}.|Every {holder} <has/had> {b} {things} in it.]|"
        "{p} <has/had> {a} {holders} with {b} {things} in each [{holder}|one].|"
        "{p} <buys/bought> {a} {holders} of {things} that <contain/contained> {b} {things} each.|"
        "{p} <keeps/kept> {p.his} {things} in {a} {holders} of {b} each.|"
        "{things} <come/came> in {holders} of {b}. {p} <buys/bought> {a} {holders}[| at {shop}].]",
        p=p,
        a=a,
        b=b,
        things=things,
        holders=holders,
        holder=holder,
        shop=s.pick(book.SHOPS),
    )
    v = s.step("*", a, b, f"{a} {holders} of {b} make # {things}")
    return _state(s, v, p, things, thing)


def coloured(s: Story) -> State:
    p, (things, thing) = s.person(), s.thing(book.COLLECTED)
    one, two = s.rng.sample(book.COLOURS, 2)
    a, b = s.some(4, 60), s.some(4, 60)
    s.say(
        "[{p} <has/had> {a} {one} {things} and {b} {two} {things}.|{p} <finds/found> {a} {one} "
        "{things} and {b} {two} ones.|"
        "In {p.his} collection, {p} <has/had> {a} {one} and {b} {two} {things}.|"
        "A box <contains/contained> {a} {one} and {b} {two} {things}. It <belongs/belonged> to {p}.]",
        p=p,
        a=a,
        b=b,
        one=one,
        two=two,
        things=things,
    )
    v = s.step("+", a, b, f"Together that is # {things}")
    return _state(s, v, p, things, thing)


def compared(s: Story) -> State:
    q, p, (things, thing) = s.person(), s.person(), s.thing(book.COLLECTED, book.PICKED, book.CRAFTED)
    n, k = s.some(6, 60), s.pick([2, 2, 3, 3, 4, 5])
    got = s.pick(["<has/had>", "<collects/collected>", "<buys/bought>", "<finds/found>"])
    how = s.pick("times more fewer half".split())
    if how == "times":
        s.say(
            f"{{q}} {got} {{n}} {{things}}. {{p}} {got} {{k}} as many[ {{things}}|] as {{q}}.",
            q=q,
            p=p,
            n=n,
            k=s.times(k),
            things=things,
        )
        v = s.step("*", n, k, f"{p} has # {things}")
    elif how == "half":
        n *= 2
        s.say(f"{{q}} {got} {{n}} {{things}}, and {{p}} {got} half as many.", q=q, p=p, n=n, things=things)
        v = s.step("/", n, 2, f"{p} has # {things}")
    else:
        d = s.some(2, 20) if how == "more" else s.part(n, 0.1, 0.6)
        s.say(
            f"[{{q}} {got} {{n}} {{things}}. {{p}} {got} {{d}} {how} than {{q}}[|.|.]|"
            f"{{p}} {got} {{d}} {how} {{things}} than {{q}}, who {got} {{n}}.|"
            f"{{q}} {got} {{n}} {{things}} and {{p}} {got} {{d}} {how} than that.]".replace("[|.|.]", "."),
            q=q,
            p=p,
            n=n,
            d=d,
            things=things,
        )
        v = s.step("+" if how == "more" else "-", n, d, f"{p} has # {things}")
    return _state(s, v, p, things, thing)


def daily(s: Story) -> State:
    p, (things, thing) = s.person(), s.thing(book.PICKED, book.CRAFTED, book.COLLECTED)
    a, d = s.some(3, 25), s.some(2, 9)
    verb = s.pick(["<makes/made>", "<collects/collected>", "<packs/packed>", "<gathers/gathered>", "<sorts/sorted>"])
    span = s.pick(["day", "day", "week", "hour"])
    if span == "day" and s.chance(0.3):
        d = 7
        s.say(f"{{p}} {verb} {{a}} {{things}} [a|every|each|per] day for a [whole |]week.", p=p, a=a, things=things)
    else:
        s.say(
            f"[{{p}} {verb} {{a}} {{things}} [a|every|each|per] {span} for {{d}} {span}s.|"
            f"[Every|Each] {span}, {{p}} {verb} {{a}} {{things}}. {{p.He}} <does/did> this for {{d}} "
            f"{span}s.]",
            p=p,
            a=a,
            d=d,
            things=things,
        )
    v = s.step("*", a, d, f"In {d} {span}s that makes # {things}")
    return _state(s, v, p, things, thing)


def dozens(s: Story) -> State:
    p, (things, thing) = s.person(), s.thing(book.BAKED, book.PICKED)
    k = s.some(2, 9)
    s.say(
        "{p} [<buys/bought>|<gets/got>|<orders/ordered>|<picks/picked> up|<has/had>] {k} dozen {things}"
        "[| for a party| for the school fair| for {p.his} friends| on {day}].",
        p=p,
        k=k,
        things=things,
        day=s.pick(book.WEEKDAYS),
    )
    v = s.step("*", k, 12, f"{k} dozen are # {things}")
    return _state(s, v, p, things, thing)


def baked(s: Story) -> State:
    p, (things, thing) = s.person(), s.thing(book.BAKED)
    a, b = s.some(2, 9), s.some(6, 30)
    s.say(
        "[{p} <bakes/baked> {a} [trays|batches|pans] of {things} with {b} {things} in each.|"
        "One batch of dough <is/was> enough for {b} {things}. {p} <makes/made> {a} batches[| for "
        "{occasion}].|"
        "{p} <can/could> make {b} {things} from one bag of flour. {p.He} <uses/used> {a} bags of "
        "flour[| for {occasion}].|"
        "For {occasion}, {p} <makes/made> {a} trays of {b} {things} each.]",
        p=p,
        a=a,
        b=b,
        things=things,
        occasion=s.pick(["a bake sale", "a wedding", "the school fair", "a birthday party"]),
    )
    v = s.step("*", a, b, f"{p} makes # {things}")
    return _state(s, v, p, things, thing)


def picked(s: Story) -> State:
    p, (things, thing) = s.person(), s.thing(book.PICKED)
    a, b = s.some(3, 20), s.some(4, 30)
    plant = s.pick(["row", "bush", "tree", "patch", "bed"])
    es = "es" if plant in ("bush", "patch") else "s"
    s.say(
        f"[{{p}}'s garden <has/had> {{a}} {plant}{es}, and {{p.he}} <picks/picked> {{b}} {{things}} "
        f"from each {plant}.|"
        f"{{p}} <grows/grew> {{things}} on {{a}} {plant}{es}. Each {plant} <gives/gave> {{b}} {{things}}.|"
        f"A farmer named {{p}} <plants/planted> {{a}} {plant}{es}, and every {plant} <yields/yielded> "
        f"{{b}} {{things}}.]",
        p=p,
        a=a,
        b=b,
        things=things,
    )
    v = s.step("*", a, b, f"{p} picks # {things}")
    return _state(s, v, p, things, thing)


def twice_a_day(s: Story) -> State:
    """Two steps."""
    p, (things, thing) = s.person(), s.thing(book.PICKED, book.CRAFTED)
    a, b, d = s.some(2, 15), s.some(2, 15), s.some(2, 8)
    s.say(
        "[{p} <gathers/gathered> {a} {things} every morning and {b} every evening for {d} days.|"
        "Every day, {p} <makes/made> {a} {things} before lunch and {b} {things} after lunch. {p.He} "
        "<works/worked> for {d} days.]",
        p=p,
        a=a,
        b=b,
        d=d,
        things=things,
    )
    each = s.step("+", a, b, f"Every day that is # {things}")
    return _state(s, s.step("*", each, d, f"In {d} days that makes # {things}"), p, things, thing)


def kept_back(s: Story) -> State:
    p, (things, thing) = s.person(), s.thing(book.PICKED, book.BAKED)
    n = s.some(15, 120)
    a = s.part(n, 0.1, 0.4)
    s.say(
        "[{p} <buys/bought> {n} {things}, but {a} of them <are/were> [rotten|bad|spoiled|damaged].|"
        "Out of {n} {things} that {p} <has/had>, {a} <have/had> gone bad and <are/were> thrown away.|"
        "{p} <carries/carried> {n} {things} home, but {p.he} <drops/dropped> {a} of them on the way.]",
        p=p,
        n=n,
        a=a,
        things=things,
    )
    return _state(s, s.step("-", n, a, f"{p} has # good {things}"), p, things, thing, LEFT)


SOURCES: list[Source] = [owned, grouped, coloured, compared, daily, dozens, baked, picked, twice_a_day, kept_back]
