"""Money that people have: earned, saved, spent, divided. The kind of these amounts is `money`."""

from __future__ import annotations

from fractions import Fraction

from ponder.tasks.stories import wordbook as book
from ponder.tasks.stories.story import Again, Move, State, Story, go_on

HAS = "How much money does {p} have [left|now|left]?"


def earning(s: Story) -> None:
    sources = [wage, wage_days, saved, had, two_jobs, sold, tips, salary]
    go_on(s, s.pick(sources)(s), MONEY_MOVES)


def _money(value: Fraction | int, ask: str, **fields: object) -> State:
    return State("money", Fraction(value), ask, fields)


def wage(s: Story) -> State:
    p, rate, h = s.person(), s.some(6, 40), s.some(3, 12)
    s.say(
        "[{p} <earns/earned> {rate} [an|per] hour as a {job}. [On {day}|Last week|Yesterday], {p.he} "
        "worked {h} hours.|"
        "{p} <works/worked> as a {job} for {h} hours and <is/was> paid {rate} per hour.|"
        "{p} <gets/got> {rate} for every hour of work as a {job}. {p.He} <works/worked> {h} hours.|"
        "{p} <is/was> a {job} who <charges/charged> {rate} an hour. One job <takes/took> {p.him} {h} hours.]",
        p=p,
        rate=s.usd(rate),
        h=h,
        job=s.pick(book.JOBS),
        day=s.pick(book.WEEKDAYS),
    )
    v = s.step("*", rate, h, f"{p} earns # dollars")
    return _money(v, "How much [money|] <does/did> {p} earn?", p=p)


def wage_days(s: Story) -> State:
    """Two steps."""
    p, rate, h, d = s.person(), s.some(6, 30), s.some(2, 9), s.some(2, 7)
    s.say(
        "[{p} <works/worked> {h} hours a day, {d} days a week, as a {job}. {p.He} <earns/earned> "
        "{rate} an hour.|"
        "As a {job}, {p} <is/was> paid {rate} per hour. {p.He} <works/worked> {h} hours each day for "
        "{d} days.|"
        "{p} <makes/made> {rate} an hour and <works/worked> {h}-hour shifts. Last week {p.he} had "
        "{d} shifts.]",
        p=p,
        rate=s.usd(rate),
        h=h,
        d=d,
        job=s.pick(book.JOBS),
    )
    if s.chance(0.5):
        hours = s.step("*", h, d, f"{p} works # hours")
        v = s.step("*", hours, rate, f"{p} earns # dollars")
    else:
        day = s.step("*", h, rate, f"In a day {p} earns # dollars")
        v = s.step("*", day, d, f"In {d} days {p} earns # dollars")
    return _money(v, "How much [money|] <does/did> {p} earn[| in total| that week]?", p=p)


def saved(s: Story) -> State:
    p, a, d = s.person(), s.some(3, 40), s.some(3, 12)
    span = s.pick(["week", "month", "day"])
    s.say(
        f"[{{p}} <saves/saved> {{a}} [a|every|each] {span} for {{d}} {span}s.|"
        f"{{p}} <gets/got> an allowance of {{a}} [a|per] {span}. {{p.He}} <saves/saved> all of it for "
        f"{{d}} {span}s.|"
        f"[Every|Each] {span}, {{p}} <puts/put> {{a}} into {{p.his}} [piggy bank|savings account]. "
        f"{{d}} {span}s have passed.]",
        p=p,
        a=s.usd(a),
        d=d,
    )
    v = s.step("*", a, d, f"{p} saves # dollars")
    return _money(v, "How much [money|] [has {p} saved|does {p} have]?", p=p)


def had(s: Story) -> State:
    p, n = s.person(), s.some(20, 300)
    s.say(
        "[{p} <has/had> {n}[| in {p.his} wallet| in the bank| in savings].|{p} <gets/got> {n} for "
        "{p.his} birthday.|"
        "{p}'s {kin} <gives/gave> {p.him} {n}.|{p} <goes/went> to {shop} with {n}.|{p} <takes/took> "
        "{n} out of the bank.]",
        p=p,
        n=s.usd(n),
        kin=s.pick(book.KIN),
        shop=s.pick(book.SHOPS),
    )
    return _money(n, HAS, p=p)


def two_jobs(s: Story) -> State:
    p, a, b = s.person(), s.some(10, 150), s.some(10, 150)
    chore, other = s.rng.sample(book.JOBS, 2)
    s.say(
        "[{p} <earns/earned> {a} as a {x} and {b} as a {y}.|{p} <gets/got> {a} from {p.his} {k} and "
        "{b} from {p.his} {j}.|"
        "In {month}, {p} <saves/saved> {a}, and in the following month {p.he} <saves/saved> {b}.]",
        p=p,
        a=s.usd(a),
        b=s.usd(b),
        x=chore,
        y=other,
        month=s.pick(book.MONTHS),
        k="mother",
        j=s.pick(book.KIN[1:]),
    )
    return _money(s.step("+", a, b, "Together that is # dollars"), HAS.replace("left", "now"), p=p)


def sold(s: Story) -> State:
    p, (things, thing) = s.person(), s.thing(book.CRAFTED, book.PICKED, book.BAKED)
    n, price = s.some(4, 60), s.some(2, 25)
    s.say(
        "[{p} <sells/sold> {n} {things} for {price} each[| at {shop}].|"
        "{p} <makes/made> {things} and <sells/sold> each {thing} for {price}. [Last week|On {day}|"
        "This month] {p.he} sold {n} of them.|"
        "At {shop}, {p} <sells/sold> {n} {things} at {price} apiece.]",
        p=p,
        n=n,
        price=s.usd(price),
        things=things,
        thing=thing,
        shop=s.pick(book.SHOPS),
        day=s.pick(book.WEEKDAYS),
    )
    v = s.step("*", n, price, f"The {things} bring # dollars")
    return _money(v, "How much [money|] <does/did> {p} [make|earn|get][| from the {things}]?", p=p, things=things)


def tips(s: Story) -> State:
    """Two steps."""
    p, rate, h, t = s.person(), s.some(6, 25), s.some(3, 10), s.some(10, 90)
    s.say(
        "[{p} <earns/earned> {rate} an hour as a {job}, plus tips. {p.He} <works/worked> {h} hours "
        "and <gets/got> {t} in tips.|"
        "For {h} hours of work, {p} <is/was> paid {rate} per hour and a bonus of {t}.]",
        p=p,
        rate=s.usd(rate),
        h=h,
        t=s.usd(t),
        job=s.pick(["waiter", "barber", "delivery driver", "guide at the museum"]),
    )
    w = s.step("*", rate, h, "The wage is # dollars")
    return _money(
        s.step("+", w, t, f"{p} earns # dollars"), "How much [money|] <does/did> {p} earn [in total|altogether]?", p=p
    )


def salary(s: Story) -> State:
    p, n = s.person(), s.some(12, 60) * 50
    s.say(
        "[{p} <earns/earned> {n} [a|per|every] month[| as a {job}].|{p}'s monthly [salary|income|pay] <is/was> {n}.]",
        p=p,
        n=s.usd(n),
        job=s.pick(book.JOBS),
    )
    return _money(n, "How much [money|] does {p} have left?", p=p)


def spend(s: Story, st: State) -> State:
    a = s.part(st.value)
    things, thing, _ = s.goods()
    an = "an" if thing[0] in "aeiou" else "a"
    s.say(
        "[{then}, {p.he} <spends/spent> {a} on {things}.|{p.He} <uses/used> {a} to buy {an} {thing}.|"
        "{p.He} <pays/paid> {a} for "
        "[lunch|{an} {thing}|a bus ticket|a phone bill].|{then}, {p.he} <gives/gave> {a} to {p.his} {kin}.|"
        "{p.He} <spends/spent> {a} of it [at {shop}|on {things}].]",
        **st.fields | {"things": things, "thing": thing},
        a=s.usd(a),
        an=an,
        then=s.then(),
        kin=s.pick(book.KIN),
        shop=s.pick(book.SHOPS),
    )
    return _money(
        s.step("-", st.value, a, f"{st.fields['p']} has # dollars left"), HAS.replace("now", "left"), **st.fields
    )


def spend_on(s: Story, st: State) -> State:
    """Two steps."""
    things, thing, price = s.goods()
    k = s.some(2, 6)
    if k * price >= st.value - 1:
        raise Again
    s.say(
        "[{then}, {p.he} <buys/bought> {k} {goods} for {price} each.|{p.He} <spends/spent> some of "
        "it on {k} {goods} that <cost/cost> "
        "{price} each.|{p.He} <buys/bought> {k} {goods}. Each {good} <costs/cost> {price}.|"
        "{then}, {p.he} <pays/paid> {price} each for {k} {goods}.]",
        **st.fields,
        k=k,
        goods=things,
        good=thing,
        price=s.usd(price),
        then=s.then(),
    )
    cost = s.step("*", k, price, f"The {things} cost # dollars")
    return _money(
        s.step("-", st.value, cost, f"{st.fields['p']} has # dollars left"), HAS.replace("now", "left"), **st.fields
    )


def earn_more(s: Story, st: State) -> State:
    a = s.some(5, 90)
    s.say(
        "[{then}, {p.he} <earns/earned> {a} more[| by helping a neighbor].|{p.His} {kin} "
        "<gives/gave> {p.him} {a}.|"
        "{then}, {p.he} <gets/got> another {a} [from {p.his} {kin}|for doing chores].|{p.He} also "
        "<finds/found> {a} in an old coat.]",
        **st.fields,
        a=s.usd(a),
        then=s.then(),
        kin=s.pick(book.KIN),
    )
    return _money(
        s.step("+", st.value, a, f"Then {st.fields['p']} has # dollars"),
        "How much money does {p} have now?",
        **st.fields,
    )


def spend_half(s: Story, st: State) -> State:
    s.whole(st.value / 2)
    s.say(
        "[{p.He} <spends/spent> half of [it|the money|{p.his} money] on a {dear}.|{then}, {p.he} "
        "<gives/gave> half of the money to "
        "{p.his} {kin}.|{p.He} <puts/put> half of it in the bank and <keeps/kept> the rest.]",
        **st.fields,
        then=s.then(),
        kin=s.pick(book.KIN),
        dear=s.pick(book.DEAR),
    )
    return _money(
        s.step("/", st.value, 2, f"{st.fields['p']} keeps # dollars"), HAS.replace("now", "left"), **st.fields
    )


def spend_fraction(s: Story, st: State) -> State:
    """Two steps."""
    k = s.divisor(st.value, 3, 6)
    s.say(
        "[{p.He} <spends/spent> {f} of [it|the money|{p.his} money] on [food|rent|clothes|books|a {dear}].|"
        "{then}, {p.he} <gives/gave> {f} of it to {p.his} {kin}.|{p.He} <puts/put> {f} of the money "
        "aside for taxes.]",
        **st.fields,
        f=s.fraction(k),
        then=s.then(),
        kin=s.pick(book.KIN),
        dear=s.pick(book.DEAR),
    )
    part = s.step("/", st.value, k, f"1/{k} of the money is # dollars")
    return _money(s.step("-", st.value, part, "That leaves # dollars"), HAS.replace("now", "left"), **st.fields)


def spend_percent(s: Story, st: State) -> State:
    """Two steps."""
    x = s.pick([5, 10, 15, 20, 25, 30, 40, 60])
    s.whole(st.value * x / 100)
    s.say(
        "[{p.He} <pays/paid> {x}% of it in taxes.|{p.He} <spends/spent> {x}% of [it|the money] on "
        "[food|rent|a gift|transport].|"
        "{then}, {p.he} <donates/donated> {x}% of it to [charity|an animal shelter|the school].]",
        **st.fields,
        x=x,
        then=s.then(),
    )
    part = s.step("*", st.value, Fraction(x, 100), f"{x}% of the money is # dollars")
    return _money(s.step("-", st.value, part, "That leaves # dollars"), HAS.replace("now", "left"), **st.fields)


def save_percent(s: Story, st: State) -> State:
    x = s.pick([10, 20, 25, 30, 40, 50, 60, 75])
    s.whole(st.value * x / 100)
    s.say(
        "[{p.He} <saves/saved> {x}% of [it|the money].|{p.He} <puts/put> {x}% of [it|the money] into "
        "a savings account.]",
        **st.fields,
        x=x,
    )
    v = s.step("*", st.value, Fraction(x, 100), f"{x}% of it is # dollars")
    return _money(v, "How much [money|] <does/did> {p} save?", **st.fields)


def needs(s: Story, st: State) -> State:
    goal = s.whole(st.value) + s.some(5, 120)
    s.say(
        "[{p.He} <wants/wanted> to buy a {dear} that <costs/cost> {goal}.|{p.He} <is/was> saving for "
        "a {dear}, which <costs/cost> {goal}.|"
        "A {dear} <costs/cost> {goal}.]",
        **st.fields,
        goal=s.usd(goal),
        dear=(dear := s.pick(book.DEAR)),
    )
    v = s.step("-", goal, st.value, f"{st.fields['p']} still needs # dollars")
    return State(
        "needed", v, "How much more money <does/did> {p} need[| to buy the {dear}]?", st.fields | {"dear": dear}
    )


def weeks_to_save(s: Story, st: State) -> State:
    k = s.divisor(st.value, 2, 25)
    span = s.pick(["week", "week", "month", "day"])
    s.say(
        f"[{{p.He}} <can/could> save {{k}} [a|per|each|every] {span}.|{{p.He}} <earns/earned> {{k}} [a|every] {span}.]",
        **st.fields,
        k=s.usd(k),
    )
    v = s.step("/", st.value, k, f"That takes # {span}s")
    return State(
        "end",
        v,
        f"How many {span}s will it take {{p}} to [save enough|have enough money|get the rest of the "
        f"money][| for the {{dear}}]?",
        st.fields,
    )


def buy_with_it(s: Story, st: State) -> State:
    k = s.divisor(st.value, 2, 40)
    things, thing, _ = s.goods()
    s.say(
        "[{p.He} <spends/spent> [all of it|all the money|the rest] on {goods} that <cost/cost> {k} each.|"
        "With [this money|the money], {p.he} <buys/bought> {goods} at {k} each.|Each {good} "
        "<costs/cost> {k}.]",
        **st.fields,
        goods=things,
        good=thing,
        k=s.usd(k),
    )
    v = s.step("/", st.value, k, f"That is enough for # {things}")
    return State("end", v, "How many {goods} can {p} buy?", st.fields | {"goods": things})


def split_money(s: Story, st: State) -> State:
    k = s.divisor(st.value, 2, 8)
    s.say(
        "[{p.He} <divides/divided> the money equally among {p.his} {k} [children|nephews|grandchildren].|"
        "{then}, {p.he} <gives/gave> the money to {p.his} {k} [children|nieces|sisters], in equal "
        "parts.]",
        **st.fields,
        k=k,
        then=s.then(),
    )
    return State(
        "end",
        s.step("/", st.value, k, "Each gets # dollars"),
        "How much [money|] <does/did> each of them [get|receive]?",
        st.fields,
    )


def expenses(s: Story, st: State) -> State:
    a = s.part(st.value, 0.05, 0.5)
    s.say(
        "[The materials|The supplies|The ingredients|Gas and parking|The tools] <cost/cost> {p.him} {a}.",
        **st.fields,
        a=s.usd(a),
    )
    v = s.step("-", st.value, a, f"{st.fields['p']} keeps # dollars")
    return _money(
        v,
        "[How much profit <does/did> {p} make?|What <is/was> {p}'s profit?|How much money <does/did> "
        "{p} have after paying for it?]",
        **st.fields,
    )


def repeated(s: Story, st: State) -> State:
    k = s.some(2, 8)
    span = s.pick(["weeks", "days", "months"])
    s.say(f"{{p.He}} <does/did> [the same|this|exactly the same] for {{k}} {span}.", **st.fields, k=k)
    return _money(
        s.step("*", st.value, k, f"In {k} {span} that makes # dollars"),
        f"How much money does {{p}} have after {s.n(k)} {span}?",
        **st.fields,
    )


MONEY_MOVES: dict[str, list[tuple[int, bool, Move]]] = {
    "money": [
        (1, False, spend),
        (1, False, spend),
        (2, False, spend_on),
        (2, False, spend_on),
        (1, False, earn_more),
        (1, False, spend_half),
        (2, False, spend_fraction),
        (2, False, spend_percent),
        (1, True, save_percent),
        (1, False, needs),
        (1, True, buy_with_it),
        (1, True, split_money),
        (1, False, expenses),
    ],
    "needed": [(1, True, weeks_to_save)],
}
