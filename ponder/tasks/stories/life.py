"""Ratios, growth, and one who is compared with two others together."""

from __future__ import annotations

from fractions import Fraction

from ponder.tasks.stories import wordbook as book
from ponder.tasks.stories.changes import MOVES
from ponder.tasks.stories.story import Again, State, Story, go_on


def ratios(s: Story) -> None:
    """Parts in a ratio; the total is told, or one part."""
    if not 2 <= s.level <= 4:
        raise Again
    x, y, place = s.pick(
        [
            ("boys", "girls", "class"),
            ("red", "blue", "marbles in a jar"),
            ("cats", "dogs", "shelter"),
            ("adults", "children", "crowd"),
            ("roses", "tulips", "garden"),
            ("novels", "comics", "bookcase"),
            ("cars", "trucks", "parking lot"),
            ("apple trees", "pear trees", "orchard"),
            ("ducks", "geese", "pond"),
            ("nickels", "dimes", "jar"),
            ("cups of flour", "cups of sugar", "recipe"),
            ("wins", "losses", "season"),
        ]
    )
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
    s.say(
        f"[In {where}, the ratio of {x} to {y} is {a}:{b}, and there are {{n}} of them in total.|"
        f"There are {{n}} {x} and {y} in {where}, in the ratio {a}:{b}.|"
        f"For every {a if a > 1 else 'one'} {x}, {where} has {b} {y}. Altogether "
        f"there are {{n}}.]".replace(f"For every one {x}", f"For every 1 of the {x}"),
        n=(a + b) * k,
    )
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
    what, verb = s.pick(
        [
            ("people live in a town", "people"),
            ("bees live in a hive", "bees"),
            ("subscribers follow a channel", "subscribers"),
            ("fish live in a pond", "fish"),
            ("members belong to a club", "members"),
            ("rabbits live in a field", "rabbits"),
            ("students attend a school", "students"),
            ("cases arrive at a clinic", "cases"),
            ("orders come to a shop in January", "orders"),
            ("dollars are in an account", "dollars"),
            ("bacteria are in a dish", "bacteria"),
            ("ants live in a nest", "ants"),
        ]
    )
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
            more = f"{{a}} new {verb} are added|there are {{a}} more {verb}"
            less = f"{{a}} {verb} are lost|the number falls by {{a}}"
            s.say(f"{when}, [{more if how == 'more' else less}].", a=a)
            v = s.step("+" if how == "more" else "-", v, a, f"Then it is # {verb}")
        else:
            continue
        i += 1
    s.ask(
        f"How many {verb} are there [then|after that|in the end|at the end of the {span}]?".replace(
            "at the end of the " + span, f"at the end of that {span}"
        )
    )


def combined(s: Story) -> None:
    """One compared with two others together, as stories like to do: at least two steps."""
    if s.level < 2:
        raise Again
    p, q, r = s.person(), s.person(), s.person()
    (things, _), a, b = s.thing(book.COLLECTED, book.PICKED, book.CRAFTED), s.some(3, 40), s.some(3, 40)
    got = s.pick(
        ["<has/had>", "<collects/collected>", "<finds/found>", "<makes/made>", "<picks/picked>", "<sells/sold>"]
    )
    base = {"has": "have", "collects": "collect", "finds": "find", "makes": "make", "picks": "pick", "sells": "sell"}[
        got[1:].split("/")[0]
    ]
    if s.left >= 3 and s.chance(0.6):
        k = s.pick([2, 2, 3])
        s.say(f"{{p}} {got} {{a}} {things}. {{q}} {got} {{k}} as many.", p=p, q=q, a=a, k=s.times(k))
        b = s.whole(s.step("*", a, k, f"{q}: # {things}"))
    else:
        s.say(
            f"[{{p}} {got} {{a}} {things} and {{q}} {got} {{b}}.|{{p}} {got} {{a}} {things}. {{q}} {got} "
            f"{{b}} {things}.]",
            p=p,
            q=q,
            a=a,
            b=b,
        )
    both = s.step("+", a, b, f"{p} and {q} together: # {things}")
    how = s.pick(["times", "more", "fewer", "half"])
    if how == "half":
        s.whole(both / 2)
    d = s.part(both, 0.1, 0.5)
    tail = {
        "times": "twice as many as {p} and {q} [combined|together]",
        "more": "{d} more than {p} and {q} [combined|together]",
        "fewer": "{d} fewer than {p} and {q} [combined|together]",
        "half": "half as many as {p} and {q} [combined|together]",
    }[how]
    s.say(f"{{r}} {got} {tail}.", p=p, q=q, r=r, d=d)
    note = f"{r}: # {things}"
    v = (
        s.step("*", both, 2, note)
        if how == "times"
        else s.step("/", both, 2, note)
        if how == "half"
        else s.step("+" if how == "more" else "-", both, d, note)
    )
    if not s.left:
        return s.ask(f"How many {things} <does/did> {{r}} {base}?", r=r)
    if s.left == 1:
        s.step("+", both, v, f"All together: # {things}")
        return s.ask(
            f"How many {things} <do/did> [the three of them|they|all three] {base} [in total|altogether|"
            f"together|in all]?"
        )
    if got not in ("<has/had>", "<finds/found>", "<picks/picked>", "<collects/collected>"):
        raise Again
    go_on(
        s,
        State(
            "things",
            v,
            f"How many {things} does {{p}} have?",
            {"p": r, "things": things, "thing": things.removesuffix("s")},
        ),
        MOVES,
    )
