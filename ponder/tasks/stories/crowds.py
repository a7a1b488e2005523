"""Crowds that come, go, divide into groups, pay and need things."""

from __future__ import annotations

from fractions import Fraction

from ponder.tasks.stories import wordbook as book
from ponder.tasks.stories.money import MONEY_MOVES
from ponder.tasks.stories.story import Move, State, Story, go_on


def crowds(s: Story) -> None:
    go_on(s, s.pick([seated, counted, counted, classes, ride])(s), CROWD_MOVES)


def _crowd(value: Fraction | int, ask: str, **fields: object) -> State:
    return State("crowd", Fraction(value), ask, fields)


def _who(s: Story) -> tuple[str, str]:
    who, place = s.pick(book.CROWDS).split("/")
    return who, place


LEFT_THERE = "How many {who} [are left|are still there|are there now|remain]?"


def seated(s: Story) -> State:
    who, place = _who(s)
    a, b = s.some(4, 30), s.some(4, 30)
    what = s.pick(["rows of seats", "tables", "benches", "tents", "rooms", "buses", "vans"])
    one = {"rows of seats": "row", "benches": "bench", "buses": "bus"}.get(what, what[:-1])
    s.say(
        f"[At a {place} there <are/were> {{a}} {what} with {{b}} {who} [in|at] each {one}.|The {who} "
        f"at a {place} <fill/filled> {{a}} {what}, {{b}} {who} to each {one}.|"
        f"There <are/were> {{a}} {what} at the {place}, and {{b}} {who} <use/used> each {one}.]".replace(
            "[in|at]", "at" if one in ("table", "bench") else "in"
        ),
        a=a,
        b=b,
    )
    return _crowd(
        s.step("*", a, b, f"There are # {who}"),
        "How many {who} [are|<are/were>] there[| in total| altogether]?",
        who=who,
        place=place,
    )


def counted(s: Story) -> State:
    who, place = _who(s)
    n = s.some(3, 60) * s.pick([1, 2, 4, 5, 10])
    s.say(
        f"[There <are/were> {{n}} {who} at a {place}.|{{n}} {who} <go/went> to a {place}.|A {place} "
        f"<has/had> {{n}} {who}.]",
        n=n,
    )
    return _crowd(n, LEFT_THERE, who=who, place=place)


def classes(s: Story) -> State:
    a, b = s.some(5, 40), s.some(5, 40)
    one, two = s.pick(
        [
            ("boys", "girls"),
            ("girls", "boys"),
            ("fourth graders", "fifth graders"),
            ("adults", "children"),
            ("teachers", "students"),
        ]
    )
    _, place = _who(s)
    s.say(
        f"[A group of {{a}} {one} and {{b}} {two} <visits/visited> a {place}.|There <are/were> {{a}} "
        f"{one} and {{b}} {two} at a {place}.|"
        f"{{a}} {one} and {{b}} {two} <come/came> to the {place}.]",
        a=a,
        b=b,
    )
    return _crowd(
        s.step("+", a, b, "Together there are # people"),
        "How many people <are/were> there[| in total| altogether]?",
        who="people",
        place=place,
    )


def ride(s: Story) -> State:
    n, what = s.some(10, 80), s.pick(book.RIDES)
    s.say(
        f"[A {what} <starts/started> its trip with {{n}} passengers.|{{n}} passengers <are/were> on a "
        f"{what}.|There <are/were> {{n}} people on a {what}.]",
        n=n,
    )
    return _crowd(n, "How many [people|passengers] are [left|now|] on the {place}?", who="people", place=what)


def arrive(s: Story, st: State) -> State:
    a = s.some(3, 60)
    s.say(
        "[{then}, {a} more {who} <arrive/arrived>.|{then}, another {a} {who} <join/joined> them.|{a} "
        "more <come/came> [in the afternoon|an hour later|later].]",
        **st.fields,
        a=a,
        then=s.then(),
    )
    return _crowd(
        s.step("+", st.value, a, f"Then there are # {st.fields['who']}"),
        "How many {who} are there [now|in total]?",
        **st.fields,
    )


def leave(s: Story, st: State) -> State:
    a = s.part(st.value)
    s.say(
        "[{then}, {a} of them <leave/left>.|{then}, {a} {who} <go/went> home[| early].|{a} {who} "
        "<get/got> tired and <leave/left>.]",
        **st.fields,
        a=a,
        then=s.then(),
    )
    return _crowd(s.step("-", st.value, a, f"That leaves # {st.fields['who']}"), LEFT_THERE, **st.fields)


def group_part(s: Story, st: State) -> State:
    """The part of a crowd that has a property."""
    has, lacks = s.pick(
        [
            ("are wearing hats", "are not wearing hats"),
            ("bring their own lunch", "do not bring their own lunch"),
            ("are left-handed", "are not left-handed"),
            ("speak Spanish", "do not speak Spanish"),
            ("wear glasses", "do not wear glasses"),
            ("come by bus", "do not come by bus"),
            ("like tea", "do not like tea"),
            ("have a pet", "do not have a pet"),
            ("play an instrument", "do not play an instrument"),
            ("live nearby", "do not live nearby"),
            ("are under 18", "are 18 or older"),
        ]
    )
    them = "these" if st.kind == "part" else s.pick([f"the {st.fields['who']}", "them"])
    if s.chance(0.5):
        k = s.divisor(st.value, 2, 6)
        s.say(f"{{f}} of {them} {has}.", f=s.fraction(k))
        part = s.step("/", st.value, k, f"# {has}")
    else:
        x = s.pick([10, 20, 25, 30, 40, 50, 60, 75, 80])
        s.whole(st.value * x / 100)
        s.say(f"{{x}}% of {them} {has}.", x=x)
        part = s.step("*", st.value, Fraction(x, 100), f"# {has}")
    if s.left and s.chance(0.6):
        rest = s.step("-", st.value, part, f"# {lacks}")
        s.say(f"The [others|rest|other {st.fields['who']}] {lacks}.")
        return State("part", rest, f"How many {{who}} {lacks}?", st.fields)
    return State("part", part, f"How many {{who}} {has}?", st.fields)


def part_pays(s: Story, st: State) -> State:
    x = s.some(2, 25)
    s.say(
        "Each of these {who} [<pays/paid> {x}|<donates/donated> {x}|<spends/spent> {x} on snacks].",
        **st.fields,
        x=s.usd(x),
    )
    v = s.step("*", st.value, x, "Together that is # dollars")
    return State("end", v, "How [much money|many dollars] is that [in total|altogether]?", st.fields)


def teams(s: Story, st: State) -> State:
    k = s.divisor(st.value, 2, 15)
    what = s.pick(["teams", "groups", "boats", "tables", "rows", "vans", "rooms"])
    s.say(
        f"[They <form/formed> {what} of {{k}}.|The {{who}} <are/were> divided into {what} of {{k}}.|"
        f"{{k}} of them <fit/fit> in each of the {what}.]".replace(
            "in each", "at each" if what == "tables" else "in each"
        ),
        **st.fields,
        k=k,
    )
    return State(
        "end",
        s.step("/", st.value, k, f"That makes # {what}"),
        f"How many {what} [are there|<are/were> needed|<do/did> they need]?",
        st.fields,
    )


def per_team(s: Story, st: State) -> State:
    k = s.divisor(st.value, 2, 12)
    what = s.pick(["teams", "groups", "buses", "classes", "tables"])
    s.say(
        f"[They <are/were> split into {{k}} equal {what}.|The {{who}} <are/were> divided equally among {{k}} {what}.]",
        **st.fields,
        k=k,
    )
    one = {"buses": "bus", "classes": "class"}.get(what, what[:-1])
    return State(
        "end",
        s.step("/", st.value, k, f"That is # for each {one}"),
        f"How many {{who}} <are/were> there in each {one}?".replace("in each table", "at each table"),
        st.fields,
    )


def pay_entry(s: Story, st: State) -> State:
    x = s.some(2, 25)
    s.say(
        "[Each of them <pays/paid> {x}[| for a ticket| to get in].|A ticket <costs/cost> {x} per "
        "person.|The entry fee <is/was> {x} each.]",
        x=s.usd(x),
    )
    v = s.step("*", st.value, x, "They pay # dollars")
    return State(
        "end",
        v,
        "[How much money <is/was> collected?|How much <do/did> they pay in total?|How much money "
        "<do/did> the organizers get?]",
        st.fields,
    )


def eat_each(s: Story, st: State) -> State:
    things, _ = s.thing(
        book.BAKED, book.PICKED, ["bottles of water", "sheets of paper", "stickers", "pencils", "chairs"]
    )
    x = s.some(2, 6)
    s.say(f"Each of them [<gets/got>|<needs/needed>|<receives/received>] {{x}} {things}.", x=x)
    v = s.step("*", st.value, x, f"They need # {things}")
    return State(
        "needs",
        v,
        f"How many {things} <do/did> they [need|get] [in total|altogether|in all]?",
        st.fields | {"things": things},
    )


def packs_needed(s: Story, st: State) -> State:
    k = s.divisor(st.value, 2, 24)
    box, boxes = s.pick([("pack", "packs"), ("box", "boxes"), ("bag", "bags"), ("tray", "trays")])
    s.say(
        f"[{{things}} <come/came> in {boxes} of {{k}}.|There <are/were> {{k}} {{things}} in a {box}.]", **st.fields, k=k
    )
    return State(
        "cost packs",
        s.step("/", st.value, k, f"That is # {boxes}"),
        f"How many {boxes} <are/were> needed?",
        st.fields | {"box": box},
    )


def pay_packs(s: Story, st: State) -> State:
    x = s.some(2, 15)
    s.say("Each {box} <costs/cost> {x}.", **st.fields, x=s.usd(x))
    return State(
        "end",
        s.step("*", st.value, x, "They cost # dollars"),
        "How much [do the {things} cost|<is/was> the total cost|will they cost in total]?",
        st.fields,
    )


CROWD_MOVES: dict[str, list[tuple[int, bool, Move]]] = {
    "crowd": [
        (1, False, arrive),
        (1, False, leave),
        (1, False, group_part),
        (2, False, group_part),
        (1, True, teams),
        (1, True, per_team),
        (1, True, pay_entry),
        (1, False, eat_each),
    ],
    "part": [(1, False, group_part), (1, True, part_pays)],
    "needs": [(1, False, packs_needed), (1, False, packs_needed)],
    "cost packs": [(1, True, pay_packs)],
    **MONEY_MOVES,
}
