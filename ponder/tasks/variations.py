"""Inputs near known ones: a function's arguments, varied, for tests that compare a program with a reference.

    variations([[[3, 1, 2], 3]], count=3, seed="x")   -> [[[1, 3, 2], 3], [[3, 2, 2], 3], [[4, 1, 2], 3]], say

Each keeps the shape of the arguments it came from: types, signs, the alphabet of a text, and the lengths of lists where
a number beside them is one of their lengths, since a function may lean on all of these and its reference, asked beyond
them, answers by accident. Left out: what a problem's statement promises beyond that (sorted, distinct, prime). A list
that is sorted, or whose items differ, stays so.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from random import Random
from typing import Any

TRIES = 20  # for each input that is wanted


def variations(seeds: Sequence[Sequence[Any]], *, count: int, seed: str) -> list[list[Any]]:
    """Up to `count` lists of arguments, none of them twice or among the seeds."""
    rng, found = Random(f"variations/{seed}"), list(map(list, seeds))
    for _ in range(count * TRIES if seeds else 0):
        if len(found) == count + len(seeds):
            break
        args = varied(list(rng.choice(seeds)), rng)
        if repr(args) not in map(repr, found):
            found.append(args)
    return found[len(seeds) :]


def varied(args: list[Any], rng: Random) -> list[Any]:
    """The arguments with one of them changed, two at times."""
    lengths = {len(arg) for arg in args if isinstance(arg, str | list | tuple | set | dict)}
    is_tied = any(type(arg) is int and arg in lengths for arg in args)
    free = [index for index, arg in enumerate(args) if not (is_tied and type(arg) is int and arg in lengths)]
    result = list(args)
    for index in rng.sample(free, min(len(free), rng.choice((1, 1, 2)))):
        result[index] = _near(result[index], rng, is_tied)
    return result


def _near(value: Any, rng: Random, keep_length: bool) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return _number(value, rng)
    if isinstance(value, float):
        return round(value * rng.choice((0.5, 0.9, 1.1, 2)) + rng.choice((0, 0, 1)) * (value > 0), 3)
    if isinstance(value, str):
        return _text(value, rng, keep_length)
    if isinstance(value, list | tuple):
        is_record = isinstance(value, tuple) and len(set(map(type, value))) > 1
        return type(value)(_items(list(value), rng, keep_length or is_record))
    if isinstance(value, set | frozenset) and value:
        return type(value)(_items(sorted(value, key=repr), rng, True))
    if isinstance(value, dict) and value:
        key = rng.choice(list(value))
        return {**value, key: _near(value[key], rng, keep_length)}
    return value


def _number(value: int, rng: Random) -> int:
    near = value + rng.choice((-2, -1, 1, 2, 3)) if abs(value) < 10 else round(value * rng.uniform(0.5, 1.5))
    return max(near, 1) if value > 0 else max(near, 0) if value == 0 else min(near, -1)


def _text(text: str, rng: Random, keep_length: bool) -> str:
    if not text:
        return text
    index, letters = rng.randrange(len(text)), list(text)
    how = rng.choice(("change", "swap") if keep_length else ("change", "swap", "drop", "double"))
    if how == "change":
        letters[index] = rng.choice(text)
    elif how == "swap":
        other = rng.randrange(len(text))
        letters[index], letters[other] = letters[other], letters[index]
    elif how == "drop" and len(text) > 1:
        del letters[index]
    else:
        letters.insert(index, letters[index])
    return "".join(letters)


def _items(items: list[Any], rng: Random, keep_length: bool) -> list[Any]:
    if not items:
        return items
    was_sorted, was_distinct = _is_sorted(items), len(set(map(repr, items))) == len(items)
    result, index = list(items), rng.randrange(len(items))
    how = rng.choice(("change", "change", "swap") if keep_length else ("change", "change", "swap", "drop", "double"))
    if how == "change":
        result[index] = _near(result[index], rng, True)  # rows of a table stay as long as each other
    elif how == "swap":
        other = rng.randrange(len(items))
        if type(result[index]) is type(result[other]):  # (name, age) is no (age, name)
            result[index], result[other] = result[other], result[index]
    elif how == "drop" and len(items) > 1:
        del result[index]
    else:
        result.insert(index, result[index])
    if was_sorted and len(items) > 1 and not _is_sorted(result):
        return items  # another try
    is_distinct = len(set(map(repr, result))) == len(result)
    return items if was_distinct and len(items) > 2 and not is_distinct else result


def _is_sorted(items: list[Any]) -> bool:
    try:
        return all(a <= b for a, b in pairwise(items))
    except TypeError:
        return False
