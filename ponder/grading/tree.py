"""Trees of expressions: nested tuples, and what is raised where a text is none."""

from __future__ import annotations

from typing import Any

Node = tuple[Any, ...]  # ("num", Fraction) | ("sym", name) | ("unit", name) | ("const", name) | (operation, Node, ...)


class Unparsed(ValueError):
    """The text is not an expression that is understood."""


class TooLarge(Unparsed):
    """It is an expression, but its value is beyond any number that is ever an answer."""


def leaves(node: Node) -> list[Node]:
    """Every leaf of a tree, left to right."""
    found, stack = [], [node]
    while stack:
        top = stack.pop()
        if top[0] in ("num", "sym", "unit", "const"):
            found.append(top)
        else:
            stack.extend(reversed(top[1:]))
    return found
