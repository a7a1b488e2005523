"""Loads and heights, slices and calories, buildings, subscriptions, raises, ratios, growth: the rest of everyday life."""

from __future__ import annotations

from fractions import Fraction

from ponder.tasks.stories import wordbook as book
from ponder.tasks.stories.money import MONEY_MOVES
from ponder.tasks.stories.story import Again, State, Story, go_on
from ponder.tasks.stories.things import MOVES as THING_MOVES


def _spend_on(s: Story, state: State) -> None:
    go_on(s, state, MONEY_MOVES)


def slices(s: Story) -> None:
    """Food cut in pieces, people who eat them, what is left."""
    p, n, k = s.person(), s.some(2, 12), s.pick([6, 8, 8, 10, 12, 4])
    food, piece = s.pick(
        [("pizzas", "slices"), ("cakes", "slices"), ("pies", "pieces"), ("loaves of bread", "slices"), ("watermelons", "slices"),
         ("chocolate bars", "squares"), ("sandwiches", "quarters"), ("large cookies", "pieces"), ("pans of brownies", "squares")]
    )  # fmt: skip
    s.say(
        f"[For {{party}}, {{p}} <orders/ordered> {{n}} {food}, each cut into {{k}} {piece}.|{{p}} <buys/bought> {{n}} {food} for {{party}}. Each of them <is/was> cut into {{k}} {piece}.|"
        f"{{p}} <makes/made> {{n}} {food} for {{p.his}} family and <cuts/cut> each one into {{k}} {piece}.|{{p}}'s mom <brings/brought> {{n}} {food} with {{k}} {piece} each to {{party}}.]",
        p=p, n=n, k=k, party=s.pick(["a party", "dinner", "the team", "a family reunion", "movie night", "the office", "a picnic"]),
    )  # fmt: skip
    v = s.step("*", n, k, f"There are # {piece}")
    ask = f"How many {piece} are there [in total|altogether|in all]?"
    while s.left:
        how = s.pick(["each", "some", "fraction", "share"])
        if how == "each" and s.left >= 2:
            m, a = s.some(2, 9), s.some(2, 4)
            if m * a >= v - 1:
                raise Again
            s.say(f"[{{m}} [guests|friends|children|adults] each <eat/ate> {{a}} {piece}.|Each of the {{m}} [people|kids|players] there <eats/ate> {{a}} {piece}.|{{m}} family members <have/had> {{a}} {piece} each.]", m=m, a=a)
            v = s.step("-", v, s.step("*", m, a, f"They eat # {piece}"), f"That leaves # {piece}")
        elif how == "some":
            a = s.part(v, 0.1, 0.5)
            s.say(f"[{{q}} <eats/ate> {{a}} {piece}.|{{a}} of the {piece} <fall/fell> on the floor.|{{then}}, {{q}} <takes/took> {{a}} {piece} home.|The dog <gets/got> {{a}} of the {piece}.]", a=a, q=s.person(), then=s.then())
            v = s.step("-", v, a, f"That leaves # {piece}")
        elif how == "fraction" and s.left >= 2:
            f = s.divisor(v, 2, 6)
            s.say(f"[{{f}} of the {piece} <are/were> eaten [before noon|right away|by the children].|They <finish/finished> {{f}} of the {piece}.]", f=s.fraction(f))
            v = s.step("-", v, s.step("/", v, f, f"1/{f} of them is # {piece}"), f"That leaves # {piece}")
        elif how == "share" and s.left == 1:
            f = s.divisor(v, 2, 12)
            s.say("[The rest <is/was> shared equally by {f} people.|{f} people <share/shared> [the rest|what is left] equally.]" if len(s.sentences) > 1 else
                  "{f} people <share/shared> them equally.", f=f)  # fmt: skip
            s.step("/", v, f, f"Each gets # {piece}")
            return s.ask(f"How many {piece} <does/did> each person get?")
        ask = f"How many {piece} [are left|remain|are left over|were not eaten]?"
    s.ask(ask)


def loads(s: Story) -> None:
    """Weights of many things on one scale, truck or elevator."""
    unit = s.pick(["pounds", "kilograms", "pounds", "ounces", "grams"])
    things, low, high = s.pick(
        [("boxes of books", 10, 40), ("sacks of potatoes", 10, 50), ("bricks", 3, 8), ("suitcases", 15, 50), ("bags of cement", 40, 90), ("barrels", 50, 120),
         ("crates of oranges", 12, 40), ("bars of iron", 10, 60), ("bundles of newspapers", 5, 25), ("dumbbells", 5, 30), ("jars of beans", 2, 9), ("rocks", 4, 40)]
    )  # fmt: skip
    where = s.pick(["truck", "van", "boat", "elevator", "cart", "trailer", "wagon"])
    n, w = s.some(2, 20), s.some(low, high)
    one = things.split(" ")[0]
    one = {"boxes": "box"}.get(one, one.removesuffix("s"))
    s.say(f"[A {where} <carries/carried> {{n}} {things} that <weigh/weighed> {{w}} {unit} each.|There <are/were> {{n}} {things} on a {where}. Each {one} <weighs/weighed> {{w}} {unit}.|"
          f"{{n}} {things} <are/were> loaded onto a {where}, and each <has/had> a weight of {{w}} {unit}.]", n=n, w=w)  # fmt: skip
    v = s.step("*", n, w, f"The {things} weigh # {unit}")
    ask = total = f"[How many {unit} is that in total?|What is the total weight in {unit}?|How much do they weigh altogether, in {unit}?]"
    while s.left:
        how = s.pick(["more", "one", "off", "limit", "fit", "trips"])
        if how == "more" and s.left >= 2:
            m, x = s.some(2, 12), s.some(3, 60)
            what = s.pick(["bags", "cases", "parcels", "baskets", "machines", "chairs", "wooden boards"])
            s.say(f"[It also <carries/carried> {{m}} {what} of {{x}} {unit} each.|{{m}} {what}, each weighing {{x}} {unit}, <are/were> added.]", m=m, x=x)
            v = s.step("+", v, s.step("*", m, x, f"The {what} weigh # {unit}"), f"Together that is # {unit}")
            ask = total
        elif how == "one":
            x = s.some(10, 200)
            s.say(f"[The driver <weighs/weighed> another {{x}} {unit}.|The {where} itself <weighs/weighed> {{x}} {unit}, which <counts/counted> too.|{{then}}, something else of {{x}} {unit} <is/was> put on it.]", x=x, then=s.then())
            v = s.step("+", v, x, f"Together that is # {unit}")
            ask = total
        elif how == "off":
            x = s.part(v, 0.1, 0.5)
            s.say(f"[{{then}}, {{x}} {unit} of it <are/were> taken off.|At the first stop, {{x}} {unit} <are/were> unloaded.]", x=x, then=s.then())
            v, ask = s.step("-", v, x, f"That leaves # {unit}"), f"How many {unit} are left on the {where}?"
        elif how == "limit" and s.left == 1:
            m = s.whole(v) + s.some(5, 200)
            s.say(f"[The {where} <can/could> carry at most {{m}} {unit}.|The maximum [load|capacity] of the {where} <is/was> {{m}} {unit}.]", m=m)
            s.step("-", m, v, f"# {unit} are left")
            return s.ask(f"How many more {unit} can the {where} carry?")
        elif how == "trips" and s.left == 1:
            k = s.divisor(v, 2, 40)
            s.say(f"The {where} <can/could> carry only {{k}} {unit} at a time.".replace("A " + where, "The " + where), k=v / k)
            s.step("/", v, v / k, "That takes # trips")
            return s.ask("How many trips are needed?")
    s.ask(ask)


def lengths(s: Story) -> None:
    """Ropes and boards: cut into pieces, joined, converted to inches."""
    p = s.person()
    what, unit, small, factor = s.pick(
        [("rope", "feet", "inches", 12), ("ribbon", "yards", "feet", 3), ("board", "feet", "inches", 12), ("wire", "meters", "centimeters", 100),
         ("roll of fabric", "yards", "inches", 36), ("string", "meters", "centimeters", 100), ("hose", "yards", "feet", 3), ("chain", "feet", "inches", 12)]
    )  # fmt: skip
    n = s.some(3, 40)
    s.say(f"[{{p}} <has/had> a {what} that <is/was> {{n}} {unit} long.|A {what} in {{p}}'s garage <is/was> {{n}} {unit} long.|{{p}} <buys/bought> {{n}} {unit} of {what.split(' ')[-1]}.]", p=p, n=n)
    v, now = Fraction(n), unit
    ask = f"How many {now} long is it now?"
    while s.left:
        how = s.pick(["convert", "cut", "join", "pieces", "gifts"])
        if how == "convert" and now == unit and s.left >= 2:
            v, now = s.step("*", v, factor, f"That is # {small}"), small
            a = s.part(v, 0.05, 0.5)
            s.say(f"[{{p.He}} <cuts/cut> off {{a}} {small}.|{{a}} {small} of it <are/were> [worn out|used for a project|damaged] and <have/had> to go.]", p=p, a=a)
            v = s.step("-", v, a, f"That leaves # {small}")
            ask = f"How many {small} are left?"
        elif how == "cut":
            a = s.part(v, 0.1, 0.5)
            s.say(f"[{{then}}, {{p.he}} <cuts/cut> off {{a}} {now}.|{{p.He}} <uses/used> {{a}} {now} [to hang a picture|to tie a box|for the kitchen|to mend a fence].]", p=p, a=a, then=s.then())
            v, ask = s.step("-", v, a, f"That leaves # {now}"), f"How many {now} are left?"
        elif how == "join" and now == unit:
            a = s.some(2, 30)
            s.say(f"[{{p.He}} <ties/tied> another piece of {{a}} {now} to it.|{{then}}, {{p.he}} <buys/bought> {{a}} more {now}.]", p=p, a=a, then=s.then())
            v, ask = s.step("+", v, a, f"Then there are # {now}"), f"How many {now} does {{p}} have [now|in total]?"
        elif how == "gifts" and s.left >= 2:
            m, a = s.some(2, 8), s.some(2, 9)
            if m * a >= v - 1:
                raise Again
            s.say(f"[{{p.He}} <needs/needed> {{m}} pieces of {{a}} {now} each for {{p.his}} [gifts|shelves|plants|curtains].|{{p.He}} <cuts/cut> {{m}} pieces of {{a}} {now} from it.]", p=p, m=m, a=a)
            v = s.step("-", v, s.step("*", m, a, f"The pieces take # {now}"), f"That leaves # {now}")
            ask = f"How many {now} are left?"
        elif how == "pieces" and s.left == 1:
            k = s.divisor(v, 2, 15)
            s.say(f"[{{p.He}} <cuts/cut> [it|all of it] into pieces of {{k}} {now} each.|{{p.He}} <cuts/cut> [it|all that is left] into {{k}}-{now if now != 'feet' else 'foot'} pieces.]".replace("inches pieces", "inch pieces").replace(
                "yards pieces", "yard pieces").replace("meters pieces", "meter pieces").replace("[it|all that is left]", "it").replace("[it|all of it]", "it"), p=p, k=k)  # fmt: skip
            s.step("/", v, k, "That makes # pieces")
            return s.ask("How many pieces does {p} get?", p=p)
    s.ask(ask, p=p)


def calories(s: Story) -> None:
    """A day's eating and moving, counted."""
    p = s.person()
    unit, foods, low, high, cap = s.pick(
        [("calories", ["apples", "bananas", "eggs", "slices of toast", "cookies", "carrots", "crackers", "chicken wings", "granola bars", "scoops of ice cream"], 20, 250, "limit"),
         ("grams of sugar", ["cookies", "candies", "glasses of juice", "jelly beans", "cupcakes", "donuts", "cups of yogurt"], 4, 40, "limit"),
         ("ounces", ["glasses of water", "bottles of juice", "cups of tea", "cans of soda", "mugs of milk"], 6, 20, "goal"),
         ("grams of protein", ["eggs", "cups of milk", "spoons of peanut butter", "pieces of chicken", "bowls of beans"], 6, 30, "goal")]
    )  # fmt: skip
    n, a = s.some(2, 6), s.some(low, high)
    first, second = s.rng.sample(foods, 2)
    s.say(f"[{{p}} <has/had> {{n}} {first} for [breakfast|lunch|dinner]. Each <has/had> {{a}} {unit}.|One of the {first} that {{p}} <likes/liked> <has/had> {{a}} {unit}. {{p.He}} <has/had> {{n}} of them.|"
          f"There <are/were> {{a}} {unit} in each of the {{n}} {first} that {{p}} <has/had> today.]", p=p, n=n, a=a)  # fmt: skip
    v = s.step("*", n, a, f"That is # {unit}")
    ask = f"How many {unit} is that [in total|altogether]?"
    turns = ["more", "single", "burn", "cap", "days"]
    while s.left:
        if not turns:
            raise Again
        how = turns.pop(s.rng.randrange(len(turns)))
        if how == "more" and s.left >= 2:
            m, b = s.some(2, 6), s.some(low, high)
            s.say(f"[{{p.He}} also <has/had> {{m}} {second} with {{b}} {unit} each.|{{then}}, {{p.he}} <has/had> {{m}} {second}, each with {{b}} {unit}.]", p=p, m=m, b=b, then=s.then())
            v = s.step("+", v, s.step("*", m, b, f"The {second} have # {unit}"), f"Together that is # {unit}")
        elif how == "single":
            b = s.some(low, high)
            s.say(f"[A snack later <adds/added> {{b}} {unit}.|{{p.He}} <gets/got> another {{b}} {unit} from a drink.]", p=p, b=b)
            v = s.step("+", v, b, f"Together that is # {unit}")
        elif how == "burn" and unit == "calories":
            b = s.part(v, 0.1, 0.6)
            s.say("[{p.He} <burns/burned> {b} calories [while jogging|at the gym|on {p.his} bike|by swimming].|A long walk <burns/burned> {b} calories.]", p=p, b=b)
            v, ask = s.step("-", v, b, f"That leaves # {unit}"), "How many calories are left after that?"
        elif how == "cap" and s.left == 1:
            b = s.whole(v) + s.some(10, 300)
            s.say(f"[{{p.His}} daily {cap} <is/was> {{b}} {unit}.|{{p.He}} <wants/wanted> to have {{b}} {unit} a day.]", p=p, b=b)
            s.step("-", b, v, f"# {unit} are left")
            return s.ask(f"How many more {unit} can {{p}} have [that day|today]?", p=p)
        elif how == "days" and s.left == 1:
            d = s.some(2, 14)
            s.say("{p.He} <does/did> the same every day for {d} days.", p=p, d=d)
            s.step("*", v, d, f"In {d} days that is # {unit}")
            return s.ask(f"How many {unit} is that [in total|over the {{d}} days]?", d=d)
    s.ask(ask)


def buildings(s: Story) -> None:
    """Nested groups: floors of apartments of people, shelves of books, rows of desks."""
    levels = s.pick(
        [["apartment building", "floors", "apartments", "people", "live"], ["hotel", "floors", "rooms", "beds", "stand"], ["library", "shelves", "rows", "books", "stand"],
         ["school", "classrooms", "tables", "students", "sit"], ["parking garage", "levels", "rows", "cars", "are parked"], ["orchard", "fields", "rows", "trees", "grow"],
         ["store", "aisles", "shelves", "cans", "stand"], ["stadium", "sections", "rows", "seats", "stand"], ["office", "floors", "rooms", "computers", "stand"],
         ["warehouse", "halls", "racks", "boxes", "are stored"], ["farm", "barns", "stalls", "cows", "live"], ["museum", "wings", "rooms", "paintings", "hang"],
         ["photo album", "chapters", "pages", "photos", "are kept"], ["zoo", "houses", "cages", "birds", "live"]]
    )  # fmt: skip
    whole, big, mid, small, verb = levels
    one = {"shelves": "shelf", "classrooms": "classroom"}.get(big, big.removesuffix("s"))
    two = {"shelves": "shelf"}.get(mid, mid.removesuffix("s"))
    a, b = s.some(2, 12), s.some(2, 15)
    s.say(f"[{{A}} {whole} has {{a}} {big} with {{b}} {mid} [on|in] each [{one}|of them].|{{A}} {whole} has {{a}} {big}, and each {one} has {{b}} {mid}.|There are {{a}} {big} in {{A2}} {whole}. Each {one} has {{b}} {mid}.]".replace(
        "[on|in]", "on" if one in ("floor", "shelf", "level", "aisle") else "in"), a=a, b=b, A="A", A2="a")  # fmt: skip
    v = s.step("*", a, b, f"There are # {mid}")
    ask = f"How many {mid} [are there in the {whole}|does the {whole} have][| in total]?"
    if s.left:
        if s.left >= 2 and s.chance(0.3):
            c = s.part(v, 0.05, 0.4)
            s.say(f"[{{c}} of the {mid} are empty.|{{c}} of the {mid} are closed for repairs and empty.]", c=c)
            v = s.step("-", v, c, f"# {mid} are in use")
        c = s.some(2, 12)
        at = "on" if two in ("shelf", "page") else "in"
        s.say(f"[{at.capitalize()} each {two}, {{c}} {small} {verb}.|There are {{c}} {small} {at} each {two}.]" if len(s.sentences) < 2 or "empty" not in s.sentences[-1] else
              f"{at.capitalize()} each of the other {mid}, {{c}} {small} {verb}.", c=c)  # fmt: skip
        v = s.step("*", v, c, f"There are # {small}")
        ask = f"How many {small} are there [in the {whole}|in total|altogether]?"
    while s.left:
        how = s.pick(["gone", "part", "more", "each"])
        if how == "gone":
            c = s.part(v, 0.05, 0.5)
            s.say(f"{{c}} of the {small} are [away|gone|taken out|replaced] [this week|today|at the moment].".replace("|replaced", ""), c=c)
            v, ask = s.step("-", v, c, f"That leaves # {small}"), f"How many {small} [are left|remain]?"
        elif how == "part" and s.left >= 1:
            k = s.divisor(v, 2, 6)
            like = s.pick(["new", "old", "marked with a red dot", "on a special list"])
            s.say(f"{{f}} of the {small} are {like}.", f=s.fraction(k))
            part = s.step("/", v, k, f"1/{k} of them is # {small}")
            if not s.left:
                return s.ask(f"How many {small} are {like}?")
            s.step("-", v, part, f"That leaves # {small}")
            if s.left:
                raise Again
            return s.ask(f"How many of the {small} are not {like}?")
        elif how == "more":
            c = s.some(5, 80)
            s.say(f"[Next year, {{c}} more {small} will come.|{{c}} {small} are added.]".replace("[Next year, {c} more " + small + " will come.|", "["), c=c)
            v, ask = s.step("+", v, c, f"Then there are # {small}"), f"How many {small} are there then?"
        elif how == "each" and s.left == 1:
            x = s.some(2, 15)
            s.say(f"Every year, it costs {{x}} to insure each of the {small}." if small != "people" else "Each of them pays {x} for a new playground.", x=s.usd(x))
            s.step("*", v, x, "That is # dollars")
            return s.ask("How many dollars is that [in total|altogether]?" if small == "people" else "How much does it cost to insure all of them for a year?")
    s.ask(ask)


def subscriptions(s: Story) -> None:
    """So much a month, for so long, with fees, discounts and other offers."""
    p, x = s.person(), s.some(6, 80)
    what = s.pick(["a gym membership", "a streaming service", "a phone plan", "an internet plan", "a parking spot", "a storage unit", "a magazine", "a karate class", "a dance class", "a language course", "car insurance"])
    d = s.pick([12, 6, 3, s.some(2, 11)])
    span = {12: "a year", 6: "half a year"}.get(d, f"{s.n(d)} months") if s.chance(0.5) else f"{s.n(d)} months"
    s.say(f"[{{p}} <pays/paid> {{x}} [a|per|every] month for {what} [for {span}|over {span}].|{what} <costs/cost> {{p}} {{x}} a month. {{p.He}} <keeps/kept> it for {span}.|{{p}} <signs/signed> up for {what} at {{x}} per month for {span}.]", p=p, x=s.usd(x))
    v = s.step("*", x, d, f"In {d} months that is # dollars")
    if s.left and s.chance(0.5):
        f = s.some(10, 100)
        s.say("[There <is/was> also a sign-up fee of {f}.|{p.He} also <pays/paid> {f} for equipment.|A one-time fee of {f} <is/was> added.]", p=p, f=s.usd(f))
        v = s.step("+", v, f, "With the fee that is # dollars")
    elif s.left and s.chance(0.5):
        f = s.some(20, 150)
        s.say("[The next year, the price <goes/went> up, and the same <costs/cost> {f} more.|{p.He} also <pays/paid> {f} for extras.]", p=p, f=s.usd(f))
        v = s.step("+", v, f, "With that it is # dollars")
    _spend_on(s, State("cost", v, "How much <does/did> {p} pay [in total|altogether]?", {"p": p}))


def installments(s: Story) -> None:
    """A price, something paid at once, the rest in equal parts."""
    if s.level > 5:
        raise Again
    p, dear = s.person(), s.pick(book.DEAR)
    price = Fraction(s.some(10, 90) * 10)
    s.say("[{p} <buys/bought> a {dear} for {x}.|A {dear} <costs/cost> {x}, and {p} <buys/bought> it.]", p=p, dear=dear, x=s.usd(price))
    v = price
    turns = ["down", "discount", "trade", "tax"]
    ask = "How much does {p} still have to pay?"
    while s.left > 1 or (s.left == 1 and s.chance(0.5)):
        if not turns:
            raise Again
        how = turns.pop(s.rng.randrange(len(turns)))
        if how == "down":
            a = s.part(v, 0.1, 0.5)
            s.say("[{p.He} <pays/paid> {a} at once.|{p.He} <makes/made> a down payment of {a}.|{p.He} <puts/put> {a} down.]", p=p, a=s.usd(a))
            v = s.step("-", v, a, "That leaves # dollars")
        elif how == "discount" and s.left >= 2:
            x = s.pick([10, 20, 25, 30])
            s.whole(v * x / 100)
            s.say("[The seller <takes/took> {x}% off what is owed.|{p.He} <gets/got> {x}% off the amount.]", p=p, x=x)
            v = s.step("-", v, s.step("*", v, Fraction(x, 100), f"{x}% of it is # dollars"), "That leaves # dollars")
        elif how == "trade":
            a = s.part(v, 0.05, 0.3)
            s.say("[For {p.his} old one {p.he} <gets/got> {a} off.|{p.His} parents <pay/paid> {a} of it.|A gift card <covers/covered> {a}.]", p=p, a=s.usd(a))
            v = s.step("-", v, a, "That leaves # dollars")
        elif how == "tax":
            a = s.some(5, 60)
            s.say("Taxes and fees of {a} <are/were> added.", a=s.usd(a))
            v = s.step("+", v, a, "With them it is # dollars")
    if s.left == 1:
        k = s.divisor(v, 2, 12)
        s.say("[{p.He} <pays/paid> [it off|the rest] in {k} equal monthly payments.|The rest <is/was> paid in {k} equal payments.|{p.He} <wants/wanted> to pay it over {k} months, the same amount each month.]".replace(
            "[it off|the rest]", "the rest" if len(s.sentences) > 1 else "it off").replace("The rest", "The rest" if len(s.sentences) > 1 else "The price"), p=p, k=k)  # fmt: skip
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
        s.say("[{p} <makes/made> {rate} an hour as a {job}. {then}, {p.he} <gets/got> a raise of {a} an hour. {p.He} <works/worked> {h} hours at the new rate.|"
              "{p}'s pay of {rate} per hour as a {job} <goes/went> up by {a} per hour, and {p.he} <works/worked> {h} hours after that.]",
              p=p, rate=s.usd(rate), a=s.usd(a), h=h, job=job, then=s.then())  # fmt: skip
        v = s.step("*", s.step("+", rate, a, "The new pay is # dollars an hour"), h, f"{p} earns # dollars")
    elif kind == "promotion":
        x = s.pick([10, 20, 25, 50])
        s.whole(Fraction(rate) * x / 100)
        s.say("{p} <earns/earned> {rate} an hour as a {job}. After a promotion, {p.his} pay <is/was> {x}% higher.", p=p, rate=s.usd(rate), x=x, job=job)
        v = s.step("+", rate, s.step("*", rate, Fraction(x, 100), "The raise is # dollars an hour"), "The new pay is # dollars an hour")
        if not s.left:
            return s.ask("How much <does/did> {p} earn per hour [now|after the promotion]?".replace("now|", ""), p=p)
        s.say("{p.He} <works/worked> {h} hours a week.", p=p, h=h)
        v = s.step("*", v, h, f"{p} earns # dollars a week")
    elif kind == "overtime":
        if s.left < 4:
            raise Again
        m = s.some(2, 10)
        s.say("[{p} <is/was> paid {rate} an hour as a {job}, and twice as much for overtime. This week {p.he} worked {h} regular hours and {m} hours of overtime.|"
              "As a {job}, {p} <earns/earned> {rate} per hour, and double that on Sundays. Last week, {p.he} worked {h} hours on weekdays and {m} hours on Sunday.]",
              p=p, rate=s.usd(rate), h=h, m=m, job=job)  # fmt: skip
        base = s.step("*", rate, h, f"The regular pay is # dollars")  # noqa: F541
        double = s.step("*", rate, 2, "The higher pay is # dollars an hour")
        v = s.step("+", base, s.step("*", double, m, "For the extra hours that is # dollars"), f"{p} earns # dollars")
    else:
        if s.left < 3:
            raise Again
        r2, m = s.some(8, 30), s.some(3, 20)
        s.say("[{p} <has/had> two jobs. {p.He} <works/worked> {h} hours a week as a {job} for {a} an hour and {m} hours a week as a {other} for {b} an hour.|"
              "{p} <works/worked> {h} hours as a {job} at {a} per hour, and {m} hours as a {other} at {b} per hour.]",
              p=p, h=h, m=m, a=s.usd(rate), b=s.usd(r2), job=job, other=s.pick(book.JOBS))  # fmt: skip
        v = s.step("+", s.step("*", h, rate, "The first job brings # dollars"), s.step("*", m, r2, "The second job brings # dollars"), f"{p} earns # dollars")
    _spend_on(s, State("money", v, "How much [money|] <does/did> {p} earn[| in total]?", {"p": p}))


def ratios(s: Story) -> None:
    """Parts in a ratio; the total is told, or one part."""
    if not 2 <= s.level <= 4:
        raise Again
    x, y, place = s.pick([("boys", "girls", "class"), ("red", "blue", "marbles in a jar"), ("cats", "dogs", "shelter"), ("adults", "children", "crowd"), ("roses", "tulips", "garden"),
                          ("novels", "comics", "bookcase"), ("cars", "trucks", "parking lot"), ("apple trees", "pear trees", "orchard"), ("ducks", "geese", "pond"), ("nickels", "dimes", "jar"),
                          ("cups of flour", "cups of sugar", "recipe"), ("wins", "losses", "season")])  # fmt: skip
    a, b, k = s.some(1, 7), s.some(2, 7), s.some(3, 20)
    if a == b:
        raise Again
    where = f"the {place}" if x != "red" else "a jar"
    if x == "red":
        x, y = "red marbles", "blue marbles"
    if s.left == 2 and s.chance(0.5):
        if a == 1:
            raise Again
        s.say(f"The ratio of {x} to {y} in {where} is {a}:{b}. There are {{n}} {x}.", n=a * k)
        s.step("*", s.step("/", a * k, a, "One part is #"), b, f"# {y}")
        return s.ask(f"How many {y} are there?")
    s.say(f"[In {where}, the ratio of {x} to {y} is {a}:{b}, and there are {{n}} of them in total.|There are {{n}} {x} and {y} in {where}, in the ratio {a}:{b}.|"
          f"For every {a if a > 1 else 'one'} {x if a > 1 else x}, {where} has {b} {y}. Altogether there are {{n}}.]".replace(f"For every one {x}", f"For every 1 of the {x}"), n=(a + b) * k)  # fmt: skip
    one = s.step("/", (a + b) * k, s.step("+", a, b, "There are # parts"), "One part is #")
    if not s.left:
        if a != 1:
            raise Again
        return s.ask(f"How many {x} are there?")
    if s.left == 1:
        s.step("*", one, b, f"# {y}")
        return s.ask(f"How many {y} are there?")
    if b - a < 2:
        raise Again
    s.step("*", one, s.step("-", b, a, f"There are # more parts of {y}"), f"That is # more {y}")
    s.ask(f"How many more {y} than {x} are there?")


def growth(s: Story) -> None:
    """A number that grows or shrinks, period after period."""
    what, verb = s.pick([("people live in a town", "people"), ("bees live in a hive", "bees"), ("subscribers follow a channel", "subscribers"), ("fish live in a pond", "fish"),
                         ("members belong to a club", "members"), ("rabbits live in a field", "rabbits"), ("students attend a school", "students"), ("cases arrive at a clinic", "cases"),
                         ("orders come to a shop in January", "orders"), ("dollars are in an account", "dollars"), ("bacteria are in a dish", "bacteria"), ("ants live in a nest", "ants")])  # fmt: skip
    v = Fraction(s.some(2, 60) * s.pick([10, 10, 20, 50, 100]))
    s.say(f"{{v}} {what}.", v=v)
    span = s.pick(["year", "month", "week", "day"])
    names = s.pick([["first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth"]])
    i = 0
    while s.left:
        how = s.pick(["percent up", "percent down", "double", "more", "less", "half"])
        when = f"[In|During] the {names[i]} {span}" if i or s.chance(0.7) else f"In the next {span}"
        if how.startswith("percent") and s.left >= 2:
            x = s.pick([10, 20, 25, 30, 40, 50])
            s.whole(v * x / 100)
            up = how.endswith("up")
            s.say(f"{when}, the number [{'increases|grows|rises' if up else 'decreases|falls|drops'}] by {{x}}%.", x=x)
            part = s.step("*", v, Fraction(x, 100), f"{x}% of it is # {verb}")
            v = s.step("+" if up else "-", v, part, f"Then it is # {verb}")
        elif how == "double":
            k = s.pick([2, 2, 3])
            s.say(f"{when}, the number {'doubles' if k == 2 else 'triples'}.")
            v = s.step("*", v, k, f"Then it is # {verb}")
        elif how == "half":
            s.whole(v / 2)
            s.say(f"{when}, half of the {verb} [disappear|are lost|leave].")
            v = s.step("/", v, 2, f"Then it is # {verb}")
        elif how in ("more", "less"):
            a = s.some(5, 200) if how == "more" else s.part(v, 0.05, 0.5)
            s.say(f"{when}, [{'{a} new ' + verb + ' are added|there are {a} more ' + verb if how == 'more' else '{a} ' + verb + ' are lost|the number falls by {a}'}].", a=a)
            v = s.step("+" if how == "more" else "-", v, a, f"Then it is # {verb}")
        else:
            continue
        i += 1
    s.ask(f"How many {verb} are there [then|after that|in the end|at the end of the {span}]?".replace("at the end of the " + span, f"at the end of that {span}"))


def rates_by_the_minute(s: Story) -> None:
    """A rate a minute or second, asked for hours: conversion first."""
    if s.level < 2:
        raise Again
    text, unit = s.pick([("A printer can print {r} pages [a|per|every] minute.", "pages"), ("A faucet drips {r} drops [a|per] minute.", "drops"), ("{p}'s heart beats {r} times [a|per] minute.", "beats"),
                         ("A machine fills {r} bottles [a|per|every] minute.", "bottles"), ("{p} can type {r} words [a|per] minute.", "words"), ("A website gets {r} visitors [a|per] minute.", "visitors"),
                         ("{p} jumps rope at {r} jumps [a|per] minute.", "jumps"), ("A conveyor belt moves {r} boxes [a|per|every] minute.", "boxes"), ("A fountain uses {r} gallons of water [a|per] minute.", "gallons"),
                         ("A factory makes {r} candles [a|per|every] minute.", "candles"), ("A windmill turns {r} times [a|per] minute.", "turns")])  # fmt: skip
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


def combined(s: Story) -> None:
    """One compared with two others together, as stories like to do: at least two steps."""
    if s.level < 2:
        raise Again
    p, q, r = s.person(), s.person(), s.person()
    (things, _), a, b = s.thing(book.COLLECTED, book.PICKED, book.CRAFTED), s.some(3, 40), s.some(3, 40)
    got = s.pick(["<has/had>", "<collects/collected>", "<finds/found>", "<makes/made>", "<picks/picked>", "<sells/sold>"])
    base = {"has": "have", "collects": "collect", "finds": "find", "makes": "make", "picks": "pick", "sells": "sell"}[got[1:].split("/")[0]]
    if s.left >= 3 and s.chance(0.6):
        k = s.pick([2, 2, 3])
        s.say(f"{{p}} {got} {{a}} {things}. {{q}} {got} {{k}} as many.", p=p, q=q, a=a, k=s.times(k))
        b = s.whole(s.step("*", a, k, f"{q}: # {things}"))
    else:
        s.say(f"[{{p}} {got} {{a}} {things} and {{q}} {got} {{b}}.|{{p}} {got} {{a}} {things}. {{q}} {got} {{b}} {things}.]", p=p, q=q, a=a, b=b)
    both = s.step("+", a, b, f"{p} and {q} together: # {things}")
    how = s.pick(["times", "more", "fewer", "half"])
    if how == "half":
        s.whole(both / 2)
    d = s.part(both, 0.1, 0.5)
    tail = {"times": "twice as many as {p} and {q} [combined|together]", "more": "{d} more than {p} and {q} [combined|together]", "fewer": "{d} fewer than {p} and {q} [combined|together]",
            "half": "half as many as {p} and {q} [combined|together]"}[how]  # fmt: skip
    s.say(f"{{r}} {got} {tail}.", p=p, q=q, r=r, d=d)
    note = f"{r}: # {things}"
    v = (s.step("*", both, 2, note) if how == "times" else s.step("/", both, 2, note) if how == "half" else s.step("+" if how == "more" else "-", both, d, note))
    if not s.left:
        return s.ask(f"How many {things} <does/did> {{r}} {base}?", r=r)
    if s.left == 1:
        s.step("+", both, v, f"All together: # {things}")
        return s.ask(f"How many {things} <do/did> [the three of them|they|all three] {base} [in total|altogether|together|in all]?")
    if got not in ("<has/had>", "<finds/found>", "<picks/picked>", "<collects/collected>"):
        raise Again
    go_on(s, State("things", v, f"How many {things} does {{p}} have?", {"p": r, "things": things, "thing": things.removesuffix("s")}), THING_MOVES)


def weekly_habit(s: Story) -> None:
    """So much at a time, so many times a week, so many weeks; what it adds up to, or costs."""
    p, a, d = s.person(), s.some(2, 30), s.some(2, 6)
    act, unit = s.pick([("runs/ran", "miles"), ("swims/swam", "laps"), ("bakes/baked", "loaves of bread"), ("drinks/drank", "cups of coffee"), ("writes/wrote", "pages"), ("practices/practiced", "songs"),
                        ("sells/sold", "newspapers"), ("delivers/delivered", "packages"), ("walks/walked", "dogs"), ("washes/washed", "cars"), ("reads/read", "chapters"), ("plants/planted", "seeds"),
                        ("grades/graded", "essays"), ("tutors/tutored", "students"), ("paints/painted", "tiles"), ("cooks/cooked", "meals"), ("milks/milked", "cows"), ("uploads/uploaded", "photos")])  # fmt: skip
    days = s.pick([f"{s.n(d)} days a week", f"{s.n(d)} times a week"]) if s.chance(0.7) else None
    if days is None:
        d, days = s.pick([(7, "every day of the week"), (5, "every weekday"), (2, "every Saturday and Sunday"), (6, "every day except Sunday"), (3, "every Monday, Wednesday and Friday")])
    s.say(f"[{{p}} <{act}> {{a}} {unit} {days}.|{days}, {{p}} <{act}> {{a}} {unit}.]", p=p, a=a)
    v = s.step("*", a, d, f"In a week that is # {unit}")
    if not s.left:
        return s.ask(f"How many {unit} is that [in a week|per week|each week]?")
    w, span = s.pick([(s.some(2, 12), ""), (52, "a year"), (4, "four weeks")])
    span = span or f"{s.n(w)} weeks"
    if s.left > 1 and s.chance(0.5):
        x = s.some(2, 9)
        s.say(f"[{{p.He}} <is/was> paid {{x}} for each of these {unit}.|For each of the {unit} {{p.he}} <gets/got> {{x}}.]", p=p, x=s.usd(x))
        v = s.step("*", v, x, "In a week that is # dollars")
        unit = "dollars"
    v = s.step("*", v, w, f"In {w} weeks that is # {unit}")
    if unit == "dollars":
        if s.left:
            s.say(f"{{p.He}} <does/did> this for {span}.", p=p)
        return _spend_on(s, State("money", v, f"How much money <does/did> {{p}} earn in {span}?" if not s.left else "", {"p": p}))
    if not s.left:
        return s.ask(f"How many {unit} is that in {span}?")
    s.say(f"{{p.He}} <keeps/kept> this up for {span}.", p=p)
    if s.left == 1 and s.chance(0.5):
        g = s.whole(v) + s.some(5, 200)
        s.say(f"{{p.His}} goal <is/was> {{g}} {unit}.", p=p, g=g)
        s.step("-", g, v, f"# {unit} are missing")
        return s.ask(f"[How many {unit} short of the goal <is/was> {{p}}?|How many more {unit} would {{p}} have needed?]", p=p)
    q, k = s.person(), s.pick([2, 2, 3])
    s.say(f"In the same time, {{q}} <{act}> {{k}} as many {unit}.", q=q, k=s.times(k))
    other = s.step("*", v, k, f"{q}: # {unit}")
    if s.left == 1:
        s.step("+", v, other, f"Together that is # {unit}")
        return s.ask(f"How many {unit} is that for both of them [together|in total]?")
    if s.left:
        raise Again
    s.ask(f"How many {unit} is that for {{q}}?", q=q)
