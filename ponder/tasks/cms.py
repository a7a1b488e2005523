"""Contest problems as CMS keeps them: load_task("cms:PATH"), a package or a folder of packages, zipped or not.

    task = load_task("cms:ioi2024")                 a problem a package: the statement, then what is to be written
    load_task("cms:ioi2024,by=subtask")             a problem a subtask: it is asked, and judged, by itself
    task.verify(problem, answer).parts              {"points": 43.0, "01-N2": 3.0, "02-N50": 7.0, "03-chain": 33.0, ...}
    load_task("cms:ioi2024,only=sphinx+message,language=c++17")
    load_task("cms:ioi2024,judged=0")               for drawing samples: no hidden test is asked until one is submitted

The answer's program is its last block of C++ (`grading/code_blocks.py`). `judge.py` judges it; the reward is the share
of the points, and only full points are correct. What the machine lost, or a judge's own program failed at, is
undecided.

The statement is the package's (`statement.md`), else the text of the row in a `problems.jsonl` beside the packages
whose id ends in the package's code. Without one the sample grader and the examples that contestants get have to say it.

Left out: votes over equivalent programs. The key is the program's text, apart from white space: two programs that do
the same have two keys, for what hidden tests say of them must not reach a vote.
"""

from __future__ import annotations

import hashlib
import html
import re
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast, get_args

from ponder.config import ConfigError, nearest
from ponder.grading.code_blocks import extract_code
from ponder.processes import num_cores
from ponder.sandbox.base import Language, Program
from ponder.sandbox.executions import shared
from ponder.sandbox.languages import STANDARDS
from ponder.tasks.base import ListedTask, check_size, parse_spec
from ponder.tasks.file import read_rows
from ponder.tasks.judge import Judged, JudgingSandbox, judge
from ponder.tasks.packages import ContestPackage, find_packages
from ponder.types import Message, Problem, Verdict

WAYS = ("problem", "subtask")
MAX_SHOWN = 4_000  # characters of an attached file in a prompt


class CmsTask(ListedTask):
    """Packages, each or each of their subtasks a problem."""

    verifier = "cms"
    patience = 3_600.0  # all tests of a package, on a busy machine, behind others that wait for their turn

    def __init__(
        self,
        name: str,
        packages: Sequence[ContestPackage],
        *,
        statements: Mapping[str, str],
        by: str = "problem",
        language: Language = "c++20",
        judged: bool = True,
        split: str = "test",
        sandbox: JudgingSandbox | None = None,
    ) -> None:
        self.judged = judged
        self.name, self.split, self.language = name, split, language
        self.packages = {package.code: package for package in packages}
        self.statements = {code: statements.get(code) or _without_statement(p) for code, p in self.packages.items()}
        self._sandbox = sandbox
        self._problems = [
            self._problem(package, statements.get(package.code, ""), subtask)
            for package in packages
            for subtask in ([None] if by == "problem" else package.scored)
        ]
        self._places = threading.BoundedSemaphore(num_cores())

    def _problem(self, package: ContestPackage, statement: str, subtask: int | None) -> Problem:
        which = "" if subtask is None else f"/{package.subtasks[subtask].name}"
        points = package.points if subtask is None else package.subtasks[subtask].points
        return Problem(
            id=f"{self.name}/{package.code}{which}",
            prompt=(Message(role="user", content=prompt(package, statement, self.language, subtask)),),
            target="",
            task=self.name,
            level=subtask,
            subject=package.code,
            meta={"package": package.code, "subtask": subtask, "points": points, "has_statement": bool(statement)},
        )

    def verify(self, problem: Problem, answer: str) -> Verdict:
        source = extract_code(answer, self.language)
        if source is None:
            return Verdict(outcome="wrong", reward=0.0, note="no C++ program in the answer")
        if not self.judged:
            note = "not judged (judged=0): `ponder ioi` judges what it submits"
            return Verdict(outcome="undecided", reward=0.0, extracted=source, note=note)
        judged = self.judge(problem, Program(source=source, language=self.language))
        parts = {each.name: points for each, points in zip(judged.subtasks, judged.points, strict=True)
                 if points is not None and each.points}  # fmt: skip
        parts = {"points": judged.total, **parts}
        if judged.is_undecided:
            return Verdict(outcome="undecided", reward=0.0, extracted=source, parts=parts, note=judged.note)
        is_full = judged.share == 1
        return Verdict(
            outcome="correct" if is_full else "wrong", reward=judged.share, extracted=source, parts=parts,
            note=judged.note,
        )  # fmt: skip

    def judge(self, problem: Problem, program: Program, *, stop_early: bool = True) -> Judged:
        """The points of a program; of a subtask's problem those of the subtask."""
        package, subtask = self.packages[problem.meta["package"]], problem.meta["subtask"]
        with self._places:
            chosen = None if subtask is None else [subtask]
            # the one that every task of this process shares, without its memory: scores are remembered by `judge`
            sandbox = self._sandbox or cast(JudgingSandbox, shared().programs)
            return judge(package, program, sandbox, chosen, stop_early=stop_early)

    def key(self, problem: Problem, answer: str) -> str | None:
        """Programs that differ in white space only are the same answer; None where there is no program."""
        source = extract_code(answer, self.language)
        return None if source is None else hashlib.sha256(" ".join(source.split()).encode()).hexdigest()[:16]


def cms_task(
    spec: str,
    *,
    split: str = "test",
    seed: int = 0,
    by: str = "problem",
    language: str = "c++20",
    only: str | None = None,
    size: int | None = None,
    judged: int = 1,
) -> CmsTask:
    """The task of a path, perhaps with dials after a comma; `only` names packages, joined by +. Contests have one
    split, and `seed` changes nothing. judged=0: `verify` asks no hidden test and leaves every program undecided."""
    path, own = _split_dials(spec)
    chosen: dict[str, Any] = {"by": by, "language": language, "only": only, "size": size, "judged": judged} | own
    if chosen["by"] not in WAYS:
        raise ConfigError(f"by={chosen['by']} is none of {', '.join(WAYS)}")
    if chosen["language"] not in STANDARDS:
        raise ConfigError(f"language={chosen['language']} is none of {', '.join(STANDARDS)}")
    if chosen["judged"] not in (0, 1):
        raise ConfigError(f"judged={chosen['judged']} must be 1, or 0 to draw samples without judging them")
    size = chosen["size"]
    check_size(size)
    packages = _only(find_packages(path), chosen["only"])[:size]
    root = Path(path).expanduser()
    task = CmsTask(
        f"cms/{root.name.removesuffix('.zip')}",
        packages,
        statements=_statements(root, packages),
        by=chosen["by"],
        language=next(each for each in get_args(Language) if each == chosen["language"]),
        judged=bool(chosen["judged"]),
        split=split,
    )
    task.origin = [_origin(package, root) for package in packages]
    return task


def _split_dials(spec: str) -> tuple[str, dict[str, Any]]:
    """ "ioi2024,by=subtask" -> ("ioi2024", {"by": "subtask"}); a path that is there is all path."""
    if Path(spec).expanduser().exists():
        return spec, {}
    match = re.fullmatch(r"(.*?)((?:,[a-z]+=[^,]*)*)", spec, re.DOTALL)
    assert match is not None, spec
    _, dials = parse_spec(f"cms:{match[2].lstrip(',')}")
    known = ("by", "language", "only", "size", "judged")
    for dial in dials:
        if dial not in known:
            raise ConfigError(f"task 'cms:{spec}' has no dial {dial!r}{nearest(dial, known)}")
    return match[1], dials


def _only(packages: list[ContestPackage], names: str | None) -> list[ContestPackage]:
    if not names:
        return packages
    by_code = {package.code: package for package in packages}
    for name in str(names).split("+"):
        if name not in by_code:
            raise ConfigError(f"only={names}: there is no package {name!r}{nearest(name, list(by_code))}")
    return [by_code[name] for name in str(names).split("+")]


def _origin(package: ContestPackage, root: Path) -> dict[str, Any]:
    return {"file": f"{root.name}/{package.code}", "sha256": package.digest, "problems": 1}


def _statements(root: Path, packages: Sequence[ContestPackage]) -> dict[str, str]:
    """The text of each package: its own, else that of a row beside the packages."""
    folder = root if root.is_dir() else root.parent
    places = [place for place in (folder, folder.parent) if (place / "problems.jsonl").is_file()]
    rows = [row for _, row in read_rows(str(places[0] / "problems.jsonl"))] if places else []
    texts = {str(row.get("id") or ""): str(row.get("problem") or "") for row in rows}
    found = {}
    for package in packages:  # a code may hold a _ too: "sum" is not meant by "max_sum" where there is a "sum"
        own = [id for id in texts if re.search(rf"(?:^|[-/_]){package.code}\Z", id)]
        beside = texts[min(own, key=len)] if own else ""
        found[package.code] = html.unescape(package.statement or beside).strip()
    return found


# ---- the prompt ------------------------------------------------------------------------------------------------------


def prompt(package: ContestPackage, statement: str, language: Language, subtask: int | None = None) -> str:
    """What is asked: the statement, the subtask where only one is, and what is to be handed in."""
    parts = [statement or _without_statement(package)]
    if subtask is not None:
        parts.append(_of_subtask(package, subtask, statement))
    parts.append(_handed_in(package, language))
    return "\n\n".join(part.strip() for part in parts if part.strip())


def _handed_in(package: ContestPackage, language: Language) -> str:
    standard = language.replace("c++", "C++")
    if package.has_own_main:
        return (
            f"Write a whole {standard} program that reads from standard input and writes to standard output.\n"
            "Answer with the program in one ```cpp block."
        )
    header = f"{package.code}.h"
    text = package.attachments.get(f"cpp/{header}") or package.graders.get(header, "")
    shown = f" This is `{header}`:\n\n{_block(text, 'cpp')}" if text else ""
    return (
        f"Write the file `{package.code}.cpp` in {standard}. It includes `{header}`, implements the procedures that "
        "the statement asks for, and has no `main`: it is compiled together with a grader. It must not read standard "
        f"input or write to standard output.{shown}\n\nAnswer with the whole file in one ```cpp block."
    )


def _of_subtask(package: ContestPackage, index: int, statement: str) -> str:
    """What a program is judged on, with the row of the statement's table that has its constraints."""
    number, subtask = package.scored.index(index) + 1, package.subtasks[index]
    words = constraints(package, index, statement)
    return (
        f"Your program is judged on subtask {number} only ({subtask.points:g} of {package.points:g} points)"
        f"{words and f': {words}'}\nNothing is lost where it fails on other subtasks."
    )


def constraints(package: ContestPackage, index: int, statement: str) -> str:
    """Of a subtask, as the row of the statement's table has them; "" where there is none."""
    number = package.scored.index(index) + 1
    row = re.search(rf"^\|\s*\$?{number}\$?\s*\|[^|\n]*\|\s*([^|\n]*?)\s*(?:\|.*)?$", statement, re.MULTILINE)
    return row[1] if row else ""


def _without_statement(package: ContestPackage) -> str:
    """What contestants get beside the statement."""
    shown = [name for name in package.attachments if re.fullmatch(r"cpp/grader\.cpp|examples/.*", name)]
    files = [f"`{name}`:\n\n{_block(package.attachments[name], 'cpp' * name.endswith('.cpp'))}" for name in shown]
    return "\n\n".join(
        [
            f"# {package.name}",
            "The statement is not here; the sample grader and the examples tell what is asked.",
            *files,
        ]
    )


def _block(text: str, tag: str) -> str:
    return f"```{tag}\n{text[:MAX_SHOWN].rstrip()}\n```"
