"""The strategy `submit`: programs as answers, run before one is given.

    solution = await submit(prompt, engine, params=params, key=key, n=8, testers={"calls": CallTester(...)})

Of n samples the one is returned that a contestant would submit first (programs.py): its program does what the examples
in the question say, and of those, most samples behave like it on inputs made up after the examples; a scorer's scores
count where there is one. Programs run where the testers run them, which for a model's Python is the sandbox. A question
without examples that are understood (grading/examples.py), or answers without programs, get the plain vote.

What runs beside the event loop goes on to its limit when the call is cancelled; nothing of it is waited for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from ponder.config import ConfigError
from ponder.engine.base import gather_or_cancel
from ponder.grading import counted_answer
from ponder.grading.examples import Examples, arguments_of, examples_of
from ponder.strategies.base import Work, strategy
from ponder.strategies.inputs import similar
from ponder.strategies.programs import Candidates, Choosing, log_odds, prepare, submissions
from ponder.strategies.sampling import by_vote, num_samples
from ponder.types import Completion

NUM_INPUTS = 24  # made up for a question
# own threads: programs that take seconds must not delay other work that waits for a thread
_THREADS = ThreadPoolExecutor(max_workers=8, thread_name_prefix="submit")


class Tester(Protocol):
    """Runs programs for one kind of examples. Called from any thread."""

    def program(self, answer: str, examples: Examples) -> str | None:
        """The program in an answer; None where there is none."""
        ...

    def passes(self, program: str, examples: Examples) -> Sequence[bool]:
        """Whether it does what each example says."""
        ...

    def outputs(self, program: str, examples: Examples, inputs: Sequence[str]) -> Sequence[str | None]:
        """What it gives on other inputs, in the form of an example's; None where it gives nothing."""
        ...


Testers = Mapping[str, Tester]  # by the kind of examples


@strategy
async def submit(work: Work, *, n: int | None = None, testers: Testers | None = None) -> Completion:
    """The sample whose program one would submit first, of n."""
    if testers is None:
        raise ConfigError("mode submit runs programs, and was given nothing that may; `ponder ask` opens the sandbox")
    drawn = await work.draw(num_samples(work, n))
    examples = examples_of(work.prompt[-1].content) if work.prompt else None
    tester = testers.get(examples.kind) if examples else None
    texts = [tester.program(counted_answer(each), examples) if tester and examples else None for each in drawn]
    if tester is None or examples is None or not any(texts):
        await work.compute_keys(drawn)
        return by_vote(work)(drawn)
    work.report(next(each for each, text in zip(drawn, texts, strict=True) if text))
    pool = await try_out(tester, examples, texts)
    if work.scorer is not None:
        pool = Candidates(**{**vars(pool), "scores": log_odds(await work.score(drawn))})
    return drawn[next(submissions(prepare(pool, Choosing())))]


async def try_out(tester: Tester, examples: Examples, texts: Sequence[str | None]) -> Candidates:
    """Run each different program once on the examples and on inputs like theirs."""
    inputs = similar([shown.given for shown in examples.items], n=NUM_INPUTS)
    if examples.kind == "calls":
        inputs = [text for text in inputs if arguments_of(text) is not None]

    def run(text: str) -> tuple[Sequence[bool], Sequence[str | None]]:
        return tester.passes(text, examples), tester.outputs(text, examples, inputs)

    different = list(dict.fromkeys(text for text in texts if text))
    found = dict(zip(different, await gather_or_cancel([_in_thread(run, text) for text in different]), strict=True))
    nothing = [False] * len(examples.items), [None] * len(inputs)
    rows = [found[text] if text else nothing for text in texts]
    return Candidates.of(
        programs=[text or None for text in texts],
        examples=[list(passed) for passed, _ in rows],
        outputs=[list(outputs) for _, outputs in rows],
    )


async def _in_thread(function: Callable[[str], Any], text: str) -> Any:
    return await asyncio.get_running_loop().run_in_executor(_THREADS, function, text)
