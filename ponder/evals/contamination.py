"""Was an exam trained on? Problems of an exam that are also in what a model was trained on.

    check(exam_problems, training_sources(model_folder))
    -> Contamination(status="checked", num_problems=300, exact=0, overlap=2, share=0.0067, hits=(...), ...)

The recipe of GPT-3 (arXiv:2005.14165, appendix C): lower case, punctuation removed, and a hit where 13 words in a row
are also in the training texts. Arithmetic signs after a digit are kept as words, or 7*8-3 and 7+8-3 would be one
problem. `exact`: the whole text is a training problem, case and white space apart. `overlap`: 13 words in a row are
shared; a problem of fewer words is one whose whole sequence of words is in a training problem. Exact hits count
as overlap too. An overlap may be a turn of phrase ("find the number of positive integers n such that ..."): look at
the ids.

Compared are problems with problems: solutions are not looked at. What a model saw before its record begins
(pretraining) is not known, and the result says so: `status` is `checked` where every source could be read, `partly`
where some could, `unknown` where none could. It is never "clean". Ids only; no text of an exam is in the result.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ponder.config import ConfigError
from ponder.evals.results import Contamination, Hit, SourceRead
from ponder.files import file_hash
from ponder.tasks import load_task
from ponder.tasks.file import read_rows
from ponder.tasks.prompting import question
from ponder.trained_on import Source
from ponder.types import Problem, Task

N = 13  # words in a row
MAX_HITS = 200  # ids listed; the counts are of all
_WORD = re.compile(r"[^\W_]+|(?<=[\d)])[-+*/^=<>](?=[\d(])")
_GAPS = re.compile(r"(?<=[\d)])\s*([-+*/^=<>])\s*(?=[\d(])")  # 3 + 4 is 3+4
UNREADABLE = (ImportError, OSError, ValueError, TypeError, KeyError, AttributeError)  # a record may hold anything


def words(text: str) -> list[str]:
    """Lower case, without punctuation: "It's 3*4, ok?" -> it s 3 * 4 ok."""
    return _WORD.findall(_GAPS.sub(r"\1", re.sub(r"(?<=\d),(?=\d{3}\b)", "", text.casefold())))


def plain(text: str) -> str:
    """Lower case with single blanks: texts that are equal so are an exact match."""
    return " ".join(text.casefold().split())


def check(problems: Sequence[Problem], sources: Sequence[Source]) -> Contamination:
    """The overlap of an exam with the training sources of a model (see the head of this file)."""
    finder = Finder([(problem.id, question(problem)) for problem in problems])
    read: list[SourceRead] = []
    unknown: list[str] = []
    for source in sources:
        if source.get("kind") == "experiment":
            continue  # how it was trained, not on what
        name = describe(source)
        try:
            count = finder.look(name, texts(source))
        except UNREADABLE as error:
            unknown.append(f"{name}: {error}")
        else:
            read.append(SourceRead(source=name, num_problems=count))
    return Contamination(
        status="unknown" if not read else "partly" if unknown else "checked",
        method=f"exact text, and {N} words in a row (arXiv:2005.14165, app. C)",
        num_problems=len(problems),
        num_training=len(finder.seen),
        exact=sum(hit.kind == "exact" for hit in finder.hits.values()),
        overlap=len(finder.hits),
        share=len(finder.hits) / len(problems) if read and problems else None,
        hits=tuple(hit for _, hit in sorted(finder.hits.items()))[:MAX_HITS],
        read=tuple(read),
        unknown=tuple(unknown or ([] if sources else ["the model's folder does not say what it was trained on"])),
    )


def sentence(found: Contamination) -> str:
    """The result for people, in one line; `unknown` of the result says why a source could not be read."""
    unread = list(dict.fromkeys(_short(why.partition(": ")[0], 60) for why in found.unknown))
    rest = ", ".join(unread[:3]) + (f" and {len(unread) - 3} more" if len(unread) > 3 else "")
    if found.status == "unknown":
        return f"contamination: unknown ({rest or 'nothing to compare with'})"
    return (
        f"contamination: {found.exact} of {found.num_problems} exam problems were trained on word for word, "
        f"{found.overlap} share {N} words in a row with one of {found.num_training} training problems"
        + (f"; not known: {rest}" if rest else "")
    )


def details(found: Contamination) -> dict[str, str]:
    """Source -> how much of it was read, or why it was not: for whoever unfolds them."""
    read = {source.source: f"{source.num_problems} problems compared" for source in found.read}
    return read | {
        name: f"not known: {_short(why.strip(), 300)}"
        for name, _, why in (entry.partition(": ") for entry in found.unknown)
        if why
    }


def _short(text: str, max_length: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= max_length else f"{text[: max_length - 1]}…"


class Finder:
    """Where the texts of an exam are in other texts: one pass over those, whatever their number."""

    def __init__(self, exam: Iterable[tuple[str, str]]) -> None:
        self.hits: dict[str, Hit] = {}  # by id of the exam
        self.seen: set[int] = set()  # hashes of the training problems: one that was trained on twice counts once
        self._exact: dict[str, list[str]] = {}
        self._grams: dict[tuple[str, ...], list[str]] = {}  # 13 words, or all of a shorter problem
        self._short: dict[str, set[int]] = {}  # first word of a shorter problem -> lengths
        for name, text in exam:
            self._exact.setdefault(plain(text), []).append(name)
            sequence = words(text)
            size = min(N, len(sequence))
            if 0 < size < N:
                self._short.setdefault(sequence[0], set()).add(size)
            for start in range(len(sequence) - size + 1) if size else ():
                self._grams.setdefault(tuple(sequence[start : start + size]), []).append(name)

    def look(self, source: str, training: Iterable[tuple[str, str]]) -> int:
        """Look at the training problems of one source; returns how many there were."""
        count = 0
        for name, text in training:
            count += 1
            whole = plain(text)
            if hash(whole) in self.seen:
                continue
            self.seen.add(hash(whole))
            for hit in self._exact.get(whole, ()):
                self._take(hit, "exact", source, name)
            sequence = words(text)
            for start in range(len(sequence)):
                for size in (N, *self._short.get(sequence[start], ())):
                    gram = tuple(sequence[start : start + size])
                    for hit in self._grams.get(gram, ()):
                        self._take(hit, f"{N} words" if len(gram) == N else "all its words", source, name)
        return count

    def _take(self, hit: str, kind: str, source: str, name: str) -> None:
        if hit not in self.hits or (kind == "exact" and self.hits[hit].kind != "exact"):
            self.hits[hit] = Hit(id=hit, kind=kind, source=source, training_id=name)


# ---- what was trained on -------------------------------------------------------------------------------------------


def describe(source: Source) -> str:
    """A source in a few words."""
    if source.get("kind") == "task":
        return f"{source.get('task')} ({source.get('split', 'train')})"
    if source.get("kind") == "file":
        return str(source.get("path"))
    return str(source.get("name") or source.get("kind"))


def texts(source: Source) -> Iterator[tuple[str, str]]:
    """(id, text) of every training problem of a source; a ConfigError says why it cannot be read."""
    kind = source.get("kind")
    if kind == "task":
        yield from _of_task(source)
    elif kind == "file":
        yield from _of_file(source)
    else:
        raise ConfigError(str(source.get("note") or "what it holds is not recorded"))


def _of_task(source: Source) -> Iterator[tuple[str, str]]:
    for path, digest in source.get("files", {}).items():
        if Path(path).exists() and file_hash(path) != digest:
            raise ConfigError(f"{path} has changed since the training")
    size = {"size": source["size"]} if source.get("size") else {}
    task = load_task(source["task"], split=source.get("split", "train"), seed=source.get("seed", 0), **size)
    for index in range(len(task)):
        problem = task[index]
        yield problem.id, question(problem)


def _of_file(source: Source) -> Iterator[tuple[str, str]]:
    path = Path(source["path"])
    if not path.exists():
        raise ConfigError("the file is not there any more")
    if source.get("sha256") and file_hash(path) != source["sha256"]:
        raise ConfigError("the file has changed since the training")
    for where, row in read_rows(str(path)):
        text = row.get("problem")
        if isinstance(text, str):
            yield str(row.get("id") or where.rpartition(", ")[2]), text


def refuse_overlap(exam: Task, pool: Task, limit: int) -> str:
    """Stop where a problem of the exam was trained on, else a sentence that says that none was."""
    trained = {pool[i].text for i in range(len(pool))}
    texts = [exam[i].text for i in range(min(limit, len(exam)))]
    seen = sum(text in trained for text in texts)
    if seen:
        raise ConfigError(f"{seen} of {len(texts)} exam problems were trained on; give --task with unseen ones")
    return f"none of the {len(texts)} exam problems is among the {len(pool)} of the training pool"
