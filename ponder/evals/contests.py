"""A contest as a file: its problems, and how the humans did who took part. One JSON object.

    {"id": "1305", "kind": "cf", "source": "codeforces.com/contest/1305", "date": "2020-03-03",
     "problems": [{"index": "A", "points": 500}, {"index": "B", "points": 1000}],
     "rows": [{"rating": 1834, "points": 1390, "penalty": 0, "results": [[482, 0, 214], [908, 1, 950]]},
              {"rating": null, "points": -50, "penalty": 0, "results": [[0, 2, null], null]}]}

A row is a human: the rating before the contest (null = unrated), the total they were ranked by (hacks included),
and of each problem [points, rejected tries, seconds until it was solved], or null where it was not tried. Rows without
`results` (totals only) give ranks and ratings, and not the score rule that looks at single problems. No rows at all: a
contest that gives points and no rating. `kind` is cf (points) or icpc (problems solved, then penalty minutes). A
problem may have `groups`, points by group of tests, where a part of the tests is worth something: {"subtask1": 7}.

A .jsonl file of problems (id, tests with group and points, contest or source) is read as contests without humans, one
for each contest or source: so a round of Code Jam has points.

`from_standings` makes one from what the public API of Codeforces answers to contest.standings and
contest.ratingChanges, which the user fetches. Handles are not kept. Left out: teams, and rounds that are not over.

Codeforces shows newcomers less than it counts with in their first six rounds (since 2020). The answers do not say who
is one, so such ratings are taken as they stand, except in the first round, where 0 means unrated.
"""

from __future__ import annotations

import datetime
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ponder.config import ConfigError
from ponder.files import write_atomic
from ponder.ratings import HIGHEST, LOWEST, Floats, HumanField
from ponder.tasks.file import read_rows

KINDS = ("cf", "icpc")
MOST_TRIES = 1000  # of one person at one problem: more is no contest
MOST_RESULTS = 10_000_000  # people times problems; the largest rounds have half a million
MADE_UP = "made-up"  # how the source of a made-up contest begins


@dataclass(frozen=True, kw_only=True)
class ContestProblem:
    """One problem of a round, as its scoring knows it."""

    index: str  # "A", "C1"
    points: float  # for solving it at once; 1 in kind icpc
    groups: Mapping[str, float] = field(default_factory=dict)  # points by group of tests


@dataclass(frozen=True, kw_only=True, eq=False)
class Contest:
    """Rows are arrays: the largest rounds have 30,000."""

    id: str
    kind: Literal["cf", "icpc"]
    source: str
    date: str  # 2020-03-03, or 2020
    problems: tuple[ContestProblem, ...]
    ratings: Floats  # (rows,) before the contest; nan = unrated
    points: Floats  # (rows,)
    penalty: Floats  # (rows,)
    results: Floats | None  # (rows, problems, 3): points, rejected, seconds; nan = not tried. None = totals only

    @property
    def num_humans(self) -> int:
        return len(self.points)

    @cached_property
    def field(self) -> HumanField:
        """The ratings that a model is ranked among. ValueError where nobody took part."""
        return HumanField.of(self.ratings)

    @property
    def is_made_up(self) -> bool:
        return self.source.startswith(MADE_UP)


# ---- files -----------------------------------------------------------------------------------------------------------


def read_contests(paths: Sequence[str | Path]) -> list[Contest]:
    """The contests of these files; of a folder, those of its .json files."""
    files: list[Path] = []
    for path in map(Path, paths):
        inside = sorted(path.glob("*.json")) if path.is_dir() else [path]
        if not inside:
            raise ConfigError(f"{path} holds no .json file; write one contest a file (see docs/code_contests.md)")
        files += inside
    found: dict[str, Path] = {}
    contests = []
    for file in files:
        is_problems = file.name.endswith((".jsonl", ".jsonl.gz"))
        for contest in points_contests(read_rows(str(file))) if is_problems else [read_contest(file)]:
            if contest.id in found:
                raise ConfigError(f"{file}: {found[contest.id]} has the contest {contest.id!r} too; ids must be unique")
            found[contest.id] = file
            contests.append(contest)
    return contests


def points_contests(rows: Iterable[tuple[str, Mapping[str, Any]]]) -> list[Contest]:
    """Problems with tests that have points, as contests without humans: in each, those of one contest or source."""
    found: dict[str, list[dict[str, Any]]] = {}
    for where, row in rows:
        row = _table(row, where, ("id", "tests"))
        contest, index = place_of(str(row["id"]), row, where)
        groups: dict[str, float] = {}
        for test in _list(row["tests"], where):
            test = _table(test, where, ("group",))
            # a group's points stand at each of its tests
            groups[str(test["group"])] = _number(test.get("points", 0), f"{where}: points of a test", least=0)
        groups = {name: points for name, points in groups.items() if points}
        whole = _number(row.get("points", sum(groups.values())), f"{where}: points", least=0)
        found.setdefault(contest, []).append({"index": index, "points": whole, "groups": groups})
    contests = []
    for contest, problems in found.items():
        year = re.search(r"(?<!\d)(?:19|20)\d\d(?!\d)", contest)
        facts = {"id": contest, "kind": "cf", "source": contest, "date": year[0] if year else "0001", "rows": []}
        contests.append(contest_of({**facts, "problems": problems}, contest))
    return contests


def place_of(name: str, facts: Mapping[str, Any], where: str) -> tuple[str, str]:
    """The contest and the index of a problem: what is said of it, its id CONTEST/INDEX, or its source and its id."""
    contest, _, index = name.rpartition("/")
    contest = str(facts.get("contest") or contest.rpartition("/")[2] or facts.get("source") or "")
    if not contest or not index:
        raise ConfigError(f"{where}: the problem {name!r} is of no contest; call it CONTEST/INDEX, as 1305/A")
    return contest, str(facts.get("index") or index)


def read_contest(path: str | Path) -> Contest:
    """The contest of one file. ConfigError where it cannot be read, or breaks the format of docs/code_contests.md."""
    return contest_of(read_json(path), str(path))


def read_json(path: str | Path) -> Any:
    """What a file of JSON holds; ConfigError where it is none."""
    try:
        return json.loads(Path(path).read_bytes())
    except FileNotFoundError:
        raise ConfigError(f"there is no file {path}") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not JSON ({str(error)[:100]})") from None


def write_contest(contest: Contest, path: str | Path) -> None:
    """A contest as the JSON file that `read_contest` takes."""
    rows = []
    for i, totals in enumerate(zip(contest.ratings, contest.points, contest.penalty, strict=True)):
        row: dict[str, Any] = dict(zip(("rating", "points", "penalty"), map(plain, totals), strict=True))
        if contest.results is not None:
            tried = ~np.isnan(contest.results[i, :, 0])
            row["results"] = [
                [plain(x) for x in contest.results[i, j]] if tried[j] else None for j in range(len(tried))
            ]
        rows.append(row)
    problems = [
        {"index": p.index, "points": plain(p.points), **({"groups": dict(p.groups)} if p.groups else {})}
        for p in contest.problems
    ]
    facts = {"id": contest.id, "kind": contest.kind, "source": contest.source, "date": contest.date}
    write_atomic(Path(path), json.dumps({**facts, "problems": problems, "rows": rows}) + "\n")


def plain(value: float) -> float | int | None:
    """A number as JSON has it: 5 for 5.0, null for nan."""
    if math.isnan(value):
        return None
    return int(value) if float(value).is_integer() else round(float(value), 3)


# ---- what a file may say ---------------------------------------------------------------------------------------------


def contest_of(content: Any, where: str) -> Contest:
    """A contest from what JSON holds; `where` begins every error."""
    facts = _table(content, where, ("id", "kind", "source", "date", "problems", "rows"))
    if facts["kind"] not in KINDS:
        raise ConfigError(f"{where}: kind is {facts['kind']!r}; use cf (points) or icpc (problems, then penalty)")
    name = str(facts["id"]) if isinstance(facts["id"], int) else facts["id"]
    for key, text in (("id", name), ("source", facts["source"]), ("date", facts["date"])):
        if not isinstance(text, str) or not text.strip() or len(text) > 300:
            raise ConfigError(f"{where}: {key} must be a text")
    _check_date(facts["date"], where)
    problems = _problems(facts["problems"], where)
    rows = facts["rows"]
    if not isinstance(rows, list):
        raise ConfigError(f"{where}: rows must be a list; an empty one where there are no human standings")
    if len(rows) * len(problems) > MOST_RESULTS:
        raise ConfigError(f"{where}: {len(rows):,} rows of {len(problems):,} problems are no contest")
    has_results = bool(rows) and isinstance(rows[0], dict) and rows[0].get("results") is not None
    totals = np.full((len(rows), 3), math.nan)
    results = np.full((len(rows), len(problems), 3), math.nan) if has_results else None
    for i, row in enumerate(rows):
        at = f"{where}, row {i + 1}"
        row = _table(row, at, ("points",))
        rating = row.get("rating")
        if rating is not None:
            totals[i, 0] = _number(rating, f"{at}: rating", least=LOWEST, most=HIGHEST)
        totals[i, 1] = _number(row["points"], f"{at}: points")
        totals[i, 2] = _number(row.get("penalty", 0), f"{at}: penalty")
        if (row.get("results") is not None) != has_results:
            raise ConfigError(f"{at}: either every row has results, or none")
        if results is not None:
            results[i] = _results(row["results"], len(problems), at)
    return Contest(
        id=name, kind=facts["kind"], source=facts["source"], date=facts["date"], problems=problems,
        ratings=totals[:, 0], points=totals[:, 1], penalty=totals[:, 2], results=results,
    )  # fmt: skip


def _problems(content: Any, where: str) -> tuple[ContestProblem, ...]:
    if not isinstance(content, list) or not content:
        raise ConfigError(f'{where}: problems must be a list such as [{{"index": "A", "points": 500}}]')
    found = []
    for i, each in enumerate(content):
        at = f"{where}, problem {i + 1}"
        each = _table(each, at, ("index", "points"))
        if not isinstance(each["index"], str) or not each["index"].strip():
            raise ConfigError(f'{at}: index must be a text such as "A"')
        groups = each.get("groups") or {}
        if not isinstance(groups, dict):
            raise ConfigError(f'{at}: groups must be a table such as {{"subtask1": 7}}')
        points = _number(each["points"], f"{at}: points", least=0)
        groups = {name: _number(value, f"{at}: the group {name!r}", least=0) for name, value in groups.items()}
        found.append(ContestProblem(index=each["index"], points=points, groups=groups))
    if len({problem.index for problem in found}) < len(found):
        raise ConfigError(f"{where}: two problems have the same index")
    return tuple(found)


def _results(content: Any, num_problems: int, at: str) -> Floats:
    if not isinstance(content, list) or len(content) != num_problems:
        raise ConfigError(f"{at}: results must be a list of {num_problems}, one a problem, null where it was not tried")
    found = np.full((num_problems, 3), math.nan)
    for j, each in enumerate(content):
        if each is None:
            continue
        if not isinstance(each, list) or len(each) != 3:
            raise ConfigError(f"{at}, result {j + 1}: must be [points, rejected, seconds], or null")
        found[j, 0] = _number(each[0], f"{at}, result {j + 1}: points")
        found[j, 1] = int(_number(each[1], f"{at}, result {j + 1}: rejected", least=0, most=MOST_TRIES))
        if each[2] is not None:
            found[j, 2] = _number(each[2], f"{at}, result {j + 1}: seconds", least=0)
    return found


def _table(content: Any, where: str, needed: Sequence[str]) -> Mapping[str, Any]:
    if not isinstance(content, dict):
        raise ConfigError(f"{where}: must be an object with {', '.join(needed)}")
    missing = [key for key in needed if key not in content]
    if missing:
        raise ConfigError(f"{where}: {', '.join(missing)} missing; it needs {', '.join(needed)}")
    return content


def _number(value: Any, what: str, *, least: float = -1e9, most: float = 1e9) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise ConfigError(f"{what} is {str(value)[:40]!r}, not a number from {least:g} to {most:g}")
    return float(value)


def _check_date(text: str, where: str) -> None:
    try:
        datetime.date.fromisoformat(text + "-01" * (text.count("-") < 2) + "-01" * (text.count("-") < 1))
    except ValueError:
        raise ConfigError(f"{where}: date is {text[:40]!r}; write it as 2020-03-03, or 2020") from None


# ---- from the public API ---------------------------------------------------------------------------------------------


def from_standings(standings: Any, changes: Any, where: str = "the standings") -> Contest:
    """The answers to contest.standings and contest.ratingChanges of one rated round, as one contest.

    Its rows are those who were rated by it: official, one person, with a line among the rating changes.
    """
    answer = _table(_result(standings, where), where, ("contest", "problems", "rows"))
    facts = _table(answer["contest"], f"{where}, contest", ("id", "type", "startTimeSeconds", "phase"))
    if facts["phase"] != "FINISHED":
        raise ConfigError(f"{where}: the round is in phase {facts['phase']!r}; fetch it again when it is FINISHED")
    before = _ratings_before(_result(changes, "the rating changes"))
    is_icpc = facts["type"] == "ICPC"
    problems = [
        {"index": each.get("index"), "points": 1 if is_icpc else each.get("points", 0)}
        for each in (_table(each, f"{where}, problems", ("index",)) for each in _list(answer["problems"], where))
    ]
    rows = []
    for i, row in enumerate(_list(answer["rows"], where)):
        row = _table(row, f"{where}, row {i + 1}", ("party", "points", "problemResults"))
        handle = _official(row["party"])
        if handle not in before:
            continue
        at = f"{where}, row {i + 1}"
        results = [_api_result(each, at) for each in _list(row["problemResults"], at)]
        rows.append(
            {"rating": before.pop(handle) or None, "points": row["points"], "penalty": row.get("penalty", 0),
             "results": results}
        )  # fmt: skip
    if not rows:
        raise ConfigError(f"{where}: none of its rows is in the rating changes; are both of the same rated round?")
    start = datetime.datetime.fromtimestamp(int(_number(facts["startTimeSeconds"], where, most=1e11)), datetime.UTC)
    content = {
        "id": str(facts["id"]), "kind": "icpc" if is_icpc else "cf", "date": start.date().isoformat(),
        "source": f"codeforces.com/contest/{facts['id']}", "problems": problems, "rows": rows,
    }  # fmt: skip
    return contest_of(content, where)


def _list(content: Any, where: str) -> Sequence[Any]:
    if not isinstance(content, list):
        raise ConfigError(f"{where}: {str(content)[:40]!r} is no list; it must be the whole answer of the API")
    return content


def _result(answer: Any, where: str) -> Any:
    """What the API wraps as {"status": "OK", "result": ...}, wrapped or not."""
    if isinstance(answer, dict) and "status" in answer:
        if answer["status"] != "OK":
            raise ConfigError(f"{where}: the API answered {answer['status']!r}: {str(answer.get('comment'))[:200]}")
        return answer.get("result")
    return answer


def _ratings_before(changes: Any) -> dict[str, float]:
    if not isinstance(changes, list) or not changes:
        raise ConfigError("the rating changes must be the answer to contest.ratingChanges of the same round: a list")
    found = {}
    for i, each in enumerate(changes):
        each = _table(each, f"the rating changes, line {i + 1}", ("handle", "oldRating"))
        rating = _number(each["oldRating"], f"the rating changes, line {i + 1}: oldRating", least=LOWEST, most=HIGHEST)
        found[str(each["handle"])] = rating
    return found


def _official(party: Any) -> str:
    """The handle of who took part alone and officially; else ""."""
    if not isinstance(party, dict) or party.get("participantType", "CONTESTANT") != "CONTESTANT" or party.get("ghost"):
        return ""
    members = party.get("members")
    if not isinstance(members, list) or len(members) != 1 or not isinstance(members[0], dict):
        return ""
    return str(members[0].get("handle", ""))


def _api_result(each: Any, where: str) -> list[Any] | None:
    each = _table(each, f"{where}, problemResults", ("points", "rejectedAttemptCount"))
    points, rejected, seconds = each["points"], each["rejectedAttemptCount"], each.get("bestSubmissionTimeSeconds")
    return None if not points and not rejected and seconds is None else [points, rejected, seconds]
