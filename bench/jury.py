"""The jury's own programs against the points that they should get: 90 of IOI 2024's message, sphinx, machine, aplusb.

    PONDER_DATA=FOLDER python bench/jury.py                # FOLDER/ioi2024: the CMS packages as organizers give them
    python bench/jury.py --packages FOLDER --only message  # other places, and a part

`jury_points.jsonl` says what each program should get, and why: read from its folder, its name, the statement and its
source, and written down before anything was judged. Where luck decides (a heuristic, a random identification), it is a
range. Every program is judged in full, without a public example first; results are added to a file, one line each, so a
run that was stopped goes on where it was. It ends with what was met and what was missed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ponder.config import ConfigError
from ponder.files import append_jsonl
from ponder.sandbox import Program
from ponder.sandbox.programs import Programs
from ponder.tasks.judge import judge
from ponder.tasks.packages import ContestPackage, find_packages

EXPECTED = Path(__file__).with_name("jury_points.jsonl")
CLOSE = 0.01  # points are printed with two digits


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    default = Path(os.environ.get("PONDER_DATA", ".")) / "ioi2024"
    parser.add_argument("--packages", type=Path, default=default, help="folder of CMS packages, zipped or not")
    parser.add_argument("--out", type=Path, default=Path("runs/bench/jury.jsonl"), help="where results are added")
    parser.add_argument("--only", nargs="*", default=[], help="codes of packages")
    parser.add_argument("--jobs", type=int, default=2, help="programs judged at once")
    asked = parser.parse_args()
    try:
        packages = {package.code: package for package in find_packages(asked.packages)}
        rows = [row for row in _read(EXPECTED) if row["package"] in packages]
        rows = [row for row in rows if not asked.only or row["package"] in asked.only]
        with Programs(num_workers=asked.jobs) as sandbox:
            done = {(row["package"], row["solution"]): row for row in _read(asked.out)}
            todo = [row for row in rows if (row["package"], row["solution"]) not in done]
            _judge_all(todo, len(rows), packages, sandbox, asked.out, asked.jobs)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    return _report(rows, _read(asked.out))


def _judge_all(
    todo: list[dict[str, Any]], total: int, packages: dict[str, ContestPackage], sandbox: Programs, out: Path, jobs: int
) -> None:
    lock = threading.Lock()
    done = total - len(todo)

    def one(row: dict[str, Any]) -> None:
        nonlocal done
        package, began = packages[row["package"]], time.monotonic()
        program = Program(source=package.solutions[row["solution"]], language="c++20")
        judged = judge(package, program, sandbox)
        found = {
            "package": row["package"], "solution": row["solution"], "points": round(judged.total, 4),
            "subtasks": judged.points, "tests": len(judged.tests), "seconds": round(time.monotonic() - began, 1),
            "slowness": round(judged.slowness, 2), "fence": judged.fence, "note": judged.note,
        }  # fmt: skip
        with lock:
            done += 1
            append_jsonl(out, [found])
            mark = "met" if _is_met(row, found) else "MISSED"
            what = f"{row['package']} {row['solution']}: {_range(found['points'], found['points'])} points"
            print(f"{done:>3}/{total}  {mark:<6}  {what}  ({found['seconds']:.0f} s) {found['note'][:60]}", flush=True)

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(one, todo))


def _is_met(row: dict[str, Any], found: dict[str, Any]) -> bool:
    least, most = row["points"]
    return None not in found["subtasks"] and least - CLOSE <= found["points"] <= most + CLOSE


def _report(rows: list[dict[str, Any]], results: list[dict[str, Any]]) -> int:
    found = {(row["package"], row["solution"]): row for row in results}
    missed = [row for row in rows if not _is_met(row, found[row["package"], row["solution"]])]
    exact = sum(row["points"][0] == row["points"][1] for row in rows)
    print(f"{len(rows) - len(missed)} of {len(rows)} met ({exact} exact, {len(rows) - exact} ranges)")
    for row in missed:
        got = found[row["package"], row["solution"]]
        print(
            f"  {row['package']} {row['solution']}: {got['points']:g}, not {_range(*row['points'])} ({row['reason']})"
        )
        print(f"    subtasks {got['subtasks']}; {got['note']}")
    return 1 if missed else 0


def _range(least: float, most: float) -> str:
    return f"{least:g}" if least == most else f"{least:g} to {most:g}"


def _read(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    rows = []
    for line in path.read_text().splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue  # the last line of a run that was killed
    return rows


if __name__ == "__main__":
    sys.exit(main())
