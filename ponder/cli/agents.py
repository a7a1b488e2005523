"""The verb mcp: ask, grade and eval as tools for agents.

    ponder mcp                           over stdio, as agents start it: {"command": "ponder", "args": ["mcp"]}
    ponder mcp --model RUN --port 8808   streamable HTTP, for programs on this machine

What an agent sends is untrusted: it names tasks and verifiers of ponder's own (others only as --task allows), and
numbers are bounded. Answers are given without their reasoning, and no option here changes that.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Optional

import typer

from ponder.cli import options as opt
from ponder.cli.app import USE, app
from ponder.cli.loading import ModelInfo, close, describe, measured_efforts, open_engine
from ponder.cli.options import number
from ponder.config import ConfigError, nearest
from ponder.types import Budget, Engine, Message, SamplingParams

if TYPE_CHECKING:
    from ponder.strategies.keys import Key

MAX_TEXT = 20_000  # characters of a question or an answer
MAX_SPEC = 200  # of the name of a task
MAX_SAMPLES, MAX_PROBLEMS, MAX_TOKENS = 64, 200, 8_192
INSTRUCTIONS = (
    "ponder measures and uses a language model that thinks before it answers. `ask` puts a question to it, `grade` "
    "checks an answer against a reference, `eval` measures the model on a set of problems. Reasoning stays hidden."
)


@app.command("mcp", rich_help_panel=USE)
def mcp(
    model: opt.Model = "nano",
    task: Annotated[
        Optional[list[str]],
        typer.Option(metavar="SPEC", help="A task that eval may use beside ponder's own names, e.g. file:mine.jsonl."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Where the samples of eval are kept.")] = Path("runs/eval"),
    port: Annotated[
        Optional[int], number("Streamable HTTP on 127.0.0.1 instead of stdio.", least=1, most=65535)
    ] = None,
    base_url: opt.BaseUrl = None,
    api_key: opt.ApiKey = None,
) -> None:
    """Offer ask, grade and eval to agents over the Model Context Protocol (stdio)."""
    from ponder.serve.mcp import import_sdk, make_server, run_server

    import_sdk()
    if port is None and sys.stdin.isatty():
        print("ponder mcp speaks to an agent over stdin and stdout; Ctrl-C ends it", file=sys.stderr)
    tools = AgentTools(lambda: OpenedModel.open(model, base_url, api_key), out=out, tasks=task or ())
    server = make_server("ponder", [tools.ask, tools.grade, tools.eval], instructions=INSTRUCTIONS)
    try:
        with contextlib.suppress(KeyboardInterrupt):
            run_server(server, port=port)
    finally:
        tools.close()


@dataclass(frozen=True, kw_only=True)
class OpenedModel:
    """A model that answers, and what is known of it. verifier: the one that it was measured with; "" = none."""

    engine: Engine
    info: ModelInfo
    verifier: str = ""

    @classmethod
    def open(cls, model: str, base_url: str | None, api_key: str | None) -> OpenedModel:
        """base_url None: a model of this machine. One at an endpoint has no verifier that is known."""
        levels = None if base_url else measured_efforts(model)
        return cls(
            engine=open_engine(model, base_url, api_key=api_key), info=describe(model, base_url),
            verifier=levels.verifier if levels else "",
        )  # fmt: skip


class AgentTools:
    """The three tools. Each is a coroutine; agents see its name, its types and its docstring.

    The model is opened when it is first asked: agents give a server seconds to start, and a model may take longer.
    """

    def __init__(self, open_model: Callable[[], OpenedModel], *, out: Path, tasks: Sequence[str] = ()) -> None:
        self._open_model, self._out, self._allowed = open_model, out, tuple(tasks)
        self._model: OpenedModel | None = None
        self._opening = asyncio.Lock()
        self._one_at_a_time = asyncio.Lock()  # of evaluations: each fills the machine

    async def _opened(self) -> OpenedModel:
        async with self._opening:
            if self._model is None:
                self._model = await asyncio.to_thread(self._open_model)
            return self._model

    def close(self) -> None:
        """Close the engine, if a tool has opened it. Not to be called in an event loop."""
        if self._model is not None:
            close(self._model.engine)

    async def ask(
        self, question: str, samples: int = 1, max_reasoning_tokens: int = 256, max_answer_tokens: int = 64,
        temperature: float = 1.0, seed: int = 0,
    ) -> dict[str, Any]:  # fmt: skip
        """Ask the model one question; it thinks first and answers. With several samples the most frequent answer wins,
        and `agreement` is the share of samples that gave it. The reasoning is not returned."""
        from ponder.strategies import STRATEGIES
        from ponder.strategies.keys import answer_key

        check_text("question", question)
        check_number("samples", samples, 1, MAX_SAMPLES)
        params = checked_params(temperature, max_reasoning_tokens, max_answer_tokens, seed)
        more: dict[str, Any] = {"n": samples} if samples > 1 else {}
        model = await self._opened()
        key: Key = functools.cache(answer_key(model.verifier))
        solution = await STRATEGIES["consensus" if samples > 1 else "single"](
            (Message(role="user", content=question),), model.engine, params=params, key=key,
            scorer=None, budget=Budget(), **more,
        )  # fmt: skip
        usage = solution.usage
        found: dict[str, Any] = {
            "answer": solution.answer, "answered": bool(solution.answer.strip()), "model": model.info.name,
            "reasoning_tokens": usage.reasoning_tokens, "completion_tokens": usage.completion_tokens,
            "samples": usage.samples,
        }  # fmt: skip
        if samples > 1:
            keys = await asyncio.to_thread(lambda: [key(one.answer) for one in solution.completions])
            mine = key(solution.answer)
            found["agreement"] = keys.count(mine) / len(keys) if mine is not None else 0.0
        return found

    async def grade(
        self, target: str, answer: str, verifier: Literal["exact", "integer", "choice", "math"] = "math"
    ) -> dict[str, Any]:
        """Check an answer against a reference answer: verdict is correct, wrong or undecided (then `note` says why);
        extracted is what was read as the answer. `math` compares mathematics: 1/2 and 0.5 are the same."""
        from ponder.grading.verifiers import grade_row

        check_text("target", target)
        check_text("answer", answer, least=0)
        return await asyncio.to_thread(grade_row, target, answer, verifier)

    async def eval(
        self, task: str, limit: int = 20, samples: int = 4, max_reasoning_tokens: int = 256,
        max_answer_tokens: int = 64, temperature: float = 1.0, seed: int = 0,
    ) -> dict[str, Any]:  # fmt: skip
        """Measure the model on the first `limit` problems of a task, e.g. "arithmetic", "arithmetic:level=3-6" or
        "gsm8k": pass@k and cons@k (the most frequent of k answers), each with its 95 % interval. Takes minutes. The
        samples are kept in `folder`; the same call again draws nothing twice."""
        from ponder.cli.measure import folder_name
        from ponder.evals.exams import run_exam
        from ponder.tasks import load_task

        check_number("limit", limit, 1, MAX_PROBLEMS)
        check_number("samples", samples, 1, MAX_SAMPLES)
        params = checked_params(temperature, max_reasoning_tokens, max_answer_tokens, 0)
        check_task(task, self._allowed)
        problems = await asyncio.to_thread(load_task, task, split="test")
        model = await self._opened()
        info = model.info
        dials = f"{params.max_reasoning_tokens}-{params.max_answer_tokens}-{temperature:g}-{seed}"
        folder = self._out / folder_name(f"mcp-{task}-{info.name}-{dials}")
        async with self._one_at_a_time:
            result = await run_exam(
                problems, model.engine, name=task, model=info.name, fingerprint=info.fingerprint,
                num_samples=samples, params=params, out=folder, seed=seed, limit=limit,
                flops_per_token=info.flops_per_token, training=info.training, command="ponder mcp: eval",
            )  # fmt: skip
        metric = lambda by_k: {str(k): [e.value, e.low, e.high] for k, e in by_k.items()}
        return {
            "task": task, "model": info.name, "problems": result.num_problems, "samples": result.num_samples,
            "pass_at": metric(result.metrics.pass_at), "cons_at": metric(result.metrics.cons_at),
            "no_answer_rate": result.no_answer_rate, "truncated_rate": result.truncated_rate,
            "undecided_rate": result.undecided_rate, "failed_rate": result.failed_rate, "folder": str(folder),
        }  # fmt: skip


def check_task(spec: str, allowed: Sequence[str]) -> None:
    """A task that an agent may name: one of ponder's own, of reasoning-gym, or what --task allows. Nothing else: a
    module would be imported, a file read, an address asked. It is taken apart as `load_task` does it."""
    from ponder.tasks import NAMED
    from ponder.tasks.specs import own_name, parts_of

    if spec in allowed:
        return
    check_text("task", spec, most=MAX_SPEC)
    for _, part in parts_of(spec):
        if own_name(part) not in NAMED and not part.startswith("gym:"):
            raise ConfigError(
                f"task {part[:100]!r} is not one that agents may use; the server's --task SPEC allows others"
                f"{nearest(part.partition(':')[0][:100], [*NAMED, *allowed])}"
            )


def check_text(name: str, text: str, *, least: int = 1, most: int = MAX_TEXT) -> None:
    """ConfigError for more than `most` characters, or fewer than `least` without the blanks around them."""
    if len(text.strip()) < least:
        raise ConfigError(f"{name} must have at least {least} characters that are not blank")
    if len(text) > most:
        raise ConfigError(f"{name} has {len(text)} characters; it must have {least} to {most}")


def check_number(name: str, value: int, least: int, most: int) -> None:
    """ConfigError for a value outside `least` to `most`, both allowed."""
    if not least <= value <= most:
        raise ConfigError(f"{name}={value} must be between {least} and {most}")


def checked_params(temperature: float, max_reasoning_tokens: int, max_answer_tokens: int, seed: int) -> SamplingParams:
    """What an agent asks for, within `MAX_TOKENS`. Raises ConfigError."""
    check_number("max_reasoning_tokens", max_reasoning_tokens, 0, MAX_TOKENS)
    check_number("max_answer_tokens", max_answer_tokens, 1, MAX_TOKENS)
    check_number("seed", seed, 0, 2**63 - 1)
    try:
        return SamplingParams(
            temperature=temperature, max_reasoning_tokens=max_reasoning_tokens, max_answer_tokens=max_answer_tokens,
            seed=seed,
        )  # fmt: skip
    except ValueError as error:
        raise ConfigError(str(error)) from None
