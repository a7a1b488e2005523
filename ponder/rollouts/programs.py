r"""Programs as reasoning: the model writes Python, the sandbox runs it, and what it prints is the answer.

    environment = "programs"           in a recipe of `ponder rl`: one program
    environment = "program_turns"      several: what each prints is shown, the next is written after it

    ```python                          drawn, trained on
    print(17 * 24 - 9)
    ```
    Output: 399                        inserted, never trained on; the last line printed is the answer

Any task with answers takes part (GSM8K, arithmetic, words): its verifier reads what was printed, and nothing else. A
program that fails, prints nothing or is not there gives no answer. In several turns programs stand in the reasoning,
each ended by its fence; the model may close its reasoning and answer in words, or in a last program; where the turns
are used up the last thing printed is the answer. What is inserted is short, cannot spell a mark or a fence, and of an
error has the last line of the traceback.

`ask_for` puts a sentence into the prompt that asks for a program; a model that was trained to write them needs none.
Programs run with nothing to read. Counted for the report: programs, failed, silent (printed nothing), missing.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ponder.config import ConfigError
from ponder.grading.code_blocks import extract_code, fenced_blocks
from ponder.sandbox.base import Limits, Program, Ran
from ponder.sandbox.executions import shared
from ponder.strategies.base import Work, strategy
from ponder.strategies.deliberation_strategy import allow_plain_text
from ponder.strategies.sampling import by_vote
from ponder.strategies.turns import Episode, is_final, run_episode
from ponder.types import Completion, Ending, Message

CLOSING = "\n```\n"  # ends a program in the reasoning
# asked to print "the answer and nothing else" the 0.5B coder gave the bare answer of many problems (docs/code_tasks.md)
ASK_ONE = (
    "Write a Python program, in one ```python block, that works out the answer step by step and prints only the final "
    "answer."
)
ASK_TURNS = (
    "Work with Python: write a program in a ```python block, and its output is shown to you. When you know the answer, "
    "give it alone."
)
MAX_OUTPUT = 300  # characters that are shown
MAX_LINES = 8
MAX_ANSWER = 200
LIMITS = Limits(cpu_seconds=2.0, memory_mb=256, output_bytes=1 << 16)
_MARKS = re.compile(r"</?(?:think|thinking|reasoning|answer)[^>]{0,20}>?|<\|[^<>]{0,40}\|?>?|```+|~~~+", re.IGNORECASE)


class _Lost(Exception):
    """The machine failed a program twice."""


@dataclass(frozen=True, kw_only=True)
class ProgramReasoning:
    """The environment. `turns` programs at most; 1 = the whole completion is the program.

    How it ends: "answer" with something printed or said; "unparseable" without a program; "turns" after the last
    program printed nothing; "window" where there is no room left; "cancelled" where the machine lost a program twice,
    which says nothing about it.
    """

    turns: int = 1
    ask_for: str = ASK_ONE  # "" = the prompt as it is
    limits: Limits = LIMITS

    def __post_init__(self) -> None:
        if self.turns < 1:
            raise ConfigError(f"turns={self.turns} leaves no program; use at least 1")

    async def __call__(self, episode: Episode) -> Ending:
        episode.work.prompt = asked(episode.work.prompt, self.ask_for)
        try:
            return await (self._play_one(episode) if self.turns == 1 else self._play_turns(episode))
        except _Lost:
            _end(episode, "", episode.prefix.answer if episode.prefix else "")
            return "cancelled"

    async def _play_one(self, episode: Episode) -> Ending:
        drawn = await episode.draw(1)
        if not drawn:
            return "window"
        episode.keep(drawn[0])
        completion = drawn[0].completion
        text = completion.answer if completion.answer.strip() else completion.reasoning
        code = extract_code(text)
        if completion.finish_reason in ("length", "window") and not _is_whole(text):
            code = None  # cut: what it prints could have become something else
        printed = await self._run(episode, code)
        return _end(episode, printed, text)

    async def _play_turns(self, episode: Episode) -> Ending:
        allow_plain_text(episode.work)
        seen, printed = 0, ""  # characters of reasoning that were read; what the last program printed
        while episode.turn_number < self.turns:
            drawn = await episode.draw(1, pause=(CLOSING,))
            if not drawn:
                return _end(episode, printed, "") if printed else "window"
            episode.keep(drawn[0])
            completion, text = drawn[0].completion, _reasoning(episode)[seen:]
            if completion.finish_reason != "pause":
                return await self._finish(episode, completion, text, printed)
            code = extract_code(text)
            if code is None:
                continue  # a fence that opens, or one of another language
            ran = await self._ran(episode, code)
            printed = answer_of(ran)
            shown = f"Output: {shown_of(ran)}\n"
            episode.append(shown, episode.work.engine.encode(shown))
            seen = len(_reasoning(episode))
        return _end(episode, printed, "")

    async def _finish(self, episode: Episode, completion: Completion, text: str, printed: str) -> Ending:
        """The model closed its reasoning, or was cut: its answer in words, a last program, or what was printed."""
        if completion.finish_reason in ("length", "window", "cancelled") and not is_final(completion):
            return _end(episode, printed, "") if printed else "window"
        code = extract_code(completion.answer) if "```" in completion.answer else None
        if code is None and completion.answer.strip():
            return "answer"
        code = code or (extract_code(text) if "```" in text else None)
        if code is not None:
            printed = await self._run(episode, code)
        return _end(episode, printed, completion.answer)

    async def _run(self, episode: Episode, code: str | None) -> str:
        """What a program prints as an answer; "" without a program."""
        if code is None:
            episode.counts["missing"] += 1
            return ""
        return answer_of(await self._ran(episode, code))

    async def _ran(self, episode: Episode, code: str) -> Ran:
        program = Program(source=code)
        ran = await asyncio.to_thread(lambda: shared().run(program, limits=self.limits))
        episode.counts["programs"] += 1
        if ran.is_undecided:
            raise _Lost
        episode.counts["failed"] += ran.status != "ok"
        episode.counts["silent"] += ran.status == "ok" and not ran.stdout.strip()
        return ran


def answer_of(ran: Ran) -> str:
    """The last line that a program printed; "" where it failed or printed nothing."""
    lines = plain(ran.stdout).strip().splitlines() if ran.status == "ok" else []
    return lines[-1].strip()[:MAX_ANSWER] if lines else ""


def shown_of(ran: Ran) -> str:
    """What the model is shown of a run: at most MAX_LINES lines and MAX_OUTPUT characters."""
    if ran.status == "crashed":
        lines = plain(ran.stderr[-4_000:]).strip().splitlines()
        return (lines[-1] if lines else "the program crashed")[:MAX_OUTPUT]
    stopped = {"time": "stopped: it took too long", "idle": "stopped: it waited for something",
               "memory": "stopped: it used too much memory", "output": "stopped: it printed too much",
               "refused": "stopped: it did what is not allowed"}  # fmt: skip
    if ran.status in stopped:
        return stopped[ran.status]
    lines = plain(ran.stdout).strip().splitlines()
    text = "\n".join(lines[:MAX_LINES])[:MAX_OUTPUT]
    return (
        text + (" ..." if len(lines) > MAX_LINES or len("\n".join(lines)) > MAX_OUTPUT else "")
    ) or "nothing printed"


def plain(data: bytes) -> str:
    """Output as text that is nothing but text: no marks, no fences, no control characters."""
    text = _MARKS.sub("", _MARKS.sub("", data[: 1 << 16].decode("utf-8", "replace")))
    return "".join(sign if sign.isprintable() or sign in "\n\t" else "?" for sign in text.replace("\r\n", "\n"))


def asked(prompt: Sequence[Message], sentence: str) -> Sequence[Message]:
    """The conversation with the sentence after what the user said, unless it is there already."""
    if not sentence or not prompt or not isinstance(prompt[-1], Message) or prompt[-1].content.endswith(sentence):
        return prompt
    return (*prompt[:-1], replace(prompt[-1], content=f"{prompt[-1].content}\n\n{sentence}"))


@strategy
async def programs(work: Work, *, n: int | None = None, turns: int = 1) -> Completion:
    """The strategy of the same name: a vote of n programs' outputs (`--mode ponder.rollouts.programs:programs`)."""
    play = ProgramReasoning(turns=turns, ask_for=ASK_ONE if turns == 1 else ASK_TURNS)

    async def rollout_fn(share: Work, index: int) -> Completion:
        return (await run_episode(play, share, index=index)).completion

    work.rollout_fn = rollout_fn
    drawn = await work.draw(1 if n is None else n)
    await work.compute_keys(drawn)
    return by_vote(work)(drawn)


def one_program(*_: Any) -> ProgramReasoning:
    """For `ENVIRONMENTS` (rollouts/deliberate.py): one program; the last line that it prints is the answer."""
    return ProgramReasoning()


def program_turns(*_: Any) -> ProgramReasoning:
    """For `ENVIRONMENTS` (rollouts/deliberate.py): up to four programs, each written after the output of the last."""
    return ProgramReasoning(turns=4, ask_for=ASK_TURNS)


def with_answer(whole: Completion, reasoning: str, answer: str) -> Completion:
    """A rollout's completion with what became its answer; without one, a pause was its limit."""
    finish = "stop" if answer else whole.finish_reason if whole.finish_reason != "pause" else "length"
    return replace(whole, reasoning=reasoning, answer=answer, finish_reason=finish)


def _end(episode: Episode, printed: str, program_text: str) -> Ending:
    """What was printed becomes the answer; the program, where it was the answer, is then part of the reasoning."""
    whole = episode.prefix
    assert whole is not None
    thought = whole.reasoning if not program_text or whole.reasoning == program_text else whole.reasoning + program_text
    episode.prefix = with_answer(whole, thought, printed)
    return "answer" if printed else "unparseable" if not episode.counts["programs"] else "turns"


def _reasoning(episode: Episode) -> str:
    return episode.prefix.reasoning if episode.prefix is not None else ""


def _is_whole(text: str) -> bool:
    """Its last block is closed."""
    blocks = list(fenced_blocks(text))
    return bool(blocks) and blocks[-1].is_closed
