"""Time spent on chores and hobbies, in minutes and hours."""

from __future__ import annotations

from fractions import Fraction

from ponder.tasks.stories import wordbook as book
from ponder.tasks.stories.money import MONEY_MOVES
from ponder.tasks.stories.story import Again, Move, State, Story, go_on


def _end(value: Fraction, ask: str, **fields: object) -> State:
    return State("end", value, ask, fields)


def minutes(s: Story) -> None:
    go_on(s, s.pick([chores, chores, hobby, hobby, parts])(s), TIME_MOVES)


def _time(value: Fraction | int, ask: str, **fields: object) -> State:
    return State("minutes", Fraction(value), ask, fields)


SPENT = "How many minutes <does/did> {p} [spend|need][| in total| altogether]?"


def chores(s: Story) -> State:
    p, a, n = s.person(), s.some(2, 45), s.some(2, 20)
    chore = s.pick(book.CHORES)
    s.say(
        f"[It <takes/took> {{p}} {{a}} minutes to {chore}. {{p.He}} <has/had> to do this {{n}} times.|"
        f"{{p}} <can/could> {chore} in {{a}} minutes. {{p.He}} <does/did> it {{n}} times.|"
        f"{{p}} <needs/needed> {{a}} minutes to {chore}, and {{p.he}} <does/did> so {{n}} times.]",
        p=p,
        a=a,
        n=n,
    )
    return _time(s.step("*", a, n, f"{p} needs # minutes"), SPENT, p=p)


def hobby(s: Story) -> State:
    p, a, d = s.person(), s.some(10, 90), s.some(2, 7)
    hobby = s.pick(book.HOBBIES)
    s.say(
        f"[{{p}} <spends/spent> {{a}} minutes [a|every|each] day {hobby}. {{p.He}} <does/did> this "
        f"for {{d}} days.|"
        f"For {{d}} days, {{p}} <spends/spent> {{a}} minutes a day {hobby}.|{{p}} <spends/spent> "
        f"{{a}} minutes {hobby} on each of {{d}} days.]",
        p=p,
        a=a,
        d=d,
    )
    return _time(s.step("*", a, d, f"{p} spends # minutes"), SPENT, p=p)


def parts(s: Story) -> State:
    p, a, b = s.person(), s.some(10, 90), s.some(10, 90)
    x, y = s.rng.sample(book.HOBBIES, 2)
    s.say(
        f"[{{p}} <spends/spent> {{a}} minutes {x} and {{b}} minutes {y}.|[On {{day}}|After school], "
        f"{{p}} <spends/spent> {{a}} minutes {x}, and then {{b}} minutes {y}.]",
        p=p,
        a=a,
        b=b,
        day=s.pick(book.WEEKDAYS),
    )
    return _time(s.step("+", a, b, f"{p} spends # minutes"), SPENT, p=p)


def longer(s: Story, st: State) -> State:
    a = s.some(5, 60)
    s.say(
        f"[{{then}}, {{p.he}} <spends/spent> {{a}} more minutes {s.pick(book.HOBBIES)}.|{{p.He}} also "
        f"<spends/spent> {{a}} minutes {s.pick(book.HOBBIES)}.|"
        "{p.He} <takes/took> a break of {a} minutes, which counts too.]",
        **st.fields,
        a=a,
        then=s.then(),
    )
    return _time(s.step("+", st.value, a, "That makes # minutes"), SPENT, **st.fields)


def repeated_time(s: Story, st: State) -> State:
    """Two steps."""
    a, n = s.some(5, 40), s.some(2, 6)
    s.say(
        f"[{{then}}, {{p.he}} <spends/spent> {{a}} minutes {s.pick(book.HOBBIES)}, {{n}} times.|"
        f"{{p.He}} also <has/had> {{n}} lessons of {{a}} minutes each.|"
        "{p.He} also <makes/made> {n} phone calls that <last/lasted> {a} minutes each.]",
        **st.fields,
        a=a,
        n=n,
        then=s.then(),
    )
    more = s.step("*", a, n, "That is # minutes more")
    return _time(s.step("+", st.value, more, "That makes # minutes"), SPENT, **st.fields)


def in_hours(s: Story, st: State) -> State:
    if (st.value / 60).denominator not in (1, 2):
        raise Again
    v = s.step("/", st.value, 60, "That is # hours")
    return State("hours", v, "How many hours <does/did> {p} [spend|need][| in total| altogether]?", st.fields)


def free_time(s: Story, st: State) -> State:
    h = s.whole(st.value) // 60 + s.pick([1, 1, 2])
    s.say(
        "[{p.He} <has/had> {h} hours [in total|for all this|of free time].|All in all, {p.he} <has/had> {h} hours.]",
        **st.fields,
        h=h,
    )
    total = s.step("*", h, 60, f"{h} hours are # minutes")
    return _end(s.step("-", total, st.value, "# minutes are left"), "How many minutes does {p} have left?", **st.fields)


def paid_hours(s: Story, st: State) -> State:
    x = s.some(6, 40)
    s.say("{p.He} <is/was> paid {x} [an|per] hour[| for all of this].", **st.fields, x=s.usd(x))
    return State(
        "money",
        s.step("*", st.value, x, f"{st.fields['p']} earns # dollars"),
        "How much money <does/did> {p} earn?",
        {"p": st.fields["p"]},
    )


def other_person(s: Story, st: State) -> State:
    """Two steps."""
    q, k = s.person(), s.pick([2, 2, 3])
    s.say("{q} <spends/spent> {k} as much time as {p}.", **st.fields, q=q, k=s.times(k))
    v = s.step("*", st.value, k, f"{q} needs # minutes")
    return _end(
        s.step("+", st.value, v, "Together they need # minutes"),
        "How many minutes <do/did> they spend [together|in total|altogether]?",
        **st.fields,
    )


TIME_MOVES: dict[str, list[tuple[int, bool, Move]]] = {
    "minutes": [
        (1, False, longer),
        (2, False, repeated_time),
        (1, False, in_hours),
        (1, False, in_hours),
        (2, True, free_time),
        (2, True, other_person),
    ],
    "hours": [(1, False, paid_hours)],
    **MONEY_MOVES,
}
