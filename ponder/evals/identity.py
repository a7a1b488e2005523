"""When two problems are the same: what is asked, and what an answer is graded by, stay what they were.

    bank.append(graded(problem), ...)       meta["graded_by_sha256"]: of choices and what the verifier reads
    is_same(stored, graded(problem))        False where only the hidden tests of a code problem have changed

A bank from before there was a digest, and one made from another program's log, know less: they are compared by what
both sides know. The way of asking (tasks/prompting.py) makes no other problem.
"""

from __future__ import annotations

import json
from dataclasses import replace

from ponder.tasks.base import problems_hash
from ponder.tasks.prompting import question
from ponder.types import Problem

GRADED_BY = "graded_by_sha256"
ASKED = ("question", GRADED_BY)  # keys of meta that say how it was asked, or the digest itself


def graded(problem: Problem) -> Problem:
    """The problem with the digest of what it is graded by beyond its target; as it is where there is nothing."""
    meta = {name: value for name, value in problem.meta.items() if name not in ASKED}
    if GRADED_BY in problem.meta or not meta:
        return problem
    bare = replace(problem, id="", prompt=(), task="", level=None, subject=None, meta=meta)
    return replace(problem, meta={**problem.meta, GRADED_BY: problems_hash([bare])[:32]})


def is_same(one: Problem, other: Problem) -> bool:
    """Whether two problems ask the same and grade an answer by the same, as far as both are known."""
    if (question(one), one.target) != (question(other), other.target):
        return False
    if one.choices and other.choices and one.choices != other.choices:
        return False
    digests = one.meta.get(GRADED_BY), other.meta.get(GRADED_BY)
    if all(digests):
        return digests[0] == digests[1]
    shared = (one.meta.keys() & other.meta.keys()).difference(ASKED)
    pairs = [(_text(one.meta[name]), _text(other.meta[name])) for name in shared]
    return all(a == b for a, b in pairs if a is not None and b is not None)


def _text(value: object) -> str | None:
    """A plain value as JSON; None for any other, which was stored as a text that may have an address in it."""
    try:
        return json.dumps(value, sort_keys=True)
    except (TypeError, ValueError):
        return None
