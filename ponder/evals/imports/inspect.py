"""Logs of Inspect: `.eval` (a zip) and `.json`, every epoch a sample.

    read(Path("logs/gsm8k.eval"), score="match")     -> a ForeignLog

Inspect compresses with zstandard, which Python reads from 3.14 on; before, pyarrow does, which a bank needs anyway. A
sample that ended in an error has no verdict that the model earned and is left out, which the notes say. Long texts,
which Inspect keeps as attachments, are put back. A small file may neither unpack to very much, nor name one attachment
until the memory is full.
"""

from __future__ import annotations

import json
import lzma
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ponder.config import ConfigError
from ponder.evals import columns
from ponder.evals.imports.foreign import STRANGE, ForeignLog, ForeignSample, drawing_of, message, params_of, text_of
from ponder.evals.imports.scores import check_scale, count_notes, named_best, outcome_of
from ponder.files import most_unpacked
from ponder.types import FinishReason, Problem

ZSTANDARD = 93
LARGEST = 1 << 30  # bytes of one file of a log; more is damage, or an attack
ATTACHMENT = "attachment://"
FINISH: Mapping[str, FinishReason] = {"max_tokens": "length", "model_length": "window"}
OUTCOMES = ("correct", "wrong", "undecided", "failed")


def read(path: Path, *, score: str = "") -> ForeignLog:
    """The log of one task."""
    try:
        header, samples = _zipped(path) if path.suffix == ".eval" else _plain(path)
        return _log(path, header, samples, score)
    except ConfigError:
        raise
    except STRANGE as error:
        raise ConfigError(f"{path} is no log of Inspect that is known: {type(error).__name__} {error}") from None
    except (OSError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, RuntimeError, EOFError) as error:
        raise ConfigError(f"{path} cannot be read as a log of Inspect: {error}") from None


def _plain(path: Path) -> tuple[Mapping[str, Any], Iterator[Mapping[str, Any]]]:
    whole = json.loads(path.read_bytes())
    if not isinstance(whole, dict) or "eval" not in whole:
        raise ConfigError(f"{path} is neither a log of Inspect (it has no `eval`) nor results of lm-eval")
    return whole, iter(whole.get("samples") or [])


def _zipped(path: Path) -> tuple[Mapping[str, Any], Iterator[Mapping[str, Any]]]:
    with zipfile.ZipFile(path) as log:
        names = log.namelist()
        if "header.json" not in names:
            raise ConfigError(f"{path} has no header.json: the task was not finished; `inspect log recover` repairs it")
        names = [name for name in sorted(names) if name.startswith("samples/") and name.endswith(".json")]
        most = most_unpacked(path.stat().st_size)
        if sum(log.getinfo(name).file_size for name in names) > most:
            raise ConfigError(f"{path} would unpack to more than {most:,} bytes; the log is damaged")
        header = json.loads(_member(path, log, "header.json"))

    def samples() -> Iterator[Mapping[str, Any]]:
        with zipfile.ZipFile(path) as log:
            for name in names:
                yield json.loads(_member(path, log, name))

    return header, samples()


def _member(path: Path, log: zipfile.ZipFile, name: str) -> bytes:
    entry = log.getinfo(name)
    if entry.file_size > LARGEST:
        raise ConfigError(f"{path}: {name} says that it has {entry.file_size} bytes; the log is damaged")
    if entry.compress_type != ZSTANDARD or hasattr(zipfile, "ZIP_ZSTANDARD"):
        return log.read(entry)
    with path.open("rb") as file:
        file.seek(entry.header_offset + 26)  # of the local header: two lengths, then the name and what is extra
        lengths = file.read(4)
        file.seek(int.from_bytes(lengths[:2], "little") + int.from_bytes(lengths[2:], "little"), 1)
        raw = file.read(entry.compress_size)
    pa = columns.arrow()
    try:
        found = pa.CompressedInputStream(pa.BufferReader(raw), "zstd").read(entry.file_size + 1)
    except (pa.ArrowException, OSError) as error:
        raise ConfigError(f"{path}: {name} is damaged ({error})") from None
    if len(found) != entry.file_size or zlib.crc32(found) != entry.CRC:
        raise ConfigError(f"{path}: {name} is damaged")
    return bytes(found)


def _log(path: Path, header: Mapping[str, Any], samples: Iterator[Mapping[str, Any]], score: str) -> ForeignLog:
    facts = header["eval"]
    known = facts.get("metadata") or {}
    found: dict[str, tuple[Problem, dict[int, ForeignSample]]] = {}
    seen, room = Counter[str](), [most_unpacked(path.stat().st_size)]
    (score, best), values = named_best(score), list[object]()
    for raw in samples:
        sample = _attached(raw, raw.get("attachments") or {}, room)
        if sample.get("error"):
            seen["samples that ended in an error, left out"] += 1
            continue
        problem = _problem(sample, text_of(facts["task"]))
        first, epochs = found.setdefault(problem.id, (problem, {}))
        if (first.prompt, first.target) != (problem.prompt, problem.target):
            raise ConfigError(f"{path} has two problems under the id {problem.id!r}")
        epochs[int(sample["epoch"])] = _sample(path, sample, score, seen, best or 1.0, values)
    check_scale(values, best, path)
    config = facts.get("model_generate_config") or {}
    missing: list[str] = []
    params = params_of(
        {"temperature": config.get("temperature"), "top_p": config.get("top_p"),
         "max_reasoning_tokens": config.get("reasoning_tokens"), "max_tokens": config.get("max_tokens")}, missing
    )  # fmt: skip
    version = (facts.get("packages") or {}).get("inspect_ai", "")
    return ForeignLog(
        path=path, format="inspect", task=text_of(facts["task"]), split=text_of(known.get("split")),
        model=text_of(facts["model"]), params=params,
        grader=text_of(known.get("grader")) or f"inspect_ai {version}".rstrip(),
        samples=[(problem, [epochs[n] for n in sorted(epochs)]) for problem, epochs in found.values()],
        notes=count_notes(seen), missing=missing, complete=header.get("status") == "success",
        **drawing_of(known),
    )  # fmt: skip


def _attached(value: Any, texts: Mapping[str, str], room: list[int]) -> Any:
    """A value with the long texts that it only names put back; events, which are not read, are left out. room: the
    characters that may still be put back."""
    if isinstance(value, str) and value.startswith(ATTACHMENT):
        text = texts.get(value.removeprefix(ATTACHMENT), value)
        room[0] -= len(text)
        if room[0] < 0:
            raise ValueError("it names its attachments so often that they would fill the memory")
        return text
    if isinstance(value, list):
        return [_attached(each, texts, room) for each in value]
    if isinstance(value, dict):
        kept = {name: each for name, each in value.items() if name not in ("events", "attachments")}
        return {name: _attached(each, texts, room) for name, each in kept.items()}
    return value


def _problem(sample: Mapping[str, Any], task: str) -> Problem:
    asked, target = sample["input"], sample.get("target")
    rows = [{"role": "user", "content": asked}] if isinstance(asked, str) else asked
    messages = tuple(message(row["role"], _parts(row.get("content"))[0]) for row in rows)
    facts = sample.get("metadata") or {}
    level, subject = facts.get("level"), facts.get("subject")
    return Problem(
        id=text_of(sample["id"]), prompt=messages, task=task, choices=tuple(map(text_of, sample.get("choices") or ())),
        target=text_of(target[0] if isinstance(target, list) and target else "" if target == [] else target),
        level=level if isinstance(level, int) and not isinstance(level, bool) else None,
        subject=text_of(subject) if isinstance(subject, str) else None,
    )  # fmt: skip


def _parts(content: Any) -> tuple[str, str]:
    """(text, reasoning) of a message."""
    if not isinstance(content, list):
        return text_of(content), ""
    texts = [text_of(part.get("text")) for part in content if part.get("type") == "text"]
    thoughts = [text_of(part.get("reasoning")) for part in content if part.get("type") == "reasoning"]
    return "\n".join(texts), "\n".join(thoughts)


def _sample(
    path: Path, sample: Mapping[str, Any], score: str, seen: Counter[str], best: float, values: list[object]
) -> ForeignSample:
    output = sample.get("output") or {}
    choice = (output.get("choices") or [{}])[0]
    answer, reasoning = _parts((choice.get("message") or {}).get("content"))
    scored = _score(path, sample.get("scores") or {}, score, seen)
    known = scored.get("metadata") or {}
    usage = output.get("usage") or {}
    ours = known.get("outcome") in OUTCOMES
    if not ours:
        values.append(scored.get("value"))
    extracted_answer = scored.get("answer")
    finish = known.get("finish_reason") or FINISH.get(choice.get("stop_reason", ""), "stop")
    return ForeignSample(
        answer=answer or text_of(output.get("completion")), reasoning=reasoning,
        outcome=known["outcome"] if ours else outcome_of(scored.get("value"), seen, best),
        extracted=extracted_answer if isinstance(extracted_answer, str) else None,
        answer_class=known.get("class"), has_class=ours and "class" in known,
        finish_reason=finish, was_cut=known.get("was_cut") if ours else None,
        prompt_tokens=_total(usage, "input_tokens", "input_tokens_cache_read", "input_tokens_cache_write"),
        reasoning_tokens=usage.get("reasoning_tokens"), tokens=usage.get("output_tokens"),
        mean_logprob=known.get("mean_logprob") if ours else None, seed=int(known.get("seed") or 0) if ours else 0,
        note=text_of(scored.get("explanation")) or None if ours else None,
        error=text_of(scored.get("explanation")) if known.get("outcome") == "failed" else None,
    )  # fmt: skip


def _total(usage: Mapping[str, Any], *names: str) -> int | None:
    return sum(usage.get(name) or 0 for name in names) if usage else None


def _score(path: Path, scores: Mapping[str, Any], wanted: str, seen: Counter[str]) -> Mapping[str, Any]:
    if wanted and scores and wanted not in scores:
        raise ConfigError(f"{path} has no score {wanted!r}; it has {', '.join(scores)}")
    if not scores:
        seen["samples without a score, so undecided"] += 1
        return {"metadata": {"outcome": "undecided"}}
    if len(scores) > 1 and not wanted:
        raise ConfigError(f"{path} has several scores; choose one of them: --score {' or '.join(scores)}")
    return scores[wanted or next(iter(scores))]
