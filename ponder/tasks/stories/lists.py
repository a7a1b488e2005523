"""Stories about a list of numbers: people or days compared one with another, changes undone, parts, an average.

How long the list is depends on the steps that are left, which the `.story` files cannot say.
"""

from __future__ import annotations

from fractions import Fraction

from ponder.tasks.stories import wordbook as book
from ponder.tasks.stories.story import Again, Person, Story

ACTS = (
    "<collects/collected> {things}|<picks/picked> {things}|<has/had> {things}|<makes/made> {things}|"
    "<sells/sold> {things}|<buys/bought> {things}|<reads/read> pages|<runs/ran> laps|<does/did> push-ups|"
    "<scores/scored> points|<catches/caught> fish|<drinks/drank> glasses of water|<plants/planted> trees|"
    "<answers/answered> questions|<walks/walked> miles|<sends/sent> letters|<jumps/jumped> times|<swims/swam> laps|"
    "<writes/wrote> pages|<washes/washed> cars|<delivers/delivered> newspapers|<solves/solved> puzzles|"
    "<types/typed> words|<eats/ate> grapes|<earns/earned> dollars|<saves/saved> dollars|<builds/built> robots"
).split("|")


def _act(s: Story) -> tuple[str, str]:
    """(verb in two tenses, what is counted)."""
    verb, _, what = s.pick(ACTS).partition(" ")
    return verb, what.format(things=s.thing(book.COLLECTED, book.PICKED, book.CRAFTED)[0])


def _base(verb: str) -> str:
    """The verb after "does" or "did"."""
    now = verb[1:].partition("/")[0]
    odd = {"has": "have", "does": "do", "catches": "catch", "washes": "wash"}
    return odd.get(now) or now.removesuffix("s")


def relations(s: Story) -> None:
    """A chain of people, each compared with one before; asked is the last, the sum, or a difference."""
    verb, what = _act(s)
    people: list[tuple[Person, Fraction]] = [(s.person(), Fraction(s.some(4, 60)))]
    p, v = people[0]
    s.say(f"{{p}} {verb} {{v}} {{what}}.", p=p, v=v, what=what)
    ending = s.pick(["last", "sum", "difference"]) if s.level > 1 else s.pick(["last", "difference", "sum"])
    cost = {"last": 0, "sum": 1, "difference": 1}[ending]
    while True:
        if ending == "sum":
            cost = len(people) - 1 if len(people) > 1 else 1
            if s.left == cost and len(people) > 1:
                break
        elif s.left == cost and len(people) > 1:
            break
        if ending == "sum" and s.left < cost + 1:
            raise Again
        if s.left <= 0:
            raise Again
        if ending != "last" and s.left == 1 and len(people) == 1:  # no comparison fits: a second number is told
            q = s.person()
            w = Fraction(s.some(3, 60))
            s.say(f"{{q}} {verb} {{w}}[ {{what}}|].", q=q, w=w, what=what)
            people.append((q, w))
            continue
        known = s.pick(people) if ending == "sum" else people[-1]  # nobody is told of in vain
        people.append(_compare(s, known, verb, what, s.left - cost))
    _relation_question(s, people, ending, verb, what)


def _compare(s: Story, known: tuple[Person, Fraction], verb: str, what: str, room: int) -> tuple[Person, Fraction]:
    """A new person told by comparison with a known one: one step, or two ("5 more than twice as many")."""
    (q, n), p = known, s.person()
    note = f"{p}: # {what}"
    how = s.pick(["times", "times", "more", "fewer", "part"] + (["times more", "times fewer"] if room > 2 else []))
    if how in ("more", "fewer"):
        d = s.some(2, 30) if how == "more" else s.part(n, 0.1, 0.6)
        than = f"[{{p}} {verb} {{d}} {how} {{what}} than {{q}}.|{{p}} {verb} {{d}} {how} than {{q}}.]"
        s.say(than, p=p, q=q, d=d, what=what)
        return p, s.step("+" if how == "more" else "-", n, d, note)
    as_many = "as many [{what} |]as {q}."
    if how == "part":
        k = s.divisor(n, 2, 5)
        s.say(f"{{p}} {verb} {{f}} {as_many}", p=p, q=q, f=s.fraction(k), what=what)
        return p, s.step("/", n, k, note)
    k = s.pick([2, 2, 2, 3, 3, 4, 5])
    if how == "times":
        text = f"{{p}} {verb} {{k}} {as_many}"
        if k < 4:
            text = f"[{text}|{{p}} {verb} {{k}} the number of {{what}} that {{q}} <does/did>.]"
        s.say(text, p=p, q=q, k=s.times(k), what=what)
        return p, s.step("*", n, k, note)
    d = s.some(2, 15)
    sign, word = ("+", "more") if how == "times more" else ("-", "fewer")
    s.say(f"{{p}} {verb} {{d}} {word} than {{k}} {as_many}", p=p, q=q, d=d, k=s.times(k), what=what)
    twice = s.step("*", n, k, f"{k} times {s.n(n)} is # {what}")
    return p, s.step(sign, twice, d, note)


def _relation_question(s: Story, people: list[tuple[Person, Fraction]], ending: str, verb: str, what: str) -> None:
    base, last = _base(verb), people[-1]
    how = f"How many {what}"
    if ending == "last":
        s.ask(f"{how} <does/did> {{p}} {base}?", p=last[0])
    elif ending == "sum":
        total = people[0][1]
        for p, v in people[1:]:
            total = s.step("+", total, v, f"With {p} that is # {what}")
        who = "[the two of them|they]" if len(people) == 2 else "[all of them|they]"
        names = f"{', '.join(str(p) for p, _ in people[:-1])} and {last[0]}"
        s.ask(
            f"[{how} <do/did> {who} {base} [in total|altogether|together|combined]?|"
            f"What is the total number of {what} for {names}?]"
        )
    else:
        a, b = sorted((people[0], last), key=lambda one: -one[1])
        s.step("-", a[1], b[1], f"The difference is # {what}")
        s.ask(
            f"[How many more {what} <does/did> {a[0]} {base} than {b[0]}?|"
            f"How many fewer {what} <does/did> {b[0]} {base} than {a[0]}?]"
        )


def days(s: Story) -> None:
    """Day after day, each compared with the one before; asked is the last, the total, an average or what is missing."""
    p, (verb, what) = s.person(), _act(s)
    span, on, period = s.pick([(book.WEEKDAYS, "on", "day"), (book.MONTHS, "in", "month")])
    start = s.rng.randrange(len(span) - 5)
    values = [Fraction(s.some(4, 40))]
    first = f"[{on} {{day}}, {{p}} {verb} {{v}} {{what}}.|{{p}} {verb} {{v}} {{what}} {on} {{day}}.]"
    s.say(first, p=p, v=values[0], what=what, day=span[start])
    adding = s.chance(0.6)
    while s.left:
        spent = len(values) - 1 if adding else 0
        if s.left == spent and len(values) > 1:
            break
        if (s.left < spent + 1 and len(values) > 1) or len(values) == 5:
            raise Again
        day, n = span[start + len(values)], values[-1]
        fields = {"p": p, "what": what, "day": day, "last": span[start + len(values) - 1]}
        begin, note = f"{on} {{day}}, {{p.he}} {verb}", f"{on.capitalize()} {day}: # {what}"
        how = s.pick(["times", "more", "fewer", "part", "told"] if adding else ["times", "more", "fewer", "part"])
        if how == "told" or (adding and s.left == 1):
            values.append(Fraction(s.some(4, 40)))
            s.say(f"[{begin} {{v}}[ {{what}}| more].|{on} {{day}} it <is/was> {{v}}.]", **fields, v=values[-1])
        elif how in ("more", "fewer"):
            d = s.some(2, 20) if how == "more" else s.part(n, 0.1, 0.6)
            s.say(f"{begin} {{d}} {how}[ {{what}}|] than {on} {{last}}.", **fields, d=d)
            values.append(s.step("+" if how == "more" else "-", n, d, note))
        elif how == "part":
            k = s.divisor(n, 2, 5)
            s.say(f"{begin} {{f}} as many[ {{what}}|] as {on} {{last}}.", **fields, f=s.fraction(k))
            values.append(s.step("/", n, k, note))
        else:
            k = s.pick([2, 2, 3, 4])
            before = f"[{on} {{last}}|the {period} before]"
            s.say(f"{begin} {{k}} as many[ {{what}}|] as {before}.", **fields, k=s.times(k))
            values.append(s.step("*", n, k, note))
    how_many = f"How many {what} <does/did> {{p}} {_base(verb)}"
    if not adding:
        return s.ask(f"{how_many} {on} {{day}}?", p=p, day=span[start + len(values) - 1])
    _sum(s, values, what)
    s.ask(f"{how_many} [in total|altogether|in all|over these {len(values)} {period}s]?", p=p)


def _sum(s: Story, values: list[Fraction], what: str) -> Fraction:
    total = values[0]
    for value in values[1:]:
        total = s.step("+", total, value, f"Added up that is # {what}")
    return total


def at_first(s: Story) -> None:
    """Changes are told, then the end; asked is the beginning. The steps undo the changes, last one first."""
    p, (things, _) = s.person(), s.thing(book.COLLECTED, book.PICKED, book.BAKED)
    money = s.chance(0.3)
    if money:
        things = "dollars"
    now = Fraction(s.some(6, 80))
    undo: list[tuple[str, int]] = []
    s.say(
        f"[{{p}} <has/had> some {things}[| at first].|{{p}} <starts/started> the [day|week] with some {things}.|"
        f"{{p}} <brings/brought> some {things} to {'the market' if money else 'school'}.]",
        p=p,
    )
    while len(undo) < s.level:
        how, q = s.pick(["gain", "lose", "lose", "double", "half"]), s.person()
        if how == "gain":
            a = s.some(2, 40)
            text = (
                "[{then}, {p.he} <gets/got> {a} more.|{q} <gives/gave> {p.him} {a} more.|"
                "{then}, {p.he} <finds/found> {a}.]"
            )
            now, turn = now + a, ("-", a)
        elif how == "lose":
            a = s.part(now, 0.1, 0.6)
            text = (
                "[{then}, {p.he} <gives/gave> {a} of them to {q}.|{p.He} <loses/lost> {a} of them.|"
                "{then}, {p.he} <gives/gave> {q} {a}.]"
            )
            now, turn = now - a, ("+", a)
        elif how == "double":
            a = s.pick([2, 2, 3])
            doubles = "<doubles/doubled>" if a == 2 else "<triples/tripled>"
            text = f"[{{then}}, the number {doubles}.|{{then}}, {{p.he}} {doubles} what {{p.he}} <has/had>.]"
            now, turn = now * a, ("/", a)
        else:
            a = s.whole(now / 2)
            text = (
                "[{then}, {p.he} <gives/gave> half of them away.|{then}, {p.he} <gives/gave> half of what {p.he} "
                "<has/had> to {q}.|{p.He} <loses/lost> half of them.]"
            )
            now, turn = now / 2, ("*", 2)
        s.say(text, p=p, a=a, q=q, then=s.then())
        if undo and turn[0] == undo[-1][0]:
            raise Again
        undo.append(turn)
    s.say(
        f"[Now {{p.he}} has {{v}} {things}[| left].|In the end, {{p.he}} <has/had> {{v}} {things}.|"
        f"{{p.He}} <ends/ended> up with {{v}} {things}.]",
        p=p,
        v=now,
    )
    for sign, a in reversed(undo):
        now = s.step(sign, now, a, f"Before that, {p} had # {things}")
    s.ask(
        f"How many {things} did {{p}} have "
        "[at first|at the beginning|to begin with|at the start|before all this|in the beginning]?",
        p=p,
    )


_WEEK = [
    ("miles", "ran", "run"), ("pages", "read", "read"), ("laps", "swam", "swim"), ("dollars", "earned", "earn"),
    ("cupcakes", "sold", "sell"), ("hours", "worked", "work"),
]  # fmt: skip


def missing_part(s: Story) -> None:
    """A whole, and all of its parts but one: level = number of parts told."""
    n = s.level
    if n > 5:
        raise Again
    p, kind = s.person(), s.pick(["shop", "collection", "week", "gift"])
    parts = [Fraction(s.some(4, 40)) for _ in range(n + 1)]
    total = sum(parts, Fraction(0))
    if kind == "shop":
        names = [s.thing([g.rsplit(" ", 2)[0] for g in book.GOODS])[1] for _ in range(n + 1)]
        if len(set(names)) <= n:
            raise Again
        told = ", ".join(f"a {name} for {s.usd(v)}" for name, v in zip(names[:-1], parts, strict=False))
        s.say(
            "[{p} <spends/spent> {t} at {shop}. {p.He} <buys/bought> {told} and a {last}.|{p} "
            "<buys/bought> {told}, and a {last}[| at {shop}]. In total, {p.he} <pays/paid> {t}.]",
            p=p,
            t=s.usd(total),
            told=told,
            last=names[-1],
            shop=s.pick(book.SHOPS),
        )
        unit, ask = "dollars", f"How much <does/did> the {names[-1]} cost?"
    elif kind == "collection":
        things = s.thing(book.COLLECTED)[0]
        colours = s.rng.sample(book.COLOURS, n + 1)
        told = ", ".join(f"{s.n(v)} <are/were> {c}" for c, v in zip(colours[:-1], parts, strict=False))
        s.say(
            f"[{{p}} <has/had> {{t}} {things}.|There <are/were> {{t}} {things} in {{p}}'s box.] Of these, "
            f"{told}, and the rest <are/were> {colours[-1]}.",
            p=p,
            t=total,
        )
        unit, ask = things, f"How many {things} <are/were> {colours[-1]}?"
    elif kind == "week":
        what, verb, base = s.pick(_WEEK)
        start = s.rng.randrange(7 - n)
        told = ", ".join(f"{s.n(v)} on {day}" for day, v in zip(book.WEEKDAYS[start:], parts[:-1], strict=False))
        last = book.WEEKDAYS[start + n]
        s.say(
            f"[From {book.WEEKDAYS[start]} to {last}, {{p}} {verb} {{t}} {what} in total: {told}, and the "
            f"rest on {last}.|"
            f"{{p}} {verb} {{t}} {what} in {{k}} days. It was {told}, and the rest on {last}.]",
            p=p,
            t=total,
            k=n + 1,
        )
        unit, ask = what, f"How many {what} did {{p}} {base} on {last}?"
    else:
        kin = s.rng.sample(book.KIN, n)
        dear = s.pick(book.DEAR)
        told = ", ".join(
            f"{'his' if p.he == 'he' else 'her'} {k} gave {p.him} {s.usd(v)}" for k, v in zip(kin, parts, strict=False)
        )
        s.say(f"{{p}} <wants/wanted> to buy a {dear} for {{t}}. {told[0].upper() + told[1:]}.", p=p, t=s.usd(total))
        unit, ask = "dollars", f"How much [more |]money <does/did> {{p}} [still |]need[| for the {dear}]?"
    rest = total
    for v in parts[:-1]:
        rest = s.step("-", rest, v, f"That leaves # {unit}")
    s.ask(ask, p=p)


_COUNTED = [
    ("points", "scored"), ("miles", "ran"), ("pages", "read"), ("dollars", "earned"), ("cups of lemonade", "sold"),
    ("fish", "caught"), ("customers", "served"), ("emails", "answered"),
]  # fmt: skip


def average(s: Story) -> None:
    """The mean of what was told: n numbers, n steps."""
    if not 2 <= s.level <= 5:
        raise Again
    p, (what, verb) = s.person(), s.pick(_COUNTED)
    values = [Fraction(s.some(5, 60)) for _ in range(s.level)]
    span = s.pick(["games", "days"]) if what == "points" else "days"
    told = ", ".join(s.n(v) for v in values[:-1]) + f" and {s.n(values[-1])}"
    s.say(f"[In {{k}} {span}, {{p}} {verb} {told} {what}.|{{p}} {verb} {told} {what} in {{k}} {span}.]", p=p, k=s.level)
    s.whole(s.step("/", _sum(s, values, what), s.level, f"On average that is # {what}"))
    one = span[:-1]
    s.ask(
        f"[What was {{p}}'s average number of {what} per {one}?|How many {what} was that per {one} on "
        f"average?|On average, how many {what} was that a {one}?]",
        p=p,
    )


# what is done, its base form, what the things are worth, and what each of them is
_KINDS = [
    ("scored", "score", "points", [("free throws", 1), ("two-point shots", 2), ("three-point shots", 3)]),
    ("had", "have", "cents", [("nickels", 5), ("dimes", 10), ("quarters", 25)]),
    ("found", "find", "dollars", [("five-dollar bills", 5), ("ten-dollar bills", 10), ("twenty-dollar bills", 20)]),
    ("saw", "see", "wheels", [("tricycles", 3), ("cars", 4), ("bicycles", 2)]),
    ("counted", "count", "legs", [("spiders", 8), ("beetles", 6), ("lizards", 4), ("birds", 2)]),
    ("bought", "buy", "batteries", [
        ("packs of four batteries", 4), ("packs of six batteries", 6), ("packs of eight batteries", 8),
    ]),
    ("packed", "pack", "mugs", [("small boxes of six mugs", 6), ("large boxes of nine mugs", 9)]),
    ("worked", "work", "hours", [("three-hour shifts", 3), ("five-hour shifts", 5), ("eight-hour shifts", 8)]),
    ("watched", "watch", "minutes", [("half-hour shows", 30), ("45-minute shows", 45), ("90-minute films", 90)]),
]  # fmt: skip


def points(s: Story) -> None:
    """Shots, questions, coins: kinds of different worth."""
    p = s.person()
    verb, base, unit, pool = s.pick(_KINDS)
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
    ask = f"How many {unit} did {{p}} {base}[| in total| altogether]?"
    while s.left:
        how = s.pick(["friend", "less", "double", "beyond"])
        q = s.person()
        if how == "beyond":
            if s.left > 1:
                continue
            goal = s.whole(total) + s.some(3, 60)
            s.say(f"{{p.His}} goal was {{g}} {unit}.", p=p, g=goal)
            s.step("-", goal, total, f"# {unit} are missing")
            ask = f"How many {unit} was {{p}} short of the goal?"
            continue
        if how == "friend":
            sign, k, many = "+", s.some(3, 40), "{k} more"
        elif how == "less":
            sign, k, many = "-", s.part(total, 0.1, 0.5), "{k} fewer"
        else:
            sign, k = "*", s.pick([2, 2, 3])
            many = f"{s.times(k)} as many"
        s.say(f"{{q}} {verb} {many} {unit} {'as' if sign == '*' else 'than'} {{p}}.", q=q, p=p, k=k)
        total, p, ask = s.step(sign, total, k, f"{q} has # {unit}"), q, f"How many {unit} did {{p}} {base}?"
    s.ask(ask, p=p)
