"""Money: earned, saved, spent at the shop, divided, and what a purchase comes to.

`money` is what a person has, `cost` what a purchase comes to.
"""

from __future__ import annotations

from fractions import Fraction

from ponder.tasks.stories import wordbook as book
from ponder.tasks.stories.story import Again, Move, State, Story, go_on

HAS = "How much money does {p} have [left|now|left]?"


def earning(s: Story) -> None:
    sources = [wage, wage_days, saved, had, two_jobs, sold, tips, salary]
    go_on(s, s.pick(sources)(s), MONEY_MOVES)


def shopping(s: Story) -> None:
    go_on(s, s.pick([bought, bought, bought, single, rented, fares])(s), MONEY_MOVES)


# ---- having money -------------------------------------------------------------------------------------------------


def _money(value: Fraction | int, ask: str, **fields: object) -> State:
    return State("money", Fraction(value), ask, fields)


def wage(s: Story) -> State:
    p, rate, h = s.person(), s.some(6, 40), s.some(3, 12)
    s.say(
        "[{p} <earns/earned> {rate} [an|per] hour as a {job}. [On {day}|Last week|Yesterday], {p.he} worked {h} hours.|"
        "{p} <works/worked> as a {job} for {h} hours and <is/was> paid {rate} per hour.|"
        "{p} <gets/got> {rate} for every hour of work as a {job}. {p.He} <works/worked> {h} hours.|"
        "{p} <is/was> a {job} who <charges/charged> {rate} an hour. One job <takes/took> {p.him} {h} hours.]",
        p=p, rate=s.usd(rate), h=h, job=s.pick(book.JOBS), day=s.pick(book.WEEKDAYS),
    )  # fmt: skip
    v = s.step("*", rate, h, f"{p} earns # dollars")
    return _money(v, "How much [money|] <does/did> {p} earn?", p=p)


def wage_days(s: Story) -> State:
    """Two steps."""
    p, rate, h, d = s.person(), s.some(6, 30), s.some(2, 9), s.some(2, 7)
    s.say(
        "[{p} <works/worked> {h} hours a day, {d} days a week, as a {job}. {p.He} <earns/earned> {rate} an hour.|"
        "As a {job}, {p} <is/was> paid {rate} per hour. {p.He} <works/worked> {h} hours each day for {d} days.|"
        "{p} <makes/made> {rate} an hour and <works/worked> {h}-hour shifts. Last week {p.he} had {d} shifts.]",
        p=p, rate=s.usd(rate), h=h if s.past else h, d=d, job=s.pick(book.JOBS),
    )  # fmt: skip
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
        f"{{p}} <gets/got> an allowance of {{a}} [a|per] {span}. {{p.He}} <saves/saved> all of it for {{d}} {span}s.|"
        f"[Every|Each] {span}, {{p}} <puts/put> {{a}} into {{p.his}} [piggy bank|savings account]. {{d}} {span}s have passed.]",
        p=p, a=s.usd(a), d=d,
    )  # fmt: skip
    v = s.step("*", a, d, f"{p} saves # dollars")
    return _money(v, "How much [money|] [has {p} saved|does {p} have]?", p=p)


def had(s: Story) -> State:
    p, n = s.person(), s.some(20, 300)
    s.say(
        "[{p} <has/had> {n}[| in {p.his} wallet| in the bank| in savings].|{p} <gets/got> {n} for {p.his} birthday.|"
        "{p}'s {kin} <gives/gave> {p.him} {n}.|{p} <goes/went> to {shop} with {n}.|{p} <takes/took> {n} out of the bank.]",
        p=p, n=s.usd(n), kin=s.pick(book.KIN), shop=s.pick(book.SHOPS),
    )  # fmt: skip
    return _money(n, HAS, p=p)


def two_jobs(s: Story) -> State:
    p, a, b = s.person(), s.some(10, 150), s.some(10, 150)
    chore, other = s.rng.sample(book.JOBS, 2)
    s.say(
        "[{p} <earns/earned> {a} as a {x} and {b} as a {y}.|{p} <gets/got> {a} from {p.his} {k} and {b} from {p.his} {j}.|"
        "In {month}, {p} <saves/saved> {a}, and in the following month {p.he} <saves/saved> {b}.]",
        p=p, a=s.usd(a), b=s.usd(b), x=chore, y=other, month=s.pick(book.MONTHS), k="mother", j=s.pick(book.KIN[1:]),
    )  # fmt: skip
    return _money(s.step("+", a, b, f"Together that is # dollars"), HAS.replace("left", "now"), p=p)  # noqa: F541


def sold(s: Story) -> State:
    p, (things, thing) = s.person(), s.thing(book.CRAFTED, book.PICKED, book.BAKED)
    n, price = s.some(4, 60), s.some(2, 25)
    s.say(
        "[{p} <sells/sold> {n} {things} for {price} each[| at {shop}].|"
        "{p} <makes/made> {things} and <sells/sold> each {thing} for {price}. [Last week|On {day}|This month] {p.he} sold {n} of them.|"
        "At {shop}, {p} <sells/sold> {n} {things} at {price} apiece.]",
        p=p, n=n, price=s.usd(price), things=things, thing=thing, shop=s.pick(book.SHOPS), day=s.pick(book.WEEKDAYS),
    )  # fmt: skip
    v = s.step("*", n, price, f"The {things} bring # dollars")
    return _money(v, "How much [money|] <does/did> {p} [make|earn|get][| from the {things}]?", p=p, things=things)


def tips(s: Story) -> State:
    """Two steps."""
    p, rate, h, t = s.person(), s.some(6, 25), s.some(3, 10), s.some(10, 90)
    s.say(
        "[{p} <earns/earned> {rate} an hour as a {job}, plus tips. {p.He} <works/worked> {h} hours and <gets/got> {t} in tips.|"
        "For {h} hours of work, {p} <is/was> paid {rate} per hour and a bonus of {t}.]",
        p=p, rate=s.usd(rate), h=h, t=s.usd(t), job=s.pick(["waiter", "barber", "delivery driver", "guide at the museum"]),
    )  # fmt: skip
    w = s.step("*", rate, h, f"The wage is # dollars")  # noqa: F541
    return _money(s.step("+", w, t, f"{p} earns # dollars"), "How much [money|] <does/did> {p} earn [in total|altogether]?", p=p)


def salary(s: Story) -> State:
    p, n = s.person(), s.some(12, 60) * 50
    s.say("[{p} <earns/earned> {n} [a|per|every] month[| as a {job}].|{p}'s monthly [salary|income|pay] <is/was> {n}.]",
          p=p, n=s.usd(n), job=s.pick(book.JOBS))  # fmt: skip
    return _money(n, "How much [money|] does {p} have left?", p=p)


def spend(s: Story, st: State) -> State:
    a = s.part(st.value)
    things, thing, _ = s.goods()
    an = "an" if thing[0] in "aeiou" else "a"
    s.say(
        "[{then}, {p.he} <spends/spent> {a} on {things}.|{p.He} <uses/used> {a} to buy {an} {thing}.|{p.He} <pays/paid> {a} for "
        "[lunch|{an} {thing}|a bus ticket|a phone bill].|{then}, {p.he} <gives/gave> {a} to {p.his} {kin}.|"
        "{p.He} <spends/spent> {a} of it [at {shop}|on {things}].]",
        **st.fields | {"things": things, "thing": thing}, a=s.usd(a), an=an, then=s.then(), kin=s.pick(book.KIN),
        shop=s.pick(book.SHOPS),
    )  # fmt: skip
    return _money(s.step("-", st.value, a, f"{st.fields['p']} has # dollars left"), HAS.replace("now", "left"), **st.fields)


def spend_on(s: Story, st: State) -> State:
    """Two steps."""
    things, thing, price = s.goods()
    k = s.some(2, 6)
    if k * price >= st.value - 1:
        raise Again
    s.say(
        "[{then}, {p.he} <buys/bought> {k} {goods} for {price} each.|{p.He} <spends/spent> some of it on {k} {goods} that <cost/cost> "
        "{price} each.|{p.He} <buys/bought> {k} {goods}. Each {good} <costs/cost> {price}.|"
        "{then}, {p.he} <pays/paid> {price} each for {k} {goods}.]",
        **st.fields, k=k, goods=things, good=thing, price=s.usd(price), then=s.then(),
    )  # fmt: skip
    cost = s.step("*", k, price, f"The {things} cost # dollars")
    return _money(s.step("-", st.value, cost, f"{st.fields['p']} has # dollars left"), HAS.replace("now", "left"), **st.fields)


def earn_more(s: Story, st: State) -> State:
    a = s.some(5, 90)
    s.say(
        "[{then}, {p.he} <earns/earned> {a} more[| by helping a neighbor].|{p.His} {kin} <gives/gave> {p.him} {a}.|"
        "{then}, {p.he} <gets/got> another {a} [from {p.his} {kin}|for doing chores].|{p.He} also <finds/found> {a} in an old coat.]",
        **st.fields, a=s.usd(a), then=s.then(), kin=s.pick(book.KIN),
    )  # fmt: skip
    return _money(s.step("+", st.value, a, f"Then {st.fields['p']} has # dollars"), "How much money does {p} have now?", **st.fields)


def spend_half(s: Story, st: State) -> State:
    s.whole(st.value / 2)
    s.say(
        "[{p.He} <spends/spent> half of [it|the money|{p.his} money] on a {dear}.|{then}, {p.he} <gives/gave> half of the money to "
        "{p.his} {kin}.|{p.He} <puts/put> half of it in the bank and <keeps/kept> the rest.]",
        **st.fields, then=s.then(), kin=s.pick(book.KIN), dear=s.pick(book.DEAR),
    )  # fmt: skip
    return _money(s.step("/", st.value, 2, f"{st.fields['p']} keeps # dollars"), HAS.replace("now", "left"), **st.fields)


def spend_fraction(s: Story, st: State) -> State:
    """Two steps."""
    k = s.divisor(st.value, 3, 6)
    s.say(
        "[{p.He} <spends/spent> {f} of [it|the money|{p.his} money] on [food|rent|clothes|books|a {dear}].|"
        "{then}, {p.he} <gives/gave> {f} of it to {p.his} {kin}.|{p.He} <puts/put> {f} of the money aside for taxes.]",
        **st.fields, f=s.fraction(k), then=s.then(), kin=s.pick(book.KIN), dear=s.pick(book.DEAR),
    )  # fmt: skip
    part = s.step("/", st.value, k, f"1/{k} of the money is # dollars")
    return _money(s.step("-", st.value, part, f"That leaves # dollars"), HAS.replace("now", "left"), **st.fields)  # noqa: F541


def spend_percent(s: Story, st: State) -> State:
    """Two steps."""
    x = s.pick([5, 10, 15, 20, 25, 30, 40, 60])
    s.whole(st.value * x / 100)
    s.say(
        "[{p.He} <pays/paid> {x}% of it in taxes.|{p.He} <spends/spent> {x}% of [it|the money] on [food|rent|a gift|transport].|"
        "{then}, {p.he} <donates/donated> {x}% of it to [charity|an animal shelter|the school].]",
        **st.fields, x=x, then=s.then(),
    )  # fmt: skip
    part = s.step("*", st.value, Fraction(x, 100), f"{x}% of the money is # dollars")
    return _money(s.step("-", st.value, part, f"That leaves # dollars"), HAS.replace("now", "left"), **st.fields)  # noqa: F541


def save_percent(s: Story, st: State) -> State:
    x = s.pick([10, 20, 25, 30, 40, 50, 60, 75])
    s.whole(st.value * x / 100)
    s.say("[{p.He} <saves/saved> {x}% of [it|the money].|{p.He} <puts/put> {x}% of [it|the money] into a savings account.]", **st.fields, x=x)
    v = s.step("*", st.value, Fraction(x, 100), f"{x}% of it is # dollars")
    return _money(v, "How much [money|] <does/did> {p} save?", **st.fields)


def needs(s: Story, st: State) -> State:
    goal = s.whole(st.value) + s.some(5, 120)
    s.say("[{p.He} <wants/wanted> to buy a {dear} that <costs/cost> {goal}.|{p.He} <is/was> saving for a {dear}, which <costs/cost> {goal}.|"
          "A {dear} <costs/cost> {goal}.]", **st.fields, goal=s.usd(goal), dear=(dear := s.pick(book.DEAR)))  # fmt: skip
    v = s.step("-", goal, st.value, f"{st.fields['p']} still needs # dollars")
    return State("needed", v, "How much more money <does/did> {p} need[| to buy the {dear}]?", st.fields | {"dear": dear})


def weeks_to_save(s: Story, st: State) -> State:
    k = s.divisor(st.value, 2, 25)
    span = s.pick(["week", "week", "month", "day"])
    s.say(f"[{{p.He}} <can/could> save {{k}} [a|per|each|every] {span}.|{{p.He}} <earns/earned> {{k}} [a|every] {span}.]",
          **st.fields, k=s.usd(k))  # fmt: skip
    v = s.step("/", st.value, k, f"That takes # {span}s")
    return State("end", v, f"How many {span}s will it take {{p}} to [save enough|have enough money|get the rest of the money][| for the {{dear}}]?", st.fields)


def buy_with_it(s: Story, st: State) -> State:
    k = s.divisor(st.value, 2, 40)
    things, thing, _ = s.goods()
    s.say("[{p.He} <spends/spent> [all of it|all the money|the rest] on {goods} that <cost/cost> {k} each.|"
          "With [this money|the money], {p.he} <buys/bought> {goods} at {k} each.|Each {good} <costs/cost> {k}.]",
          **st.fields, goods=things, good=thing, k=s.usd(k))  # fmt: skip
    v = s.step("/", st.value, k, f"That is enough for # {things}")
    return State("end", v, "How many {goods} can {p} buy?", st.fields | {"goods": things})


def split_money(s: Story, st: State) -> State:
    k = s.divisor(st.value, 2, 8)
    s.say("[{p.He} <divides/divided> the money equally among {p.his} {k} [children|nephews|grandchildren].|"
          "{then}, {p.he} <gives/gave> the money to {p.his} {k} [children|nieces|sisters], in equal parts.]", **st.fields, k=k, then=s.then())  # fmt: skip
    return State("end", s.step("/", st.value, k, f"Each gets # dollars"),  # noqa: F541
                 "How much [money|] <does/did> each of them [get|receive]?", st.fields)  # fmt: skip


def expenses(s: Story, st: State) -> State:
    a = s.part(st.value, 0.05, 0.5)
    s.say("[The materials|The supplies|The ingredients|Gas and parking|The tools] <cost/cost> {p.him} {a}.", **st.fields, a=s.usd(a))
    v = s.step("-", st.value, a, f"{st.fields['p']} keeps # dollars")
    return _money(v, "[How much profit <does/did> {p} make?|What <is/was> {p}'s profit?|How much money <does/did> {p} have after paying for it?]", **st.fields)


def repeated(s: Story, st: State) -> State:
    k = s.some(2, 8)
    span = s.pick(["weeks", "days", "months"])
    s.say(f"{{p.He}} <does/did> [the same|this|exactly the same] for {{k}} {span}.", **st.fields, k=k)
    return _money(s.step("*", st.value, k, f"In {k} {span} that makes # dollars"),
                  f"How much money does {{p}} have after {s.n(k)} {span}?", **st.fields)  # fmt: skip


# ---- buying -------------------------------------------------------------------------------------------------------

TOTAL = "[How much <does/did> {p} [spend|pay][| in total| altogether]?|What <is/was> the total cost?|How much money <does/did> {p} spend?|What <does/did> {p} pay in total?]"  # noqa: E501


def _cost(value: Fraction | int, ask: str, **fields: object) -> State:
    return State("cost", Fraction(value), ask, fields)


def bought(s: Story) -> State:
    p, (things, thing, price) = s.person(), s.goods()
    k = s.some(2, 12)
    s.say(
        "[{p} <buys/bought> {k} {things} [for|at] {price} each[| at {shop}].|{p} <goes/went> to {shop} and <buys/bought> {k} {things}. "
        "Each {thing} <costs/cost> {price}.|A {thing} <costs/cost> {price}. {p} <buys/bought> {k} of them.|"
        "At {shop}, {things} <cost/cost> {price} each. {p} <takes/took> {k} of them.|"
        "{p} <orders/ordered> {k} {things} online. They <cost/cost> {price} apiece.|{p} <needs/needed> {k} {things} at {price} each.]",
        p=p, k=k, things=things, thing=thing, price=s.usd(price), shop=s.pick(book.SHOPS),
    )  # fmt: skip
    v = s.step("*", k, price, f"The {things} cost # dollars")
    return _cost(v, TOTAL, p=p, things=things, thing=thing)


def single(s: Story) -> State:
    p, (things, thing, price) = s.person(), s.goods()
    price = Fraction(s.some(int(price) + 8, int(price) * 2 + 20))
    s.say("[{p} <buys/bought> a {thing} for {price}[| at {shop}].|The price of a {thing} <is/was> {price}, and {p} <buys/bought> one.|"
          "{p} <sees/saw> a {thing} that <costs/cost> {price} and <buys/bought> it.]",
          p=p, thing=thing, price=s.usd(price), shop=s.pick(book.SHOPS))  # fmt: skip
    return _cost(price, TOTAL, p=p, things=things, thing=thing)


def rented(s: Story) -> State:
    p, rate, h = s.person(), s.some(5, 45), s.some(2, 9)
    what, span = s.pick(["bike hour", "boat hour", "car day", "tent day", "hotel room night", "pair of skates hour", "kayak hour", "truck day"]).rsplit(" ", 1)
    s.say(f"[{{p}} <rents/rented> a {what} for {{h}} {span}s at {{rate}} per {span}.|It <costs/cost> {{rate}} [a|per] {span} to rent a {what}. "
          f"{{p}} <rents/rented> one for {{h}} {span}s.]", p=p, h=h, rate=s.usd(rate))  # fmt: skip
    v = s.step("*", rate, h, f"The {what} costs # dollars")
    return _cost(v, TOTAL, p=p, things=what, thing=what)


def fares(s: Story) -> State:
    """Three steps."""
    p, a, b = s.person(), s.some(2, 6), s.some(2, 6)
    adult, child = s.some(8, 30), s.some(3, 12)
    where = s.pick(["zoo", "museum", "water park", "aquarium", "theater", "circus", "fair", "science center"])
    s.say(f"[Tickets to the {where} <cost/cost> {{adult}} for adults and {{child}} for children.|The {where} <charges/charged> {{adult}} per adult and "
          f"{{child}} per child.] {{p}} <takes/took> a group of {{a}} adults and {{b}} children [there|to the {where}].",
          p=p, a=a, b=b, adult=s.usd(adult), child=s.usd(child))  # fmt: skip
    x = s.step("*", a, adult, f"The adults cost # dollars")  # noqa: F541
    y = s.step("*", b, child, f"The children cost # dollars")  # noqa: F541
    return _cost(s.step("+", x, y, f"Together the tickets cost # dollars"), TOTAL, p=p, things="tickets", thing="ticket")  # noqa: F541


def another(s: Story, st: State) -> State:
    things, thing, price = s.goods()
    an = "an" if thing[0] in "aeiou" else "a"
    s.say("[{p.He} also <buys/bought> {an} {good} for {price}.|{then}, {p.he} <adds/added> {an} {good} that <costs/cost> {price}.|"
          "{p.He} <pays/paid> {price} more for {an} {good}.]", p=st.fields["p"], an=an, good=thing, price=s.usd(price), then=s.then())  # fmt: skip
    return _cost(s.step("+", st.value, price, f"With the {thing} that is # dollars"), TOTAL, **st.fields)


def another_line(s: Story, st: State) -> State:
    """Two steps."""
    things, thing, price = s.goods()
    k = s.some(2, 8)
    s.say("[{p.He} also <buys/bought> {k} {goods} [for|at] {price} each.|{p.He} <gets/got> {k} {goods} too, at {price} apiece.|"
          "{then}, {p.he} <buys/bought> {k} {goods}, and each {good} <costs/cost> {price}.|"
          "{p.He} also <needs/needed> {k} {goods}, which <cost/cost> {price} each.]",
          p=st.fields["p"], k=k, goods=things, good=thing, price=s.usd(price), then=s.then())  # fmt: skip
    more = s.step("*", k, price, f"The {things} cost # dollars")
    return _cost(s.step("+", st.value, more, f"Together that is # dollars"), TOTAL, **st.fields)  # noqa: F541


def cheaper_item(s: Story, st: State) -> State:
    """Two steps: another thing, whose price is told by comparison with what is bought so far."""
    things, thing, _ = s.goods()
    how = s.pick(["twice", "less", "more", "half"])
    an = "an" if thing[0] in "aeiou" else "a"
    d = s.part(st.value, 0.1, 0.5)
    if how == "half":
        s.whole(st.value / 2)
    tail = {"twice": "twice as much as everything so far", "half": "half as much as all that", "less": "{d} less than all that",
            "more": "{d} more than everything before"}[how]  # fmt: skip
    s.say("{p.He} also <buys/bought> {an} {good} that <costs/cost> " + tail + ".", p=st.fields["p"], an=an, good=thing, d=s.usd(d))
    note = f"The {thing} costs # dollars"
    price = (s.step("*", st.value, 2, note) if how == "twice" else s.step("/", st.value, 2, note) if how == "half"
             else s.step("-" if how == "less" else "+", st.value, d, note))  # fmt: skip
    return _cost(s.step("+", st.value, price, f"Together that is # dollars"), TOTAL, **st.fields)  # noqa: F541


def coupon(s: Story, st: State) -> State:
    a = s.part(st.value, 0.05, 0.4)
    s.say("[{p.He} <has/had> a coupon for {a} off.|{p.He} <gets/got> a discount of {a}.|{p.His} gift card <covers/covered> {a} of it.|"
          "The store <takes/took> {a} off the total.|{p.He} <gets/got> {a} back as a rebate.]", p=st.fields["p"], a=s.usd(a))  # fmt: skip
    return _cost(s.step("-", st.value, a, f"Then it is # dollars"), TOTAL, **st.fields)  # noqa: F541


def extra(s: Story, st: State) -> State:
    a = s.some(2, 20)
    s.say("[Shipping <costs/cost> {a} more.|{p.He} also <pays/paid> {a} for delivery.|There <is/was> a {a} service fee.|{p.He} <leaves/left> a {a} tip.|"
          "{p.He} <pays/paid> {a} in tax.|Parking <costs/cost> {p.him} another {a}.]", p=st.fields["p"], a=s.usd(a))  # fmt: skip
    return _cost(s.step("+", st.value, a, f"With that it is # dollars"), TOTAL, **st.fields)  # noqa: F541


def percent_off(s: Story, st: State) -> State:
    """Two steps."""
    x = s.pick([10, 20, 25, 30, 40, 50, 15, 5])
    s.whole(st.value * x / 100)
    s.say("[{p.He} <gets/got> {x}% off.|There <is/was> a {x}% discount[| that day| for members| on everything].|"
          "The store <offers/offered> {p.him} a discount of {x}%.|Everything <is/was> on sale for {x}% off.]", p=st.fields["p"], x=x)  # fmt: skip
    off = s.step("*", st.value, Fraction(x, 100), f"The discount is # dollars")  # noqa: F541
    return _cost(s.step("-", st.value, off, f"That leaves # dollars to pay"), TOTAL, **st.fields)  # noqa: F541


def percent_on(s: Story, st: State) -> State:
    """Two steps."""
    x = s.pick([5, 10, 10, 20, 15])
    s.whole(st.value * x / 100)
    what = s.pick(["sales tax of {x}%", "{x}% tip", "{x}% service charge", "tax of {x}%"])
    s.say("[{p.He} also <pays/paid> a " + what + ".|A " + what + " <is/was> added to the bill.]", p=st.fields["p"], x=x)
    more = s.step("*", st.value, Fraction(x, 100), f"{x}% of it is # dollars")
    return _cost(s.step("+", st.value, more, f"With it the bill is # dollars"), TOTAL, **st.fields)  # noqa: F541


def change(s: Story, st: State) -> State:
    bills = [bill for bill in (10, 20, 50, 100, 200, 500, 1000) if bill > st.value]
    if not bills:
        raise Again
    bill = bills[0]
    s.say("[{p.He} <pays/paid> with [a {bill} bill|{bill}].|{p.He} <gives/gave> the cashier {bill}.|{p.He} <hands/handed> over {bill}.]",
          p=st.fields["p"], bill=s.usd(bill))  # fmt: skip
    return State("end", s.step("-", bill, st.value, f"The change is # dollars"),  # noqa: F541
                 "How much change [<does/did> {p} get|should {p} get|<does/did> {p} receive][| back]?", st.fields)  # fmt: skip


def left_over(s: Story, st: State) -> State:
    n = s.whole(st.value) + s.some(2, 80)
    s.say("[{p.He} <has/had> {n} [with {p.him}|to spend|in {p.his} wallet][| at first].|{p.His} budget <is/was> {n}.|{p.He} <came/came> with {n}.]",
          p=st.fields["p"], n=s.usd(n))  # fmt: skip
    return State("money", s.step("-", n, st.value, f"That leaves # dollars"),  # noqa: F541
                 "How much money [does {p} have left|is left|remains]?", {"p": st.fields["p"]})  # fmt: skip


def bill_split(s: Story, st: State) -> State:
    k = s.divisor(st.value, 2, 8)
    s.say("[{p.He} and {p.his} friends, {k} people in all, <split/split> the cost equally.|The cost <is/was> shared equally by {k} people.|"
          "{k} friends <share/shared> the bill evenly.]", p=st.fields["p"], k=k)  # fmt: skip
    return State("end", s.step("/", st.value, k, f"Each pays # dollars"), "How much <does/did> each [person|of them] pay?", st.fields)  # noqa: F541


def weekly(s: Story, st: State) -> State:
    if "month" in " ".join(s.sentences):
        raise Again
    k, span = s.pick([(4, "weeks"), (3, "months"), (12, "months"), (5, "weeks"), (2, "weeks"), (7, "days"), (6, "months")])
    s.say("[{p.He} <does/did> this every {one}|{p.He} <buys/bought> the same every {one}|{p.He} <spends/spent> that much each {one}].",
          p=st.fields["p"], one=span[:-1])  # fmt: skip
    return _cost(s.step("*", st.value, k, f"In {k} {span} that is # dollars"), f"How much <does/did> {{p}} spend in {s.n(k)} {span}?", **st.fields)


MONEY_MOVES: dict[str, list[tuple[int, bool, Move]]] = {
    "money": [
        (1, False, spend), (1, False, spend), (2, False, spend_on), (2, False, spend_on), (1, False, earn_more),
        (1, False, spend_half), (2, False, spend_fraction), (2, False, spend_percent), (1, True, save_percent),
        (1, False, needs), (1, True, buy_with_it), (1, True, split_money), (1, False, expenses),
    ],
    "needed": [(1, True, weeks_to_save)],
    "cost": [
        (1, False, another), (2, False, another_line), (2, False, another_line), (2, False, cheaper_item),
        (1, False, coupon), (1, False, extra), (2, False, percent_off), (2, False, percent_on), (1, True, change), (1, True, change),
        (1, False, left_over), (1, True, bill_split), (1, True, weekly),
    ],
}  # fmt: skip
