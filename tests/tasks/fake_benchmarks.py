"""Every benchmark in small: 24 made-up problems each, in the files and hub rows that the loaders expect."""

from __future__ import annotations

import json
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from ponder.tasks import published
from ponder.tasks.benchmarks import BENCHMARKS

SIZE = 24
Row = dict[str, Any]


def number(i: int) -> int:
    return 2000 + 7 * i


def local_rows(name: str, verifier: str, mark: str = "") -> list[Row]:
    """Problems as a local file has them; ids end in /i."""
    rows: list[Row] = []
    for i in range(SIZE):
        row: Row = {"id": f"{mark or name}/{i}", "problem": f"{name} {mark}: which number has the place {i}?"}
        if verifier == "choice":
            row |= {"choices": [f"thing {word}{i}" for word in ("red", "blue", "green", "grey")]}
            row |= {"answer": "ABCD"[i % 4], "subject": f"field {i % 3}"}
        elif verifier == "integer":
            row |= {"answer": str(number(i)), "subject": "contest 2024"}
        else:
            row |= {
                "answer": f"{number(i)}/{number(i) - 1}",
                "subject": f"field {i % 3}",
                "level": f"Level {i % 5 + 1}",
            }
        rows.append(row)
    return rows


def write_local(folder: Path) -> Path:
    """A folder for PONDER_DATA with every benchmark that may lie in one."""
    for name, entry in BENCHMARKS.items():
        for pattern in entry.files.get("test", ()):
            mark = pattern.removesuffix("*")
            path = folder / (entry.folder or name) / f"{mark}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            mark = mark if (entry.folder or name) == "mawps" else ""
            verifier = "math" if mark and mark != "multiarith" else entry.verifier
            path.write_text("".join(json.dumps(row) + "\n" for row in local_rows(name, verifier, mark)))
    return folder


def gated_rows() -> list[Row]:
    """Rows in the columns of GPQA; record ids chosen so that the right letters take turns."""
    entry = BENCHMARKS["gpqa_diamond"].hub[0]
    rows = []
    for i in range(SIZE):
        for salt in count():
            row = {"Record ID": f"{salt}/{i}", "Question": f"Secret {i} of the north", "High-level domain": "Lore",
                   "Correct Answer": f"right {i}\n",
                   **{f"Incorrect Answer {j}": f"odd{j} {i}" for j in (1, 2, 3)}}  # fmt: skip
            if entry.columns["answer"](row) == "ABCD"[i % 4]:  # type: ignore[operator]
                rows.append(row)
                break
    return rows


def install(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Every benchmark can be loaded, from files below the folder or as rows of a hub."""
    rows = gated_rows()
    patch.setenv("PONDER_DATA", str(write_local(folder)))
    patch.setattr(published, "hub_rows", lambda repo, config, split, keep: (rows, "abc"))


@pytest.fixture
def fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every benchmark can be loaded."""
    install(tmp_path / "data", monkeypatch)
