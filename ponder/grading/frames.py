r"""Frames: what the target of a problem leaves unsaid in an answer.

    key_in("40", "40 feet") == key_in("480 inches", "40 feet")      (readings with one key)

The target fixes what the question left open: where the target is in feet a bare number is read in feet; where it is
bare, a unit is dropped ("18 eggs" for 18); beside a percentage or an angle a bare number is read as the number or as
per cent, whichever is nearer in size (64, 64% and 0.64 are one answer); y = 2x+1 and 2x+1 are one answer. Answers of
one problem are compared in its frame, so equality is an equivalence there too.
"""

from __future__ import annotations

import re
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from itertools import permutations

from ponder.grading.equality import read
from ponder.grading.expressions import parse
from ponder.grading.readings import ParsedAnswer, group, ratio_key, symbols_of
from ponder.grading.tree import Node, Unparsed, leaves
from ponder.grading.units import MULTIPLIERS, UNITS, is_pure
from ponder.grading.values import exact, fingerprint, fraction_key, is_nearer_as_number, magnitude, ratios

_AND = re.compile(r",?\s+and\s+|;\s*")


def key_in(answer: str, target: str) -> ParsedAnswer | None:
    """The reading of an extracted answer in the frame of a problem with this target."""
    reading, goal = read(answer), read(target)
    if reading is None or goal is None:
        return reading
    if "parts" in (reading.shape, goal.shape) and reading.shape != goal.shape:
        return _by_parts(answer, target, reading, goal)
    return _framed(reading, goal)


def _by_parts(answer: str, target: str, reading: ParsedAnswer, goal: ParsedAnswer) -> ParsedAnswer:
    """Beside (a) 3 (b) 4 the list "3, 4" says the same in this order, and the other way round."""
    plain, text, parts = (goal, target, reading) if reading.shape == "parts" else (reading, answer, goal)
    if plain.shape == "{}":  # a set in braces has no order
        ordered = None if text.lstrip(" $").startswith(("{", "\\{")) else read(f"({_AND.sub(', ', text.strip(' $.'))})")
    else:
        ordered = plain if plain.shape == "()" else None
    if ordered is None or len(ordered.parts) != len(parts.parts):
        return reading
    mine, theirs = (parts, ordered) if reading is parts else (ordered, parts)
    return replace(goal, sides=()) if _are_parts(mine.parts, theirs.parts) else reading


def _are_parts(own: tuple[ParsedAnswer, ...], asked: tuple[ParsedAnswer, ...]) -> bool:
    """Each is the one in its place, in that one's frame."""
    return all(_framed(a, b).key == b.key for a, b in zip(own, asked, strict=True))


def _framed(reading: ParsedAnswer, goal: ParsedAnswer) -> ParsedAnswer:
    if reading.sides or goal.sides:
        found = _by_side(reading, goal)
        if found is not None:
            return found
    if goal.shape in ("ratio", "clock") and {goal.shape, reading.shape} == {"ratio", "clock"}:
        return _by_ratio(reading, goal)
    if goal.shape == "{}" and reading.shape == "()" and _is_numbered(reading):  # x_1 = 1, x_2 = 2
        reading = group("{}", reading.parts)
    if reading.shape == "{}" and goal.shape == "()" and _is_numbered(goal):
        return goal if _framed(reading, group("{}", goal.parts)).key == group("{}", goal.parts).key else reading
    if (
        reading.kind == goal.kind
        and goal.kind in ("group", "other")
        and goal.shape != "{}"
        and _are_other_variables(reading.name, goal.name)
    ):
        return replace(reading, key=f"{reading.name}:{reading.key}")
    if goal.kind == "group" and reading.kind == "group" and goal.shape == reading.shape:
        if goal.shape == "parts" and len(goal.parts) == len(reading.parts):
            return replace(goal, sides=()) if _are_parts(reading.parts, goal.parts) else reading
        if goal.shape not in ("{}", "parts") and len(goal.parts) == len(reading.parts):
            pairs = zip(reading.parts, goal.parts, strict=True)
            return replace(group(goal.shape, tuple(_framed(part, own) for part, own in pairs)), name=reading.name)
        if goal.shape == "{}" and goal.parts:  # one unit for all members
            return group("{}", tuple(_framed(part, goal.parts[0]) for part in reading.parts))
    if reading.node is None or goal.node is None:
        return reading
    if {reading.shape, goal.shape} == {"clock", ""}:  # 9 a.m. beside 9, and the other way round
        if reading.shape:
            return ParsedAnswer(key=fingerprint(reading.node), node=reading.node)
        return replace(goal, sides=()) if reading.key == fingerprint(goal.node) else reading
    is_curve = reading.kind == goal.kind == "equation"
    if not is_curve and {reading.name, goal.name} in ({"x", "y"}, {"x", "z"}, {"y", "z"}):  # lines: x = 3 is not y = 3
        return replace(reading, key=f"{reading.name}={reading.key}")
    reading = _of_same_variable(reading, goal)
    if _is_of_another(reading.name, goal.name):
        return replace(reading, key=f"{reading.name}={reading.key}")
    try:
        reading = _with_its_integer(reading, goal)
        assert reading.node is not None
        if is_curve and reading.name and reading.name == goal.name and reading.key != goal.key:
            return _with_constants_of(reading, goal) or reading
        if goal.kind == "scalar" and reading.kind == "equation" and reading.name:
            reading = ParsedAnswer(key=fingerprint(reading.node), node=reading.node)
        elif goal.kind == "equation" and goal.name and reading.kind == "scalar" and symbols_of(reading):
            key, _ = ratios(("add", parse(goal.name), ("neg", reading.node)))
            return ParsedAnswer(key="eq:" + key, kind="equation", node=reading.node, name=goal.name)
        if reading.kind == goal.kind == "scalar":
            return _with_constant(_in_units(reading, goal), goal)
        return reading
    except Unparsed:
        return reading


def _are_other_variables(own: str, asked: str) -> bool:
    """t > 3 beside x > 3"""
    return own != asked and all(re.fullmatch("[a-z]", name) for name in (own, asked))


def _by_side(reading: ParsedAnswer, goal: ParsedAnswer) -> ParsedAnswer | None:
    """Beside 5, m + n = 5 says 5; beside its root, \\sqrt{2} \\approx 1.41 says \\sqrt{2}, and beside 1.41 1.41.

    An answer that has one of the target's sides has the target's key, so that this works both ways.
    """
    if reading.kind == goal.kind == "equation":
        return None
    own, asked = (tuple(replace(side, sides=()) for side in sides) for sides in (_sides(reading), _sides(goal)))
    if goal.kind == "scalar" and _is_about(goal.name, own[-1].name):  # k^2 = 9 beside k = 9
        return reading
    for side in own:
        if any(_framed(side, target).key == target.key for target in asked):
            return replace(goal, sides=())
    if reading.sides and reading.kind == "equation" and goal.kind != "equation":
        return _framed(own[-1], replace(goal, sides=()))
    return None


def _is_about(name: str, left: str) -> bool:
    """Is the variable a part of what is left of an equation?"""
    if left == name or not re.fullmatch("[a-zA-Z]", name):
        return False
    return re.search(rf"(?<![\\a-zA-Z]){name}(?![a-zA-Z])", left) is not None


def _sides(reading: ParsedAnswer) -> tuple[ParsedAnswer, ...]:
    return (reading, *reading.sides) if reading.kind == "equation" else reading.sides or (reading,)


def _by_ratio(reading: ParsedAnswer, goal: ParsedAnswer) -> ParsedAnswer:
    """10:15 may be a time or a ratio: beside the ratio 2:3 it is one, and where it is the target, so is 2:3."""
    if any(re.search(r":0[0-9]", own.key) for own in (reading, goal)):  # 2:05 is a time
        return reading
    if reading.shape == "clock":
        return ParsedAnswer(key=_as_ratio(reading.key), kind="other", shape="ratio")
    return goal if reading.key == _as_ratio(goal.key) else reading


def _as_ratio(clock: str) -> str:
    return ratio_key([int(number) for number in clock.split(":")[1:]])


def _is_numbered(reading: ParsedAnswer) -> bool:
    """Are the members named x_1, x_2, ...: one letter?"""
    names = [part.name.partition("_") for part in reading.parts]
    return all(mark for _, mark, _ in names) and len({letter for letter, _, _ in names}) == 1


_FUNCTION_OF = re.compile(r"([a-zA-Z]) ?\( ?([a-z]) ?\)")


def _of_same_variable(reading: ParsedAnswer, goal: ParsedAnswer) -> ParsedAnswer:
    """Beside f(n) = n^2, f(x) = x^2 is the same function."""
    if not reading.name.endswith(")") or not goal.name.endswith(")") or reading.node is None:
        return reading
    own, asked = _FUNCTION_OF.fullmatch(reading.name), _FUNCTION_OF.fullmatch(goal.name)
    if own is None or asked is None or own[2] == asked[2]:
        return reading
    if asked[2] in symbols_of(reading):  # f(x) = n^2 is constant
        return replace(reading, key=f"{reading.name}={reading.key}")
    if own[1] != asked[1]:
        return reading
    node = _renamed(reading.node, {own[2]: asked[2]})
    return replace(reading, key=fingerprint(node), node=node, name=goal.name)


_OF = re.compile(r"([a-zA-Z])('*)((?: ?\^ ?\{? ?-1 ?\}?)?) ?\((.+)\)")  # f''(x), f^{-1}(x)
_RATE = re.compile(  # \frac{d^2y}{dx^2}
    r"(?:\\d?frac ?\{ ?)?d(?: ?\^ ?\{?([2-9])\}?)? ?([a-z]?)"
    r"[^{}/]* ?(?:\} ?\{|/) ?d ?([a-z])(?: ?\^ ?\{?[2-9]\}?)? ?\}?.*"
)


def _is_of_another(own: str, asked: str) -> bool:
    """Names of two functions, or of two derivatives: f'(x) and f(x), f(x + 1) and f(x), dx/dy and dy/dx."""
    a, b = _OF.fullmatch(own), _OF.fullmatch(asked)
    if a and b and a[1] == b[1]:
        inside = a[4].replace(" ", ""), b[4].replace(" ", "")
        is_same = inside[0] == inside[1] or all(re.fullmatch(r"\\?[a-zA-Z]+", each) for each in inside)
        return (len(a[2]), bool(a[3])) != (len(b[2]), bool(b[3])) or not is_same
    a, b = _RATE.fullmatch(own), _RATE.fullmatch(asked)
    if a and b:
        is_turned = a[2] != a[3] and (a[2], a[3]) == (b[3], b[2])
        return a[1] != b[1] or is_turned
    return False


def _renamed(node: Node, names: dict[str, str]) -> Node:
    if node[0] == "sym":
        return ("sym", names.get(node[1], node[1]))
    return (node[0], *(_renamed(part, names) if isinstance(part, tuple) else part for part in node[1:]))


_ANGLES = frozenset([("const", "pi"), ("unit", "°")])


def _with_its_integer(reading: ParsedAnswer, goal: ParsedAnswer) -> ParsedAnswer:
    """Beside \\pi/6 + 2\\pi n, \\pi/6 + 2\\pi k names the same angles."""
    own, asked = symbols_of(reading), symbols_of(goal)
    if own == asked or len(own) != 1 or len(asked) != 1 or not own | asked <= {"k", "m", "n"}:
        return reading
    assert reading.node is not None and goal.node is not None
    if any(_ANGLES.isdisjoint(leaves(node)) for node in (reading.node, goal.node)):
        return reading
    node = _renamed(reading.node, {own.pop(): asked.pop()})
    if reading.kind == "equation":
        key = "eq:" + ratios(("add", parse(reading.name), ("neg", node)))[0] if reading.name else reading.key
        return replace(reading, key=key, node=node)
    return ParsedAnswer(key=fingerprint(node), node=node, name=reading.name)


_CONSTANTS = frozenset("CcKk")
_NUMBERED_CONSTANT = re.compile("[CcKk]_[0-9]")
_MOST_CONSTANTS = 4


def _with_constant(reading: ParsedAnswer, goal: ParsedAnswer) -> ParsedAnswer:
    """Beside x^2 + C a lone added c, k or K is that constant of integration, and the other way round.

    Beside a solution C_1 sin t + C_2 cos t or Ce^t, the constants may be numbered or written otherwise.
    """
    if reading.node is None or goal.node is None or reading.key == goal.key:
        return reading
    if (solution := _with_constants_of(reading, goal)) is not None:
        return solution
    if not symbols_of(reading) & _CONSTANTS:
        return reading
    own, asked = (_CONSTANTS & {term[1] for term in _terms(node)} for node in (reading.node, goal.node))
    if len(own) != 1 or len(asked) != 1 or own == asked or "C" not in own | asked or asked & symbols_of(reading):
        return reading
    (mine,), (theirs,) = own, asked
    node: Node = ("add", ("add", reading.node, ("neg", ("sym", mine))), ("sym", theirs))
    return ParsedAnswer(key=fingerprint(node), node=node, name=reading.name)


def _with_constants_of(reading: ParsedAnswer, goal: ParsedAnswer) -> ParsedAnswer | None:
    """The reading with its free constants named as the target's, in the one order that makes them equal."""
    assert reading.node is not None and goal.node is not None
    own, asked = _free_constants(reading), _free_constants(goal)
    if not asked or len(own) != len(asked) or len(own) > _MOST_CONSTANTS:
        return None
    for order in permutations(asked):
        node = _renamed(reading.node, dict(zip(own, order, strict=True)))
        if fingerprint(node) == fingerprint(goal.node):
            return replace(goal, sides=())
    return None


def _free_constants(reading: ParsedAnswer) -> list[str]:
    """C_1, C_2 of a general solution, or the one C before a power of e."""
    symbols = symbols_of(reading)
    numbered = sorted(name for name in symbols if _NUMBERED_CONSTANT.fullmatch(name))
    if numbered:
        return numbered
    assert reading.node is not None
    single = sorted(symbols & {"C", "c"}) or sorted(symbols & {"A", "K"})
    return single if len(single) == 1 and ("const", "e") in leaves(reading.node) else []


def _terms(node: Node) -> list[Node]:
    return _terms(node[1]) + _terms(node[2]) if node[0] == "add" else [node]


def _of_each(reading: ParsedAnswer, goal: ParsedAnswer) -> ParsedAnswer:
    """$18 per ticket says $18, and the other way round; any other two units are compared as they are."""
    assert reading.node is not None and goal.node is not None
    if _is_money_alone(goal.node) and (amount := _amount_of_each(reading)) is not None:
        return ParsedAnswer(key=fingerprint(amount), node=amount, name=reading.name)
    if _is_money_alone(reading.node) and (amount := _amount_of_each(goal)) is not None:
        return replace(goal, sides=()) if fingerprint(amount) == reading.key else reading
    return reading


def _amount_of_each(reading: ParsedAnswer) -> Node | None:
    """The $18 of $18 per ticket."""
    assert reading.node is not None
    bare, found = _split_units(reading.node)[0], _unit_leaves(reading.node)
    money, others = [leaf for leaf in found if _is_money(leaf)], [leaf for leaf in found if not _is_money(leaf)]
    if len(money) != 1 or len(others) != 1:
        return None
    amount: Node = ("mul", bare, money[0])
    return amount if fingerprint(("div", amount, others[0])) == reading.key else None


def _is_money_alone(node: Node) -> bool:
    found = _unit_leaves(node)
    return len(found) == 1 and _is_money(found[0])


def _is_money(unit: Node) -> bool:
    return UNITS.get(unit[1], ("", None))[0] in ("dollar", "euro", "sterling", "yen")


def _in_units(reading: ParsedAnswer, goal: ParsedAnswer) -> ParsedAnswer:
    """Give a bare number the target's unit, or take the unit off where the target has none."""
    assert reading.node is not None and goal.node is not None
    if _nouns_of_percent(reading) and not _nouns_of_percent(goal):  # 35% increase beside 35%
        reading = _without_nouns(reading)
    elif _nouns_of_percent(goal) and not _nouns_of_percent(reading):
        plain = _without_nouns(goal)
        return replace(goal, sides=()) if _in_units(reading, plain).key == plain.key else reading
    assert reading.node is not None
    bare, units = _split_units(goal.node)
    own_bare, own_units = _split_units(reading.node)
    if units is not None and own_units is not None:
        return _of_each(reading, goal)
    if (units is None) == (own_units is None):
        return reading
    if ("unit", "permille") in [*_unit_leaves(goal.node), *_unit_leaves(reading.node)]:
        return reading
    if units is None:  # the target is bare
        assert own_units is not None
        if magnitude(goal.node) is None or _is_number_near(own_units, reading.node, goal.node):
            return reading
        if _is_multiplied(reading.node):
            return reading
        node = own_bare
        if _is_in_cents(own_units, own_bare, goal.node):
            node = ("mul", own_bare, ("num", Fraction(1, 100)))  # 75 cents beside 0.75
    else:
        is_alike = (magnitude(reading.node) is None) == (magnitude(bare) is None)  # 6m is not read as 6m m
        is_number = all(is_pure(leaf[1]) for leaf in _unit_leaves(reading.node))  # the sine of 30 degrees is one
        if not is_alike or not is_number or _is_number_near(units, reading.node, goal.node):
            return reading
        is_in_dollars = _is_in_cents(units, bare, reading.node)  # 0.75 beside 75 cents
        node = ("mul", reading.node, ("unit", "dollar") if is_in_dollars else units)
    return ParsedAnswer(key=fingerprint(node), node=node, name=reading.name)


def _nouns_of_percent(reading: ParsedAnswer) -> set[str]:
    """The chance of 75% chance."""
    names = {leaf[1] for leaf in _unit_leaves(reading.node)} if reading.node else set()
    return {name for name in names if name not in UNITS} if names & {"%", "percent", "pct"} else set()


def _without_nouns(reading: ParsedAnswer) -> ParsedAnswer:
    nouns = _nouns_of_percent(reading)
    one: Node = ("num", Fraction(1))

    def bare(node: Node) -> Node:
        if node[0] == "unit":
            return one if node[1] in nouns else node
        return (node[0], *(bare(part) if isinstance(part, tuple) else part for part in node[1:]))

    assert reading.node is not None
    node = bare(reading.node)
    return ParsedAnswer(key=fingerprint(node), node=node, name=reading.name)


def _is_in_cents(units: Node, cents: Node, bare: Node) -> bool:
    """Is a number of cents nearer in size to a bare number when it is read in dollars?"""
    if not {leaf[1] for leaf in _unit_leaves(units)} <= {"cent", "cents", "¢"}:
        return False
    size, goal = magnitude(cents), magnitude(bare)
    return size is not None and goal is not None and not is_nearer_as_number(size, goal, Decimal("0.01"))


def _is_number_near(units: Node, value: Node, target: Node) -> bool:
    """Beside 50% or 30 degrees: is the value, taken as a plain number, nearer in size than with the unit's factor?"""
    factor, size, goal = magnitude(units), magnitude(value), magnitude(target)
    if factor is None or size is None or goal is None or not all(is_pure(leaf[1]) for leaf in _unit_leaves(units)):
        return False
    if _has_units(value):  # its size has the factor in it
        return is_nearer_as_number(goal, size, factor)
    return is_nearer_as_number(size, goal, factor)


def _unit_leaves(node: Node) -> list[Node]:
    return [leaf for leaf in leaves(node) if leaf[0] == "unit"]


def _has_units(node: Node) -> bool:
    return bool(_unit_leaves(node))


def _is_multiplied(node: Node) -> bool:
    """48 pairs"""
    return any(leaf[1] in MULTIPLIERS for leaf in _unit_leaves(node))


def _split_units(node: Node) -> tuple[Node, Node | None]:
    """3 ft^2/s -> (3, ft^2/s); a sum of quantities stays whole."""
    one: Node = ("num", Fraction(1))
    operation = node[0]
    if operation == "unit":
        return one, node
    if operation == "neg":
        bare, units = _split_units(node[1])
        return ("neg", bare), units
    if operation == "pow" and node[1][0] == "unit":
        return one, node
    if operation in ("mul", "div"):
        (left, left_units), (right, right_units) = _split_units(node[1]), _split_units(node[2])
        bare = left if right == one else right if left == one and operation == "mul" else (operation, left, right)
        if left_units is None and right_units is None:
            return node, None
        return bare, (operation, left_units or one, right_units) if right_units else left_units
    return node, None


def whole_number(reading: ParsedAnswer) -> str | None:
    """The digits of a whole number, its unit and modulus dropped; None where the reading is none."""
    if reading.sides and (reading.kind in ("equation", "group") or reading.shape == "choice"):  # m + n = 5; 12,34,567
        return whole_number(reading.sides[-1])
    node = None if reading.node is None or _is_multiplied(reading.node) else _split_units(reading.node)[0]
    value = exact(node) if node is not None else None
    if value is not None:
        return fraction_key(value)[2:] if value.denominator == 1 else None
    residue = re.fullmatch(r"mod:([0-9]+):[0-9]+", reading.key)
    if residue:
        return residue[1]
    return reading.key[2:] if re.fullmatch(r"n:-?[0-9]+", reading.key) else None
