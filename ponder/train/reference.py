"""The tables of recipe keys in docs/training.md, made of the configs themselves, so that they cannot say anything else.

python -m ponder.train.reference docs/training.md      writes them between their marks; without a file, prints them
"""

from __future__ import annotations

import dataclasses
import sys
import typing
from collections.abc import Collection
from pathlib import Path
from typing import Any

from ponder.config import numbers, walk
from ponder.files import write_atomic
from ponder.train import scorer
from ponder.train.recipe import RLConfig
from ponder.train.scorer_examples import ScorerConfig
from ponder.train.sft import SFTConfig
from ponder.train.star import StarConfig

RECIPES: dict[str, type] = {"ponder rl": RLConfig, "ponder sft": SFTConfig, "ponder scorer": ScorerConfig}
BEGIN = "<!-- recipe keys: written by python -m ponder.train.reference docs/training.md -->"
END = "<!-- end of recipe keys -->"


def markdown() -> str:
    """A table a trainer."""
    parts = [f"### `{verb}`\n\n{table(cls)}" for verb, cls in RECIPES.items()]
    for kind, recipe in scorer.RECIPES.items():
        if own := {name for name, _ in walk(recipe.config)} - {name for name, _ in walk(ScorerConfig)}:
            parts.append(f'### `ponder scorer` with `kind = "{kind}"`\n\n{table(recipe.config, only=own)}')
    options = "### `ponder star`\n\nThese are options of the command (`--samples` is `num_samples`), not recipe keys."
    return "\n\n".join([*parts, f"{options}\n\n{table(StarConfig)}"])


def table(cls: type, *, only: Collection[str] | None = None) -> str:
    """only: of these keys."""
    rows = ["| key | default | takes | meaning | elsewhere |", "|---|---|---|---|---|"]
    for name, field, owner in owned(cls):
        if "meaning" not in field.metadata:
            continue  # of a type that is no config: how a sample is drawn
        if only is not None and name not in only:
            continue
        cells = (f"`{name}`", default(field), takes(owner, field), field.metadata["meaning"], elsewhere(field))
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows)


def owned(cls: type) -> list[tuple[str, dataclasses.Field[Any], type]]:
    """(key, its field, the config that has it)."""
    found = []
    for name, field in walk(cls):
        owner = cls
        for table in name.split(".")[:-1]:
            owner = typing.get_type_hints(owner)[table]
        found.append((name, field, owner))
    return found


def default(field: dataclasses.Field[Any]) -> str:
    """A cell of the table: the default in backquotes; empty for None and an empty text."""
    if field.default is dataclasses.MISSING:
        return "must be given"
    if field.default is None or field.default == "":
        return ""
    value = list(field.default) if isinstance(field.default, tuple) else field.default
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def takes(owner: type, field: dataclasses.Field[Any]) -> str:
    """Its bounds, its words, or what it is."""
    hint = typing.get_type_hints(owner)[field.name]
    if field.name in numbers(owner):
        return str(field.metadata["bounds"])
    if typing.get_origin(hint) is typing.Literal:
        return ", ".join(f"`{word}`" for word in typing.get_args(hint) if word)
    return "true, false" if hint is bool else "text"


def elsewhere(field: dataclasses.Field[Any]) -> str:
    """A cell of the table: what other programs call the key."""
    return ", ".join(f"`{name}`" for name in field.metadata["also"])


def main() -> None:
    if len(sys.argv) < 2:
        print(markdown())
        return
    path = Path(sys.argv[1])
    head, _, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    if END not in rest:
        raise SystemExit(f"{path} has no lines for the tables: a line {BEGIN!r} and a later one {END!r}")
    write_atomic(path, f"{head}{BEGIN}\n\n{markdown()}\n\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    main()
