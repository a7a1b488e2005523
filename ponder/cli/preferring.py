"""`ponder prefer`: does a reward model, or a judge, prefer what people prefer, and is it better than counting words?"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from ponder.cli import options as opt
from ponder.cli.app import MEASURE, app
from ponder.cli.options import number
from ponder.cli.show import finish, print_json, print_tables
from ponder.config import ConfigError
from ponder.files import append_jsonl, lock_beside, read_jsonl, refuse_overwriting

if TYPE_CHECKING:
    from ponder.evals.judged_pairs import AnswerPair, JudgedPair
    from ponder.evals.preference import PreferenceReport


@app.command(rich_help_panel=MEASURE)
def prefer(
    context: typer.Context,
    scorer: Annotated[
        Optional[Path], typer.Argument(help="What `ponder scorer` made of kind preference. Without: the baselines.")
    ] = None,
    task: Annotated[
        str,
        typer.Option(
            help="Comparisons: hh, llmbar, mtbench, pandalm, helpsteer3, ultrafeedback, hub:NAME or file:PATH."
        ),
    ] = "hh",
    split: Annotated[str, typer.Option(help="report, dev, train or all.")] = "report",
    limit: Annotated[Optional[int], number("Only the first comparisons; of a bank 1000.", least=1)] = None,
    judge: Annotated[
        Optional[str], typer.Option(help="A language model instead of a scorer: it reads every pair in both orders.")
    ] = None,
    votes: Annotated[
        Optional[Path], typer.Option(help="Of a judge: its comparisons, for `ponder scorer`. Again = go on.")
    ] = None,
    bank: Annotated[
        Optional[Path], typer.Option(help="Of a judge: pairs of a bank's answers, which nobody compared.")
    ] = None,
    max_reasoning_tokens: opt.Reasoning = 256,
    max_answer_tokens: opt.Answer = 16,
    seed: opt.Seed = 0,
    base_url: opt.BaseUrl = None,
    api_key: opt.ApiKey = None,
    out: Annotated[Optional[Path], typer.Option(help="A JSON file for the numbers.")] = None,
    as_json: opt.Json = False,
) -> None:
    """Measure a reward model or a judge on human comparisons, beside the longer answer, the shorter one and a bag of
    words; or let a judge compare."""
    from ponder.evals.judged_pairs import leanings, order_lines, pairs_of, pairs_of_bank
    from ponder.evals.looks import note_look
    from ponder.evals.preference import examine, notes, summarise, trained_on
    from ponder.scorers import load_scorer
    from ponder.scorers.files import fingerprint
    from ponder.tasks.preferences import load_comparisons

    _check_what_goes_together(context, judge, scorer, votes, bank, out)
    if bank is not None and (task, split) != ("hh", "report"):
        raise ConfigError(
            "--task and --split are of recorded comparisons, and a bank's pairs have none: leave them out"
        )
    if out is not None:
        refuse_overwriting(out, task or "", votes or "")

    def ask(pairs: Sequence[AnswerPair]) -> list[JudgedPair]:
        engine = (judge or "", base_url, api_key)
        return _judged(pairs, engine, votes, (max_reasoning_tokens, max_answer_tokens), seed)

    if bank is not None:
        from ponder.evals.bank import Bank

        made = ask(pairs_of_bank(Bank.read(bank), size=limit or 1000, seed=seed))
        facts = {"pairs": len(made), "comparisons": sum(each.is_read for each in made), "votes": str(votes)}
        finish(facts, f"{facts['comparisons']} comparisons of judge {judge} are in {votes}", as_json)
        _print_notes(order_lines(made))
        return
    found = load_comparisons(task, split=split, size=limit)  # type: ignore[arg-type]
    every = load_comparisons(task)
    if judge is not None:
        made = ask(pairs_of(found.comparisons))
        leans = leanings(found.comparisons, made)
        if not any(each.is_read for each in made):
            raise ConfigError("; ".join(order_lines(made)))
        report = summarise(f"judge {judge}", leans, found, every=every)
        lines = [*order_lines(made), *notes(report)]
        looked = (f"judge {judge}", "")
    else:
        opened = load_scorer(scorer) if scorer else None
        seen = trained_on(scorer) if scorer else frozenset()
        report = asyncio.run(examine(opened, found, every=every, seen=seen, name=str(scorer or "")))
        lines = notes(report)
        looked = (str(scorer), fingerprint(scorer)) if scorer else ("", "")
    if split == "report" and looked[0]:
        lines.append(note_look(f"comparisons/{found.name}", *looked))
    _show(report, {"origin": [dict(row) for row in found.origin]}, lines, out, as_json)


def _check_what_goes_together(
    context: typer.Context, judge: str | None, scorer: Path | None, votes: Path | None, bank: Path | None,
    out: Path | None,
) -> None:  # fmt: skip
    if judge is None:
        names = "votes", "bank", "base_url", "api_key", "max_reasoning_tokens", "max_answer_tokens", "seed"
        opt.refuse_given(context, "of --judge, which is not given", *names)
    if judge is not None and scorer is not None:
        raise ConfigError(f"{scorer} and --judge {judge}: one of them at a time")
    if bank is not None and out is not None:
        raise ConfigError("--out is for the numbers of an exam, and a bank's pairs give none: leave it out")
    if bank is not None and votes is None:
        raise ConfigError(
            "a bank's answers have no recorded preferences to measure against: give the judge's votes a file (--votes)"
        )


def _judged(
    pairs: Sequence[AnswerPair], engine: tuple[str, str | None, str | None], votes: Path | None, most: tuple[int, int],
    seed: int,
) -> list[JudgedPair]:  # fmt: skip
    """The judge's word on every pair; what stands in the file of votes is not asked again."""
    from ponder.cli.loading import closing, open_engine
    from ponder.evals.judged_pairs import judge_pairs, rows_of
    from ponder.types import SamplingParams

    model, base_url, api_key = engine
    params = SamplingParams(temperature=0.0, max_reasoning_tokens=most[0], max_answer_tokens=most[1])
    with contextlib.ExitStack() as stack:
        if votes:
            stack.enter_context(lock_beside(votes))
        known = _known(votes, model, {pair.id: pair for pair in pairs}) if votes else {}
        opened = stack.enter_context(closing(open_engine(model, base_url, api_key=api_key)))
        missing = [pair for pair in pairs if pair.id not in known]
        keep = (lambda some: append_jsonl(votes, rows_of(some, name=model))) if votes else (lambda some: None)
        found = asyncio.run(judge_pairs(missing, opened, params=params, seed=seed, keep=keep))
    new = {judged.pair.id: judged for judged in found}
    return [new.get(pair.id) or known[pair.id] for pair in pairs]


def _known(votes: Path, model: str, wanted: Mapping[str, AnswerPair]) -> dict[str, JudgedPair]:
    """What a judge said before, by the id of the pair."""
    from ponder.evals.judged_pairs import judged_of
    from ponder.rollouts.progress import damaged

    known: dict[str, JudgedPair] = {}
    for line, row in enumerate(read_jsonl(votes), 1):
        if row.get("annotator") != f"judge {model}":
            raise ConfigError(
                f"{votes} holds comparisons of {row.get('annotator')}; give judge {model} a file of its own"
            )
        try:
            judged = judged_of(row)
        except (KeyError, TypeError):
            raise damaged(votes, line) from None
        name = judged.pair.id
        if judged.pair != wanted.get(name, judged.pair):
            raise ConfigError(f"{votes} holds another pair under the id {name!r}; give these pairs a file of their own")
        known[name] = judged
    return known


def _show(
    report: PreferenceReport, more: dict[str, Any], lines: Sequence[str], out: Path | None, as_json: bool
) -> None:
    from ponder.evals.codec import dumps, encode
    from ponder.evals.preference import gain_line, length_table, table
    from ponder.files import write_atomic

    numbers = encode(report) | more
    if out:
        write_atomic(out, dumps(numbers))
    if as_json:
        print_json(numbers)
    else:
        print_tables([table(report), length_table(report)])
        print(gain_line(report))
    _print_notes(lines)


def _print_notes(notes: Sequence[str]) -> None:
    for line in notes:
        print(f"note: {line}", file=sys.stderr)
