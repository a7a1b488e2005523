"""Written calculations: check `48/2=24`, write it in one fixed way, and take it apart into single operations.

Examples:

    equation("10*.5=5.00")           -> "10*0.5=5"; None where it does not come out
    operations("5*(3+4)-2")          -> ["3+4=7", "5*7=35", "35-2=33"]
"""

from __future__ import annotations

from fractions import Fraction

from ponder.grading.plain_arithmetic import ArithmeticNode, calculation, combine, is_short, number, show


def comes_out(value: Fraction, written: str) -> bool:
    """Whether a written result is the value, or the value rounded to as many places as are written."""
    result = number(written)
    if result is None:
        return False
    places = len(written.strip().rstrip("%").partition(".")[2])
    return result == value or (places > 0 and abs(result - value) * 10**places <= Fraction(1, 2))


def equation(text: str) -> str | None:
    """One equation in the fixed way of writing; None where it is none, does nothing (`5=5`) or does not come out."""
    left, equals, right = text.rpartition("=")
    found = calculation(left) if equals else None
    result = number(right)
    if found is None or result is None or found.num_operations == 0 or not comes_out(found.value, right):
        return None
    return f"{found.text}={show(result)}"


def operations(text: str) -> list[str] | None:
    """The same calculation, one operation a line, every result exact; None where some result has no end."""
    found = calculation(text)
    if found is None:
        return None
    lines: list[str] = []

    def work(node: ArithmeticNode) -> str | None:
        if node.left is None or node.right is None:
            return show(node.value) if is_short(node.value) else None
        left, right = node.left, node.right
        if node.sign == "*" and left.sign == "/" and left.left and left.right and not is_short(left.value):
            # 1/3*90: first what comes out, 1*90=90 and then 90/3=30
            return work(combine("/", combine("*", left.left, right), left.right))
        if node.sign == "*" and right.sign == "/" and right.left and right.right and not is_short(right.value):
            return work(combine("/", combine("*", left, right.left), right.right))
        a, b = work(left), work(right)
        if a is None or b is None or not is_short(node.value):
            return None
        if node.sign == "*" and a == "1":
            return b
        lines.append(f"{a}{node.sign}{b if b[0] != '-' else f'({b})'}={show(node.value)}")
        return show(node.value)

    return lines if work(found.tree) is not None else None
