"""Things that people have: collected, baked, picked, given away, shared, packed and sold.

Sources make a first amount, moves change it. A move may change its kind: things -> packs, shares, days, money.
"""

from __future__ import annotations

from fractions import Fraction

from ponder.tasks.stories import wordbook as book
from ponder.tasks.stories.money import MONEY_MOVES
from ponder.tasks.stories.story import Again, Move, Source, State, Story, go_on

HOW_MANY = "How many {things} <does/did> {p} [have|end up with|have in the end|have in total]?"
NOW = "How many {things} does {p} have [now|in total|now|altogether]?"
LEFT = "How many {things} [does {p} have left|are left|does {p} still have|remain|does {p} have now|are there left]?"


def things(s: Story) -> None:
    sources = [owned, owned, grouped, grouped, coloured, compared, daily, dozens, baked, picked, twice_a_day, kept_back]
    go_on(s, s.pick(sources)(s), MOVES)


# ---- sources ------------------------------------------------------------------------------------------------------


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
        p=p, n=n, things=things, shop=s.pick(book.SHOPS), kin=s.pick(book.KIN),
    )  # fmt: skip
    return _state(s, n, p, things, thing)


def grouped(s: Story) -> State:
    p, (things, thing) = s.person(), s.thing(book.COLLECTED, book.PICKED, book.BAKED)
    holders, holder = s.thing(book.HOLDERS)
    a, b = s.some(2, 12), s.some(3, 24)
    s.say(
        "[{p} <has/had> {a} {holders} of {things}. [Each {holder} <holds/held> {b} {things}.|There <are/were> {b} {things} in "
        "each {holder}.|Every {holder} <has/had> {b} {things} in it.]|"
        "{p} <has/had> {a} {holders} with {b} {things} in each [{holder}|one].|"
        "{p} <buys/bought> {a} {holders} of {things} that <contain/contained> {b} {things} each.|"
        "{p} <keeps/kept> {p.his} {things} in {a} {holders} of {b} each.|"
        "{things} <come/came> in {holders} of {b}. {p} <buys/bought> {a} {holders}[| at {shop}].]",
        p=p, a=a, b=b, things=things, holders=holders, holder=holder, shop=s.pick(book.SHOPS),
    )  # fmt: skip
    v = s.step("*", a, b, f"{a} {holders} of {b} make # {things}")
    return _state(s, v, p, things, thing)


def coloured(s: Story) -> State:
    p, (things, thing) = s.person(), s.thing(book.COLLECTED)
    one, two = s.rng.sample(book.COLOURS, 2)
    a, b = s.some(4, 60), s.some(4, 60)
    s.say(
        "[{p} <has/had> {a} {one} {things} and {b} {two} {things}.|{p} <finds/found> {a} {one} {things} and {b} {two} ones.|"
        "In {p.his} collection, {p} <has/had> {a} {one} and {b} {two} {things}.|"
        "A box <contains/contained> {a} {one} and {b} {two} {things}. It <belongs/belonged> to {p}.]",
        p=p, a=a, b=b, one=one, two=two, things=things,
    )  # fmt: skip
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
            q=q, p=p, n=n, k=s.times(k), things=things,
        )  # fmt: skip
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
            q=q, p=p, n=n, d=d, things=things,
        )  # fmt: skip
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
            f"[Every|Each] {span}, {{p}} {verb} {{a}} {{things}}. {{p.He}} <does/did> this for {{d}} {span}s.]",
            p=p, a=a, d=d, things=things,
        )  # fmt: skip
    v = s.step("*", a, d, f"In {d} {span}s that makes # {things}")
    return _state(s, v, p, things, thing)


def dozens(s: Story) -> State:
    p, (things, thing) = s.person(), s.thing(book.BAKED, book.PICKED)
    k = s.some(2, 9)
    s.say(
        "{p} [<buys/bought>|<gets/got>|<orders/ordered>|<picks/picked> up|<has/had>] {k} dozen {things}"
        "[| for a party| for the school fair| for {p.his} friends| on {day}].",
        p=p, k=k, things=things, day=s.pick(book.WEEKDAYS),
    )  # fmt: skip
    v = s.step("*", k, 12, f"{k} dozen are # {things}")
    return _state(s, v, p, things, thing)


def baked(s: Story) -> State:
    p, (things, thing) = s.person(), s.thing(book.BAKED)
    a, b = s.some(2, 9), s.some(6, 30)
    s.say(
        "[{p} <bakes/baked> {a} [trays|batches|pans] of {things} with {b} {things} in each.|"
        "One batch of dough <is/was> enough for {b} {things}. {p} <makes/made> {a} batches[| for {occasion}].|"
        "{p} <can/could> make {b} {things} from one bag of flour. {p.He} <uses/used> {a} bags of flour[| for {occasion}].|"
        "For {occasion}, {p} <makes/made> {a} trays of {b} {things} each.]",
        p=p, a=a, b=b, things=things, occasion=s.pick(["a bake sale", "a wedding", "the school fair", "a birthday party"]),
    )  # fmt: skip
    v = s.step("*", a, b, f"{p} makes # {things}")
    return _state(s, v, p, things, thing)


def picked(s: Story) -> State:
    p, (things, thing) = s.person(), s.thing(book.PICKED)
    a, b = s.some(3, 20), s.some(4, 30)
    plant = s.pick(["row", "bush", "tree", "patch", "bed"])
    es = "es" if plant in ("bush", "patch") else "s"
    s.say(
        f"[{{p}}'s garden <has/had> {{a}} {plant}{es}, and {{p.he}} <picks/picked> {{b}} {{things}} from each {plant}.|"
        f"{{p}} <grows/grew> {{things}} on {{a}} {plant}{es}. Each {plant} <gives/gave> {{b}} {{things}}.|"
        f"A farmer named {{p}} <plants/planted> {{a}} {plant}{es}, and every {plant} <yields/yielded> {{b}} {{things}}.]",
        p=p, a=a, b=b, things=things,
    )  # fmt: skip
    v = s.step("*", a, b, f"{p} picks # {things}")
    return _state(s, v, p, things, thing)


def twice_a_day(s: Story) -> State:
    """Two steps."""
    p, (things, thing) = s.person(), s.thing(book.PICKED, book.CRAFTED)
    a, b, d = s.some(2, 15), s.some(2, 15), s.some(2, 8)
    s.say(
        "[{p} <gathers/gathered> {a} {things} every morning and {b} every evening for {d} days.|"
        "Every day, {p} <makes/made> {a} {things} before lunch and {b} {things} after lunch. {p.He} <works/worked> for {d} days.]",
        p=p, a=a, b=b, d=d, things=things,
    )  # fmt: skip
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
        p=p, n=n, a=a, things=things,
    )  # fmt: skip
    return _state(s, s.step("-", n, a, f"{p} has # good {things}"), p, things, thing, LEFT)


# ---- moves --------------------------------------------------------------------------------------------------------


def _next(s: Story, st: State, value: Fraction, ask: str) -> State:
    return State("things", value, ask, st.fields)


def gain(s: Story, st: State) -> State:
    a = s.some(2, 50)
    s.say(
        "[{then}, {p.he} <buys/bought> {a} more[ {things}|].|{then}, {p.his} {kin} <gives/gave> {p.him} {a} more {things}.|"
        "{p.He} then <gets/got> {a} more[| from {p.his} {kin}].|{then}, {p.he} <finds/found> another {a} {things}.|"
        "{p.His} {kin} <adds/added> {a} {things}[| of {p.his} own].]",
        **st.fields, a=a, then=s.then(), kin=s.pick(book.KIN),
    )  # fmt: skip
    return _next(s, st, s.step("+", st.value, a, f"Then {st.fields['p']} has # {st.fields['things']}"), NOW)


def lose(s: Story, st: State) -> State:
    a = s.part(st.value)
    q = s.person()
    s.say(
        "[{then}, {p.he} <gives/gave> {a} of them to {q}.|{p.He} <loses/lost> {a} of them[| on the way home| at the park].|"
        "{then}, {p.he} <gives/gave> {q} {a} {things}.|{p.He} <uses/used> {a} of the {things}[| that day].|"
        "{then}, {a} of them <get/got> [lost|broken|damaged].|{p.He} <sells/sold> {a} of them[| to {q}].|"
        "{q} <takes/took> {a} of the {things}.|{then}, {p.he} <donates/donated> {a} {things} to charity.]",
        **st.fields, a=a, q=q, then=s.then(),
    )  # fmt: skip
    return _next(s, st, s.step("-", st.value, a, f"That leaves # {st.fields['things']}"), LEFT)


def multiply(s: Story, st: State) -> State:
    k = s.pick([2, 2, 3])
    word = {2: "double", 3: "triple"}[k]
    s.say(
        f"[{{then}}, {{p.he}} <{word}s/{word}d> the number of {{things}} {{p.he}} <has/had>.|"
        f"By the end of the [month|year|week], the number of {{things}} had {word}d.|"
        f"{{then}}, {{p.his}} {{kin}} <gives/gave> {{p.him}} enough {{things}} to {word} what {{p.he}} <has/had>.]",
        **st.fields, then=s.then(), kin=s.pick(book.KIN),
    )  # fmt: skip
    return _next(s, st, s.step("*", st.value, k, f"Then {st.fields['p']} has # {st.fields['things']}"), NOW)


def halve(s: Story, st: State) -> State:
    s.whole(st.value / 2)
    q = s.person()
    s.say(
        "[{then}, {p.he} <gives/gave> half of them to {q}.|{then}, {p.he} <gives/gave> {q} half of the {things}.|"
        "{p.He} <uses/used> half of the {things}[| for a project].|Half of them <are/were> [gone|given away] by {day}.|"
        "{then}, {p.he} <loses/lost> half of them.]",
        **st.fields, q=q, then=s.then(), day=s.pick(book.WEEKDAYS),
    )  # fmt: skip
    return _next(s, st, s.step("/", st.value, 2, f"Half of them is # {st.fields['things']}"), LEFT)


def give_fraction(s: Story, st: State) -> State:
    """Two steps."""
    k = s.divisor(st.value, 3, 6)
    q = s.person()
    s.say(
        "[{then}, {p.he} <gives/gave> {f} of them to {q}.|{then}, {p.he} <sells/sold> {f} of the {things}.|"
        "{p.He} <uses/used> {f} of the {things} [on {day}|that day].|{f} of them <are/were> [broken|eaten|given away].]",
        **st.fields, q=q, f=s.fraction(k), then=s.then(), day=s.pick(book.WEEKDAYS),
    )  # fmt: skip
    gone = s.step("/", st.value, k, f"1/{k} of them is # {st.fields['things']}")
    return _next(s, st, s.step("-", st.value, gone, f"That leaves # {st.fields['things']}"), LEFT)


def give_percent(s: Story, st: State) -> State:
    """Two steps."""
    percent = s.pick([10, 20, 20, 25, 30, 40, 50, 60, 75])
    s.whole(st.value * percent / 100)
    s.say(
        "[{then}, {p.he} <gives/gave> {x}% of them away.|{p.He} <sells/sold> {x}% of the {things}[| on {day}].|"
        "{then}, {x}% of the {things} <are/were> [lost|sold|used].|{p.His} {kin} <takes/took> {x}% of them.]",
        **st.fields, x=percent, then=s.then(), kin=s.pick(book.KIN), day=s.pick(book.WEEKDAYS),
    )  # fmt: skip
    gone = s.step("*", st.value, Fraction(percent, 100), f"{percent}% of them is # {st.fields['things']}")
    return _next(s, st, s.step("-", st.value, gone, f"That leaves # {st.fields['things']}"), LEFT)


def gain_groups(s: Story, st: State) -> State:
    """Two steps."""
    a, b = s.some(2, 8), s.some(3, 15)
    holders, holder = s.thing(book.HOLDERS)
    s.say(
        "[{then}, {p.he} <buys/bought> {a} {holders} of {b} {things} each.|"
        "{p.His} {kin} <gives/gave> {p.him} {a} more {holders} with {b} {things} in each.|"
        "{then}, {p.he} <gets/got> {a} {holders} more, and each {holder} <has/had> {b} {things}.|"
        "{then}, each of {p.his} {a} friends <gives/gave> {p.him} {b} {things}.]",
        **st.fields, a=a, b=b, holders=holders, holder=holder, then=s.then(), kin=s.pick(book.KIN),
    )  # fmt: skip
    more = s.step("*", a, b, f"{a} times {b} is # more {st.fields['things']}")
    return _next(s, st, s.step("+", st.value, more, f"Then {st.fields['p']} has # {st.fields['things']}"), NOW)


def give_each(s: Story, st: State) -> State:
    """Two steps."""
    m, a = s.some(2, 8), s.some(2, 12)
    if m * a >= st.value - 1:
        raise Again
    s.say(
        "[{then}, {p.he} <gives/gave> {a} {things} to each of {p.his} {m} [friends|cousins|classmates|neighbors].|"
        "{p.He} <gives/gave> {a} each to {m} [friends|children|students].|"
        "{then}, {m} friends each <take/took> {a} of the {things}.|{p.He} <uses/used> {a} of them a day for {m} days.]",
        **st.fields, a=a, m=m, then=s.then(),
    )  # fmt: skip
    gone = s.step("*", m, a, f"That is # {st.fields['things']} given away")
    return _next(s, st, s.step("-", st.value, gone, f"That leaves # {st.fields['things']}"), LEFT)


def pack(s: Story, st: State) -> State:
    k = s.divisor(st.value, 2, 15)
    holders, holder = s.thing(["boxes:box", "bags", "baskets", "packs", "jars", "trays", "crates:crate", "bundles:bundle"])
    s.say(
        "[{p.He} <puts/put> [the|all the] {things} into {holders} of {k}.|{then}, {p.he} <packs/packed> the {things} in {holders} "
        "with {k} in each.|Each {holder} <holds/held> {k} {things}.|{k} {things} <fit/fit> in one {holder}.]",
        **st.fields, k=k, holders=holders, holder=holder, then=s.then(),
    )  # fmt: skip
    v = s.step("/", st.value, k, f"They fill # {holders}")
    ask = "How many {holders} [<does/did> {p} need|can {p} fill|<does/did> {p} fill|are needed]?"
    return State("packs", v, ask, st.fields | {"holders": holders, "holder": holder})


def share(s: Story, st: State) -> State:
    k = s.divisor(st.value, 2, 12)
    group = s.pick(["friends", "children", "classmates", "neighbors", "grandchildren", "cousins"])
    s.say(
        "[{p.He} <shares/shared> [them|the {things}] equally [among|with|between] {k} {group}.|"
        "{then}, {p.he} <divides/divided> the {things} equally among {p.his} {k} {group}.|"
        "{k} {group} <split/split> [the {things}|them] evenly.]".replace("[among|with|between]", "among"),
        **st.fields, k=k, group=group, then=s.then(),
    )  # fmt: skip
    v = s.step("/", st.value, k, f"Each of the {k} gets # {st.fields['things']}")
    return State("share", v, "How many {things} [<does/did> each of the {group} get|<does/did> each {one} get|<does/did> each receive]?",
                 st.fields | {"group": group, "one": {"children": "child", "grandchildren": "grandchild"}.get(group, group[:-1])})  # fmt: skip


def use_daily(s: Story, st: State) -> State:
    k = s.divisor(st.value, 2, 15)
    span = s.pick(["day", "day", "week"])
    s.say(
        f"[{{p.He}} <uses/used> {{k}} {{things}} [a|every|each|per] {span}.|"
        f"[Every|Each] {span}, {{p.he}} <gives/gave> away {{k}} of the {{things}}.]",
        **st.fields, k=k,
    )  # fmt: skip
    v = s.step("/", st.value, k, f"They last # {span}s")
    ask = f"[How many {span}s will [the {{things}}|they] last?|For how many {span}s will {{p}} have enough {{things}}?|After how many {span}s will {{p}} run out of {{things}}?]"  # noqa: E501
    return State("end", v, ask, st.fields)


def how_many_more(s: Story, st: State) -> State:
    goal = s.whole(st.value) + s.some(2, 60)
    s.say("[{p.He} <wants/wanted> to have {goal} {things}.|{p.He} <needs/needed> {goal} {things} [in total|in all].|"
          "{p.His} goal <is/was> to have {goal} {things}.]", **st.fields, goal=goal)  # fmt: skip
    v = s.step("-", goal, st.value, f"# {st.fields['things']} are missing")
    return State("end", v, "How many more {things} <does/did> {p} [need|have to get|need to reach {p.his} goal]?", st.fields)


def more_than(s: Story, st: State) -> State:
    a, q = s.part(st.value, 0.2, 0.8), s.person()
    s.say("[{p.His} friend {q}|{q}|{p.His} {kin} {q}] <has/had> {a} {things}.", **st.fields, a=a, q=q, kin=s.pick(book.KIN))
    v = s.step("-", st.value, a, f"{st.fields['p']} has # more")
    return State("end", v, "[How many more {things} does {p} have than {q}?|How many {things} more than {q} does {p} have?|"
                 "How many fewer {things} does {q} have than {p}?|What is the difference between the numbers of {things} that they have?]",
                 st.fields | {"q": q})  # fmt: skip


def together(s: Story, st: State) -> State:
    a, q = s.some(3, 80), s.person()
    s.say("[{p.His} friend {q}|{q}|{p.His} {kin} {q}] <has/had> {a} {things}.", **st.fields, a=a, q=q, kin=s.pick(book.KIN))
    v = s.step("+", st.value, a, f"Together they have # {st.fields['things']}")
    return State("end", v, "How many {things} do [they|the two of them|{p} and {q}] have [together|altogether|in total|combined]?",
                 st.fields | {"q": q})  # fmt: skip


def together_compared(s: Story, st: State) -> State:
    """Two steps."""
    q, k = s.person(), s.pick([2, 2, 3, 4])
    if s.chance(0.5):
        s.say("{q} <has/had> {k} as many {things} as {p}.", **st.fields, q=q, k=s.times(k))
        other = s.step("*", st.value, k, f"{q} has # {st.fields['things']}")
    else:
        d = s.part(st.value, 0.1, 0.6)
        how = s.pick(["more", "fewer"])
        s.say(f"{{q}} <has/had> {{d}} {how} {{things}} than {{p}}.", **st.fields, q=q, d=d)
        other = s.step("+" if how == "more" else "-", st.value, d, f"{q} has # {st.fields['things']}")
    v = s.step("+", st.value, other, f"Together they have # {st.fields['things']}")
    return State("end", v, "How many {things} do [they|{p} and {q}] have [together|altogether|in total|in all]?",
                 st.fields | {"q": q})  # fmt: skip


def sell_all(s: Story, st: State) -> State:
    price = Fraction(s.pick([1, 2, 2, 3, 4, 5, 6, 8, 10, 12])) / s.pick([1, 1, 1, 1, 2])
    if price == 1:
        raise Again
    s.say(
        "[{p.He} <sells/sold> [all of them|the {things}|them all|them] for {price} each.|"
        "{then}, {p.he} <sells/sold> the {things} at {price} [per {thing}|apiece|each].|"
        "{p.He} <earns/earned> {price} for each {thing} {p.he} <sells/sold>, and {p.he} <sells/sold> all of them.]",
        **st.fields, price=s.usd(price), then=s.then(),
    )  # fmt: skip
    v = s.step("*", st.value, price, f"{st.fields['p']} gets # dollars for them")
    return State("money", v, "How much [money|] [<does/did> {p} make|<does/did> {p} earn|<does/did> {p} get]?", st.fields)


def sell_packs(s: Story, st: State) -> State:
    price = s.some(2, 20)
    s.say(
        "[{p.He} <sells/sold> each {holder} for {price}.|{then}, {p.he} <sells/sold> the {holders} for {price} each.|"
        "{p.He} <gets/got> {price} per {holder}.]",
        **st.fields, price=s.usd(price), then=s.then(),
    )  # fmt: skip
    v = s.step("*", st.value, price, f"{st.fields['p']} gets # dollars for them")
    return State("money", v, "How much [money|] <does/did> {p} [make|earn|get][| from the sale]?", st.fields)


def packs_given(s: Story, st: State) -> State:
    a = s.part(st.value)
    s.say("[{then}, {p.he} <gives/gave> {a} {holders} away.|{p.He} <brings/brought> {a} of the {holders} to school.|"
          "{a} {holders} <get/got> damaged.]", **st.fields, a=a, then=s.then())  # fmt: skip
    v = s.step("-", st.value, a, f"That leaves # {st.fields['holders']}")
    return State("packs", v, "How many {holders} [are left|does {p} have left|remain]?", st.fields)


def share_after(s: Story, st: State) -> State:
    a = s.some(2, 15)
    s.say("[Each of them already <has/had> {a} {things}.|Before that, each of them <has/had> {a} {things} of their own.]", **st.fields, a=a)
    v = s.step("+", st.value, a, f"Each of them has # {st.fields['things']}")
    return State("end", v, "How many {things} does each of them have now?", st.fields)


MOVES: dict[str, list[tuple[int, bool, Move]]] = {
    "things": [
        (1, False, gain), (1, False, gain), (1, False, lose), (1, False, lose), (1, False, multiply), (1, False, halve),
        (2, False, give_fraction), (2, False, give_percent), (2, False, gain_groups), (2, False, give_each),
        (1, False, pack), (1, True, share), (1, False, share), (1, True, use_daily), (1, True, how_many_more),
        (1, True, more_than), (1, True, together), (2, True, together_compared), (1, False, sell_all), (1, False, sell_all),
    ],
    "packs": [(1, False, sell_packs), (1, False, sell_packs), (1, False, packs_given)],
    "share": [(1, True, share_after)],
    **MONEY_MOVES,
}  # fmt: skip
SOURCES: list[Source] = [owned, grouped, coloured, compared, daily, dozens, baked, picked, twice_a_day, kept_back]
