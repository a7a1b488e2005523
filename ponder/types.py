"""The types of ponder: the values that its packages exchange, and the interfaces between them.

One example from start to end: `Task[i]` -> `Problem` -> `engine.generate(prompt, n=group_size)` -> `Completion`
-> `task.verify(problem, answer)` -> `Verdict` -> `Rollout` -> `Group` -> advantages -> loss -> step.
At test time the same `Problem` goes `strategy(prompt, engine, ...)` -> `Solution` -> `task.verify`.

Nothing here imports torch, and nothing here does anything: read this file first, the rest in any order.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import stdev
from typing import Any, Literal, Protocol, runtime_checkable

Role = Literal["system", "developer", "user", "assistant", "tool"]
Outcome = Literal["correct", "wrong", "undecided", "failed"]
FinishReason = Literal["stop", "length", "window", "pause", "cancelled"]
TurnKind = Literal["candidate", "choice", "answer"]
Ending = Literal["answer", "window", "turns", "cancelled", "unparseable"]
Preferred = Literal["a", "b", "tie"]
Choice = Literal["left", "right", "tie", "both_bad", "undecided"]


@dataclass(frozen=True, kw_only=True)
class Message:
    """One message of a conversation; `content` is visible text only, never reasoning."""

    role: Role
    content: str


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One item of a task: what is asked, and what would be right."""

    id: str  # unique within the task and stable: "arithmetic/train/17"
    prompt: tuple[Message, ...]
    target: str  # the reference answer; empty where tests decide
    task: str
    level: int | None = None  # difficulty dial of procedural tasks, published level of benchmarks
    subject: str | None = None
    choices: tuple[str, ...] = ()  # multiple choice only; the target is then a letter
    meta: Mapping[str, Any] = field(default_factory=dict)  # what the verifier needs beyond the target

    @property
    def text(self) -> str:
        """What the user asks: the content of the last message."""
        return self.prompt[-1].content


@dataclass(frozen=True, kw_only=True)
class SamplingParams:
    """How one completion is drawn. A completion depends on these and on the weights, never on its batch."""

    temperature: float = 1.0  # 0 = greedy
    top_p: float = 1.0
    max_reasoning_tokens: int = 256  # at the cap the reasoning is closed and an answer still comes
    min_reasoning_tokens: int = 0  # the closing mark cannot be sampled before
    max_answer_tokens: int = 64  # after the reasoning, the end mark included
    max_tokens: int | None = None  # of the whole completion: a hard cut, wherever it falls; "length"
    stop: tuple[str, ...] = ()  # strings that end the *answer*; not returned
    form: str = ""  # a grammar that the answer is constrained to (engine/form.py); engines without it refuse
    pause: tuple[str, ...] = ()  # strings that end a step of *reasoning*: the completion comes back unfinished, "pause"
    seed: int = 0  # sample j of a request uses `sample_seed(seed, j)`

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:  # nan is refused too
            raise ValueError(f"temperature={self.temperature} must be a finite number, 0 (greedy) or more")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p={self.top_p} must lie in (0, 1]; use 1 to keep every token")
        if not self.max_answer_tokens >= 1:
            raise ValueError(f"max_answer_tokens={self.max_answer_tokens} leaves no room for an answer; use at least 1")
        if self.max_tokens is not None and not self.max_tokens >= 1:
            raise ValueError(f"max_tokens={self.max_tokens} leaves no room for a token; use at least 1, or None")
        if not 0 <= self.min_reasoning_tokens <= self.max_reasoning_tokens:
            raise ValueError(
                f"min_reasoning_tokens={self.min_reasoning_tokens} must lie between 0 and "
                f"max_reasoning_tokens={self.max_reasoning_tokens}"
            )


@dataclass(frozen=True, kw_only=True)
class Completion:
    """What came back for one sample: token ids first, texts decoded from them once, by the engine.

    token_ids = reasoning, its closing mark, answer, end mark; whatever was cut off is absent.
    """

    prompt_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    sampler_logprobs: tuple[float, ...]  # nats, one per token id, of the temperature-scaled distribution before top-p
    sampled: tuple[bool, ...]  # False = forced by a budget: not drawn from the policy, so never trained on
    finish_reason: FinishReason  # stop: ended itself; length: a budget cut it; window: the window; pause: a step
    reasoning: str  # hidden part
    answer: str  # visible part; "" when the reasoning never closed
    num_reasoning_tokens: int  # reasoning tokens, without the closing mark
    policy_version: int = 0  # of the weights that drew it; of several the oldest
    # (version, start, end) of spans of token_ids, where weights were replaced on the way; empty = all of one version
    versions: tuple[tuple[int, int, int], ...] = ()
    seed: int = 0
    counted: Usage | None = None  # the server's own count, where the ids are not known (remote engines)
    hidden: Any = None  # (2 * width,) float32 where the engine keeps them: the last hidden state, then the mean of all

    @property
    def num_prompt_tokens(self) -> int:
        """By the server's own count where there is one, else by the ids."""
        return self.counted.prompt_tokens if self.counted else len(self.prompt_ids)

    @property
    def num_tokens(self) -> int:
        """Reasoning, answer and their marks."""
        return self.counted.completion_tokens if self.counted else len(self.token_ids)

    @property
    def token_versions(self) -> tuple[int, ...]:
        """The version of the weights that drew each token."""
        return tuple(version for version, start, end in self.version_spans for _ in range(start, end))

    @property
    def version_spans(self) -> tuple[tuple[int, int, int], ...]:
        """`versions`, also where all tokens are of one version."""
        return self.versions or ((self.policy_version, 0, len(self.token_ids)),)

    @property
    def was_cut(self) -> bool:
        """A budget or the window ended the reasoning or the answer before the model did."""
        return self.finish_reason != "stop" or not all(self.sampled)


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One draw of a rollout: what the policy sampled, and whether those tokens are trained on.

    A plain task has one turn. In a rollout of several (strategies/turns.py) the completion is what this turn drew: its
    prompt_ids are the state that it was drawn in. What was not chosen stays, with `chosen=False`.
    """

    completion: Completion
    trained: bool = True
    candidate: int = 0  # which of the turn's candidates this is
    chosen: bool = True  # it became part of the state
    number: int = 0  # which turn of the rollout; a choice has the number of the candidates it was between
    kind: TurnKind = "answer"  # candidate: a next step or an end; choice: between candidates; answer: the end


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The truth about one answer.

    correct -> reward 1.0, wrong -> 0.0, or a share where tests give one; undecided means the verifier could not tell;
    failed that it raised or took too long (rollouts/grade.py says so, never a verifier itself). An undecided or failed
    rollout leaves its group.
    """

    outcome: Outcome
    reward: float
    extracted: str | None = None  # what the verifier pulled out of the answer; None = nothing found
    parts: Mapping[str, float] = field(default_factory=dict)  # e.g. {"correct": 1.0, "format": 0.0}
    note: str = ""  # why it is undecided or failed, for people
    key: str | None = None  # the answer's equivalence class, where `grade(..., keys=True)` asked; None = no answer

    @property
    def is_correct(self) -> bool:
        return self.outcome == "correct"


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """A problem, what the policy did about it, and the verdict. The advantage is never stored here."""

    problem: Problem
    turns: tuple[Turn, ...]
    verdict: Verdict
    reward: float  # what training sees: the verdict's reward plus shaping, see `parts` of the verdict
    ended: Ending = "answer"  # of several turns: why it went no further
    whole: Completion | None = None  # of several turns: the prompt, everything chosen and the end, as one

    @property
    def completion(self) -> Completion:
        """The completion whose answer was verified: of one turn that turn's."""
        return self.whole or self.turns[-1].completion

    @property
    def num_tokens(self) -> int:
        """Completion tokens of all turns, candidates that were not chosen among them; prompts are not counted."""
        return sum(turn.completion.num_tokens for turn in self.turns)


@dataclass(frozen=True, kw_only=True)
class Group:
    """Rollouts of one problem: the unit over which a baseline is taken."""

    problem: Problem
    rollouts: tuple[Rollout, ...]
    num_dropped: int = 0  # rollouts that left the group: undecided or failed
    min_spread: float = 0.0  # the standard deviation up to which its rewards count as equal

    @property
    def rewards(self) -> tuple[float, ...]:
        return tuple(rollout.reward for rollout in self.rollouts)

    @property
    def pass_rate(self) -> float:
        """Share of correct rollouts; nan for an empty group."""
        if not self.rollouts:
            return float("nan")
        return sum(rollout.verdict.is_correct for rollout in self.rollouts) / len(self.rollouts)

    @property
    def is_mixed(self) -> bool:
        """Rewards differ by more than the floor, so a group baseline leaves a gradient."""
        rewards = self.rewards
        return len(set(rewards)) > 1 and (self.min_spread == 0 or stdev(rewards) > self.min_spread)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two answers to one prompt, and which of them somebody prefers.

    Which answer is `a` says nothing: whoever makes comparisons assigns the sides by a hash of the id.
    """

    id: str  # unique within its set and stable
    prompt: tuple[Message, ...]  # ends with the user's message
    a: str  # visible answers only, never reasoning
    b: str
    preferred: Preferred
    strength: float | None = None  # how much better, above 0, where the set records it; None = not known
    annotator: str = ""  # a pseudonym of who preferred it; "" = not known
    domain: str = ""  # of the prompt, fixed before the vote


@dataclass(frozen=True, kw_only=True)
class BattleSide:
    """One of the two answers of a battle, with everything that determined it."""

    model: str
    answer: str  # the visible answer as it was shown; never reasoning
    revision: str = ""  # fingerprint of its weights; "" = not known
    parameters: Mapping[str, Any] = field(default_factory=dict)  # how it was sampled
    ended: str = "stop"  # or "length": cut off by a limit
    names_itself: bool = False  # it says who it is, or who made it; kept as it is


@dataclass(frozen=True, kw_only=True)
class Battle:
    """A question with two answers whose models are not named; votes on it are separate rows."""

    id: str
    prompt: tuple[Message, ...]
    domain: str  # of the prompt, fixed before the answers were drawn
    left: BattleSide  # which model is left was drawn for this battle
    right: BattleSide
    asked_by: str = ""  # a pseudonym
    probability: float = 1.0  # with which this pair of models was drawn
    seed: int = 0  # of the pair, the sides and both samples
    time: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Vote:
    """One voter's choice in a battle. Never changed: withdrawing it is another row."""

    id: str
    battle: str
    voter: str  # a pseudonym; "" = not known
    kind: Literal["person", "judge", "synthetic"]
    choice: Choice
    seconds: float | None = None  # from the answers to the vote
    time: float = 0.0
    notes: Mapping[str, str] = field(default_factory=dict)  # e.g. a judge's reply in either order


@dataclass(frozen=True, kw_only=True)
class Budget:
    """A limit on test-time compute. None = no limit."""

    max_samples: int | None = None  # completions asked of the policy, unfinished ones included: its calls
    max_tokens: int | None = None  # completion tokens over all samples


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What a solution cost. completion_tokens counts every sampled or forced token of every sample."""

    prompt_tokens: int = 0
    reasoning_tokens: int = 0
    completion_tokens: int = 0
    samples: int = 0
    scorer_tokens: int = 0  # read by a scorer or written by a judge, prompts included

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            reasoning_tokens=self.reasoning_tokens + other.reasoning_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
            samples=self.samples + other.samples,
            scorer_tokens=self.scorer_tokens + other.scorer_tokens,
        )

    @classmethod
    def of(cls, completions: Sequence[Completion]) -> Usage:
        """The cost of samples that share one prompt: the prompt is counted once."""
        return cls(
            prompt_tokens=completions[0].num_prompt_tokens if completions else 0,
            reasoning_tokens=sum(c.num_reasoning_tokens for c in completions),
            completion_tokens=sum(c.num_tokens for c in completions),
            samples=len(completions),
        )


@dataclass(frozen=True, kw_only=True)
class Solution:
    """What a strategy returns: one answer, the reasoning behind the chosen sample, and the whole cost."""

    answer: str
    reasoning: str
    usage: Usage
    completions: tuple[Completion, ...] = ()  # everything that was drawn, for the bank and the viewer


@dataclass(frozen=True, kw_only=True)
class Piece:
    """The text since the last piece. Reasoning marks are in neither text nor count."""

    reasoning: str = ""
    answer: str = ""
    num_reasoning: int = 0  # tokens
    num_answer: int = 0
    is_closed: bool = False  # the reasoning is over

    def __add__(self, later: Piece) -> Piece:
        return Piece(
            reasoning=self.reasoning + later.reasoning,
            answer=self.answer + later.answer,
            num_reasoning=self.num_reasoning + later.num_reasoning,
            num_answer=self.num_answer + later.num_answer,
            is_closed=self.is_closed or later.is_closed,
        )


class CompletionStream(Protocol):
    """A completion while it is being written: the pieces of it, then the whole (engine/stream.py)."""

    completion: Completion | None  # what generate would have returned; None until it is over, or where it was closed

    def __aiter__(self) -> AsyncIterator[Piece]: ...

    def answer_now(self) -> None:
        """Close the reasoning of a running completion; an answer still comes."""
        ...

    def close(self) -> None:
        """Stop the work."""
        ...


@dataclass(frozen=True, kw_only=True)
class Capabilities:
    """What an engine can do beside whole completions of messages."""

    token_ids: bool = False  # completions have ids, and a prompt may be ids: `prompt_ids` and `encode` work
    hidden_states: bool = False  # completions have `hidden`
    forms: bool = False  # answers can be constrained to some forms at least: ask `supports_form`
    streaming: bool = False  # a stream yields a completion in pieces; otherwise in one


@runtime_checkable
class Engine(Protocol):
    """Produces text. One call, n samples of one prompt; the prompt is processed once.

    `engine/base.py` has a base class for an engine (`BaseEngine`: implement `generate`, and what else it can do) and
    one for an engine around another (`EngineWrapper`).
    """

    @property
    def capabilities(self) -> Capabilities: ...

    @property
    def tokenizer(self) -> Any:
        """A models/tokenizer.py Tokenizer; None where the engine has none that others may use."""
        ...

    @property
    def window(self) -> int | None:
        """Tokens that a prompt and its completion share; None = not known."""
        ...

    @property
    def failure(self) -> str | None:
        """Why it can serve no request any more; None while it can, or may again."""
        ...

    @property
    def outstanding_tokens(self) -> int:
        """Tokens that may still have to be sampled for what was asked, at most; 0 where that is not known."""
        ...

    async def generate(
        self, prompt: Sequence[Message] | Sequence[int], params: SamplingParams, *, n: int = 1, first: int = 0
    ) -> list[Completion]:
        """n completions, samples `first` to `first + n - 1` of the request: asking for more later never repeats one."""
        ...

    def stream(
        self, prompt: Sequence[Message] | Sequence[int], params: SamplingParams, *, first: int = 0
    ) -> CompletionStream:
        """Sample `first` of a request while it is drawn; in the end the completion that generate returns."""
        ...

    def prompt_ids(self, prompt: Sequence[Message] | Sequence[int]) -> tuple[int, ...]:
        """The token ids of a prompt. ConfigError where the engine has no token ids."""
        ...

    def encode(self, text: str) -> Sequence[int]:
        """The token ids of a text. ConfigError where the engine has no token ids."""
        ...

    def supports_form(self, form: str) -> bool:
        """Whether answers can be constrained to this form (`SamplingParams.form`)."""
        ...

    async def aclose(self) -> None:
        """Stop what the engine runs. Closing twice does nothing more."""
        ...


class Sampler(Engine, Protocol):
    """An engine whose weights training replaces. Completions carry the version of the weights that drew them."""

    @property
    def policy_version(self) -> int:
        """The version of the weights that a new request is drawn from."""
        ...

    def update_weights(self, weights: Any, *, version: int) -> None:
        """weights: what `Learner.publish` gave. What is asked from now on is drawn from them.

        Requests that are running go on with them from their next token, and their completions say which tokens were
        drawn by which version.
        """
        ...


class FrozenPolicy(Protocol):
    """A model that gives log-probabilities of tokens, such as the reference of a KL term."""

    def logprobs(self, batches: Sequence[Any], temperature: float) -> list[Any]:
        """Log-probabilities (B T) of the trained tokens of every micro-batch, 0 elsewhere."""
        ...


class Learner(FrozenPolicy, Protocol):
    """A policy in training: gradients and steps, and its weights for samplers and for the disk.

    `train/backend.py` opens one with the sampler that belongs to it. Tensors are torch's; batches are those of
    train/batches.py.
    """

    @property
    def config(self) -> Any:
        """The ModelConfig of the network, from which its cost is computed."""
        ...

    @property
    def num_shares(self) -> int:
        """Processes that share a batch; the number of its micro-batches should be a multiple of this."""
        ...

    @property
    def passes(self) -> int:
        """The cost of forward and backward together, in forward passes."""
        ...

    def values(self, batches: Sequence[Any], loss_function: Any) -> list[Any]:
        """A tensor for every micro-batch, read from hidden states by the loss function; for recipes with a critic."""
        ...

    def backward(self, batches: Sequence[Any], loss_function: Any) -> dict[str, float]:
        """Set the gradient to the sum over all micro-batches; the summed loss and metrics."""
        ...

    def step(self, *, lr: float, max_norm: float) -> float:
        """Clip the gradient and step; the norm before clipping."""
        ...

    def reference(self, folder: Path) -> FrozenPolicy:
        """The model of a checkpoint, which is not trained."""
        ...

    def publish(self, version: int) -> Any:
        """The present weights as its sampler's `update_weights` takes them: tensors, or a handle to their files."""
        ...

    def tensors(self) -> dict[str, Any]:
        """What an exact resume needs, by name: what is trained, and the optimizer's moments."""
        ...

    def restore(self, tensor: Callable[[str], Any], names: Collection[str]) -> None:
        """Take back what `tensors` gave, one by one."""
        ...

    def save(self, folder: Path) -> None:
        """A checkpoint in Hugging Face layout: weights, tokenizer, the adapter beside them, what it was trained on."""
        ...


class Verifier(Protocol):
    """Truth about an answer: pure, no model, may be undecided."""

    def __call__(self, problem: Problem, answer: str) -> Verdict: ...


class Scorer(Protocol):
    """A learned estimate of how good completions of one prompt are, higher is better; may be wrong.

    A completion may be unfinished: then it is judged as far as it goes, which is what a search over steps needs.
    """

    name: str
    policy: str  # fingerprint of the policy it was trained for; "" = any
    # what it reads beside texts and token ids: "hidden" (`Completion.hidden`; without it the policy reads once more),
    # "logprobs" (of the sampler), "peers" (its score of a sample depends on what else was drawn)
    needs: frozenset[str]
    flops_per_token: float | None  # of the tokens that `cost` counts; None = as many as the policy's

    async def __call__(self, prompt: Sequence[Message], completions: Sequence[Completion]) -> list[float]: ...

    def cost(self, completions: Sequence[Completion]) -> int:
        """The tokens that scoring them reads or writes, a shared prompt counted once."""
        ...


class Strategy(Protocol):
    """A way of spending test-time compute. `key` maps an answer to its equivalence class, None = no answer.

    `watch` is called with the best answer so far, and its cost, whenever there is a better-founded one: whoever cancels
    the call has that answer. `options` are the strategy's own, such as n.
    """

    async def __call__(
        self,
        prompt: Sequence[Message],
        engine: Engine,
        *,
        params: SamplingParams,
        key: Callable[[str], str | None],
        scorer: Scorer | None = None,
        budget: Budget | None = None,
        watch: Callable[[Solution], None] | None = None,
        **options: Any,
    ) -> Solution: ...


class Task(Protocol):
    """What is asked and how it is checked. Item 17 is item 17 on any worker, in any order.

    A task of a user needs no more than length, items and `verify`: `tasks.as_task`, through which every task comes in,
    gives it the rest, and lets `verify` return a bool or a number too.
    """

    name: str
    split: str
    origin: Sequence[Mapping[str, Any]]  # where its problems came from: {"file" or "hub", its sha256 or revision, ...}
    is_gated: bool  # its texts must not be published: they are never written to a bank
    prompting: str  # how the problems are asked, see tasks/prompting.py
    grader_version: str  # of the code that grades
    verifier: str  # the name in grading.VERIFIERS of the rule by which answers are the same; "" = another
    patience: float  # seconds that one verification may take, where that is more than `grade` allows anyway

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Problem: ...

    def verify(self, problem: Problem, answer: str) -> Verdict:
        """A plain function is called in several threads at once, so it must not change what it shares; it may be a
        coroutine function too. What it raises counts as failed, never as wrong."""
        ...

    def key(self, problem: Problem, answer: str) -> str | None:
        """The equivalence class of an answer: equal keys = the same answer, None = no answer found."""
        ...


def sample_seed(seed: int, index: int) -> int:
    """The seed of sample `index` of a request: 63 well-mixed bits (splitmix64), the same on any machine."""
    mask = (1 << 64) - 1
    z = (seed * 0x9E3779B97F4A7C15 + (index + 1) * 0xD1B54A32D192ED03) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return (z ^ (z >> 31)) >> 1


def text_seed(*parts: object) -> int:
    """A 63-bit seed derived from names and numbers, e.g. text_seed(run_seed, step, problem.id)."""
    import hashlib

    digest = hashlib.blake2b("/".join(map(str, parts)).encode(errors="surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
