"""Verbs that use a model here: ask, play, pull."""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from pathlib import Path
from typing import Annotated, Any, Optional

import typer
from rich.console import Console
from typer.core import TyperCommand

from ponder.cli.app import USE, Answer, ApiKey, BaseUrl, Json, Model, Reasoning, Seed, Temperature, app, number
from ponder.cli.loading import close, flops_of, measured_efforts, open_engine, open_scorer
from ponder.cli.show import finish
from ponder.config import ConfigError, to_dict
from ponder.types import Budget, Message, Problem, SamplingParams, Scorer


class Questions(TyperCommand):
    """A question may begin with a minus sign: "-5+3" is asked, of other words the error says how."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, list(args))
        except Exception as error:  # NoSuchOption, which each version of typer has elsewhere
            name = getattr(error, "option_name", "--")
            if name.startswith("--"):
                raise
            meant = [word for word in args if word.startswith(name)]
            if len(meant) == 1 and re.match(r"-\s*[\d.(\\$]", meant[0]):
                return super().parse_args(ctx, [*(word for word in args if word != meant[0]), "--", meant[0]])
            raise ConfigError(
                f"no such option: {name}; a question that begins with a minus sign goes behind two of them, after the "
                'options: ponder ask --samples 8 -- "-x*-x"'
            ) from None


@app.command(cls=Questions, rich_help_panel=USE)
def ask(
    question: Annotated[str, typer.Argument(help="What to ask.")],
    model: Model = "nano",
    mode: Annotated[
        Optional[str],
        typer.Option(
            help="single, consensus, adaptive, best_of_n, weighted, confident, rerank_vote, judge, search, dvts, mcts, "
            "forced, revise, deliberate, controller: see docs/strategies.md. Default: single, or consensus of several."
        ),
    ] = None,
    samples: Annotated[
        Optional[int], number("Samples; of a search, candidates a step; of revise, versions.", least=1)
    ] = None,
    scorer: Annotated[Optional[Path], typer.Option(help="What `ponder scorer` made, for modes that rank.")] = None,
    controller_file: Annotated[
        Optional[Path], typer.Option("--controller", help="What `ponder controller` made, for mode controller.")
    ] = None,
    budget_tokens: Annotated[Optional[int], number("Tokens that may be sampled in all.", least=2)] = None,
    word: Annotated[
        str, typer.Option(help='For mode forced: what is said in place of closing too early, e.g. " Wait".')
    ] = "",
    option: Annotated[
        Optional[list[str]],
        typer.Option(metavar="NAME=VALUE", help="For mode deliberate, one at a time: m=4, turns=12, choice=vote, ..."),
    ] = None,
    max_reasoning_tokens: Reasoning = 256,
    max_answer_tokens: Answer = 64,
    temperature: Temperature = 1.0,
    seed: Seed = 0,
    show_reasoning: Annotated[bool, typer.Option("--show-reasoning", help="Print the hidden reasoning too.")] = False,
    base_url: BaseUrl = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Ask one question; the model thinks first, and the reasoning stays hidden unless asked for.

    Ctrl-C ends it with the best answer so far.
    """
    import functools

    from ponder.config import lookup
    from ponder.live import Leader
    from ponder.strategies import STRATEGIES
    from ponder.strategies.base import parse_options
    from ponder.strategies.keys import answer_key

    mode = mode or ("consensus" if samples and samples > 1 else "single")
    strategy = lookup(STRATEGIES, mode, what="mode")
    if base_url and (mode in ("search", "dvts", "mcts", "deliberate") or word):
        raise ConfigError(f"mode {mode} goes on from token ids, which an endpoint does not give; leave out --base-url")
    extra = parse_options(option or [])
    if extra and mode != "deliberate":
        raise ConfigError(f"--option is for mode deliberate, not {mode}")
    problem = Problem(id="ask", prompt=(Message(role="user", content=question),), target="", task="ask")
    params = SamplingParams(
        temperature=temperature,
        max_reasoning_tokens=max_reasoning_tokens,
        max_answer_tokens=max_answer_tokens,
        seed=seed,
    )
    levels = None if base_url else measured_efforts(model)
    key = functools.cache(answer_key(levels.verifier if levels else ""))  # once an answer: the terminal asks it too
    begun, stopped = time.monotonic(), False
    judge: Scorer | None = open_scorer(scorer, model, base_url, key) if scorer else None
    # one prompt keeps one core busy, processes start slowly, and unused slots cost memory
    engine = open_engine(
        model, base_url, num_workers=0, num_slots=min(max(samples or 64, 1), 128),
        keep_hidden=judge is not None and "hidden" in judge.needs, api_key=api_key,
    )  # fmt: skip
    options: dict[str, Any] = {} if samples is None or mode == "single" else {"n": samples}
    asked: Judge | None = None
    if mode == "judge" and judge is None:
        from ponder.scorers.judge import Judge

        judge = asked = Judge(engine, mode="compare")
    if mode == "forced" and word:
        options |= {"word": word, "word_ids": engine.encode(word)}
    if mode == "controller":
        options["rule"] = controller_file
    options |= extra
    try:
        with Leader(Console(stderr=True), key) as leader:
            try:
                solution = asyncio.run(
                    strategy(
                        problem.prompt, engine, params=params, key=key, scorer=judge,
                        budget=Budget(max_tokens=budget_tokens), watch=leader, **options,
                    )
                )  # fmt: skip
            except KeyboardInterrupt:
                if leader.best is None:
                    print("stopped before there was an answer", file=sys.stderr)
                    raise SystemExit(130) from None
                solution, stopped = leader.best, True
    finally:
        close(engine)
    usage, (replies, unread) = solution.usage, (asked.num_replies, asked.num_unparsed) if asked else (0, 0)
    if as_json:
        result: dict[str, Any] = {
            "answer": solution.answer,
            "mode": mode,
            "stopped_early": stopped,
            "usage": to_dict(usage) | {"flops": flops_of(usage, model, base_url, judge)},
            "seconds": time.monotonic() - begun,
        }
        if show_reasoning:
            result["reasoning"] = solution.reasoning
        if unread:
            result["judge"] = {"replies": replies, "unread": unread}
        print(json.dumps(result, ensure_ascii=False))
        return
    if show_reasoning:
        print(solution.reasoning or "(no reasoning)")
    print(solution.answer or "(no answer: the model never closed its reasoning)")
    cost = f"{usage.reasoning_tokens} reasoning tokens, {usage.samples} sample{'s' if usage.samples > 1 else ''}"
    cost += f", {usage.scorer_tokens} scorer tokens" if usage.scorer_tokens else ""
    cost += f"; {unread} of {replies} replies of the judge could not be read" if unread else ""
    cost += "; stopped early" if stopped else ""
    Console(stderr=True, highlight=False).print(f"({cost})", style="dim")


@app.command(rich_help_panel=USE)
def play(
    task: Annotated[str, typer.Option(help="A task: a name, NAME:level=3, file:PATH, gym:FAMILY.")] = "arithmetic",
    limit: Annotated[int, number("How many problems.", least=1)] = 5,
    seed: Seed = 0,
) -> None:
    """Answer a task yourself, in the model's place; the same code checks you."""
    from ponder.tasks import load_task

    problems, right, asked = load_task(task, split="train", seed=seed), 0, 0
    print(f"{task}: {min(limit, len(problems))} problems, Ctrl-D to stop.")
    for index in range(min(limit, len(problems))):
        problem = problems[index]
        print(f"\n{problem.text}")
        try:
            answer = input("> ")
        except (EOFError, KeyboardInterrupt):
            print()
            break
        asked += 1
        verdict = problems.verify(problem, answer)
        right += verdict.is_correct
        note = "" if verdict.is_correct else f"; the target is {problem.target}"
        print(f"{verdict.outcome} (read as {verdict.extracted!r}){note}")
    print(f"{right} of {asked} correct")


@app.command(rich_help_panel=USE)
def pull(
    model: Annotated[str, typer.Argument(help="smollm2-135m, a hub id (owner/name[@revision]), or a GGUF file.")],
    as_json: Json = False,
) -> None:
    """Fetch a model once, and keep it: afterwards its name works as --model, without a network."""
    from ponder.models import hub

    folder = hub.pull(model, say=lambda line: print(line, file=sys.stderr, flush=True))
    facts = hub.describe(folder) | {"name": model}
    sentence = f"{facts['parameters'] / 1e6:.0f} M parameters, {facts['dtype']}, window {facts['window']}, in {folder}"
    finish(facts, sentence, as_json)
