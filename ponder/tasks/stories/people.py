"""Several people or days compared with each other, and ages."""

from __future__ import annotations

from fractions import Fraction

from ponder.tasks.stories import wordbook as book
from ponder.tasks.stories.story import Again, Person, Story

ACTS = (
    "<collects/collected> {things}|<picks/picked> {things}|<has/had> {things}|<makes/made> "
    "{things}|<sells/sold> {things}|"
    "<buys/bought> {things}|<reads/read> pages|<runs/ran> laps|<does/did> push-ups|"
    "<scores/scored> points|<catches/caught> fish|"
    "<drinks/drank> glasses of water|<plants/planted> trees|<answers/answered> questions|"
    "<walks/walked> miles|<sends/sent> letters|"
    "<jumps/jumped> times|<swims/swam> laps|<writes/wrote> pages|<washes/washed> cars|"
    "<delivers/delivered> newspapers|"
    "<solves/solved> puzzles|<types/typed> words|<eats/ate> grapes|<earns/earned> dollars|"
    "<saves/saved> dollars|<builds/built> robots"
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
    many = "many"
    how = s.pick(["times", "times", "more", "fewer", "part"] + (["times more", "times fewer"] if room > 2 else []))
    if how in ("more", "fewer"):
        d = s.some(2, 30) if how == "more" else s.part(n, 0.1, 0.6)
        s.say(
            f"[{{p}} {verb} {{d}} {how} {{what}} than {{q}}.|{{p}} {verb} {{d}} {how} than {{q}}.]",
            p=p,
            q=q,
            d=d,
            what=what,
        )
        return p, s.step("+" if how == "more" else "-", n, d, f"{p}: # {what}")
    if how == "part":
        k = s.divisor(n, 2, 5)
        s.say(f"{{p}} {verb} {{f}} as {many} [{{what}} |]as {{q}}.", p=p, q=q, f=s.fraction(k), what=what)
        return p, s.step("/", n, k, f"{p}: # {what}")
    k = s.pick([2, 2, 2, 3, 3, 4, 5])
    if how == "times":
        s.say(
            f"[{{p}} {verb} {{k}} as {many} [{{what}} |]as {{q}}.|{{p}} {verb} {{k}} the number of "
            f"{{what}} that {{q}} <does/did>.]"
            if k < 4
            else f"{{p}} {verb} {{k}} as {many} [{{what}} |]as {{q}}.",
            p=p,
            q=q,
            k=s.times(k),
            what=what,
        )
        return p, s.step("*", n, k, f"{p}: # {what}")
    d = s.some(2, 15)
    sign, word = ("+", "more") if how == "times more" else ("-", "fewer")
    s.say(
        f"{{p}} {verb} {{d}} {word} than {{k}} as {many} [{{what}} |]as {{q}}.", p=p, q=q, d=d, k=s.times(k), what=what
    )
    twice = s.step("*", n, k, f"{k} times {s.n(n)} is # {what}")
    return p, s.step(sign, twice, d, f"{p}: # {what}")


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
        s.ask(
            f"[{how} <do/did> {who} {base} [in total|altogether|together|combined]?|"
            f"What is the total number of {what} for "
            f"{' and '.join([', '.join(str(p) for p, _ in people[:-1]), str(last[0])])}?]"
        )
    else:
        a, b = sorted((people[0], last), key=lambda one: -one[1])
        s.step("-", a[1], b[1], f"The difference is # {what}")
        s.ask(
            f"[How many more {what} <does/did> {{a}} {base} than {{b}}?|How many fewer {what} <does/did> "
            f"{{b}} {base} than {{a}}?]",
            a=a[0],
            b=b[0],
        )


def days(s: Story) -> None:
    """Day after day, each compared with the one before; asked is the last, the total, an average or what is missing."""
    p, (verb, what) = s.person(), _act(s)
    span = s.pick([book.WEEKDAYS, book.MONTHS])
    start = s.rng.randrange(len(span) - 5)
    on = "On" if span is book.WEEKDAYS else "In"
    values = [Fraction(s.some(4, 40))]
    s.say(
        f"[{on} {{day}}, {{p}} {verb} {{v}} {{what}}.|{{p}} {verb} {{v}} {{what}} {on.lower()} {{day}}.]",
        p=p,
        v=values[0],
        what=what,
        day=span[start],
    )
    adding = s.chance(0.6)
    while s.left:
        spent = len(values) - 1 if adding else 0
        if s.left == spent and len(values) > 1:
            break
        if s.left < spent + 1 and len(values) > 1:
            raise Again
        if len(values) == 5:
            raise Again
        day = span[start + len(values)]
        n, many = values[-1], "many"
        how = s.pick(["times", "more", "fewer", "part", "told"] if adding else ["times", "more", "fewer", "part"])
        if how == "told" or (adding and s.left == 1):
            values.append(Fraction(s.some(4, 40)))
            s.say(
                f"[{on} {{day}}, {{p.he}} {verb} {{v}}[ {{what}}| more].|{on} {{day}} it <is/was> {{v}}.]",
                p=p,
                v=values[-1],
                day=day,
                what=what,
            )
        elif how in ("more", "fewer"):
            d = s.some(2, 20) if how == "more" else s.part(n, 0.1, 0.6)
            s.say(
                f"{on} {{day}}, {{p.he}} {verb} {{d}} {how}[ {{what}}|] than {on.lower()} {{last}}.",
                p=p,
                d=d,
                day=day,
                what=what,
                last=span[start + len(values) - 1],
            )
            values.append(s.step("+" if how == "more" else "-", n, d, f"{on} {day}: # {what}"))
        elif how == "part":
            k = s.divisor(n, 2, 5)
            s.say(
                f"{on} {{day}}, {{p.he}} {verb} {{f}} as {many}[ {{what}}|] as {on.lower()} {{last}}.",
                p=p,
                f=s.fraction(k),
                day=day,
                what=what,
                last=span[start + len(values) - 1],
            )
            values.append(s.step("/", n, k, f"{on} {day}: # {what}"))
        else:
            k = s.pick([2, 2, 3, 4])
            s.say(
                f"{on} {{day}}, {{p.he}} {verb} {{k}} as {many}[ {{what}}|] as [{on.lower()} {{last}}|the "
                f"[day|time] before].".replace("[day|time]", "day" if on == "On" else "month"),
                p=p,
                k=s.times(k),
                day=day,
                what=what,
                last=span[start + len(values) - 1],
            )
            values.append(s.step("*", n, k, f"{on} {day}: # {what}"))
    if not adding:
        return s.ask(
            f"How many {what} <does/did> {{p}} {_base(verb)} {on.lower()} {{day}}?",
            p=p,
            day=span[start + len(values) - 1],
        )
    total = values[0]
    for v in values[1:]:
        total = s.step("+", total, v, f"Added up that is # {what}")
    s.ask(
        f"How many {what} <does/did> {{p}} {_base(verb)} [in total|altogether|in all|over these "
        f"{len(values)} {'days' if on == 'On' else 'months'}]?",
        p=p,
    )


def ages(s: Story) -> None:
    """People whose ages are compared; asked is an age, later, or together."""
    p = s.person()
    known: list[tuple[Person, Fraction]] = [(p, Fraction(s.some(4, 24)))]
    s.say("[{p} is {v} years old.|{p} is {v}.|{p} turned {v} this year.]", p=p, v=known[0][1])
    last = s.pick(["now", "later", "sum", "sum", "ago"])
    if last == "sum" and s.level < 2:
        raise Again
    while s.left > (0 if last == "now" else 1) and len(known) < 5:
        q, n = known[-1]
        r = s.person()
        how = s.pick(["older", "younger", "times", "half"])
        if how == "older":
            d = s.some(2, 30)
            s.say(
                "[{r} is {d} years older than {q}.|{q} has [a sister|a brother|an uncle|a neighbor], {r}, "
                "who is {d} years older.]".replace("[a sister|a brother|an uncle|a neighbor]", "a cousin"),
                r=r,
                q=q,
                d=d,
            )
            v = s.step("+", n, d, f"{r} is # years old")
        elif how == "younger":
            d = s.part(n, 0.1, 0.6)
            s.say("{r} is {d} years younger than {q}.", r=r, q=q, d=d)
            v = s.step("-", n, d, f"{r} is # years old")
        elif how == "times":
            k = s.pick([2, 2, 3, 4])
            s.say("[{r} is {k} as old as {q}.|{r}'s age is {k} {q}'s age.]", r=r, q=q, k=s.times(k))
            v = s.step("*", n, k, f"{r} is # years old")
        else:
            k = s.divisor(n, 2, 4)
            s.say("{r} is {f} as old as {q}.", r=r, q=q, f=s.fraction(k))
            v = s.step("/", n, k, f"{r} is # years old")
        if v > 95:
            raise Again
        known.append((r, v))
    r, v = known[-1]
    if last == "now":
        if s.left:
            raise Again
        return s.ask("[How old is {r}?|What is {r}'s age?|How many years old is {r}?]", r=r)
    if s.left != 1:
        raise Again
    d = s.some(2, 20)
    if last == "later":
        s.step("+", v, d, f"Then {r} will be # years old")
        return s.ask(
            "[How old will {r} be in {d} years?|In {d} years, how old will {r} be?|What will {r}'s age "
            "be {d} years from now?]",
            r=r,
            d=d,
        )
    if last == "ago":
        d = s.part(v, 0.1, 0.6)
        s.step("-", v, d, f"Then {r} was # years old")
        return s.ask("[How old was {r} {d} years ago?|{d} years ago, how old was {r}?]", r=r, d=d)
    q, n = known[-2]
    s.step("+", n, v, "Together they are # years old")
    s.ask(
        "What is the [sum of the ages of {q} and {r}|total of {q}'s and {r}'s ages|combined age of {q} and {r}]?",
        q=q,
        r=r,
    )
