"""Slices, loads, lengths, calories, buildings: amounts of what is at home and around it."""

from __future__ import annotations

from fractions import Fraction

from ponder.tasks.stories.story import Again, Story


def slices(s: Story) -> None:
    """Food cut in pieces, people who eat them, what is left."""
    p, n, k = s.person(), s.some(2, 12), s.pick([6, 8, 8, 10, 12, 4])
    food, piece = s.pick(
        [
            ("pizzas", "slices"),
            ("cakes", "slices"),
            ("pies", "pieces"),
            ("loaves of bread", "slices"),
            ("watermelons", "slices"),
            ("chocolate bars", "squares"),
            ("sandwiches", "quarters"),
            ("large cookies", "pieces"),
            ("pans of brownies", "squares"),
        ]
    )
    s.say(
        f"[For {{party}}, {{p}} <orders/ordered> {{n}} {food}, each cut into {{k}} {piece}.|{{p}} "
        f"<buys/bought> {{n}} {food} for {{party}}. Each of them <is/was> cut into {{k}} {piece}.|"
        f"{{p}} <makes/made> {{n}} {food} for {{p.his}} family and <cuts/cut> each one into {{k}} "
        f"{piece}.|{{p}}'s mom <brings/brought> {{n}} {food} with {{k}} {piece} each to {{party}}.]",
        p=p,
        n=n,
        k=k,
        party=s.pick(["a party", "dinner", "the team", "a family reunion", "movie night", "the office", "a picnic"]),
    )
    v = s.step("*", n, k, f"There are # {piece}")
    ask = f"How many {piece} are there [in total|altogether|in all]?"
    while s.left:
        how = s.pick(["each", "some", "fraction", "share"])
        if how == "each" and s.left >= 2:
            m, a = s.some(2, 9), s.some(2, 4)
            if m * a >= v - 1:
                raise Again
            s.say(
                f"[{{m}} [guests|friends|children|adults] each <eat/ate> {{a}} {piece}.|Each of the {{m}} "
                f"[people|kids|players] there <eats/ate> {{a}} {piece}.|{{m}} family members <have/had> {{a}} "
                f"{piece} each.]",
                m=m,
                a=a,
            )
            v = s.step("-", v, s.step("*", m, a, f"They eat # {piece}"), f"That leaves # {piece}")
        elif how == "some":
            a = s.part(v, 0.1, 0.5)
            s.say(
                f"[{{q}} <eats/ate> {{a}} {piece}.|{{a}} of the {piece} <fall/fell> on the floor.|{{then}}, "
                f"{{q}} <takes/took> {{a}} {piece} home.|The dog <gets/got> {{a}} of the {piece}.]",
                a=a,
                q=s.person(),
                then=s.then(),
            )
            v = s.step("-", v, a, f"That leaves # {piece}")
        elif how == "fraction" and s.left >= 2:
            f = s.divisor(v, 2, 6)
            s.say(
                f"[{{f}} of the {piece} <are/were> eaten [before noon|right away|by the children].|They "
                f"<finish/finished> {{f}} of the {piece}.]",
                f=s.fraction(f),
            )
            v = s.step("-", v, s.step("/", v, f, f"1/{f} of them is # {piece}"), f"That leaves # {piece}")
        elif how == "share" and s.left == 1:
            f = s.divisor(v, 2, 12)
            s.say(
                "[The rest <is/was> shared equally by {f} people.|{f} people <share/shared> [the rest|"
                "what is left] equally.]"
                if len(s.sentences) > 1
                else "{f} people <share/shared> them equally.",
                f=f,
            )
            s.step("/", v, f, f"Each gets # {piece}")
            return s.ask(f"How many {piece} <does/did> each person get?")
        ask = f"How many {piece} [are left|remain|are left over|were not eaten]?"
    s.ask(ask)


def loads(s: Story) -> None:
    """Weights of many things on one scale, truck or elevator."""
    unit = s.pick(["pounds", "kilograms", "pounds", "ounces", "grams"])
    things, low, high = s.pick(
        [
            ("boxes of books", 10, 40),
            ("sacks of potatoes", 10, 50),
            ("bricks", 3, 8),
            ("suitcases", 15, 50),
            ("bags of cement", 40, 90),
            ("barrels", 50, 120),
            ("crates of oranges", 12, 40),
            ("bars of iron", 10, 60),
            ("bundles of newspapers", 5, 25),
            ("dumbbells", 5, 30),
            ("jars of beans", 2, 9),
            ("rocks", 4, 40),
        ]
    )
    where = s.pick(["truck", "van", "boat", "elevator", "cart", "trailer", "wagon"])
    n, w = s.some(2, 20), s.some(low, high)
    one = things.split(" ")[0]
    one = {"boxes": "box"}.get(one, one.removesuffix("s"))
    s.say(
        f"[A {where} <carries/carried> {{n}} {things} that <weigh/weighed> {{w}} {unit} each.|There "
        f"<are/were> {{n}} {things} on a {where}. Each {one} <weighs/weighed> {{w}} {unit}.|"
        f"{{n}} {things} <are/were> loaded onto a {where}, and each <has/had> a weight of {{w}} "
        f"{unit}.]",
        n=n,
        w=w,
    )
    v = s.step("*", n, w, f"The {things} weigh # {unit}")
    ask = total = (
        f"[How many {unit} is that in total?|What is the total weight in {unit}?|How much do they "
        f"weigh altogether, in {unit}?]"
    )
    while s.left:
        how = s.pick(["more", "one", "off", "limit", "fit", "trips"])
        if how == "more" and s.left >= 2:
            m, x = s.some(2, 12), s.some(3, 60)
            what = s.pick(["bags", "cases", "parcels", "baskets", "machines", "chairs", "wooden boards"])
            s.say(
                f"[It also <carries/carried> {{m}} {what} of {{x}} {unit} each.|{{m}} {what}, each weighing "
                f"{{x}} {unit}, <are/were> added.]",
                m=m,
                x=x,
            )
            v = s.step("+", v, s.step("*", m, x, f"The {what} weigh # {unit}"), f"Together that is # {unit}")
            ask = total
        elif how == "one":
            x = s.some(10, 200)
            s.say(
                f"[The driver <weighs/weighed> another {{x}} {unit}.|The {where} itself <weighs/weighed> "
                f"{{x}} {unit}, which <counts/counted> too.|{{then}}, something else of {{x}} {unit} <is/was> "
                f"put on it.]",
                x=x,
                then=s.then(),
            )
            v = s.step("+", v, x, f"Together that is # {unit}")
            ask = total
        elif how == "off":
            x = s.part(v, 0.1, 0.5)
            s.say(
                f"[{{then}}, {{x}} {unit} of it <are/were> taken off.|At the first stop, {{x}} {unit} "
                f"<are/were> unloaded.]",
                x=x,
                then=s.then(),
            )
            v, ask = s.step("-", v, x, f"That leaves # {unit}"), f"How many {unit} are left on the {where}?"
        elif how == "limit" and s.left == 1:
            m = s.whole(v) + s.some(5, 200)
            s.say(
                f"[The {where} <can/could> carry at most {{m}} {unit}.|The maximum [load|capacity] of the "
                f"{where} <is/was> {{m}} {unit}.]",
                m=m,
            )
            s.step("-", m, v, f"# {unit} are left")
            return s.ask(f"How many more {unit} can the {where} carry?")
        elif how == "trips" and s.left == 1:
            k = s.divisor(v, 2, 40)
            s.say(
                f"The {where} <can/could> carry only {{k}} {unit} at a time.".replace("A " + where, "The " + where),
                k=v / k,
            )
            s.step("/", v, v / k, "That takes # trips")
            return s.ask("How many trips are needed?")
    s.ask(ask)


def lengths(s: Story) -> None:
    """Ropes and boards: cut into pieces, joined, converted to inches."""
    p = s.person()
    what, unit, small, factor = s.pick(
        [
            ("rope", "feet", "inches", 12),
            ("ribbon", "yards", "feet", 3),
            ("board", "feet", "inches", 12),
            ("wire", "meters", "centimeters", 100),
            ("roll of fabric", "yards", "inches", 36),
            ("string", "meters", "centimeters", 100),
            ("hose", "yards", "feet", 3),
            ("chain", "feet", "inches", 12),
        ]
    )
    n = s.some(3, 40)
    s.say(
        f"[{{p}} <has/had> a {what} that <is/was> {{n}} {unit} long.|A {what} in {{p}}'s garage "
        f"<is/was> {{n}} {unit} long.|{{p}} <buys/bought> {{n}} {unit} of {what.split(' ')[-1]}.]",
        p=p,
        n=n,
    )
    v, now = Fraction(n), unit
    ask = f"How many {now} long is it now?"
    while s.left:
        how = s.pick(["convert", "cut", "join", "pieces", "gifts"])
        if how == "convert" and now == unit and s.left >= 2:
            v, now = s.step("*", v, factor, f"That is # {small}"), small
            a = s.part(v, 0.05, 0.5)
            s.say(
                f"[{{p.He}} <cuts/cut> off {{a}} {small}.|{{a}} {small} of it <are/were> [worn out|used for a "
                f"project|damaged] and <have/had> to go.]",
                p=p,
                a=a,
            )
            v = s.step("-", v, a, f"That leaves # {small}")
            ask = f"How many {small} are left?"
        elif how == "cut":
            a = s.part(v, 0.1, 0.5)
            s.say(
                f"[{{then}}, {{p.he}} <cuts/cut> off {{a}} {now}.|{{p.He}} <uses/used> {{a}} {now} [to hang a "
                f"picture|to tie a box|for the kitchen|to mend a fence].]",
                p=p,
                a=a,
                then=s.then(),
            )
            v, ask = s.step("-", v, a, f"That leaves # {now}"), f"How many {now} are left?"
        elif how == "join" and now == unit:
            a = s.some(2, 30)
            s.say(
                f"[{{p.He}} <ties/tied> another piece of {{a}} {now} to it.|{{then}}, {{p.he}} <buys/bought> "
                f"{{a}} more {now}.]",
                p=p,
                a=a,
                then=s.then(),
            )
            v, ask = s.step("+", v, a, f"Then there are # {now}"), f"How many {now} does {{p}} have [now|in total]?"
        elif how == "gifts" and s.left >= 2:
            m, a = s.some(2, 8), s.some(2, 9)
            if m * a >= v - 1:
                raise Again
            s.say(
                f"[{{p.He}} <needs/needed> {{m}} pieces of {{a}} {now} each for {{p.his}} [gifts|shelves|"
                f"plants|curtains].|{{p.He}} <cuts/cut> {{m}} pieces of {{a}} {now} from it.]",
                p=p,
                m=m,
                a=a,
            )
            v = s.step("-", v, s.step("*", m, a, f"The pieces take # {now}"), f"That leaves # {now}")
            ask = f"How many {now} are left?"
        elif how == "pieces" and s.left == 1:
            k = s.divisor(v, 2, 15)
            s.say(
                f"[{{p.He}} <cuts/cut> [it|all of it] into pieces of {{k}} {now} each.|{{p.He}} <cuts/cut> "
                f"[it|all that is left] into {{k}}-{now if now != 'feet' else 'foot'} pieces.]".replace(
                    "inches pieces", "inch pieces"
                )
                .replace("yards pieces", "yard pieces")
                .replace("meters pieces", "meter pieces")
                .replace("[it|all that is left]", "it")
                .replace("[it|all of it]", "it"),
                p=p,
                k=k,
            )
            s.step("/", v, k, "That makes # pieces")
            return s.ask("How many pieces does {p} get?", p=p)
    s.ask(ask, p=p)


def calories(s: Story) -> None:
    """A day's eating and moving, counted."""
    p = s.person()
    unit, foods, low, high, cap = s.pick(
        [
            (
                "calories",
                [
                    "apples",
                    "bananas",
                    "eggs",
                    "slices of toast",
                    "cookies",
                    "carrots",
                    "crackers",
                    "chicken wings",
                    "granola bars",
                    "scoops of ice cream",
                ],
                20,
                250,
                "limit",
            ),
            (
                "grams of sugar",
                ["cookies", "candies", "glasses of juice", "jelly beans", "cupcakes", "donuts", "cups of yogurt"],
                4,
                40,
                "limit",
            ),
            (
                "ounces",
                ["glasses of water", "bottles of juice", "cups of tea", "cans of soda", "mugs of milk"],
                6,
                20,
                "goal",
            ),
            (
                "grams of protein",
                ["eggs", "cups of milk", "spoons of peanut butter", "pieces of chicken", "bowls of beans"],
                6,
                30,
                "goal",
            ),
        ]
    )
    n, a = s.some(2, 6), s.some(low, high)
    first, second = s.rng.sample(foods, 2)
    s.say(
        f"[{{p}} <has/had> {{n}} {first} for [breakfast|lunch|dinner]. Each <has/had> {{a}} {unit}.|"
        f"One of the {first} that {{p}} <likes/liked> <has/had> {{a}} {unit}. {{p.He}} <has/had> "
        f"{{n}} of them.|"
        f"There <are/were> {{a}} {unit} in each of the {{n}} {first} that {{p}} <has/had> today.]",
        p=p,
        n=n,
        a=a,
    )
    v = s.step("*", n, a, f"That is # {unit}")
    ask = f"How many {unit} is that [in total|altogether]?"
    turns = ["more", "single", "burn", "cap", "days"]
    while s.left:
        if not turns:
            raise Again
        how = turns.pop(s.rng.randrange(len(turns)))
        if how == "more" and s.left >= 2:
            m, b = s.some(2, 6), s.some(low, high)
            s.say(
                f"[{{p.He}} also <has/had> {{m}} {second} with {{b}} {unit} each.|{{then}}, {{p.he}} "
                f"<has/had> {{m}} {second}, each with {{b}} {unit}.]",
                p=p,
                m=m,
                b=b,
                then=s.then(),
            )
            v = s.step("+", v, s.step("*", m, b, f"The {second} have # {unit}"), f"Together that is # {unit}")
        elif how == "single":
            b = s.some(low, high)
            s.say(
                f"[A snack later <adds/added> {{b}} {unit}.|{{p.He}} <gets/got> another {{b}} {unit} from a drink.]",
                p=p,
                b=b,
            )
            v = s.step("+", v, b, f"Together that is # {unit}")
        elif how == "burn" and unit == "calories":
            b = s.part(v, 0.1, 0.6)
            s.say(
                "[{p.He} <burns/burned> {b} calories [while jogging|at the gym|on {p.his} bike|by swimming].|"
                "A long walk <burns/burned> {b} calories.]",
                p=p,
                b=b,
            )
            v, ask = s.step("-", v, b, f"That leaves # {unit}"), "How many calories are left after that?"
        elif how == "cap" and s.left == 1:
            b = s.whole(v) + s.some(10, 300)
            s.say(
                f"[{{p.His}} daily {cap} <is/was> {{b}} {unit}.|{{p.He}} <wants/wanted> to have {{b}} {unit} a day.]",
                p=p,
                b=b,
            )
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
        [
            ["apartment building", "floors", "apartments", "people", "live"],
            ["hotel", "floors", "rooms", "beds", "stand"],
            ["library", "shelves", "rows", "books", "stand"],
            ["school", "classrooms", "tables", "students", "sit"],
            ["parking garage", "levels", "rows", "cars", "are parked"],
            ["orchard", "fields", "rows", "trees", "grow"],
            ["store", "aisles", "shelves", "cans", "stand"],
            ["stadium", "sections", "rows", "seats", "stand"],
            ["office", "floors", "rooms", "computers", "stand"],
            ["warehouse", "halls", "racks", "boxes", "are stored"],
            ["farm", "barns", "stalls", "cows", "live"],
            ["museum", "wings", "rooms", "paintings", "hang"],
            ["photo album", "chapters", "pages", "photos", "are kept"],
            ["zoo", "houses", "cages", "birds", "live"],
        ]
    )
    whole, big, mid, small, verb = levels
    one = {"shelves": "shelf", "classrooms": "classroom"}.get(big, big.removesuffix("s"))
    two = {"shelves": "shelf"}.get(mid, mid.removesuffix("s"))
    a, b = s.some(2, 12), s.some(2, 15)
    s.say(
        f"[{{A}} {whole} has {{a}} {big} with {{b}} {mid} [on|in] each [{one}|of them].|{{A}} {whole} "
        f"has {{a}} {big}, and each {one} has {{b}} {mid}.|There are {{a}} {big} in {{A2}} {whole}. "
        f"Each {one} has {{b}} {mid}.]".replace(
            "[on|in]", "on" if one in ("floor", "shelf", "level", "aisle") else "in"
        ),
        a=a,
        b=b,
        A="A",
        A2="a",
    )
    v = s.step("*", a, b, f"There are # {mid}")
    ask = f"How many {mid} [are there in the {whole}|does the {whole} have][| in total]?"
    if s.left:
        if s.left >= 2 and s.chance(0.3):
            c = s.part(v, 0.05, 0.4)
            s.say(f"[{{c}} of the {mid} are empty.|{{c}} of the {mid} are closed for repairs and empty.]", c=c)
            v = s.step("-", v, c, f"# {mid} are in use")
        c = s.some(2, 12)
        at = "on" if two in ("shelf", "page") else "in"
        s.say(
            f"[{at.capitalize()} each {two}, {{c}} {small} {verb}.|There are {{c}} {small} {at} each {two}.]"
            if len(s.sentences) < 2 or "empty" not in s.sentences[-1]
            else f"{at.capitalize()} each of the other {mid}, {{c}} {small} {verb}.",
            c=c,
        )
        v = s.step("*", v, c, f"There are # {small}")
        ask = f"How many {small} are there [in the {whole}|in total|altogether]?"
    while s.left:
        how = s.pick(["gone", "part", "more", "each"])
        if how == "gone":
            c = s.part(v, 0.05, 0.5)
            s.say(
                f"{{c}} of the {small} are [away|gone|taken out|replaced] [this week|today|at the moment].".replace(
                    "|replaced", ""
                ),
                c=c,
            )
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
            s.say(
                f"[Next year, {{c}} more {small} will come.|{{c}} {small} are added.]".replace(
                    "[Next year, {c} more " + small + " will come.|", "["
                ),
                c=c,
            )
            v, ask = s.step("+", v, c, f"Then there are # {small}"), f"How many {small} are there then?"
        elif how == "each" and s.left == 1:
            x = s.some(2, 15)
            s.say(
                f"Every year, it costs {{x}} to insure each of the {small}."
                if small != "people"
                else "Each of them pays {x} for a new playground.",
                x=s.usd(x),
            )
            s.step("*", v, x, "That is # dollars")
            return s.ask(
                "How many dollars is that [in total|altogether]?"
                if small == "people"
                else "How much does it cost to insure all of them for a year?"
            )
    s.ask(ask)
