"""Rates and amounts: proportions, areas, averages, points, tanks, animals, machines."""

from __future__ import annotations

from fractions import Fraction

from ponder.tasks.stories import wordbook as book
from ponder.tasks.stories.hours import _end
from ponder.tasks.stories.shopping import COST_MOVES
from ponder.tasks.stories.story import Again, Move, State, Story, go_on


def proportion(s: Story) -> None:
    """So many of one for so many of another: how many for more? Two steps or three."""
    p, k, n, m = s.person(), s.some(2, 8), s.some(2, 9), s.some(2, 12)
    text, ask, unit = s.pick(
        [
            (
                "A recipe for {k} people <calls/called> for {t} [cups of flour|eggs|spoons of sugar|potatoes|"
                "ounces of cheese].",
                "How many does {p} need for {m} people?",
                "for each person",
            ),
            (
                "{k} [notebooks|pencils|apples|stamps|tickets|muffins] <cost/cost> {t} dollars.",
                "How many dollars <does/did> {p} pay for {m} of them?",
                "dollars for each",
            ),
            (
                "{p} <can/could> [type|read|print|fold] {t} pages in {k} minutes.",
                "How many pages can {p} do in {m} minutes?",
                "pages a minute",
            ),
            (
                "A machine <makes/made> {t} [bottles|toys|screws|bags|parts] in {k} hours.",
                "How many [does the machine|will it] make in {m} hours?",
                "an hour",
            ),
            (
                "{p} <walks/walked> {t} blocks in {k} minutes.",
                "How many blocks <does/did> {p} walk in {m} minutes at the same speed?",
                "blocks a minute",
            ),
            (
                "{k} [hens|chickens] <lay/laid> {t} eggs a week.",
                "How many eggs <do/did> {m} of them lay in a week?",
                "eggs each",
            ),
            (
                "A pump <fills/filled> {t} gallons in {k} minutes.",
                "How many gallons <does/did> it fill in {m} minutes?",
                "gallons a minute",
            ),
            (
                "It <takes/took> {p} {t} minutes to wash {k} cars.",
                "How many minutes <does/did> {p} need for {m} cars?",
                "minutes for a car",
            ),
        ]
    )
    if m == k:
        raise Again
    s.say(text, p=p, k=k, t=k * n)
    each = s.step("/", k * n, k, f"That is # {unit}")
    v = s.step("*", each, m, f"For {m} that is #")
    if s.left == 1:
        d = s.some(2, 6)
        ask = (
            ask.replace("?", " a day for {d} days?")
            if "week" not in ask and "people" not in ask
            else ask.replace("?", ", {d} times over?")
        )
        s.step("*", v, d, f"{d} times that is #")
        return s.ask(ask, p=p, m=m, d=d)
    if s.left:
        raise Again
    s.ask(ask, p=p, m=m)


def area(s: Story) -> None:
    """Rectangles: area or fence, and what covers it or costs."""
    p, a, b = s.person(), s.some(4, 40), s.some(3, 30)
    what, unit = s.pick(
        [
            ("garden", "feet"),
            ("room", "feet"),
            ("field", "yards"),
            ("wall", "feet"),
            ("playground", "meters"),
            ("patio", "feet"),
            ("pool", "meters"),
            ("yard", "meters"),
        ]
    )
    s.say(f"{{p}} <has/had> a rectangular {what} that <is/was> {{a}} {unit} long and {{b}} {unit} wide.", p=p, a=a, b=b)
    square = f"square {unit}"
    if s.chance(0.35) and s.left >= 2:
        side = s.step("+", a, b, f"Two sides are # {unit}")
        v = s.step("*", side, 2, f"All sides are # {unit}")
        ask, things = f"How many {unit} of fence <does/did> {{p}} need to go all around it?", f"{unit} of fence"
        if s.left:
            x = s.some(2, 15)
            s.say(
                f"[Fence <costs/cost> {{x}} per {unit[:-1] if unit != 'feet' else 'foot'}.|{{p.He}} "
                f"<wants/wanted> to put a fence around it that <costs/cost> {{x}} per "
                f"{unit[:-1] if unit != 'feet' else 'foot'}.]",
                p=p,
                x=s.usd(x),
            )
            v = s.step("*", v, x, "The fence costs # dollars")
            ask, things = "How much does a fence all around it cost?", "dollars"
    else:
        v = s.step("*", a, b, f"The area is # {square}")
        ask, things = f"[What is the area of the {what} in {square}?|How many {square} <is/was> the {what}?]", square
        if s.left and s.chance(0.5):
            c = s.part(v, 0.1, 0.6)
            s.say(
                f"{{c}} {square} of it <are/were> [covered with grass|already finished|taken up by a path|"
                f"used for something else].",
                c=c,
            )
            v = s.step("-", v, c, f"That leaves # {square}")
            ask = f"How many {square} are left?"
        if s.left:
            x = s.some(2, 9)
            each = square[:-1] if unit != "feet" else "square foot"
            if len(s.sentences) > 1:
                s.say(f"{{p.He}} <covers/covered> the rest with material at {{x}} per {each}.", p=p, x=s.usd(x))
            else:
                s.say(
                    f"[{{p.He}} <covers/covered> it with tiles that <cost/cost> {{x}} per {each}.|{{p.He}} "
                    f"<pays/paid> a worker {{x}} for every {each}.]",
                    p=p,
                    x=s.usd(x),
                )
            v = s.step("*", v, x, "That costs # dollars")
            ask, things = "How much does {p} pay?", "dollars"
    state = State("cost" if things == "dollars" else "end", v, ask, {"p": p})
    go_on(s, state, COST_MOVES)


def average(s: Story) -> None:
    """The mean of what was told: n numbers, n steps."""
    if not 2 <= s.level <= 5:
        raise Again
    p, (what, verb) = (
        s.person(),
        s.pick(
            [
                ("points", "scored"),
                ("miles", "ran"),
                ("pages", "read"),
                ("dollars", "earned"),
                ("cups of lemonade", "sold"),
                ("fish", "caught"),
                ("customers", "served"),
                ("emails", "answered"),
            ]
        ),
    )
    values = [Fraction(s.some(5, 60)) for _ in range(s.level)]
    span = s.pick(["games", "days"]) if what == "points" else "days"
    told = ", ".join(s.n(v) for v in values[:-1]) + f" and {s.n(values[-1])}"
    s.say(
        f"[In {{k}} {span}, {{p}} {verb} {{told}} {what}.|{{p}} {verb} {{told}} {what} in {{k}} {span}.]",
        p=p,
        k=s.level,
        told=told,
    )
    total = values[0]
    for v in values[1:]:
        total = s.step("+", total, v, f"Added up that is # {what}")
    s.whole(s.step("/", total, s.level, f"On average that is # {what}"))
    one = span[:-1]
    s.ask(
        f"[What was {{p}}'s average number of {what} per {one}?|How many {what} was that per {one} on "
        f"average?|On average, how many {what} was that a {one}?]",
        p=p,
    )


def points(s: Story) -> None:
    """Shots, questions, coins: kinds of different worth."""
    p = s.person()
    kinds = s.pick(
        [
            ("scored", [("free throws", 1), ("two-point shots", 2), ("three-point shots", 3)], "points"),
            ("had", [("nickels", 5), ("dimes", 10), ("quarters", 25)], "cents"),
            ("found", [("five-dollar bills", 5), ("ten-dollar bills", 10), ("twenty-dollar bills", 20)], "dollars"),
            ("saw", [("tricycles", 3), ("cars", 4), ("bicycles", 2)], "wheels"),
            ("counted", [("spiders", 8), ("beetles", 6), ("lizards", 4), ("birds", 2)], "legs"),
            (
                "bought",
                [("packs of four batteries", 4), ("packs of six batteries", 6), ("packs of eight batteries", 8)],
                "batteries",
            ),
            ("packed", [("small boxes of six mugs", 6), ("large boxes of nine mugs", 9)], "mugs"),
            ("worked", [("three-hour shifts", 3), ("five-hour shifts", 5), ("eight-hour shifts", 8)], "hours"),
            ("watched", [("half-hour shows", 30), ("45-minute shows", 45), ("90-minute films", 90)], "minutes"),
        ]
    )
    verb, pool, unit = kinds
    pool = [one for one in pool if one[1] > 1]
    count = min(len(pool), 1 + (s.left > 2) + (s.left > 4 and s.chance(0.6)))
    chosen = s.rng.sample(pool, count)
    numbers = [s.some(2, 14) for _ in chosen]
    told = " and ".join(f"{s.n(n)} {name}" for n, (name, _) in zip(numbers, chosen, strict=True))
    s.say(f"{{p}} {verb} {told}.", p=p)
    total = None
    for n, (name, worth) in zip(numbers, chosen, strict=True):
        part = s.step("*", n, worth, f"The {name} make # {unit}")
        total = part if total is None else s.step("+", total, part, f"Together that is # {unit}")
    assert total is not None
    did = {
        "scored": "score",
        "had": "have",
        "found": "find",
        "saw": "see",
        "counted": "count",
        "bought": "buy",
        "packed": "pack",
        "worked": "work",
        "watched": "watch",
    }[verb]
    ask = f"How many {unit} did {{p}} {did}[| in total| altogether]?"
    while s.left:
        how = s.pick(["friend", "less", "double", "beyond"])
        q = s.person()
        if how == "friend":
            d = s.some(3, 40)
            s.say(f"{{q}} {verb} {{d}} more {unit} than {{p}}.", q=q, p=p, d=d)
            total, ask = s.step("+", total, d, f"{q} has # {unit}"), f"How many {unit} did {{p}} {did}?"
            p = q
        elif how == "less":
            d = s.part(total, 0.1, 0.5)
            s.say(f"{{q}} {verb} {{d}} fewer {unit} than {{p}}.", q=q, p=p, d=d)
            total, ask = s.step("-", total, d, f"{q} has # {unit}"), f"How many {unit} did {{p}} {did}?"
            p = q
        elif how == "double":
            k = s.pick([2, 2, 3])
            s.say(f"{{q}} {verb} {{k}} as many {unit} as {{p}}.", q=q, p=p, k=s.times(k))
            total, ask = s.step("*", total, k, f"{q} has # {unit}"), f"How many {unit} did {{p}} {did}?"
            p = q
        elif s.left == 1:
            goal = s.whole(total) + s.some(3, 60)
            s.say(f"{{p.His}} goal was {{g}} {unit}.", p=p, g=goal)
            s.step("-", goal, total, f"# {unit} are missing")
            ask = f"How many {unit} was {{p}} short of the goal?"
    s.ask(ask, p=p)


def tank(s: Story) -> None:
    """Something that fills and drains: water, grain, sand, a battery."""
    what, unit, into, out_of = s.pick(
        [
            ("tank", "gallons of water", "flow into", "leak out of"),
            ("barn", "bales of hay", "are brought to", "are taken from"),
            ("silo", "tons of grain", "are added to", "are taken from"),
            ("pool", "liters of water", "run into", "drain from"),
            ("warehouse", "boxes", "arrive at", "leave"),
            ("barrel", "liters of oil", "are poured into", "are drawn from"),
        ]
    )
    v = Fraction(s.some(10, 90) * s.pick([1, 5, 10]))
    s.say(f"[A {what} holds {{v}} {unit}.|There are {{v}} {unit} in a {what}.|A {what} has {{v}} {unit} in it.]", v=v)
    while s.left:
        how = s.pick(["in", "out", "plain in", "plain out", "time"])
        k, h = s.some(2, 25), s.some(2, 12)
        span = s.pick(["hour", "day", "minute"])
        if how == "in" and s.left >= 2:
            s.say(f"[Every|Each] {span}, {{k}} {unit} {into} it, for {{h}} {span}s.", k=k, h=h)
            v = s.step("+", v, s.step("*", k, h, f"That is # {unit} more"), f"Then there are # {unit}")
        elif how == "out" and s.left >= 2:
            if k * h >= v - 1:
                continue
            s.say(f"[Every|Each] {span}, {{k}} {unit} {out_of} it, for {{h}} {span}s.", k=k, h=h)
            v = s.step("-", v, s.step("*", k, h, f"That is # {unit} less"), f"That leaves # {unit}")
        elif how == "plain in":
            a = s.some(5, 90)
            s.say(f"{{then}}, {{a}} {unit} {into} it.", a=a, then=s.then())
            v = s.step("+", v, a, f"Then there are # {unit}")
        elif how == "plain out":
            a = s.part(v, 0.1, 0.6)
            s.say(f"{{then}}, {{a}} {unit} {out_of} it.", a=a, then=s.then())
            v = s.step("-", v, a, f"That leaves # {unit}")
        elif how == "time" and s.left == 1:
            k = s.divisor(v, 2, 20)
            s.say(f"From then on, {{k}} {unit} {out_of} it every {span}.", k=k)
            s.step("/", v, k, f"That takes # {span}s")
            return s.ask(
                f"[How many {span}s does it take until [the {what}|it] is empty?|After how many {span}s is "
                f"the {what} empty?]"
            )
    s.ask(f"How many {unit} are [in the {what} now|there in the end|in it then|in the {what} in the end]?")


def animals(s: Story) -> None:
    """Feeding: so many animals, so much a day; then bags and their price."""
    p, (things, thing) = s.person(), book.noun(s.pick(book.ANIMALS if s.chance(0.5) else book.PETS))
    n, a = s.some(2, 24), s.some(2, 9)
    unit = s.pick(["pounds of food", "cups of food", "carrots", "treats", "scoops of food", "handfuls of grain"])
    s.say(
        f"[{{p}} <has/had> {{n}} {things}. Each {thing} <eats/ate> {{a}} {unit} a day.|{{p}} "
        f"<feeds/fed> each of {{p.his}} {{n}} {things} {{a}} {unit} [a|every] day.|"
        f"Each of {{p}}'s {{n}} {things} <needs/needed> {{a}} {unit} per day.]",
        p=p,
        n=n,
        a=a,
    )
    v = s.step("*", n, a, f"In a day that is # {unit}")
    ask = f"How many {unit} <does/did> {{p}} need [a|every|each] day?"
    if s.left:
        d = s.pick([7, 7, 14, 30, s.some(3, 12)])
        span = {7: "a week", 14: "two weeks"}.get(d, f"{s.n(d)} days")
        ask = f"How many {unit} <does/did> {{p}} need for {span}?"
        if s.left > 1:
            s.say(f"{{p.He}} <buys/bought> food for {span}.", p=p)
        v = s.step("*", v, d, f"In {d} days that is # {unit}")
    if s.left:
        k = s.divisor(v, 5, 50)
        s.say(f"A bag <holds/held> {{k}} {unit}.", k=k)
        v = s.step("/", v, k, "That is # bags")
        ask = "How many bags <does/did> {p} need?"
        if s.left:
            x = s.some(4, 40)
            s.say("[Each bag <costs/cost> {x}.|{p.He} <pays/paid> {x} [per|for each] bag.]", p=p, x=s.usd(x))
            return go_on(
                s,
                State("cost", s.step("*", v, x, "They cost # dollars"), "How much <does/did> {p} pay?", {"p": p}),
                COST_MOVES,
            )
    s.ask(ask, p=p)


def machines(s: Story) -> None:
    """Two workers or machines at different rates, working the same time."""
    if s.level < 2:
        raise Again
    x, y = s.person(), s.person()
    what, verb = s.pick(
        [
            ("toys", "make"),
            ("cars", "wash"),
            ("pages", "type"),
            ("shirts", "sew"),
            ("boxes", "pack"),
            ("trees", "plant"),
            ("letters", "sort"),
            ("windows", "clean"),
            ("dumplings", "fold"),
            ("apples", "pick"),
        ]
    )
    a, b, h = s.some(3, 30), s.some(3, 30), s.some(2, 9)
    s.say(
        f"[{{x}} can {verb} {{a}} {what} [an|per] hour, and {{y}} can {verb} {{b}} {what} [an|per] "
        f"hour.|Each hour, {{x}} can {verb} {{a}} {what} while {{y}} can {verb} {{b}}.]",
        x=x,
        y=y,
        a=a,
        b=b,
    )
    if s.chance(0.3):
        if a == b:
            raise Again
        (a, x), (b, y) = sorted(((a, x), (b, y)), key=lambda one: -one[0])
        rate = s.step("-", a, b, f"In an hour {x} does # more")
        v = s.step("*", rate, h, f"In {h} hours {x} does # more")
        if s.left:
            raise Again
        return s.ask(
            f"[How many more {what} than {{y}} can {{x}} {verb} in {{h}} hours?|In {{h}} hours, how many "
            f"more {what} can {{x}} {verb} than {{y}}?]",
            x=x,
            y=y,
            h=h,
        )
    rate = s.step("+", a, b, f"In an hour they do # {what}")
    if s.left == 1 and s.chance(0.4):
        n = rate * h
        s.step("/", n, rate, "They need # hours")
        return s.ask(
            f"[Working together, how|How] many hours do they need to {verb} {{n}} {what}?".replace(
                "[Working together, how|How] many", "How many"
            ),
            n=n,
        )
    v = s.step("*", rate, h, f"In {h} hours they do # {what}")
    ask, fields = (
        (
            f"[How many {what} can they {verb} together in {{h}} hours?|Working together, how many {what} "
            f"can they {verb} in {{h}} hours?]"
        ),
        {"h": h},
    )
    if s.left:
        s.say("They work together for {h} hours.", h=h)
        return go_on(
            s, State("things", v, f"How many {what} is that?", {"p": x, "things": what, "thing": what[:-1]}), _PRODUCTS
        )
    s.ask(ask, **fields)


def _product_moves() -> dict[str, list[tuple[int, bool, Move]]]:
    def goal(s: Story, st: State) -> State:
        n = s.whole(st.value) + s.some(5, 90)
        s.say("They need {n} {things} in total.", **st.fields, n=n)
        return _end(s.step("-", n, st.value, "# are missing"), "How many {things} are still missing?", **st.fields)

    def faulty(s: Story, st: State) -> State:
        a = s.part(st.value, 0.05, 0.4)
        s.say(
            "[{a} of the {things} have to be done again.|{a} of the {things} turn out badly and do not count.]",
            **st.fields,
            a=a,
        )
        return State("things", s.step("-", st.value, a, "That leaves #"), "How many {things} are done well?", st.fields)

    def paid(s: Story, st: State) -> State:
        x = s.some(2, 9)
        s.say("They get {x} for each of them.", x=s.usd(x))
        return State("pay", s.step("*", st.value, x, "They get # dollars"), "How much money do they get?", st.fields)

    def halves(s: Story, st: State) -> State:
        s.whole(st.value / 2)
        s.say("They share the money equally.")
        return _end(s.step("/", st.value, 2, "Each gets # dollars"), "How much does each of the two get?", **st.fields)

    return {"things": [(1, True, goal), (1, False, faulty), (1, False, paid)], "pay": [(1, True, halves)]}


_PRODUCTS = _product_moves()
