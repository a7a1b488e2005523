"""Wages that rise, subscriptions, installments, habits, rates by the minute."""

from __future__ import annotations

from fractions import Fraction

from ponder.tasks.stories import wordbook as book
from ponder.tasks.stories.shopping import COST_MOVES
from ponder.tasks.stories.story import Again, State, Story, go_on


def _spend_on(s: Story, state: State) -> None:
    go_on(s, state, COST_MOVES)


def subscriptions(s: Story) -> None:
    """So much a month, for so long, with fees, discounts and other offers."""
    p, x = s.person(), s.some(6, 80)
    what = s.pick(
        [
            "a gym membership",
            "a streaming service",
            "a phone plan",
            "an internet plan",
            "a parking spot",
            "a storage unit",
            "a magazine",
            "a karate class",
            "a dance class",
            "a language course",
            "car insurance",
        ]
    )
    d = s.pick([12, 6, 3, s.some(2, 11)])
    span = {12: "a year", 6: "half a year"}.get(d, f"{s.n(d)} months") if s.chance(0.5) else f"{s.n(d)} months"
    s.say(
        f"[{{p}} <pays/paid> {{x}} [a|per|every] month for {what} [for {span}|over {span}].|{what} "
        f"<costs/cost> {{p}} {{x}} a month. {{p.He}} <keeps/kept> it for {span}.|{{p}} <signs/signed> "
        f"up for {what} at {{x}} per month for {span}.]",
        p=p,
        x=s.usd(x),
    )
    v = s.step("*", x, d, f"In {d} months that is # dollars")
    if s.left and s.chance(0.5):
        f = s.some(10, 100)
        s.say(
            "[There <is/was> also a sign-up fee of {f}.|{p.He} also <pays/paid> {f} for equipment.|A "
            "one-time fee of {f} <is/was> added.]",
            p=p,
            f=s.usd(f),
        )
        v = s.step("+", v, f, "With the fee that is # dollars")
    elif s.left and s.chance(0.5):
        f = s.some(20, 150)
        s.say(
            "[The next year, the price <goes/went> up, and the same <costs/cost> {f} more.|{p.He} also "
            "<pays/paid> {f} for extras.]",
            p=p,
            f=s.usd(f),
        )
        v = s.step("+", v, f, "With that it is # dollars")
    _spend_on(s, State("cost", v, "How much <does/did> {p} pay [in total|altogether]?", {"p": p}))


def installments(s: Story) -> None:
    """A price, something paid at once, the rest in equal parts."""
    if s.level > 5:
        raise Again
    p, dear = s.person(), s.pick(book.DEAR)
    price = Fraction(s.some(10, 90) * 10)
    s.say(
        "[{p} <buys/bought> a {dear} for {x}.|A {dear} <costs/cost> {x}, and {p} <buys/bought> it.]",
        p=p,
        dear=dear,
        x=s.usd(price),
    )
    v = price
    turns = ["down", "discount", "trade", "tax"]
    ask = "How much does {p} still have to pay?"
    while s.left > 1 or (s.left == 1 and s.chance(0.5)):
        if not turns:
            raise Again
        how = turns.pop(s.rng.randrange(len(turns)))
        if how == "down":
            a = s.part(v, 0.1, 0.5)
            s.say(
                "[{p.He} <pays/paid> {a} at once.|{p.He} <makes/made> a down payment of {a}.|{p.He} "
                "<puts/put> {a} down.]",
                p=p,
                a=s.usd(a),
            )
            v = s.step("-", v, a, "That leaves # dollars")
        elif how == "discount" and s.left >= 2:
            x = s.pick([10, 20, 25, 30])
            s.whole(v * x / 100)
            s.say("[The seller <takes/took> {x}% off what is owed.|{p.He} <gets/got> {x}% off the amount.]", p=p, x=x)
            v = s.step("-", v, s.step("*", v, Fraction(x, 100), f"{x}% of it is # dollars"), "That leaves # dollars")
        elif how == "trade":
            a = s.part(v, 0.05, 0.3)
            s.say(
                "[For {p.his} old one {p.he} <gets/got> {a} off.|{p.His} parents <pay/paid> {a} of it.|A "
                "gift card <covers/covered> {a}.]",
                p=p,
                a=s.usd(a),
            )
            v = s.step("-", v, a, "That leaves # dollars")
        elif how == "tax":
            a = s.some(5, 60)
            s.say("Taxes and fees of {a} <are/were> added.", a=s.usd(a))
            v = s.step("+", v, a, "With them it is # dollars")
    if s.left == 1:
        k = s.divisor(v, 2, 12)
        s.say(
            "[{p.He} <pays/paid> [it off|the rest] in {k} equal monthly payments.|The rest <is/was> paid "
            "in {k} equal payments.|{p.He} <wants/wanted> to pay it over {k} months, the same amount "
            "each month.]".replace("[it off|the rest]", "the rest" if len(s.sentences) > 1 else "it off").replace(
                "The rest", "The rest" if len(s.sentences) > 1 else "The price"
            ),
            p=p,
            k=k,
        )
        s.step("/", v, k, "Each payment is # dollars")
        return s.ask("How much is each [payment|monthly payment]?")
    s.ask(ask, p=p)


def raises(s: Story) -> None:
    """An hourly wage that changes, or is higher at some times."""
    if s.level < 2:
        raise Again
    p, rate, h = s.person(), s.some(8, 30), s.some(3, 40)
    job = s.pick(book.JOBS)
    kind = s.pick(["raise", "overtime", "two jobs", "promotion"])
    if kind == "raise":
        a = s.some(2, 10)
        s.say(
            "[{p} <makes/made> {rate} an hour as a {job}. {then}, {p.he} <gets/got> a raise of {a} an "
            "hour. {p.He} <works/worked> {h} hours at the new rate.|"
            "{p}'s pay of {rate} per hour as a {job} <goes/went> up by {a} per hour, and {p.he} "
            "<works/worked> {h} hours after that.]",
            p=p,
            rate=s.usd(rate),
            a=s.usd(a),
            h=h,
            job=job,
            then=s.then(),
        )
        v = s.step("*", s.step("+", rate, a, "The new pay is # dollars an hour"), h, f"{p} earns # dollars")
    elif kind == "promotion":
        x = s.pick([10, 20, 25, 50])
        s.whole(Fraction(rate) * x / 100)
        s.say(
            "{p} <earns/earned> {rate} an hour as a {job}. After a promotion, {p.his} pay <is/was> {x}% higher.",
            p=p,
            rate=s.usd(rate),
            x=x,
            job=job,
        )
        v = s.step(
            "+",
            rate,
            s.step("*", rate, Fraction(x, 100), "The raise is # dollars an hour"),
            "The new pay is # dollars an hour",
        )
        if not s.left:
            return s.ask("How much <does/did> {p} earn per hour [now|after the promotion]?".replace("now|", ""), p=p)
        s.say("{p.He} <works/worked> {h} hours a week.", p=p, h=h)
        v = s.step("*", v, h, f"{p} earns # dollars a week")
    elif kind == "overtime":
        if s.left < 4:
            raise Again
        m = s.some(2, 10)
        s.say(
            "[{p} <is/was> paid {rate} an hour as a {job}, and twice as much for overtime. This week "
            "{p.he} worked {h} regular hours and {m} hours of overtime.|"
            "As a {job}, {p} <earns/earned> {rate} per hour, and double that on Sundays. Last week, "
            "{p.he} worked {h} hours on weekdays and {m} hours on Sunday.]",
            p=p,
            rate=s.usd(rate),
            h=h,
            m=m,
            job=job,
        )
        base = s.step("*", rate, h, "The regular pay is # dollars")
        double = s.step("*", rate, 2, "The higher pay is # dollars an hour")
        v = s.step("+", base, s.step("*", double, m, "For the extra hours that is # dollars"), f"{p} earns # dollars")
    else:
        if s.left < 3:
            raise Again
        r2, m = s.some(8, 30), s.some(3, 20)
        s.say(
            "[{p} <has/had> two jobs. {p.He} <works/worked> {h} hours a week as a {job} for {a} an hour "
            "and {m} hours a week as a {other} for {b} an hour.|"
            "{p} <works/worked> {h} hours as a {job} at {a} per hour, and {m} hours as a {other} at {b} "
            "per hour.]",
            p=p,
            h=h,
            m=m,
            a=s.usd(rate),
            b=s.usd(r2),
            job=job,
            other=s.pick(book.JOBS),
        )
        v = s.step(
            "+",
            s.step("*", h, rate, "The first job brings # dollars"),
            s.step("*", m, r2, "The second job brings # dollars"),
            f"{p} earns # dollars",
        )
    _spend_on(s, State("money", v, "How much [money|] <does/did> {p} earn[| in total]?", {"p": p}))


def rates_by_the_minute(s: Story) -> None:
    """A rate a minute or second, asked for hours: conversion first."""
    if s.level < 2:
        raise Again
    text, unit = s.pick(
        [
            ("A printer can print {r} pages [a|per|every] minute.", "pages"),
            ("A faucet drips {r} drops [a|per] minute.", "drops"),
            ("{p}'s heart beats {r} times [a|per] minute.", "beats"),
            ("A machine fills {r} bottles [a|per|every] minute.", "bottles"),
            ("{p} can type {r} words [a|per] minute.", "words"),
            ("A website gets {r} visitors [a|per] minute.", "visitors"),
            ("{p} jumps rope at {r} jumps [a|per] minute.", "jumps"),
            ("A conveyor belt moves {r} boxes [a|per|every] minute.", "boxes"),
            ("A fountain uses {r} gallons of water [a|per] minute.", "gallons"),
            ("A factory makes {r} candles [a|per|every] minute.", "candles"),
            ("A windmill turns {r} times [a|per] minute.", "turns"),
        ]
    )
    p, r, h = s.person(), s.some(2, 40), s.some(2, 6)
    s.say(text, p=p, r=r)
    minutes = s.step("*", h, 60, f"{h} hours are # minutes")
    v = s.step("*", minutes, r, f"In that time it is # {unit}")
    ask, fields = f"How many {unit} is that in {{h}} hours?", {"h": h}
    while s.left:
        how = s.pick(["stop", "less", "days", "need"])
        if how == "less":
            a = s.part(v, 0.05, 0.4)
            s.say(f"In the last {{h}} hours, {{a}} {unit} [were lost|did not count].", h=h, a=a)
            v, ask = s.step("-", v, a, f"That leaves # {unit}"), f"How many {unit} counted in these {{h}} hours?"
        elif how == "days" and s.left == 1:
            d = s.some(2, 7)
            s.say("This goes on for {h} hours a day.", h=h)
            s.step("*", v, d, f"In {d} days that is # {unit}")
            return s.ask(f"How many {unit} is that in {{d}} days?", d=d)
        elif how == "need" and s.left == 1:
            a = s.whole(v) + s.some(20, 500)
            s.say(f"{{a}} {unit} are needed.", a=a)
            s.step("-", a, v, f"# {unit} are missing")
            return s.ask(f"How many {unit} are still missing after {{h}} hours?", h=h)
        elif how == "stop":
            raise Again
    s.ask(ask, **fields)


def weekly_habit(s: Story) -> None:
    """So much at a time, so many times a week, so many weeks; what it adds up to, or costs."""
    p, a, d = s.person(), s.some(2, 30), s.some(2, 6)
    act, unit = s.pick(
        [
            ("runs/ran", "miles"),
            ("swims/swam", "laps"),
            ("bakes/baked", "loaves of bread"),
            ("drinks/drank", "cups of coffee"),
            ("writes/wrote", "pages"),
            ("practices/practiced", "songs"),
            ("sells/sold", "newspapers"),
            ("delivers/delivered", "packages"),
            ("walks/walked", "dogs"),
            ("washes/washed", "cars"),
            ("reads/read", "chapters"),
            ("plants/planted", "seeds"),
            ("grades/graded", "essays"),
            ("tutors/tutored", "students"),
            ("paints/painted", "tiles"),
            ("cooks/cooked", "meals"),
            ("milks/milked", "cows"),
            ("uploads/uploaded", "photos"),
        ]
    )
    days = s.pick([f"{s.n(d)} days a week", f"{s.n(d)} times a week"]) if s.chance(0.7) else None
    if days is None:
        d, days = s.pick(
            [
                (7, "every day of the week"),
                (5, "every weekday"),
                (2, "every Saturday and Sunday"),
                (6, "every day except Sunday"),
                (3, "every Monday, Wednesday and Friday"),
            ]
        )
    s.say(f"[{{p}} <{act}> {{a}} {unit} {days}.|{days}, {{p}} <{act}> {{a}} {unit}.]", p=p, a=a)
    v = s.step("*", a, d, f"In a week that is # {unit}")
    if not s.left:
        return s.ask(f"How many {unit} is that [in a week|per week|each week]?")
    w, span = s.pick([(s.some(2, 12), ""), (52, "a year"), (4, "four weeks")])
    span = span or f"{s.n(w)} weeks"
    if s.left > 1 and s.chance(0.5):
        x = s.some(2, 9)
        s.say(
            f"[{{p.He}} <is/was> paid {{x}} for each of these {unit}.|For each of the {unit} {{p.he}} "
            f"<gets/got> {{x}}.]",
            p=p,
            x=s.usd(x),
        )
        v = s.step("*", v, x, "In a week that is # dollars")
        unit = "dollars"
    v = s.step("*", v, w, f"In {w} weeks that is # {unit}")
    if unit == "dollars":
        if s.left:
            s.say(f"{{p.He}} <does/did> this for {span}.", p=p)
        return _spend_on(
            s, State("money", v, f"How much money <does/did> {{p}} earn in {span}?" if not s.left else "", {"p": p})
        )
    if not s.left:
        return s.ask(f"How many {unit} is that in {span}?")
    s.say(f"{{p.He}} <keeps/kept> this up for {span}.", p=p)
    if s.left == 1 and s.chance(0.5):
        g = s.whole(v) + s.some(5, 200)
        s.say(f"{{p.His}} goal <is/was> {{g}} {unit}.", p=p, g=g)
        s.step("-", g, v, f"# {unit} are missing")
        return s.ask(
            f"[How many {unit} short of the goal <is/was> {{p}}?|How many more {unit} would {{p}} have needed?]", p=p
        )
    q, k = s.person(), s.pick([2, 2, 3])
    s.say(f"In the same time, {{q}} <{act}> {{k}} as many {unit}.", q=q, k=s.times(k))
    other = s.step("*", v, k, f"{q}: # {unit}")
    if s.left == 1:
        s.step("+", v, other, f"Together that is # {unit}")
        return s.ask(f"How many {unit} is that for both of them [together|in total]?")
    if s.left:
        raise Again
    s.ask(f"How many {unit} is that for {{q}}?", q=q)
