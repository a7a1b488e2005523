"""Verbs for what is kept: regrade (samples), log (a run, to a tracker)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from pathlib import Path
from typing import Annotated, Optional

import typer
from rich.console import Console

from ponder.cli import options as opt
from ponder.cli.app import MEASURE, app
from ponder.cli.show import print_json, print_tables, resumable, stoppable

FOLLOW_SECONDS = 5.0


@app.command(rich_help_panel=MEASURE)
def regrade(
    bank: Annotated[Path, typer.Argument(help="The --out of `ponder eval`.")],
    verifier: Annotated[
        Optional[str], typer.Option(help="Judge by the stored targets with this one instead of the task's own: "
                                         "exact, integer, choice, math or module:attr.")
    ] = None,
    out: Annotated[Optional[Path], typer.Option(help="The new bank; default BANK-regraded. The old one stays.")] = None,
    as_json: opt.Json = False,
) -> None:  # fmt: skip
    """Judge stored samples anew, without a model, and say what changed."""
    from ponder.evals.bank import Bank
    from ponder.evals.codec import encode
    from ponder.evals.regrading import regrade as judge_anew
    from ponder.evals.tables import Table, cell
    from ponder.live import Bar

    out = out or bank.with_name(f"{bank.resolve().name}-regraded")
    shown = Bar(Console(stderr=True), "regrade", figure="of different answers right")
    with stoppable("no bank was written, and the old one is as it was"), shown as bar:
        found = asyncio.run(
            judge_anew(Bank.read(bank), verifier, out=out, on_progress=lambda now, n, share: bar("", now, n, share))
        )
    if as_json:
        print(json.dumps({**encode(found), "out": str(out)}, ensure_ascii=False))
        return
    if found.moves:
        print_tables([Table("Verdicts that changed", ("verdict", "samples"), list(found.moves.items()))])
    changed = sum(found.moves.values())
    print(f"{changed} of {found.num_samples} verdicts changed ({found.num_judged} different answers judged in "
          f"{found.seconds:.1f} s); pass@1 new - old {cell(found.gain.pass_at[1])}")  # fmt: skip
    print(f"the new bank is {out}; ponder report {out} makes a page of it")


@app.command(rich_help_panel=MEASURE)
def log(
    run: Annotated[Path, typer.Argument(help="The folder of a run, going on or finished.")],
    to: Annotated[str, typer.Option(help="tensorboard, trackio, wandb or mlflow.")] = "tensorboard",
    project: Annotated[str, typer.Option(help="Under which project or experiment.")] = "ponder",
    follow: Annotated[bool, typer.Option(help="Wait for more, until Ctrl-C.")] = False,
    with_reasoning: Annotated[
        bool, typer.Option("--with-reasoning", help="The samples' hidden reasoning too, for whoever sees the tracker.")
    ] = False,
    as_json: opt.Json = False,
) -> None:
    """Send a run's metrics, samples and curves to a tracker; run again, it sends what is new."""
    from ponder.config import lookup
    from ponder.evals.trackers import TRACKERS, Sent, send, tracked
    from ponder.files import lock, write_atomic

    found, opened = tracked(run, project), lookup(TRACKERS, to, what="tracker")
    kept = run / "sent" / f"{to}.json"
    with lock(kept.with_name(f".{to}.lock"), f"{to} of {run}"):  # two would send everything twice
        tracker, sent = opened(found), Sent.read(kept)
        with contextlib.closing(tracker), resumable():
            while True:
                now = send(found, tracker, sent, with_reasoning=with_reasoning)
                if now != sent:
                    write_atomic(kept, json.dumps(vars(now)) + "\n")
                    facts = {"to": to, "metrics": now.metrics, "samples": now.samples}
                    new = f"{now.metrics - sent.metrics} lines of metrics, {now.samples - sent.samples} samples"
                    in_all = f"({now.metrics} and {now.samples} in all)"
                    print(json.dumps(facts) if as_json else f"{to}: {new} sent {in_all}")
                elif as_json and not follow:
                    print_json({"to": to, "metrics": now.metrics, "samples": now.samples})
                sent = now
                if not follow:
                    return
                time.sleep(FOLLOW_SECONDS)
