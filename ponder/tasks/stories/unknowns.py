"""Stories told from the end: what was there at first, what the missing part is, how a sum divides."""

from __future__ import annotations

from fractions import Fraction

from ponder.tasks.stories import wordbook as book
from ponder.tasks.stories.story import Again, Story


def at_first(s: Story) -> None:
    """Changes are told, then the end; asked is the beginning. The steps undo the changes, last one first."""
    p, (things, _) = s.person(), s.thing(book.COLLECTED, book.PICKED, book.BAKED)
    money = s.chance(0.3)
    if money:
        things = "dollars"
    start = now = Fraction(s.some(6, 80))
    undo: list[tuple[str, int]] = []
    s.say(
        f"[{{p}} <has/had> some {things}[| at first].|{{p}} <starts/started> the [day|week] with some "
        f"{things}.|{{p}} <brings/brought> some {things} to school.]".replace(
            "to school", "to the market" if money else "to school"
        ),
        p=p,
    )
    while len(undo) < s.level:
        how = s.pick(["gain", "lose", "lose", "double", "half"])
        q = s.person()
        if how == "gain":
            a = s.some(2, 40)
            s.say(
                "[{then}, {p.he} <gets/got> {a} more.|{q} <gives/gave> {p.him} {a} more.|{then}, {p.he} "
                "<finds/found> {a}.]",
                p=p,
                a=a,
                q=q,
                then=s.then(),
            )
            now, turn = now + a, ("-", a)
        elif how == "lose":
            a = s.part(now, 0.1, 0.6)
            s.say(
                "[{then}, {p.he} <gives/gave> {a} of them to {q}.|{p.He} <loses/lost> {a} of them.|{then}, "
                "{p.he} <gives/gave> {q} {a}.]",
                p=p,
                a=a,
                q=q,
                then=s.then(),
            )
            now, turn = now - a, ("+", a)
        elif how == "double":
            k = s.pick([2, 2, 3])
            s.say(
                f"[{{then}}, the number <{'doubles/doubled' if k == 2 else 'triples/tripled'}>.|{{then}}, "
                f"{{p.he}} <{'doubles/doubled' if k == 2 else 'triples/tripled'}> what {{p.he}} <has/had>.]",
                p=p,
                then=s.then(),
            )
            now, turn = now * k, ("/", k)
        else:
            s.whole(now / 2)
            s.say(
                "[{then}, {p.he} <gives/gave> half of them away.|{then}, {p.he} <gives/gave> half of what "
                "{p.he} <has/had> to {q}.|{p.He} <loses/lost> half of them.]",
                p=p,
                q=q,
                then=s.then(),
            )
            now, turn = now / 2, ("*", 2)
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
    assert now == start
    s.ask(
        f"How many {things} <does/did> {{p}} have [at first|at the beginning|to begin with|at the "
        f"start|before all this|in the beginning]?".replace("<does/did>", "did"),
        p=p,
    )


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
        what, verb, base = s.pick(
            [
                ("miles", "ran", "run"),
                ("pages", "read", "read"),
                ("laps", "swam", "swim"),
                ("dollars", "earned", "earn"),
                ("cupcakes", "sold", "sell"),
                ("hours", "worked", "work"),
            ]
        )
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


def sum_and_ratio(s: Story) -> None:
    """Together so many, and one has k times as many as the other: 36/(1+2). Two or three steps."""
    p, q = s.person(), s.person()
    things, _ = s.thing(book.COLLECTED, book.PICKED)
    k, v = s.pick([2, 2, 3, 3, 4, 5]), s.some(4, 40)
    total = v * (k + 1)
    s.say(
        f"[{{p}} and {{q}} have {{t}} {things} [together|altogether|in total]. {{p}} has {{k}} as "
        f"many as {{q}}.|Together, {{p}} and {{q}} have {{t}} {things}, and {{p}} has {{k}} as many "
        f"as {{q}}.]",
        p=p,
        q=q,
        t=total,
        k=s.times(k),
    )
    parts = s.step("+", k, 1, "There are # equal parts") if s.left > 1 else None
    if parts is None:
        raise Again
    one = s.step("/", total, parts, f"{q} has # {things}")
    if not s.left:
        return s.ask(f"How many {things} does {{q}} have?", q=q)
    more = s.step("*", one, k, f"{p} has # {things}")
    if not s.left:
        return s.ask(f"How many {things} does {{p}} have?", p=p)
    s.step("-", more, one, f"The difference is # {things}")
    if s.left:
        raise Again
    s.ask(f"How many more {things} does {{p}} have than {{q}}?", p=p, q=q)


def sum_and_difference(s: Story) -> None:
    """Together so many, and one has d more: (t-d)/2. Two or three steps."""
    if not 2 <= s.level <= 3:
        raise Again
    p, q = s.person(), s.person()
    what = s.pick([s.thing(book.COLLECTED, book.PICKED)[0], "dollars", "points", "pages", "stamps"])
    d, v = s.some(2, 30), s.some(4, 50)
    total = 2 * v + d
    s.say(
        f"[{{p}} and {{q}} have {{t}} {what} [together|in total]. {{p}} has {{d}} more than {{q}}.|"
        f"{{p}} has {{d}} more {what} than {{q}}. Together they have {{t}} {what}.]",
        p=p,
        q=q,
        t=total,
        d=d,
    )
    rest = s.step("-", total, d, f"Without the {d} more, # {what} are left")
    one = s.step("/", rest, 2, f"{q} has # {what}")
    if not s.left:
        return s.ask(f"How many {what} does {{q}} have?", q=q)
    s.step("+", one, d, f"{p} has # {what}")
    s.ask(f"How many {what} does {{p}} have?", p=p)


def of_the_rest(s: Story) -> None:
    """A whole that falls into parts: 1/3 red, of the rest half blue, ...; asked is the last part."""
    if s.level < 2:
        raise Again
    stock, kinds = s.pick([(book.COLLECTED, book.COLOURS), (book.COLLECTED, book.COLOURS), (book.BAKED, book.FLAVOURS)])
    p, things = s.person(), s.thing(stock)[0]
    colours = s.rng.sample(kinds, 5)
    rest = Fraction(s.some(2, 30) * s.pick([4, 6, 10, 12, 20]))
    s.say(
        f"[{{p}} has {{v}} {things}.|There are {{v}} {things} in {{p}}'s shop.|{{p}} bought {{v}} "
        f"{things}.|A box holds {{v}} {things}.]",
        p=p,
        v=rest,
    )
    used = 0
    while s.left > 1:
        if used == 4:
            raise Again
        colour, first = colours[used], used == 0
        of = f"of the {things}" if first else "of the [rest|remaining ones|others]"
        if s.left == 2 and s.chance(0.4):  # only a part of the part
            k = s.divisor(rest, 2, 5)
            s.say(f"{{f}} {of} are {colour}.", f=s.fraction(k))
            part = s.step("/", rest, k, f"# are {colour}")
            j = s.divisor(part, 2, 5)
            s.say(
                f"{{f}} of the {colour} ones [are broken|have a flaw|are sold|have been given away].", f=s.fraction(j)
            )
            s.step("/", part, j, "Of these that is #")
            return s.ask(f"How many {colour} {things} is that?")
        if s.chance(0.5):
            k = s.divisor(rest, 2, 5)
            s.say(f"{{f}} {of} are {colour}.", f=s.fraction(k))
            part = s.step("/", rest, k, f"# are {colour}")
        elif s.chance(0.7):
            x = s.pick([10, 20, 25, 30, 40, 50, 60])
            s.whole(rest * x / 100)
            s.say(f"{{x}}% {of} are {colour}.", x=x)
            part = s.step("*", rest, Fraction(x, 100), f"# are {colour}")
        else:
            a = s.part(rest, 0.1, 0.5)
            s.say(f"{{a}} {of} are {colour}.", a=a)
            rest, used = s.step("-", rest, a, f"# are not {colour}"), used + 1
            continue
        rest, used = s.step("-", rest, part, "# are left"), used + 1
    last = colours[used]
    if s.left == 1:
        a = s.part(rest, 0.1, 0.6)
        s.say(f"{{a}} of the others are {colours[used]}, and the rest are {colours[4] if used < 4 else 'plain'}.", a=a)
        last = colours[4] if used < 4 else "plain"
        s.step("-", rest, a, f"# are {last}")
    else:
        s.say(f"The [rest|others] are {last}.")
    s.ask(f"How many {things} are {last}?")


def profit(s: Story) -> None:
    """Bought at one price, sold at another. Two steps (by the piece) or three (total against total), then more."""
    if not 2 <= s.level <= 4:
        raise Again
    p, (things, thing, price) = s.person(), s.goods()
    n, gain = s.some(4, 40), s.some(2, 15)
    sell = price + gain
    s.say(
        "[{p} <buys/bought> {n} {things} at {a} each and <sells/sold> them for {b} each.|{p} "
        "<pays/paid> {a} for each {thing} and <sells/sold> it for {b}. {p.He} <sells/sold> {n} "
        "{things}.|"
        "It <costs/cost> {p} {a} to make a {thing}, and {p.he} <sells/sold> each for {b}. [Last "
        "month|This week], {p.he} sold {n}.]",
        p=p,
        n=n,
        things=things,
        thing=thing,
        a=s.usd(price),
        b=s.usd(sell),
    )
    if s.level == 2:
        each = s.step("-", sell, price, "The profit on each is # dollars")
        s.step("*", each, n, "The whole profit is # dollars")
        return s.ask(
            "[How much profit <does/did> {p} make?|What <is/was> {p}'s profit?|How much <does/did> {p} "
            "earn from this?]",
            p=p,
        )
    cost = s.step("*", n, price, f"{p} pays # dollars")
    income = s.step("*", n, sell, f"{p} gets # dollars")
    left = s.step("-", income, cost, "The profit is # dollars")
    if s.left:
        a = s.part(left, 0.1, 0.7)
        s.say("{p.He} also <pays/paid> {a} for [the stand|an advertisement|transport|a permit].", p=p, a=s.usd(a))
        s.step("-", left, a, "Then the profit is # dollars")
    s.ask("[How much profit <does/did> {p} make?|What <is/was> {p}'s [total |]profit?]", p=p)


def two_offers(s: Story) -> None:
    """Two ways to pay, and the difference: three steps."""
    if s.level != 3:
        raise Again
    p, (things, thing, price) = s.person(), s.goods()
    n, other = s.some(3, 20), price + s.some(1, 6)
    x, y = s.rng.sample(
        ["the market", "the corner shop", "the big store", "the online shop", "the mall", "the outlet"], 2
    )
    s.say(
        "{p} needs {n} {things}. At {x}, a {thing} costs {a}, and at {y} it costs {b}.",
        p=p,
        n=n,
        things=things,
        thing=thing,
        a=s.usd(price),
        b=s.usd(other),
        x=x,
        y=y,
    )
    a = s.step("*", n, other, f"At {y} they cost # dollars")
    b = s.step("*", n, price, f"At {x} they cost # dollars")
    s.step("-", a, b, "The difference is # dollars")
    s.ask(
        "[How much does {p} save by buying at {x}?|How much more would {p} pay at {y}?|How much money can {p} save?]",
        p=p,
        x=x,
        y=y,
    )
