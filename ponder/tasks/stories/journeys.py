"""Something to get through: pages, miles, rows; and legs of a journey at given speeds."""

from __future__ import annotations

from fractions import Fraction

from ponder.tasks.stories import wordbook as book
from ponder.tasks.stories.story import Again, Story


def progress(s: Story) -> None:
    """A whole of known or computed size, parts of it done, the rest at a rate."""
    p = s.person()
    unit, whole, do, done = s.pick(
        [
            ("pages", "book", "read", "<reads/read>"),
            ("miles", "hike", "walk", "<walks/walked>"),
            ("questions", "test", "answer", "<answers/answered>"),
            ("miles", "road trip", "drive", "<drives/drove>"),
            ("words", "essay", "write", "<writes/wrote>"),
            ("pieces", "puzzle", "place", "<places/placed>"),
            ("problems", "math workbook", "solve", "<solves/solved>"),
            ("kilometers", "bike tour", "ride", "<rides/rode>"),
            ("feet", "fence", "paint", "<paints/painted>"),
            ("names", "guest list", "write down", "<writes/wrote> down"),
            ("verses", "long poem", "memorize", "<memorizes/memorized>"),
            ("chairs", "set of chairs", "paint", "<paints/painted>"),
            ("rows", "scarf", "knit", "<knits/knitted>"),
        ]
    )
    small = unit in ("miles", "chairs", "kilometers")
    if s.left >= 2 and s.chance(0.3):
        a, b = s.some(4, 20), s.some(5, 30)
        part = s.pick(["part", "section", "stage"])
        s.say(
            f"[{{p}} <has/had> a {whole} with {{a}} {part}s of {{b}} {unit} each.|A {whole} <has/had> "
            f"{{a}} {part}s, and each {part} <has/had> {{b}} {unit}. {{p}} <wants/wanted> to {do} all of "
            f"it.]",
            p=p,
            a=a,
            b=b,
        )
        v = s.step("*", a, b, f"The {whole} has # {unit}")
    else:
        v = Fraction(s.some(20, 120) if small else s.some(6, 50) * 10)
        s.say(
            f"[{{p}} <has/had> to {do} {{v}} {unit} for a {whole}.|A {whole} <has/had> {{v}} {unit}. "
            f"{{p}} <wants/wanted> to {do} [all of them|them all].|"
            f"{{p}} <is/was> busy with a {whole} of {{v}} {unit}.]",
            p=p,
            v=v,
        )
    last = ""
    while s.left > 1 or (s.left == 1 and s.chance(0.6)):
        how = s.pick(["told", "part", "percent", "rate", "half"])
        if how == last or (how in ("part", "percent", "rate") and s.left < 2):
            continue
        rest, of_rest = ("[the rest|what <is/was> left]", f"the remaining {unit}") if last else ("them", f"the {unit}")
        last = how
        if how == "told":
            a = s.part(v, 0.1, 0.5)
            s.say(
                f"[{{then}}, {{p.he}} {done} {{a}} {unit}.|{{p.He}} {done} {{a}} of [them|the {unit}] on "
                f"{{day}}.|{{p.He}} already {done} {{a}} {unit}.]",
                p=p,
                a=a,
                then=s.then(),
                day=s.pick(book.WEEKDAYS),
            )
            v = s.step("-", v, a, f"That leaves # {unit}")
        elif how == "half":
            s.whole(v / 2)
            s.say(
                f"[{{then}}, {{p.he}} {done} half of {of_rest}.|{{p.He}} {done} half of {rest}[| on {{day}}].]",
                p=p,
                then=s.then(),
                day=s.pick(book.WEEKDAYS),
            )
            v = s.step("/", v, 2, f"Half of that is left, # {unit}")
        elif how == "part":
            k = s.divisor(v, 3, 6)
            s.say(
                f"[{{then}}, {{p.he}} {done} {{f}} of {of_rest}.|{{p.He}} {done} {{f}} of {rest}.]",
                p=p,
                f=s.fraction(k),
                then=s.then(),
            )
            v = s.step("-", v, s.step("/", v, k, f"1/{k} of it is # {unit}"), f"That leaves # {unit}")
        elif how == "percent":
            x = s.pick([10, 20, 25, 30, 40, 60])
            s.whole(v * x / 100)
            s.say(
                f"[{{then}}, {{p.he}} {done} {{x}}% of {of_rest}.|{{p.He}} {done} {{x}}% of {rest}.]",
                p=p,
                x=x,
                then=s.then(),
            )
            v = s.step("-", v, s.step("*", v, Fraction(x, 100), f"{x}% of it is # {unit}"), f"That leaves # {unit}")
        else:
            d = s.some(2, 6)
            r = s.part(v / d, 0.1, 0.7)
            s.say(
                f"[For {{d}} days, {{p.he}} {done} {{r}} {unit} [a|per|each] day.|{{p.He}} {done} {{r}} "
                f"{unit} every day for {{d}} days.]",
                p=p,
                d=d,
                r=r,
            )
            v = s.step("-", v, s.step("*", d, r, f"In {d} days that is # {unit}"), f"That leaves # {unit}")
    if not s.left:
        return s.ask(
            f"[How many {unit} are left?|How many {unit} <does/did> {{p}} still have to {do}?|How many "
            f"{unit} <are/were> there still to {do}?]",
            p=p,
        )
    k = s.divisor(v, 2, 20)
    span = s.pick(["day", "hour", "day"])
    if s.chance(0.5):
        s.say(
            f"[{{p.He}} <can/could> {do} {{k}} {unit} [a|per|each] {span}.|[From then on|After that], "
            f"{{p.he}} {done} {{k}} {unit} [a|per|every] {span}.]".replace(" a hour", " an hour"),
            p=p,
            k=k,
        )
        s.step("/", v, k, f"That takes # {span}s")
        return s.ask(
            f"[How many [more |]{span}s <does/did> {{p}} need to finish?|How many {span}s will it take "
            f"{{p}} to finish?|In how many {span}s will {{p}} be done?]",
            p=p,
        )
    s.say(f"{{p.He}} <wants/wanted> to finish [the rest|all that is left] in {{k}} {span}s.", p=p, k=k)
    s.step("/", v, k, f"That is # {unit} per {span}")
    s.ask(f"How many {unit} [must {{p}} {do}|should {{p}} {do}|does {{p}} have to {do}] [each|per|every] {span}?", p=p)


def travel(s: Story) -> None:
    """Legs of a journey at given speeds; then the total, what is left, the time, the fuel or its price."""
    p = s.person()
    way, low, high = s.pick(
        [
            ("drives/drove", 30, 75),
            ("bikes/biked", 8, 20),
            ("walks/walked", 2, 5),
            ("runs/ran", 5, 9),
            ("rides/rode", 8, 20),
            ("sails/sailed", 6, 18),
        ]
    )
    speed, h = s.some(low, high), s.some(2, 7)
    s.say(
        f"[{{p}} <{way}> for {{h}} hours at [a speed of |]{{v}} miles per hour.|{{p}} <{way}> at "
        f"{{v}} miles an hour for {{h}} hours.]",
        p=p,
        v=speed,
        h=h,
    )
    total = s.step("*", speed, h, f"{p} covers # miles")
    ask = "How [many miles|far] <does/did> {p} travel[| in total| altogether]?".replace(
        "[many miles|far]", "many miles"
    )
    turns = ["leg", "leg", "more", "rest", "fuel", "back", "days"]
    while s.left:
        how = s.pick(turns)
        if how == "leg" and s.left >= 2:
            speed, h = s.some(low, high), s.some(2, 6)
            s.say(
                f"[{{then}}, {{p.he}} <{way}> {{h}} hours at {{v}} miles per hour.|{{p.He}} then <{way}> "
                f"another {{h}} hours at {{v}} miles per hour.]",
                p=p,
                v=speed,
                h=h,
                then=s.then(),
            )
            total = s.step("+", total, s.step("*", speed, h, "That is # miles more"), "Together that is # miles")
        elif how == "more":
            a = s.some(3, 60)
            s.say(
                "[{then}, {p.he} <travels/traveled> {a} miles more[| by bus| by train].|The last part of the "
                "way <is/was> {a} miles long.]",
                p=p,
                a=a,
                then=s.then(),
            )
            total = s.step("+", total, a, "Together that is # miles")
        elif how == "rest" and s.left == 1:
            d = s.whole(total) + s.some(10, 200)
            s.say(
                "[The whole trip <is/was> {d} miles long.|{p.His} goal <is/was> {d} miles away from the start.]",
                p=p,
                d=d,
            )
            s.step("-", d, total, "# miles are left")
            ask = "How many miles are left?"
        elif how == "fuel" and s.left <= 2 and way.startswith("drives"):
            k = s.divisor(total, 10, 40)
            s.say(
                "{p.His} car <goes/went> {k} miles [on|per] [one gallon|a gallon] of gas.".replace("per [one", "per ["),
                p=p,
                k=k,
            )
            gallons = s.step("/", total, k, f"{p} uses # gallons")
            ask = "How many gallons of gas <does/did> {p} use?"
            if s.left:
                x = s.some(2, 6)
                s.say("[Gas <costs/cost> {x} a gallon.|A gallon <costs/cost> {x}.]", x=s.usd(x))
                s.step("*", gallons, x, "The gas costs # dollars")
                ask = "How much <does/did> {p} spend on gas?"
        elif how == "back":
            turns.remove("back")
            s.say("[{p.He} <takes/took> the same way back.|{p.He} then <returns/returned> by the same route.]", p=p)
            total = s.step("*", total, 2, "There and back that is # miles")
        elif how == "days":
            d = s.some(2, 6)
            s.say(
                "[{p.He} <does/did> the same on each of {d} days.|{p.He} <repeats/repeated> this every day "
                "for {d} days.]",
                p=p,
                d=d,
            )
            total = s.step("*", total, d, f"In {d} days that is # miles")
            if s.left:
                raise Again
    s.ask(ask, p=p)
