"""What a purchase comes to: things at a price, discounts, tips, change. The kind of these amounts is `cost`."""

from __future__ import annotations

from fractions import Fraction

from ponder.tasks.stories import wordbook as book
from ponder.tasks.stories.money import MONEY_MOVES
from ponder.tasks.stories.story import Again, Move, State, Story, go_on


def shopping(s: Story) -> None:
    go_on(s, s.pick([bought, bought, bought, single, rented, fares])(s), COST_MOVES)


TOTAL = (
    "[How much <does/did> {p} [spend|pay][| in total| altogether]?|What <is/was> the total cost?|"
    "How much money <does/did> {p} spend?|What <does/did> {p} pay in total?]"
)


def _cost(value: Fraction | int, ask: str, **fields: object) -> State:
    return State("cost", Fraction(value), ask, fields)


def bought(s: Story) -> State:
    p, (things, thing, price) = s.person(), s.goods()
    k = s.some(2, 12)
    s.say(
        "[{p} <buys/bought> {k} {things} [for|at] {price} each[| at {shop}].|{p} <goes/went> to "
        "{shop} and <buys/bought> {k} {things}. "
        "Each {thing} <costs/cost> {price}.|A {thing} <costs/cost> {price}. {p} <buys/bought> {k} of them.|"
        "At {shop}, {things} <cost/cost> {price} each. {p} <takes/took> {k} of them.|"
        "{p} <orders/ordered> {k} {things} online. They <cost/cost> {price} apiece.|{p} "
        "<needs/needed> {k} {things} at {price} each.]",
        p=p,
        k=k,
        things=things,
        thing=thing,
        price=s.usd(price),
        shop=s.pick(book.SHOPS),
    )
    v = s.step("*", k, price, f"The {things} cost # dollars")
    return _cost(v, TOTAL, p=p, things=things, thing=thing)


def single(s: Story) -> State:
    p, (things, thing, price) = s.person(), s.goods()
    price = Fraction(s.some(int(price) + 8, int(price) * 2 + 20))
    s.say(
        "[{p} <buys/bought> a {thing} for {price}[| at {shop}].|The price of a {thing} <is/was> "
        "{price}, and {p} <buys/bought> one.|"
        "{p} <sees/saw> a {thing} that <costs/cost> {price} and <buys/bought> it.]",
        p=p,
        thing=thing,
        price=s.usd(price),
        shop=s.pick(book.SHOPS),
    )
    return _cost(price, TOTAL, p=p, things=things, thing=thing)


def rented(s: Story) -> State:
    p, rate, h = s.person(), s.some(5, 45), s.some(2, 9)
    what, span = s.pick(
        [
            "bike hour",
            "boat hour",
            "car day",
            "tent day",
            "hotel room night",
            "pair of skates hour",
            "kayak hour",
            "truck day",
        ]
    ).rsplit(" ", 1)
    s.say(
        f"[{{p}} <rents/rented> a {what} for {{h}} {span}s at {{rate}} per {span}.|It <costs/cost> "
        f"{{rate}} [a|per] {span} to rent a {what}. "
        f"{{p}} <rents/rented> one for {{h}} {span}s.]",
        p=p,
        h=h,
        rate=s.usd(rate),
    )
    v = s.step("*", rate, h, f"The {what} costs # dollars")
    return _cost(v, TOTAL, p=p, things=what, thing=what)


def fares(s: Story) -> State:
    """Three steps."""
    p, a, b = s.person(), s.some(2, 6), s.some(2, 6)
    adult, child = s.some(8, 30), s.some(3, 12)
    where = s.pick(["zoo", "museum", "water park", "aquarium", "theater", "circus", "fair", "science center"])
    s.say(
        f"[Tickets to the {where} <cost/cost> {{adult}} for adults and {{child}} for children.|The "
        f"{where} <charges/charged> {{adult}} per adult and "
        f"{{child}} per child.] {{p}} <takes/took> a group of {{a}} adults and {{b}} children [there|"
        f"to the {where}].",
        p=p,
        a=a,
        b=b,
        adult=s.usd(adult),
        child=s.usd(child),
    )
    x = s.step("*", a, adult, "The adults cost # dollars")
    y = s.step("*", b, child, "The children cost # dollars")
    return _cost(s.step("+", x, y, "Together the tickets cost # dollars"), TOTAL, p=p, things="tickets", thing="ticket")


def another(s: Story, st: State) -> State:
    _, thing, price = s.goods()
    an = "an" if thing[0] in "aeiou" else "a"
    s.say(
        "[{p.He} also <buys/bought> {an} {good} for {price}.|{then}, {p.he} <adds/added> {an} {good} "
        "that <costs/cost> {price}.|"
        "{p.He} <pays/paid> {price} more for {an} {good}.]",
        p=st.fields["p"],
        an=an,
        good=thing,
        price=s.usd(price),
        then=s.then(),
    )
    return _cost(s.step("+", st.value, price, f"With the {thing} that is # dollars"), TOTAL, **st.fields)


def another_line(s: Story, st: State) -> State:
    """Two steps."""
    things, thing, price = s.goods()
    k = s.some(2, 8)
    s.say(
        "[{p.He} also <buys/bought> {k} {goods} [for|at] {price} each.|{p.He} <gets/got> {k} {goods} "
        "too, at {price} apiece.|"
        "{then}, {p.he} <buys/bought> {k} {goods}, and each {good} <costs/cost> {price}.|"
        "{p.He} also <needs/needed> {k} {goods}, which <cost/cost> {price} each.]",
        p=st.fields["p"],
        k=k,
        goods=things,
        good=thing,
        price=s.usd(price),
        then=s.then(),
    )
    more = s.step("*", k, price, f"The {things} cost # dollars")
    return _cost(s.step("+", st.value, more, "Together that is # dollars"), TOTAL, **st.fields)


def cheaper_item(s: Story, st: State) -> State:
    """Two steps: another thing, whose price is told by comparison with what is bought so far."""
    _, thing, _ = s.goods()
    how = s.pick(["twice", "less", "more", "half"])
    an = "an" if thing[0] in "aeiou" else "a"
    d = s.part(st.value, 0.1, 0.5)
    if how == "half":
        s.whole(st.value / 2)
    tail = {
        "twice": "twice as much as everything so far",
        "half": "half as much as all that",
        "less": "{d} less than all that",
        "more": "{d} more than everything before",
    }[how]
    s.say(
        "{p.He} also <buys/bought> {an} {good} that <costs/cost> " + tail + ".",
        p=st.fields["p"],
        an=an,
        good=thing,
        d=s.usd(d),
    )
    note = f"The {thing} costs # dollars"
    price = (
        s.step("*", st.value, 2, note)
        if how == "twice"
        else s.step("/", st.value, 2, note)
        if how == "half"
        else s.step("-" if how == "less" else "+", st.value, d, note)
    )
    return _cost(s.step("+", st.value, price, "Together that is # dollars"), TOTAL, **st.fields)


def coupon(s: Story, st: State) -> State:
    a = s.part(st.value, 0.05, 0.4)
    s.say(
        "[{p.He} <has/had> a coupon for {a} off.|{p.He} <gets/got> a discount of {a}.|{p.His} gift "
        "card <covers/covered> {a} of it.|"
        "The store <takes/took> {a} off the total.|{p.He} <gets/got> {a} back as a rebate.]",
        p=st.fields["p"],
        a=s.usd(a),
    )
    return _cost(s.step("-", st.value, a, "Then it is # dollars"), TOTAL, **st.fields)


def extra(s: Story, st: State) -> State:
    a = s.some(2, 20)
    s.say(
        "[Shipping <costs/cost> {a} more.|{p.He} also <pays/paid> {a} for delivery.|There <is/was> a "
        "{a} service fee.|{p.He} <leaves/left> a {a} tip.|"
        "{p.He} <pays/paid> {a} in tax.|Parking <costs/cost> {p.him} another {a}.]",
        p=st.fields["p"],
        a=s.usd(a),
    )
    return _cost(s.step("+", st.value, a, "With that it is # dollars"), TOTAL, **st.fields)


def percent_off(s: Story, st: State) -> State:
    """Two steps."""
    x = s.pick([10, 20, 25, 30, 40, 50, 15, 5])
    s.whole(st.value * x / 100)
    s.say(
        "[{p.He} <gets/got> {x}% off.|There <is/was> a {x}% discount[| that day| for members| on "
        "everything].|"
        "The store <offers/offered> {p.him} a discount of {x}%.|Everything <is/was> on sale for {x}% "
        "off.]",
        p=st.fields["p"],
        x=x,
    )
    off = s.step("*", st.value, Fraction(x, 100), "The discount is # dollars")
    return _cost(s.step("-", st.value, off, "That leaves # dollars to pay"), TOTAL, **st.fields)


def percent_on(s: Story, st: State) -> State:
    """Two steps."""
    x = s.pick([5, 10, 10, 20, 15])
    s.whole(st.value * x / 100)
    what = s.pick(["sales tax of {x}%", "{x}% tip", "{x}% service charge", "tax of {x}%"])
    s.say("[{p.He} also <pays/paid> a " + what + ".|A " + what + " <is/was> added to the bill.]", p=st.fields["p"], x=x)
    more = s.step("*", st.value, Fraction(x, 100), f"{x}% of it is # dollars")
    return _cost(s.step("+", st.value, more, "With it the bill is # dollars"), TOTAL, **st.fields)


def change(s: Story, st: State) -> State:
    bills = [bill for bill in (10, 20, 50, 100, 200, 500, 1000) if bill > st.value]
    if not bills:
        raise Again
    bill = bills[0]
    s.say(
        "[{p.He} <pays/paid> with [a {bill} bill|{bill}].|{p.He} <gives/gave> the cashier {bill}.|"
        "{p.He} <hands/handed> over {bill}.]",
        p=st.fields["p"],
        bill=s.usd(bill),
    )
    return State(
        "end",
        s.step("-", bill, st.value, "The change is # dollars"),
        "How much change [<does/did> {p} get|should {p} get|<does/did> {p} receive][| back]?",
        st.fields,
    )


def left_over(s: Story, st: State) -> State:
    n = s.whole(st.value) + s.some(2, 80)
    s.say(
        "[{p.He} <has/had> {n} [with {p.him}|to spend|in {p.his} wallet][| at first].|{p.His} budget "
        "<is/was> {n}.|{p.He} <came/came> with {n}.]",
        p=st.fields["p"],
        n=s.usd(n),
    )
    return State(
        "money",
        s.step("-", n, st.value, "That leaves # dollars"),
        "How much money [does {p} have left|is left|remains]?",
        {"p": st.fields["p"]},
    )


def bill_split(s: Story, st: State) -> State:
    k = s.divisor(st.value, 2, 8)
    s.say(
        "[{p.He} and {p.his} friends, {k} people in all, <split/split> the cost equally.|The cost "
        "<is/was> shared equally by {k} people.|"
        "{k} friends <share/shared> the bill evenly.]",
        p=st.fields["p"],
        k=k,
    )
    return State(
        "end",
        s.step("/", st.value, k, "Each pays # dollars"),
        "How much <does/did> each [person|of them] pay?",
        st.fields,
    )


def weekly(s: Story, st: State) -> State:
    if "month" in " ".join(s.sentences):
        raise Again
    k, span = s.pick(
        [(4, "weeks"), (3, "months"), (12, "months"), (5, "weeks"), (2, "weeks"), (7, "days"), (6, "months")]
    )
    s.say(
        "[{p.He} <does/did> this every {one}|{p.He} <buys/bought> the same every {one}|{p.He} "
        "<spends/spent> that much each {one}].",
        p=st.fields["p"],
        one=span[:-1],
    )
    return _cost(
        s.step("*", st.value, k, f"In {k} {span} that is # dollars"),
        f"How much <does/did> {{p}} spend in {s.n(k)} {span}?",
        **st.fields,
    )


COST_MOVES: dict[str, list[tuple[int, bool, Move]]] = {
    **MONEY_MOVES,
    "cost": [
        (1, False, another),
        (2, False, another_line),
        (2, False, another_line),
        (2, False, cheaper_item),
        (1, False, coupon),
        (1, False, extra),
        (2, False, percent_off),
        (2, False, percent_on),
        (1, True, change),
        (1, True, change),
        (1, False, left_over),
        (1, True, bill_split),
        (1, True, weekly),
    ],
}
