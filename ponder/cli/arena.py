"""`ponder arena`: ratings from votes, and who else may vote: a judge, a synthetic voter; votes as comparisons.

Usage:

    ponder arena votes.jsonl            the same as `ponder arena rate votes.jsonl`
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer
from typer.core import TyperGroup

from ponder.cli import options as opt
from ponder.cli.app import MEASURE, app
from ponder.cli.options import number
from ponder.cli.show import finish, shown
from ponder.config import ConfigError

if TYPE_CHECKING:
    from ponder.evals.votes import VoteLog


class RatesByDefault(TyperGroup):
    """A first word that is no verb is a log: to rate it is what this group is for."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in self.commands:
            args = ["rate", *args]
        return super().resolve_command(ctx, args)


arena = typer.Typer(help="Rate models by votes on blind comparisons.", no_args_is_help=True, cls=RatesByDefault)
app.add_typer(arena, name="arena", rich_help_panel=MEASURE)
Log = Annotated[Path, typer.Argument(help="A log of votes: what `ponder serve --arena LOG` writes.")]
KINDS = ("people", "judge", "synthetic")
Voters = Annotated[
    str, typer.Option(help="Whose votes: people, judge or synthetic; default: people's, where there are any.")
]
Without = Annotated[
    Optional[list[str]],
    typer.Option(help="Leave votes out: self-naming, hasty, 'cut off' or 'same answer'; repeatable."),
]


@arena.command("rate")
def rate_votes(
    logs: Annotated[list[Path], typer.Argument(metavar="LOG...", help="Logs of votes; several are taken as one.")],
    voters: Voters = "",
    ties: Annotated[str, typer.Option(help="half: a tie is half a win. davidson: an outcome of its own.")] = "half",
    without: Without = None,
    plot: Annotated[Optional[Path], typer.Option(help="Draw ratings by domain into this .png file.")] = None,
    as_json: opt.Json = False,
) -> None:
    """Rate the models of a log: ratings with intervals, ranks, domains, and what the votes cannot show."""
    from ponder.evals.arena import analyse
    from ponder.evals.arena_text import lines_of
    from ponder.evals.codec import encode
    from ponder.evals.votes import read_logs

    if ties not in ("half", "davidson"):
        raise ConfigError(f"--ties {ties} must be half or davidson")
    log = read_logs(logs)
    kind = _kind(log, voters)
    ballots = [ballot for ballot in log.ballots() if ballot.kind == kind]
    found = analyse(ballots, ties=ties, without=without or ())  # type: ignore[arg-type]
    if plot is not None:
        from ponder.evals.arena_plots import picture
        from ponder.evals.axes import png

        if not found.standings:
            raise ConfigError("there is nothing to draw yet: no vote decides anything")
        png(picture(found), plot)
    others = {name: number for name, number in _counts(log).items() if name != kind and number}
    if as_json:
        facts = {"kind": kind, "other_votes": others, "left_out": log.counts}
        print(json.dumps({**facts, **encode(found)}, ensure_ascii=False))
        return
    apart = "".join(f"; {number} of {_called(name)} apart" for name, number in others.items())
    print(f"votes of {_called(kind)}{apart}")
    left_out = ", ".join(f"{count} {why}" for why, count in log.counts.items() if count)
    if left_out:
        print(f"not counted: {left_out}")
    print(shown("\n".join(lines_of(found))))
    if plot is not None:
        print(f"the picture is {plot}")


@arena.command("judge")
def judge_(
    log: Log,
    model: opt.Model = "smollm2-135m",
    name: Annotated[str, typer.Option(help="Of the judge in the log; default: its model's.")] = "",
    limit: Annotated[Optional[int], number("Battles at most.", least=1)] = None,
    out: Annotated[Optional[Path], typer.Option(help="A log of its own; default: the same.")] = None,
    max_reasoning_tokens: opt.Reasoning = 256,
    max_answer_tokens: opt.Answer = 16,
    seed: opt.Seed = 0,
    base_url: opt.BaseUrl = None,
    api_key: opt.ApiKey = None,
    as_json: opt.Json = False,
) -> None:
    """Let a language model vote on the battles of a log, in both orders. Again = go on."""
    from ponder.cli.loading import closing, open_engine
    from ponder.evals.arena_judge import judge_votes
    from ponder.evals.votes import append, read_log, read_logs, written
    from ponder.types import SamplingParams

    target = out or log
    read = read_logs([log, out]) if out is not None and out != log and out.exists() else read_log(log)
    params = SamplingParams(
        temperature=0.0, max_reasoning_tokens=max_reasoning_tokens, max_answer_tokens=max_answer_tokens
    )
    with written(target), closing(open_engine(model, base_url, api_key=api_key)) as engine:
        work = judge_votes(
            read, engine, name=name or model, params=params, limit=limit, seed=seed,
            keep=lambda votes: append(target, votes),
        )  # fmt: skip
        votes = asyncio.run(work)
    undecided = sum(vote.choice == "undecided" for vote in votes)
    if votes and undecided == len(votes):
        print("warning: no reply could be read as A, B or C; take another model as the judge", file=sys.stderr)
    facts = {"votes": len(votes), "undecided": undecided, "log": str(target)}
    finish(facts, f"{len(votes)} votes of judge {name or model} in {target}, {undecided} undecided", as_json)


@arena.command("synthetic")
def synthetic_(
    log: Log,
    strength: Annotated[list[str], typer.Option(metavar="MODEL=POINTS", help="A model's rating; repeatable.")],
    battles: Annotated[int, number("Made-up battles to add first.", least=0, most=1_000_000)] = 0,
    voters: Annotated[int, number("Voters a battle.", least=1, most=1000)] = 1,
    answer_sd: Annotated[float, number("The luck of answers, in log-odds, shared by a battle's voters.", least=0)] = 0,
    tie_share: Annotated[float, number("The chance of a tie.", least=0, most=0.99)] = 0.1,
    seed: opt.Seed = 0,
    as_json: opt.Json = False,
) -> None:
    """Let a synthetic voter of known taste vote, to find out what a log can show."""
    from ponder.evals.made_up_votes import Taste, made_up_battles, synthetic_votes
    from ponder.evals.votes import append, read_log, written

    taste = Taste(strengths=_strengths(strength), answer_sd=answer_sd, ties=tie_share)
    with written(log):
        known = read_log(log) if log.exists() else None
        if known is None and not battles:
            raise ConfigError(f"there is no log at {log}; --battles 200 makes one up")
        kept = [] if known is None else list(known.battles.values())
        made = made_up_battles(taste, num=battles, seed=seed)
        made = [battle for battle in made if known is None or battle.id not in known.battles]
        done = [] if known is None else [(vote.battle, vote.voter) for vote in known.votes]
        votes = synthetic_votes([*kept, *made], taste, voters=voters, seed=seed, done=done)
        append(log, [*made, *votes])
    facts = {"battles": len(made), "votes": len(votes), "log": str(log)}
    finish(facts, f"{len(votes)} synthetic votes, {len(made)} made-up battles added to {log}", as_json)


@arena.command("export")
def export(
    log: Log,
    out: Annotated[Path, typer.Argument(help="A .jsonl file, one comparison a line.")],
    voters: Voters = "",
    without: Without = None,
    as_json: opt.Json = False,
) -> None:
    """Write votes as comparisons, without reasoning and without names of models, for a scorer to learn from."""
    from ponder.evals.arena_export import comparisons, write_comparisons
    from ponder.evals.votes import check_filters, read_log
    from ponder.files import refuse_overwriting

    refuse_overwriting(out, log)
    read = read_log(log)
    check_filters(without or ())
    kind = _kind(read, voters)
    found, left_out = comparisons(read, kinds={kind}, without=without or ())
    if not found:
        raise ConfigError(f"{log} has no vote of {_called(kind)} that could be written")
    write_comparisons(found, out)
    note = "".join(f", {count} {why} left out" for why, count in left_out.items())
    facts = {"comparisons": len(found), "left_out": dict(left_out), "out": str(out)}
    finish(facts, f"{out}: {len(found)} comparisons of {_called(kind)}{note}", as_json)


def _counts(log: VoteLog) -> dict[str, int]:
    """Votes that stand by the kind of their voter."""
    counted = {"person": 0, "judge": 0, "synthetic": 0}
    for vote in log.standing():
        counted[vote.kind] += 1
    return counted


def _kind(log: VoteLog, asked: str) -> str:
    """Whose votes to take; kinds are never mixed."""
    if asked and asked not in KINDS:
        raise ConfigError(f"--voters {asked} must be one of {', '.join(KINDS)}")
    if asked:
        return {"people": "person"}.get(asked, asked)
    return next((kind for kind, count in _counts(log).items() if count), "person")


def _called(kind: str) -> str:
    return {"person": "people", "judge": "a judge", "synthetic": "a synthetic voter"}[kind]


def _strengths(given: Sequence[str]) -> dict[str, float]:
    found = {}
    for text in given:
        name, mark, value = text.rpartition("=")
        try:
            found[name] = float(value)
        except ValueError:
            mark = ""
        if not mark or not name:
            raise ConfigError(f"--strength {text}: write MODEL=POINTS, e.g. --strength nano=1050")
    return found
