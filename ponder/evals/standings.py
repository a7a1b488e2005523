"""Where a total stands among the humans of an olympiad: the place and the percentile in standings that the user brings.

    table = read_scores("ioi2024.csv")             # a column total, score, global or points; or --column
    str(place_in(table, 213.0))                    "place 184.5 of 362, above 49.0 % (ioi2024.csv); bronze from 208.4"

CSV (comma, semicolon or tab, with a line of names) or JSON: [213, 198.5], [{"total": 213, "medal": "bronze"}], or
{"scores": [...]}. Ties count a half. With a column `medal` the lowest total of each medal is told.

A percentile is among those who took part, who are not everybody who programs. It compares totals and nothing else: not
hours, not hardware, not how many programs were tried before one was handed in. Left out: medals by rule, since juries
round the shares.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ponder.config import ConfigError, nearest

COLUMNS = ("total", "score", "global", "points")  # in this order
MEDALS = ("gold", "silver", "bronze")


@dataclass(frozen=True, kw_only=True)
class ScoreTable:
    """Totals of the humans of one contest."""

    name: str
    scores: tuple[float, ...]
    medals: Mapping[str, float] = field(default_factory=dict)  # the lowest total that got it


@dataclass(frozen=True, kw_only=True)
class ScorePlace:
    """A total among them."""

    score: float
    place: float  # from 1, halfway among ties
    size: int
    percent: float  # of the humans that are below, ties a half
    standings: str
    medal: str = ""  # the best whose lowest total is reached
    medal_from: float | None = None

    def __str__(self) -> str:
        medal = f"; {self.medal} from {self.medal_from:g}" if self.medal and self.medal_from is not None else ""
        return f"place {self.place:g} of {self.size}, above {self.percent:.1f} % ({self.standings}){medal}"


def place_in(table: ScoreTable, score: float) -> ScorePlace:
    """Where a score would have stood, ties shared by halves. ConfigError for one that is not finite."""
    if not math.isfinite(score):
        raise ConfigError(f"score {score} is no number of points")
    above = sum(other > score for other in table.scores)
    tied = sum(other == score for other in table.scores)
    size = len(table.scores)
    reached = [name for name in MEDALS if name in table.medals and score >= table.medals[name]]
    return ScorePlace(
        score=score,
        place=1 + above + tied / 2,
        size=size,
        percent=100 * (size - above - tied / 2) / size,
        standings=table.name,
        medal=reached[0] if reached else "",
        medal_from=table.medals[reached[0]] if reached else None,
    )


def read_scores(path: str | Path, *, column: str = "") -> ScoreTable:
    """The totals of a file; `column` where their name is not one of `COLUMNS`."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"there is no file {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read as text ({str(error)[:100]})") from None
    is_json = str(path).endswith(".json") or text.lstrip()[:1] in ("[", "{")
    rows = _json_rows(text, str(path)) if is_json else _csv_rows(text, str(path))
    if not rows:
        raise ConfigError(f"{path} holds no totals; write one line a contestant")
    chosen = _column(rows[0], column, str(path))
    scores = tuple(_points(row.get(chosen), f"{path}, contestant {i + 1}: {chosen}") for i, row in enumerate(rows))
    medals: dict[str, float] = {}
    for row, score in zip(rows, scores, strict=True):
        medal = next((str(value).strip().lower() for key, value in row.items() if key.lower() == "medal"), "")
        if medal in MEDALS:
            medals[medal] = min(score, medals.get(medal, math.inf))
    return ScoreTable(name=Path(path).name, scores=scores, medals=medals)


def _json_rows(text: str, where: str) -> list[dict[str, Any]]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{where} is not JSON ({str(error)[:100]})") from None
    content = content.get("scores") if isinstance(content, dict) else content
    if not isinstance(content, list):
        raise ConfigError(f'{where} must be a list of totals, or {{"scores": [...]}}')
    rows = [row if isinstance(row, dict) else {"total": row} for row in content]
    return [{str(key): value for key, value in row.items()} for row in rows]


def _csv_rows(text: str, where: str) -> list[dict[str, Any]]:
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    try:
        lines = [line for line in csv.reader(io.StringIO(text), delimiter=delimiter) if any(map(str.strip, line))]
    except csv.Error as error:
        raise ConfigError(f"{where} is not CSV ({error})") from None
    head = [name.strip() for name in lines[0]] if lines else []
    for i, line in enumerate(lines[1:]):
        if len(line) != len(head):
            raise ConfigError(
                f"{where}, contestant {i + 1}: {len(line)} columns where the first line names {len(head)}"
            )
    return [dict(zip(head, line, strict=True)) for line in lines[1:]]


def _column(row: Mapping[str, Any], column: str, where: str) -> str:
    by_name = {name.lower(): name for name in row}
    if column:
        if column.lower() not in by_name:
            raise ConfigError(f"{where} has no column {column!r}{nearest(column, list(row))}")
        return by_name[column.lower()]
    found = next((by_name[name] for name in COLUMNS if name in by_name), None)
    if found is None:
        raise ConfigError(f"{where} has no column {', '.join(COLUMNS)}; name the one with the totals: --column")
    return found


def _points(value: Any, what: str) -> float:
    try:
        if isinstance(value, bool) or not isinstance(value, str | int | float) or len(str(value)) > 40:
            raise ValueError
        found = float(value)
    except (ValueError, OverflowError):
        found = math.nan
    if not math.isfinite(found):
        raise ConfigError(f"{what} is {str(value)[:40]!r}, not a number of points; write 0 for none")
    return found
