"""Verbs that use a model here: ask, play, pull."""

from __future__ import annotations

import asyncio
import functools
import inspect
import json
import re
import sys
import time
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer
from rich.console import Console
from typer.core import TyperCommand

from ponder.cli import options as opt
from ponder.cli.app import USE, app
from ponder.cli.approving import CallApprover
from ponder.cli.loading import (
    closing,
    flops_of,
    measured_efforts,
    open_engine,
    open_scorer,
    open_testers,
    warn_of_experiments,
)
from ponder.cli.options import number
from ponder.cli.show import finish, shown
from ponder.config import ConfigError, lookup, to_dict
from ponder.types import Budget, Engine, Message, SamplingParams, Solution, Usage

if TYPE_CHECKING:
    from ponder.scorers.judge import Judge
    from ponder.serve.mcp import Toolbox
    from ponder.serve.tool_rounds import MadeCall
    from ponder.strategies.keys import Key
    from ponder.strategies.submit import Tester


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
                f"no such option: {name}; a question that begins with a minus sign goes after `--`, after the "
                'options: ponder ask --samples 8 -- "-x*-x"'
            ) from None


@app.command(cls=Questions, rich_help_panel=USE)
def ask(
    question: Annotated[str, typer.Argument(help="What to ask.")],
    model: opt.Model = "nano",
    mode: Annotated[
        Optional[str],
        typer.Option(
            help="single, consensus, adaptive, best_of_n, weighted, confident, rerank_vote, judge, search, dvts, mcts, "
            "forced, revise, deliberate, programs, controller, submit: see docs/strategies.md. Default: single, or "
            "consensus of several."
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
        typer.Option(
            metavar="NAME=VALUE",
            help="For modes deliberate (m=4, turns=12, choice=vote, ...) and programs (turns=4), one at a time.",
        ),
    ] = None,
    max_reasoning_tokens: opt.Reasoning = 256,
    max_answer_tokens: opt.Answer = 64,
    temperature: opt.Temperature = 1.0,
    seed: opt.Seed = 0,
    show_reasoning: Annotated[bool, typer.Option("--show-reasoning", help="Print the hidden reasoning too.")] = False,
    mcp: Annotated[
        Optional[list[str]],
        typer.Option(
            metavar="COMMAND or URL",
            help="An MCP server whose tools the model may call; NAME:TOOL,TOOL=... "
            "names it and allows these tools alone. Several times for several.",
        ),
    ] = None,
    approve: Annotated[
        bool, typer.Option("--approve", help="With --mcp: make the calls of tools without asking at the terminal.")
    ] = False,
    tool_rounds: Annotated[int, number("With --mcp: how often a sample may call tools.", least=1, most=64)] = 8,
    engine_name: opt.EngineName = "local",
    base_url: opt.BaseUrl = None,
    api_key: opt.ApiKey = None,
    int8: opt.Int8 = False,
    as_json: opt.Json = False,
) -> None:
    """Ask one question; the model thinks first, and the reasoning stays hidden unless asked for.

    Ctrl-C ends it with the best answer so far.
    """
    from ponder.strategies.base import parse_options
    from ponder.strategies.keys import answer_key

    mode = mode or ("consensus" if samples and samples > 1 else "single")
    extra = parse_options(option or [])
    _refuse_stray({
        "--samples is for modes that draw several": mode == "single" and (samples or 1) > 1,
        "--word is for mode forced": bool(word) and mode != "forced",
        "--controller is for mode controller": controller_file is not None and mode != "controller",
        "--approve is for tools, which --mcp names": approve and not mcp,
    })  # fmt: skip
    strategy = _strategy(mode, base_url, needs_ids=bool(word), has_options=bool(extra))
    params = SamplingParams(
        temperature=temperature, max_reasoning_tokens=max_reasoning_tokens, max_answer_tokens=max_answer_tokens,
        seed=seed,
    )  # fmt: skip
    toolbox = _toolbox(mcp, mode, budget_tokens) if mcp else None
    approver = CallApprover() if mcp and not approve else None
    levels = None if base_url else measured_efforts(model)
    key = functools.cache(answer_key(levels.verifier if levels else ""))  # once an answer: the terminal asks it too
    begun = time.monotonic()
    testers = open_testers() if mode == "submit" else None
    ranker = open_scorer(scorer, model, base_url, key) if scorer else None
    # one prompt keeps one core busy, processes start slowly, and unused slots cost memory
    engine = open_engine(
        model, base_url, num_workers=0, num_slots=min(max(samples or 64, 1), 128),
        keep_hidden=ranker is not None and "hidden" in ranker.needs, api_key=api_key, engine=engine_name, int8=int8,
    )  # fmt: skip
    with closing(engine):
        judge = _judge(engine) if mode == "judge" and ranker is None else None
        options = _options(mode, engine, samples=samples, word=word, controller=controller_file, testers=testers)
        asked = functools.partial(
            strategy, (Message(role="user", content=question),), params=params, key=key,
            scorer=judge or ranker, budget=Budget(max_tokens=budget_tokens), **(options | extra),
        )  # fmt: skip
        ask_strategy, calls = _with_engine(asked, engine, toolbox, tool_rounds, approver)
        solution, stopped = _solve(ask_strategy, key, approver)
    if not as_json:
        return _print_solution(solution, calls, judge, stopped=stopped, show_reasoning=show_reasoning)
    result: dict[str, Any] = {
        "answer": solution.answer, "mode": mode, "stopped_early": stopped,
        "usage": to_dict(solution.usage) | {"flops": flops_of(solution.usage, model, base_url, judge or ranker)},
        "seconds": time.monotonic() - begun,
    }  # fmt: skip
    result |= {"reasoning": solution.reasoning} if show_reasoning else {}
    result |= {"tool_calls": [to_dict(call) for call in calls]} if toolbox is not None else {}
    if judge and judge.num_unparsed:
        result["judge"] = {"replies": judge.num_replies, "unread": judge.num_unparsed}
    print(json.dumps(result, ensure_ascii=False))


_FROM_IDS = ("search", "dvts", "mcts", "deliberate", "programs")  # go on from token ids
_NOT_WHOLE = (*_FROM_IDS, "forced", "revise", "submit")  # draw more than whole answers


def _refuse_stray(options: Mapping[str, bool]) -> None:
    """options: what one is for -> whether it was given without that."""
    if told := next((what for what, is_stray in options.items() if is_stray), None):
        raise ConfigError(f"{told}; leave it out, or give another --mode" if "mode" in told else told)


def _strategy(mode: str, base_url: str | None, *, needs_ids: bool, has_options: bool) -> Callable[..., Any]:
    """The strategy of a mode; refused where the engine or the options do not go with it."""
    from ponder.rollouts.programs import programs
    from ponder.strategies import STRATEGIES

    strategy: Callable[..., Any] = lookup({**STRATEGIES, "programs": programs}, mode, what="mode")
    takes = inspect.signature(strategy, follow_wrapped=False).parameters if callable(strategy) else {}
    if "params" not in takes and not any(each.kind is each.VAR_KEYWORD for each in takes.values()):
        raise ConfigError(f"{mode} is no strategy: put `@strategy` (of ponder.strategies.base) above an async function")
    if base_url and (mode in _FROM_IDS or needs_ids):
        raise ConfigError(f"mode {mode} goes on from token ids, which an endpoint does not give; leave out --base-url")
    if has_options and mode not in ("deliberate", "programs"):
        raise ConfigError(f"--option is for the modes deliberate and programs, not {mode}")
    return strategy


def _toolbox(given: list[str], mode: str, budget_tokens: int | None) -> Toolbox:
    """The MCP servers of --mcp, not yet started; refused where their tools cannot be used."""
    from ponder.serve.mcp import Toolbox, import_sdk, parse_servers

    if mode in _NOT_WHOLE:
        raise ConfigError(f"--mcp works with modes that draw whole answers, such as single and consensus, not {mode}")
    if budget_tokens is not None:
        raise ConfigError("--budget-tokens bounds one completion, and with --mcp an answer is several; leave it out")
    specs = parse_servers(given, named=False)
    import_sdk()
    return Toolbox(specs)


def _with_engine(
    asked: Callable[..., Any], engine: Engine, toolbox: Toolbox | None, rounds: int, approve: CallApprover | None
) -> tuple[Callable[..., Any], list[MadeCall]]:
    """The strategy's call with its engine, and the list that its tool calls will be in."""
    if toolbox is None:
        return functools.partial(asked, engine=engine), []
    from ponder.serve.tool_rounds import ToolUsingEngine, with_tools

    using = ToolUsingEngine(engine, toolbox, rounds=rounds, approve=approve)
    return with_tools(asked, using, toolbox), using.calls


def _print_solution(
    solution: Solution, calls: list[MadeCall], judge: Judge | None, *, stopped: bool, show_reasoning: bool
) -> None:
    """The answer on stdout, with its reasoning where it was asked for; what it cost on stderr."""
    if show_reasoning:
        print(shown(solution.reasoning) or "(no reasoning)")
    print(shown(solution.answer) or "(no answer: the model never closed its reasoning)")
    cost = _cost(solution.usage, judge, stopped) + _tool_calls_note(calls)
    Console(stderr=True, highlight=False, markup=False).print(f"({cost})", style="dim")


def _tool_calls_note(calls: list[MadeCall]) -> str:
    if not calls:
        return ""
    names = ", ".join(dict.fromkeys(call.name for call in calls))
    failed = sum(call.result.is_error for call in calls)
    note = f"; {len(calls)} tool call{'s' if len(calls) > 1 else ''}: {names}"
    return note + (f", {failed} failed" if failed else "")


def _judge(engine: Engine) -> Judge:
    """The model itself as the scorer of mode judge."""
    from ponder.scorers.judge import Judge

    return Judge(engine, mode="compare")


def _options(
    mode: str,
    engine: Engine,
    *,
    samples: int | None,
    word: str,
    controller: Path | None,
    testers: dict[str, Tester] | None,
) -> dict[str, Any]:
    """What a mode is given beside what all of them take."""
    options: dict[str, Any] = {} if samples is None or mode == "single" else {"n": samples}
    if mode == "forced" and word:
        options |= {"word": word, "word_ids": engine.encode(word)}
    if mode == "controller":
        options["rule"] = controller
    return options if testers is None else options | {"testers": testers}


def _solve(
    strategy: Callable[..., Coroutine[Any, Any, Solution]], key: Key, approver: CallApprover | None = None
) -> tuple[Solution, bool]:
    """What a strategy finds, shown while it is on its way, and whether Ctrl-C ended it."""
    from ponder.live import Leader

    with Leader(Console(stderr=True), key) as leader:
        if approver is not None:
            approver.paused = leader.paused
        try:
            return asyncio.run(strategy(watch=leader)), False
        except KeyboardInterrupt:
            if leader.best is None:
                print("stopped before there was an answer", file=sys.stderr)
                raise SystemExit(130) from None
            return leader.best, True


def _cost(usage: Usage, judge: Judge | None, stopped: bool) -> str:
    parts = f"{usage.reasoning_tokens} reasoning tokens, {usage.samples} sample{'s' if usage.samples > 1 else ''}"
    parts += f", {usage.scorer_tokens} scorer tokens" if usage.scorer_tokens else ""
    if judge and judge.num_unparsed:
        parts += f"; {judge.num_unparsed} of {judge.num_replies} replies of the judge could not be read"
    return parts + ("; stopped early" if stopped else "")


@app.command(rich_help_panel=USE)
def play(
    task: Annotated[str, typer.Option(help="A task: a name, NAME:level=3, file:PATH, gym:FAMILY.")] = "arithmetic",
    limit: Annotated[int, number("How many problems.", least=1)] = 5,
    seed: opt.Seed = 0,
) -> None:
    """Answer a task yourself, in the model's place; the same code checks you."""
    from ponder.tasks import load_task

    problems, right, asked = load_task(task, split="train", seed=seed), 0, 0
    print(f"{task}: {min(limit, len(problems))} problems, Ctrl-D to stop.")
    for index in range(min(limit, len(problems))):
        problem = problems[index]
        print(f"\n{shown(problem.text)}")
        try:
            answer = input("> ")
        except (EOFError, KeyboardInterrupt):
            print()
            break
        asked += 1
        verdict = problems.verify(problem, answer)
        right += verdict.is_correct
        note = "" if verdict.is_correct else f"; the target is {shown(problem.target)}"
        print(f"{verdict.outcome} (read as {verdict.extracted!r}){note}")
    print(f"{right} of {asked} correct")


@app.command(rich_help_panel=USE)
def pull(
    model: Annotated[str, typer.Argument(help="smollm2-135m, a hub id (owner/name[@revision]), or a GGUF file.")],
    as_json: opt.Json = False,
) -> None:
    """Fetch a model once, and keep it: afterwards its name works as --model, without a network."""
    from ponder.models import hub

    folder = hub.pull(model, say=lambda line: print(line, file=sys.stderr, flush=True))
    warn_of_experiments(str(folder))
    facts = hub.describe(folder) | {"name": model}
    sentence = f"{facts['parameters'] / 1e6:.0f} M parameters, {facts['dtype']}, window {facts['window']}, in {folder}"
    finish(facts, sentence, as_json)
