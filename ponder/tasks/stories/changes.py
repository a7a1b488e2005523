"""What can happen to things that one has: gained, lost, given, packed, shared, sold, compared."""

from __future__ import annotations

from fractions import Fraction

from ponder.tasks.stories import wordbook as book
from ponder.tasks.stories.money import MONEY_MOVES
from ponder.tasks.stories.story import Again, Move, State, Story

NOW = "How many {things} does {p} have [now|in total|now|altogether]?"


LEFT = "How many {things} [does {p} have left|are left|does {p} still have|remain|does {p} have now|are there left]?"


def _next(s: Story, st: State, value: Fraction, ask: str) -> State:
    return State("things", value, ask, st.fields)


def gain(s: Story, st: State) -> State:
    a = s.some(2, 50)
    s.say(
        "[{then}, {p.he} <buys/bought> {a} more[ {things}|].|{then}, {p.his} {kin} <gives/gave> "
        "{p.him} {a} more {things}.|"
        "{p.He} then <gets/got> {a} more[| from {p.his} {kin}].|{then}, {p.he} <finds/found> another "
        "{a} {things}.|"
        "{p.His} {kin} <adds/added> {a} {things}[| of {p.his} own].]",
        **st.fields,
        a=a,
        then=s.then(),
        kin=s.pick(book.KIN),
    )
    return _next(s, st, s.step("+", st.value, a, f"Then {st.fields['p']} has # {st.fields['things']}"), NOW)


def lose(s: Story, st: State) -> State:
    a = s.part(st.value)
    q = s.person()
    s.say(
        "[{then}, {p.he} <gives/gave> {a} of them to {q}.|{p.He} <loses/lost> {a} of them[| on the "
        "way home| at the park].|"
        "{then}, {p.he} <gives/gave> {q} {a} {things}.|{p.He} <uses/used> {a} of the {things}[| that day].|"
        "{then}, {a} of them <get/got> [lost|broken|damaged].|{p.He} <sells/sold> {a} of them[| to {q}].|"
        "{q} <takes/took> {a} of the {things}.|{then}, {p.he} <donates/donated> {a} {things} to charity.]",
        **st.fields,
        a=a,
        q=q,
        then=s.then(),
    )
    return _next(s, st, s.step("-", st.value, a, f"That leaves # {st.fields['things']}"), LEFT)


def multiply(s: Story, st: State) -> State:
    k = s.pick([2, 2, 3])
    word = {2: "double", 3: "triple"}[k]
    s.say(
        f"[{{then}}, {{p.he}} <{word}s/{word}d> the number of {{things}} {{p.he}} <has/had>.|"
        f"By the end of the [month|year|week], the number of {{things}} had {word}d.|"
        f"{{then}}, {{p.his}} {{kin}} <gives/gave> {{p.him}} enough {{things}} to {word} what "
        f"{{p.he}} <has/had>.]",
        **st.fields,
        then=s.then(),
        kin=s.pick(book.KIN),
    )
    return _next(s, st, s.step("*", st.value, k, f"Then {st.fields['p']} has # {st.fields['things']}"), NOW)


def halve(s: Story, st: State) -> State:
    s.whole(st.value / 2)
    q = s.person()
    s.say(
        "[{then}, {p.he} <gives/gave> half of them to {q}.|{then}, {p.he} <gives/gave> {q} half of "
        "the {things}.|"
        "{p.He} <uses/used> half of the {things}[| for a project].|Half of them <are/were> [gone|"
        "given away] by {day}.|"
        "{then}, {p.he} <loses/lost> half of them.]",
        **st.fields,
        q=q,
        then=s.then(),
        day=s.pick(book.WEEKDAYS),
    )
    return _next(s, st, s.step("/", st.value, 2, f"Half of them is # {st.fields['things']}"), LEFT)


def give_fraction(s: Story, st: State) -> State:
    """Two steps."""
    k = s.divisor(st.value, 3, 6)
    q = s.person()
    s.say(
        "[{then}, {p.he} <gives/gave> {f} of them to {q}.|{then}, {p.he} <sells/sold> {f} of the {things}.|"
        "{p.He} <uses/used> {f} of the {things} [on {day}|that day].|{f} of them <are/were> [broken|"
        "eaten|given away].]",
        **st.fields,
        q=q,
        f=s.fraction(k),
        then=s.then(),
        day=s.pick(book.WEEKDAYS),
    )
    gone = s.step("/", st.value, k, f"1/{k} of them is # {st.fields['things']}")
    return _next(s, st, s.step("-", st.value, gone, f"That leaves # {st.fields['things']}"), LEFT)


def give_percent(s: Story, st: State) -> State:
    """Two steps."""
    percent = s.pick([10, 20, 20, 25, 30, 40, 50, 60, 75])
    s.whole(st.value * percent / 100)
    s.say(
        "[{then}, {p.he} <gives/gave> {x}% of them away.|{p.He} <sells/sold> {x}% of the {things}[| "
        "on {day}].|"
        "{then}, {x}% of the {things} <are/were> [lost|sold|used].|{p.His} {kin} <takes/took> {x}% of them.]",
        **st.fields,
        x=percent,
        then=s.then(),
        kin=s.pick(book.KIN),
        day=s.pick(book.WEEKDAYS),
    )
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
        **st.fields,
        a=a,
        b=b,
        holders=holders,
        holder=holder,
        then=s.then(),
        kin=s.pick(book.KIN),
    )
    more = s.step("*", a, b, f"{a} times {b} is # more {st.fields['things']}")
    return _next(s, st, s.step("+", st.value, more, f"Then {st.fields['p']} has # {st.fields['things']}"), NOW)


def give_each(s: Story, st: State) -> State:
    """Two steps."""
    m, a = s.some(2, 8), s.some(2, 12)
    if m * a >= st.value - 1:
        raise Again
    s.say(
        "[{then}, {p.he} <gives/gave> {a} {things} to each of {p.his} {m} [friends|cousins|"
        "classmates|neighbors].|"
        "{p.He} <gives/gave> {a} each to {m} [friends|children|students].|"
        "{then}, {m} friends each <take/took> {a} of the {things}.|{p.He} <uses/used> {a} of them a "
        "day for {m} days.]",
        **st.fields,
        a=a,
        m=m,
        then=s.then(),
    )
    gone = s.step("*", m, a, f"That is # {st.fields['things']} given away")
    return _next(s, st, s.step("-", st.value, gone, f"That leaves # {st.fields['things']}"), LEFT)


def pack(s: Story, st: State) -> State:
    k = s.divisor(st.value, 2, 15)
    holders, holder = s.thing(
        ["boxes:box", "bags", "baskets", "packs", "jars", "trays", "crates:crate", "bundles:bundle"]
    )
    s.say(
        "[{p.He} <puts/put> [the|all the] {things} into {holders} of {k}.|{then}, {p.he} "
        "<packs/packed> the {things} in {holders} "
        "with {k} in each.|Each {holder} <holds/held> {k} {things}.|{k} {things} <fit/fit> in one {holder}.]",
        **st.fields,
        k=k,
        holders=holders,
        holder=holder,
        then=s.then(),
    )
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
        **st.fields,
        k=k,
        group=group,
        then=s.then(),
    )
    v = s.step("/", st.value, k, f"Each of the {k} gets # {st.fields['things']}")
    return State(
        "share",
        v,
        "How many {things} [<does/did> each of the {group} get|<does/did> each {one} get|<does/did> each receive]?",
        st.fields
        | {"group": group, "one": {"children": "child", "grandchildren": "grandchild"}.get(group, group[:-1])},
    )


def use_daily(s: Story, st: State) -> State:
    k = s.divisor(st.value, 2, 15)
    span = s.pick(["day", "day", "week"])
    s.say(
        f"[{{p.He}} <uses/used> {{k}} {{things}} [a|every|each|per] {span}.|"
        f"[Every|Each] {span}, {{p.he}} <gives/gave> away {{k}} of the {{things}}.]",
        **st.fields,
        k=k,
    )
    v = s.step("/", st.value, k, f"They last # {span}s")
    ask = (
        f"[How many {span}s will [the {{things}}|they] last?|For how many {span}s will {{p}} have "
        f"enough {{things}}?|After how many {span}s will {{p}} run out of {{things}}?]"
    )
    return State("end", v, ask, st.fields)


def how_many_more(s: Story, st: State) -> State:
    goal = s.whole(st.value) + s.some(2, 60)
    s.say(
        "[{p.He} <wants/wanted> to have {goal} {things}.|{p.He} <needs/needed> {goal} {things} [in "
        "total|in all].|"
        "{p.His} goal <is/was> to have {goal} {things}.]",
        **st.fields,
        goal=goal,
    )
    v = s.step("-", goal, st.value, f"# {st.fields['things']} are missing")
    return State(
        "end", v, "How many more {things} <does/did> {p} [need|have to get|need to reach {p.his} goal]?", st.fields
    )


def more_than(s: Story, st: State) -> State:
    a, q = s.part(st.value, 0.2, 0.8), s.person()
    s.say(
        "[{p.His} friend {q}|{q}|{p.His} {kin} {q}] <has/had> {a} {things}.",
        **st.fields,
        a=a,
        q=q,
        kin=s.pick(book.KIN),
    )
    v = s.step("-", st.value, a, f"{st.fields['p']} has # more")
    return State(
        "end",
        v,
        "[How many more {things} does {p} have than {q}?|How many {things} more than {q} does {p} "
        "have?|"
        "How many fewer {things} does {q} have than {p}?|What is the difference between the numbers "
        "of {things} that they have?]",
        st.fields | {"q": q},
    )


def together(s: Story, st: State) -> State:
    a, q = s.some(3, 80), s.person()
    s.say(
        "[{p.His} friend {q}|{q}|{p.His} {kin} {q}] <has/had> {a} {things}.",
        **st.fields,
        a=a,
        q=q,
        kin=s.pick(book.KIN),
    )
    v = s.step("+", st.value, a, f"Together they have # {st.fields['things']}")
    return State(
        "end",
        v,
        "How many {things} do [they|the two of them|{p} and {q}] have [together|altogether|in total|combined]?",
        st.fields | {"q": q},
    )


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
    return State(
        "end",
        v,
        "How many {things} do [they|{p} and {q}] have [together|altogether|in total|in all]?",
        st.fields | {"q": q},
    )


def sell_all(s: Story, st: State) -> State:
    price = Fraction(s.pick([1, 2, 2, 3, 4, 5, 6, 8, 10, 12])) / s.pick([1, 1, 1, 1, 2])
    if price == 1:
        raise Again
    s.say(
        "[{p.He} <sells/sold> [all of them|the {things}|them all|them] for {price} each.|"
        "{then}, {p.he} <sells/sold> the {things} at {price} [per {thing}|apiece|each].|"
        "{p.He} <earns/earned> {price} for each {thing} {p.he} <sells/sold>, and {p.he} <sells/sold> "
        "all of them.]",
        **st.fields,
        price=s.usd(price),
        then=s.then(),
    )
    v = s.step("*", st.value, price, f"{st.fields['p']} gets # dollars for them")
    return State(
        "money", v, "How much [money|] [<does/did> {p} make|<does/did> {p} earn|<does/did> {p} get]?", st.fields
    )


def sell_packs(s: Story, st: State) -> State:
    price = s.some(2, 20)
    s.say(
        "[{p.He} <sells/sold> each {holder} for {price}.|{then}, {p.he} <sells/sold> the {holders} "
        "for {price} each.|"
        "{p.He} <gets/got> {price} per {holder}.]",
        **st.fields,
        price=s.usd(price),
        then=s.then(),
    )
    v = s.step("*", st.value, price, f"{st.fields['p']} gets # dollars for them")
    return State("money", v, "How much [money|] <does/did> {p} [make|earn|get][| from the sale]?", st.fields)


def packs_given(s: Story, st: State) -> State:
    a = s.part(st.value)
    s.say(
        "[{then}, {p.he} <gives/gave> {a} {holders} away.|{p.He} <brings/brought> {a} of the "
        "{holders} to school.|"
        "{a} {holders} <get/got> damaged.]",
        **st.fields,
        a=a,
        then=s.then(),
    )
    v = s.step("-", st.value, a, f"That leaves # {st.fields['holders']}")
    return State("packs", v, "How many {holders} [are left|does {p} have left|remain]?", st.fields)


def share_after(s: Story, st: State) -> State:
    a = s.some(2, 15)
    s.say(
        "[Each of them already <has/had> {a} {things}.|Before that, each of them <has/had> {a} {things} of their own.]",
        **st.fields,
        a=a,
    )
    v = s.step("+", st.value, a, f"Each of them has # {st.fields['things']}")
    return State("end", v, "How many {things} does each of them have now?", st.fields)


MOVES: dict[str, list[tuple[int, bool, Move]]] = {
    "things": [
        (1, False, gain),
        (1, False, gain),
        (1, False, lose),
        (1, False, lose),
        (1, False, multiply),
        (1, False, halve),
        (2, False, give_fraction),
        (2, False, give_percent),
        (2, False, gain_groups),
        (2, False, give_each),
        (1, False, pack),
        (1, True, share),
        (1, False, share),
        (1, True, use_daily),
        (1, True, how_many_more),
        (1, True, more_than),
        (1, True, together),
        (2, True, together_compared),
        (1, False, sell_all),
        (1, False, sell_all),
    ],
    "packs": [(1, False, sell_packs), (1, False, sell_packs), (1, False, packs_given)],
    "share": [(1, True, share_after)],
    **MONEY_MOVES,
}
