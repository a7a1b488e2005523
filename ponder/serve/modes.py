"""How much a request may think: effort, mode and the compute extension -> sampling, a strategy and a budget.

Efforts are points of the model's own measured curve where there is one (efforts.py): how much it may reason, and how
many samples vote. Without one they are caps that double, which says nothing of what each is worth. Either way they
are caps, not targets: at the cap the reasoning is closed and an answer still comes. `max_output_tokens` is another
matter, a hard cut through reasoning and answer alike, as OpenAI's; `compute.answer_tokens` keeps a part of it for the
answer. Where several samples share a limit, each is cut at its part, and there are no more of them than can think as
long as the effort says: with less than a vote needs, one sample has the whole limit.

Modes are the strategies of ponder/strategies by their names; `standard` is one sample, streamed; `pro` is a vote.
"""

from __future__ import annotations

import functools
import math
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ponder.config import nearest
from ponder.efforts import Efforts, Point
from ponder.serve.errors import ApiError
from ponder.serve.schema import Compute
from ponder.strategies.deliberation_strategy import SELECTORS
from ponder.strategies.submit import Testers
from ponder.types import Budget, SamplingParams, Scorer, Strategy

REASONING_CAPS = {"none": 0, "minimal": 64, "low": 128, "medium": 256, "high": 512, "xhigh": 1024, "max": 2048}
ALIASES = {"pro": "consensus"}
BY_SELECTOR = {"vote": "consensus", "scorer": "best_of_n"}
PARALLEL = {*SELECTORS, "submit"}  # n = whole samples, drawn side by side
SAMPLES = 8  # of a mode that draws several, unless compute.n says otherwise
ANSWER = 1024  # tokens that an answer may have
SHORT_ANSWER = 64  # tokens that one is taken to need, where that was not measured


@dataclass(frozen=True, kw_only=True)
class ComputePlan:
    """What a request was given, echoed in its response."""

    mode: str
    effort: str
    n: int
    params: SamplingParams
    budget: Budget
    deadline: float | None = None
    strategy: Strategy | None = None  # None: standard

    def max_output(self, limit: int | None = None) -> int:
        """Tokens that it may draw, with a request's limit: what is charged before they are counted."""
        params = self.params
        total = (params.max_reasoning_tokens + 1 + params.max_answer_tokens) * self.n  # 1: the mark between the two
        return total if limit is None else min(total, limit)

    def echo(self) -> dict[str, Any]:
        """The `compute` object of a response; `deadline_s` in seconds, None for no deadline."""
        return {
            "mode": self.mode,
            "effort": self.effort,
            "n": self.n,
            "max_reasoning_tokens": self.params.max_reasoning_tokens,
            "deadline_s": self.deadline,
        }


def offered_modes(
    strategies: Mapping[str, Strategy], scorer: Scorer | None, testers: Testers | None = None
) -> dict[str, Strategy]:
    """The modes that a model has besides `standard`, which is `single`. A judge must be given, and so must what runs
    programs; a controller is a rule fitted elsewhere."""
    left_out = {"single", "controller", *(() if scorer is not None else ("judge",))}
    found = {name: strategy for name, strategy in strategies.items() if name not in left_out}
    if "submit" in found and testers is not None:
        found["submit"] = functools.partial(found["submit"], testers=testers)
    elif "submit" in found:
        del found["submit"]
    return found


def compute_plan(
    *,
    effort: str | None,
    mode: str | None,
    compute: Compute | None,
    limit: int | None,
    num_prompt_tokens: int,
    window: int | None,
    offered: Mapping[str, Strategy],
    efforts: Efforts | None = None,
    may_vote: bool = True,
    temperature: float = 1.0,
    seed: int | None = None,
    stop: tuple[str, ...] = (),
    param: str = "reasoning.mode",
) -> ComputePlan:
    """limit: max_output_tokens, of everything. window: tokens that prompt and completion share, None = unknown.
    may_vote: an effort may stand for a vote; False where answers cannot be compared, as calls and JSON."""
    given = compute or Compute()
    word = effort or "medium"
    level = efforts.levels.get(word) if efforts is not None else None
    usual = level.mode if level is not None and may_vote and given.n is None else "standard"
    by_selector = BY_SELECTOR[given.selector] if given.selector else ""
    wishes = {ALIASES.get(wish, wish) for wish in (mode, given.mode, by_selector) if wish}
    if len(wishes) > 1:
        names = " and ".join(f"'{each}'" for each in dict.fromkeys((param, "compute.mode", "compute.selector")))
        message = f"{names} say different things ({' and '.join(sorted(wishes))}); send one of them."
        raise ApiError(400, message, code="mutually_exclusive_parameters", param=param)
    asked = next(iter(wishes), "")
    name = asked or usual
    _check_mode(name, given.n, offered, param)
    if name != "standard" and limit is not None and limit < 2 and asked:
        raise ApiError(400, f"max_output_tokens={limit} has no room for a sample; allow at least 2.",
                       code="invalid_value", param="max_output_tokens")  # fmt: skip
    available = 10**9 if window is None else window - num_prompt_tokens
    reasoning = REASONING_CAPS[word] if level is None else level.max_reasoning_tokens
    reasoning = reasoning if given.max_reasoning_tokens is None else given.max_reasoning_tokens
    answer = ANSWER if window is None else max(1, min(ANSWER, available // 2))
    if limit is not None and given.answer_tokens is not None:
        answer = min(answer, given.answer_tokens)
    reasoning = max(0, min(reasoning, available - 1 - answer))
    n = 1 if name == "standard" else given.n or (level.n if level is not None and level.mode == name else SAMPLES)
    share = limit  # of the limit, for one sample
    if limit is not None and name != "standard":
        needs = answer if given.answer_tokens is not None else min(answer, _usual_answer(level, reasoning))
        most = max(1, limit // (reasoning + 1 + needs))  # samples that can think as long as the effort says
        if not asked and most < min(n, 3):  # a vote of two is a vote of one
            name, n = "standard", 1
        elif name in PARALLEL:
            n = min(n, most)
            share = limit // n
        else:  # these count pieces, and keep an answer's tokens back
            share, answer = min(limit, reasoning + 1 + needs), needs
    if share is not None:
        if given.answer_tokens is not None:
            answer = max(1, min(answer, share - 1))
            reasoning = max(0, min(reasoning, share - 1 - answer))
        reasoning = min(reasoning, share)
    seed = given.seed if given.seed is not None else seed
    params = SamplingParams(
        temperature=temperature,
        max_reasoning_tokens=reasoning,
        max_answer_tokens=answer,
        max_tokens=share,
        stop=stop,
        seed=secrets.randbits(62) if seed is None else seed % 2**63,
    )
    return ComputePlan(
        mode=name,
        effort=word,
        n=n,
        params=params,
        budget=Budget(max_samples=n, max_tokens=None if name == "standard" else limit),
        deadline=given.deadline_s,
        strategy=None if name == "standard" else offered[name],
    )


def _check_mode(name: str, n: int | None, offered: Mapping[str, Strategy], param: str) -> None:
    """Refuse a mode that is not offered, and several samples without a way of choosing among them."""
    if name != "standard" and name not in offered:
        hint = nearest(name, ["standard", *ALIASES, *offered])
        message = f"Unsupported value: '{name}' is no mode here{hint}."
        raise ApiError(400, message, code="unsupported_value", param=param)
    if name == "standard" and n not in (None, 1):
        raise ApiError(400, f"compute.n={n} needs a way of choosing: give a mode, or compute.selector 'vote'.",
                       code="invalid_value", param="compute.n")  # fmt: skip


def _usual_answer(level: Point | None, reasoning: int) -> int:
    """Tokens that an answer of this level hardly ever passes: twice the mean where that was measured, else a quarter
    of the sample."""
    if level is not None and level.answer_tokens is not None:
        return max(8, math.ceil(2 * level.answer_tokens))
    return max(SHORT_ANSWER, reasoning // 3)


def published(efforts: Efforts | None) -> dict[str, Any]:
    """What each effort stands for, as in /v1/models."""
    if efforts is None:
        caps = {name: {"max_reasoning_tokens": cap} for name, cap in REASONING_CAPS.items()}
        return {"measured": False, "levels": caps}
    levels = {name: {"mode": point.mode, **asdict(point)} for name, point in efforts.levels.items()}
    return {
        "measured": True, "task": efforts.task, "num_problems": efforts.num_problems,
        "levels": {"none": {"max_reasoning_tokens": 0}, **levels},
    }  # fmt: skip
