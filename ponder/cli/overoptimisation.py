"""`ponder overoptimisation`: label (comparisons by a gold reward) and curves (gold and proxy over the KL)."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from ponder.cli import options as opt
from ponder.cli.app import MEASURE, app
from ponder.cli.options import number
from ponder.cli.show import finish
from ponder.config import ConfigError, lookup

if TYPE_CHECKING:
    from ponder.evals.overoptimisation import PressedCurve

overoptimisation = typer.Typer(
    help="A learned reward against what it was meant to say: comparisons by a known reward, curves over the KL.",
    no_args_is_help=True,
)
app.add_typer(overoptimisation, name="overoptimisation", rich_help_panel=MEASURE)
SHOWN_WORK = "ponder.evals.overoptimisation:shown_work"
GoldOption = Annotated[
    str, typer.Option("--gold", help="module:attr of gold(problem, completion, is_correct) -> a number.")
]


@overoptimisation.command("label")
def label_(
    bank: Annotated[Path, typer.Argument(help="A bank: the --out of `ponder eval`.")],
    out: Annotated[Path, typer.Option(help="The JSON Lines file, for `ponder scorer` with kind = preference.")],
    gold: GoldOption = SHOWN_WORK,
    size: Annotated[int, number("Comparisons.", "--count", least=1)] = 1000,
    noise: Annotated[float, number("Share of them that prefers what is worse.", least=0, most=0.49)] = 0.0,
    seed: opt.Seed = 0,
    as_json: opt.Json = False,
) -> None:
    """Compare answers of a bank by a gold reward that is written down."""
    from ponder.evals.bank import Bank
    from ponder.evals.overoptimisation import label
    from ponder.files import jsonl, write_atomic

    rows = label(Bank.read(bank), lookup({}, gold, what="gold reward"), size=size, noise=noise, seed=seed)
    write_atomic(out, jsonl(rows))
    finish({"comparisons": len(rows), "out": str(out)}, f"{len(rows)} comparisons are in {out}", as_json)


@overoptimisation.command("curves")
def curves_(
    out: Annotated[Path, typer.Option(help="A folder: curves.json, figure.png, and the samples of checkpoints.")],
    bank: Annotated[Optional[Path], typer.Argument(help="A bank of other problems, for the best of n.")] = None,
    proxy: Annotated[Optional[list[Path]], typer.Option(help="A reward model; repeatable.")] = None,
    run: Annotated[Optional[list[Path]], typer.Option(help="A run whose reward is one of them; repeatable.")] = None,
    gold: GoldOption = SHOWN_WORK,
    limit: Annotated[int, number("Problems a checkpoint is measured on.", least=1)] = 60,
    samples: Annotated[int, number("Samples of each.", least=1)] = 8,
    seed: opt.Seed = 0,
    as_json: opt.Json = False,
) -> None:
    """Gold and proxy over the root of the KL: best of n of a bank, and along the checkpoints of runs."""
    from ponder.evals.bank import Bank
    from ponder.evals.codec import encode
    from ponder.evals.overoptimisation import bank_curve, score_bank
    from ponder.evals.overoptimisation_plots import BEST_OF, save_figure
    from ponder.evals.preference import trained_on
    from ponder.files import write_atomic
    from ponder.scorers import load_scorer

    if not proxy and not run:
        raise ConfigError("give reward models (--proxy) for a bank, or runs that were rewarded by one (--run)")
    if (bank is None) != (not proxy):
        raise ConfigError("a bank and reward models (--proxy) go together; a run has its own")
    measure = lookup({}, gold, what="gold reward")
    found: list[PressedCurve] = []
    if bank is not None:
        opened = {str(folder): load_scorer(folder) for folder in proxy or ()}
        seen = frozenset().union(*(trained_on(folder) for folder in proxy or ()))
        scored, unread = score_bank(Bank.read(bank), measure, opened, seen=seen)
        for name, scorer in opened.items():
            found.append(bank_curve(scored, name, label=f"{BEST_OF}, {members(scorer)}", unread=unread))
    for folder in run or ():
        found.append(_along(folder, out, measure, limit=limit, samples=samples, seed=seed))
    write_atomic(out / "curves.json", json.dumps([encode(curve) for curve in found], indent=1) + "\n")
    save_figure(found, out / "figure.png")
    text = "\n".join(
        f"{curve.label} ({curve.proxy}): gold {curve.points[0].gold:.3f} at first, {curve.peak.gold:.3f} at its peak "
        f"({curve.peak.kl:.2f} nats), {curve.points[-1].gold:.3f} at the end ({curve.points[-1].kl:.2f} nats)"
        for curve in found
    )
    finish({"curves": [encode(curve) for curve in found]}, f"{text}\nthe figure is {out / 'figure.png'}", as_json)


def members(scorer: Any) -> str:
    """How many reward models are asked."""
    from ponder.scorers.preference_ensemble import PreferenceEnsemble

    if isinstance(scorer, PreferenceEnsemble):
        return f"{scorer.reduce} of {len(scorer.members)}"
    return "one model"


def _along(folder: Path, out: Path, gold: Any, *, limit: int, samples: int, seed: int) -> PressedCurve:
    """The checkpoints of a run, each with a bank of problems of the test split."""
    from ponder.cli.loading import CheckpointEngines, describe
    from ponder.evals.bank import Bank
    from ponder.evals.exams import run_exam
    from ponder.evals.overoptimisation import run_curve
    from ponder.evals.preference import trained_on
    from ponder.files import read_object
    from ponder.runs import find_checkpoints
    from ponder.scorers import load_scorer
    from ponder.tasks import load_task
    from ponder.train.recipe import load_recipe

    config = load_recipe(folder / "config.toml")
    proxy = config.reward.preference
    if not proxy:
        raise ConfigError(f"{folder} was not rewarded by a reward model (reward.preference)")
    scorer, task, banks = load_scorer(proxy), load_task(config.task, split="test"), {}
    with CheckpointEngines() as engines:
        for checkpoint in find_checkpoints(folder):
            place = out / "samples" / folder.name / checkpoint.name
            facts = describe(str(checkpoint), None)
            asyncio.run(run_exam(
                task, engines.open(checkpoint), name=config.task, model=facts.name, fingerprint=facts.fingerprint,
                num_samples=samples, params=config.params, out=place, seed=seed, limit=limit,
            ))  # fmt: skip
            banks[int(read_object(checkpoint / "checkpoint.json", "step")["step"])] = Bank.read(place)
    return run_curve(
        folder, banks, gold, proxy, scorer, label=f"{config.preset}, {members(scorer)}", seen=trained_on(proxy)
    )
