"""Results and samples of lm-evaluation-harness, as `--log_samples` writes them, every response a sample.

    read(Path("out/my-model"), task="gsm8k", score="exact_match,strict-match")     -> a ForeignLog

The harness has one score a problem. Where a problem has several responses (`repeats`), that is of none of them alone,
so they come in undecided, and `ponder regrade BANK --verifier math` judges each by the stored target. Where a model was
asked for the probability of each choice, the most probable one is the answer. Counts of tokens are in no such log.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ponder.config import ConfigError
from ponder.evals.imports.foreign import STRANGE, ForeignLog, ForeignSample, drawing_of, message, params_of, text_of
from ponder.evals.imports.scores import check_scale, count_notes, named_best, outcome_of
from ponder.grading.extract import extract_marked
from ponder.types import Message, Problem

Line = Mapping[str, Any]
SEVERAL = "responses share one score a problem, so undecided; `ponder regrade BANK --verifier math` judges them"
COPIES = "problems have several responses that are all the same: were they drawn with one seed?"


def is_results(path: Path) -> bool:
    """Whether it is a results_*.json of lm-eval; False for a file that cannot be read."""
    try:
        whole = json.loads(path.read_bytes())
    except (ValueError, RecursionError, OSError):
        return False
    return isinstance(whole, dict) and "results" in whole and "configs" in whole


def read(path: Path, *, score: str = "", task: str = "") -> ForeignLog:
    """path: the folder of a model, its results_*.json, or a samples_*.jsonl."""
    samples = _samples_file(path, task)
    try:
        lines = _lines(samples)
        return _log(samples, lines, _facts(samples), score)
    except ConfigError:
        raise
    except STRANGE as error:
        raise ConfigError(f"{samples} has no samples of lm-eval: {type(error).__name__} {error}") from None


def _samples_file(path: Path, task: str) -> Path:
    if path.suffix == ".jsonl":
        return path
    folder, date = path, "*"
    if path.is_file():
        folder, date = path.parent, path.stem.removeprefix("results_")
    found = sorted(folder.glob(f"samples_*_{date}.jsonl" if date != "*" else "samples_*.jsonl"))
    if not found and folder.is_dir():
        found = sorted(folder.glob("*/samples_*.jsonl"))
    chosen = [each for each in found if not task or _named(each)[0] == task]
    if not found:
        raise ConfigError(f"{path} has no samples_*.jsonl beside it; lm_eval --log_samples writes them")
    if len(chosen) != 1:
        names = ", ".join(sorted({_named(each)[0] for each in found}))
        raise ConfigError(f"{path} has samples of {names}; choose one: --task NAME, or name the samples_*.jsonl itself")
    return chosen[0]


def _named(samples: Path) -> tuple[str, str]:
    """The task and the date of samples_TASK_DATE.jsonl."""
    match = re.fullmatch(r"samples_(.*)_(\d{4}-\d\d-\d\dT[\d.+-]+)", samples.stem)
    return (match[1], match[2]) if match else (samples.stem.removeprefix("samples_"), "")


def _lines(samples: Path) -> list[Line]:
    lines = []
    with samples.open("rb") as file:  # by "\n" alone: texts may hold what Unicode takes for the end of a line
        for number, text in enumerate(file, start=1):
            if text.strip():
                try:
                    lines.append(json.loads(text))
                except (ValueError, RecursionError) as error:
                    raise ConfigError(f"{samples}, line {number}: not JSON ({error})") from None
    return lines


def _facts(samples: Path) -> Mapping[str, Any]:
    """The results of the same date; {} where they are not there."""
    path = samples.with_name(f"results_{_named(samples)[1]}.json")
    return json.loads(path.read_bytes()) if path.exists() else {}


def _log(path: Path, lines: Sequence[Line], facts: Mapping[str, Any], score: str) -> ForeignLog:
    if not lines:
        raise ConfigError(f"{path} is empty")
    missing: list[str] = []
    name, seen = _named(path)[0], Counter[str]()
    config = (facts.get("configs") or {}).get(name) or {}
    ours = config.get("metadata") or {} if facts.get("model_source") == "ponder" else {}
    score, best = named_best(score)
    metric, filtered = _chosen(path, lines, score)
    kept = [line for line in lines if line.get("filter", "none") == filtered]
    found = [(_problem(line, name), _responses(line, metric, seen, best or 1.0)) for line in kept]
    check_scale((line.get(metric) for line, (_, drawn) in zip(kept, found, strict=True) if len(drawn) == 1), best, path)
    ids = Counter(problem.id for problem, _ in found)
    if twice := [id for id, count in ids.items() if count > 1]:
        raise ConfigError(f"{path} has the problem {twice[0]!r} twice; it holds several runs")
    drawn = _drawn(kept[0])
    greedy = drawn.get("do_sample") is False
    params = params_of(
        {"temperature": 0.0 if greedy else drawn.get("temperature"), "top_p": drawn.get("top_p"),
         "max_tokens": drawn.get("max_gen_toks"),
         "max_reasoning_tokens": (ours.get("params") or {}).get("max_reasoning_tokens")}, missing
    )  # fmt: skip
    alias = ((facts.get("results") or {}).get(name) or {}).get("alias", name) if ours else name
    notes = [f"the score is {metric} of the filter {filtered}"] if not ours else []
    return ForeignLog(
        path=path, format="lm-eval", task=text_of(alias),
        split=text_of(config.get("test_split") or config.get("validation_split")),
        model=text_of(facts.get("model_name")), params=params,
        grader=text_of(ours.get("grader")) or f"lm_eval {facts.get('lm_eval_version', '')}".rstrip(),
        samples=found, notes=[*notes, *count_notes(seen)], missing=missing, complete=ours.get("complete") is not False,
        **drawing_of(ours),
    )  # fmt: skip


def _chosen(path: Path, lines: Sequence[Line], score: str) -> tuple[str, str]:
    """The metric and the filter to read: what `score` says, else the first of the log."""
    names = dict.fromkeys((metric, line.get("filter", "none")) for line in lines for metric in line["metrics"])
    if not names:
        raise ConfigError(f"{path} has no metric")
    metric, _, filtered = score.partition(",")
    fitting = [each for each in names if not score or (each[0] == metric and filtered in ("", each[1]))]
    if not fitting:
        raise ConfigError(f"{path} has no score {score!r}; it has {', '.join(map(','.join, names))}")
    return fitting[0]


def _drawn(line: Line) -> Mapping[str, Any]:
    """How the responses were generated; {} where the choices' probabilities were asked for."""
    drawn = line["arguments"]["gen_args_0"].get("arg_1")
    return drawn if isinstance(drawn, dict) else {}


def _problem(line: Line, task: str) -> Problem:
    requests, doc = list(line["arguments"].values()), line["doc"]
    context = requests[0]["arg_0"]
    if isinstance(context, list) and len(context) == 1:
        context = context[0]  # a conversation, for a model behind an API: a list of one text of JSON
    try:
        rows = json.loads(context) if isinstance(context, str) and context.startswith("[{") else context
    except ValueError:
        rows = context
    if isinstance(rows, list) and all(isinstance(row, dict) and "role" in row for row in rows):
        prompt = tuple(message(row["role"], text_of(row.get("content"))) for row in rows)
    else:
        prompt = (Message(role="user", content=text_of(context)),)
    choices = _choices(requests)
    ours = "samples" in doc
    return Problem(
        id=text_of(doc["id"] if ours else f"{task}/{line['doc_id']}"), prompt=prompt, task=task,
        choices=tuple(map(text_of, doc.get("choices") or ())) if ours else choices,
        target=_target(line["target"], choices),
        level=doc.get("level") if ours else None, subject=doc.get("subject") if ours else None,
    )  # fmt: skip


def _choices(requests: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """What the model's probabilities were asked of; () where it wrote a response."""
    texts = [request.get("arg_1") for request in requests]
    return tuple(text.strip() for text in texts if isinstance(text, str)) if isinstance(texts[0], str) else ()


def _letter(index: int) -> str:
    return chr(ord("A") + index)


def _target(target: Any, choices: Sequence[str]) -> str:
    """The answer that is right: a choice's letter, or what a written solution ends with, as verifiers take a target."""
    text = text_of(target)
    if "####" in text or "\\boxed" in text:
        return extract_marked(text) or text
    if choices and text.strip().isdecimal() and int(text) < len(choices):
        return _letter(int(text))
    return _letter(choices.index(text.strip())) if text.strip() in choices else text


def _responses(line: Line, metric: str, seen: Counter[str], best: float) -> list[ForeignSample]:
    known = line["doc"].get("samples") if isinstance(line["doc"], dict) else None
    if isinstance(known, list) and known and all("outcome" in each for each in known):
        return [_ours(each, answer) for each, answer in zip(known, line["resps"][0], strict=True)]
    if _choices(list(line["arguments"].values())):
        chances = [float(response[0][0]) for response in line["resps"]]
        likely = _letter(max(range(len(chances)), key=chances.__getitem__))
        return [ForeignSample(
            answer=likely, extracted=likely, answer_class=likely, has_class=True,
            outcome=outcome_of(line.get(metric), seen, best),
        )]  # fmt: skip
    responses, filtered = line["resps"][0], line["filtered_resps"][0]
    if len(responses) == 1:
        found = filtered[0] if isinstance(filtered, list) and filtered else filtered
        return [ForeignSample(
            answer=text_of(responses[0]), outcome=outcome_of(line.get(metric), seen, best),
            extracted=found if isinstance(found, str) and found != "[invalid]" else None,
        )]  # fmt: skip
    seen[SEVERAL] += len(responses)
    seen[COPIES] += len(set(map(text_of, responses))) == 1
    each = filtered if isinstance(filtered, list) and len(filtered) == len(responses) else [None] * len(responses)
    return [
        ForeignSample(
            answer=text_of(answer), outcome="undecided", note="the log has one score for all samples of a problem",
            extracted=found if isinstance(found, str) and found != "[invalid]" else None,
        )
        for answer, found in zip(responses, each, strict=True)
    ]  # fmt: skip


def _ours(known: Mapping[str, Any], answer: Any) -> ForeignSample:
    """A response of a file that ponder wrote, which knows each sample's verdict."""
    names = ("outcome", "extracted", "finish_reason", "was_cut", "prompt_tokens", "reasoning_tokens", "tokens",
             "mean_logprob", "note", "error", "seed")  # fmt: skip
    return ForeignSample(
        **{name: known[name] for name in names}, answer=text_of(answer), reasoning=known.get("reasoning", ""),
        answer_class=known["class"], has_class=True,
    )  # fmt: skip
