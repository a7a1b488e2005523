"""What evaluations found: the content of result.json, curves.json, strategies.json and scores/NAME.json as dataclasses.

    result = ExamResult.read(Path("runs/exam/result.json"))
    result.metrics.cons_at[8]        -> Estimate(value=0.41, low=0.35, high=0.47)
    curves = Curves.read(Path("runs/demo/scale/curves.json"))
    curves.checkpoints[-1].pass_at[1].value

How they become JSON, and what happens to a damaged file, is codec.py's. Nothing is computed here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ponder.evals.codec import Stored, at_k, if_known, named
from ponder.evals.stats import Estimate
from ponder.types import SamplingParams

NAN = float("nan")
ByK = Mapping[int, Estimate]


# --- one exam: bank.json, result.json ----------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class BankSpec:
    """bank.json: what all samples of a bank share. Two specs that differ cannot share a folder."""

    task: str
    split: str
    model: str  # the reference as the user wrote it
    fingerprint: str = ""  # of the weights; "" where the weights cannot be seen
    params: SamplingParams  # its seed is not used: `seed` below, with the problem's id, gives each request its own
    seed: int = 0
    grader: str = ""  # which code judged the answers
    verifier: str = ""  # by which rule; "" = none by name, or a bank that does not say
    prompting: str = "none"  # how the problems were asked, see ponder/tasks/prompting.py


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """pass@k and cons@k, for the k that were asked for."""

    pass_at: ByK = at_k("pass")
    cons_at: ByK = at_k("cons")


@dataclass(frozen=True, kw_only=True)
class GroupAccuracy(Accuracy):
    """The problems of one level or subject: pass@1, and the vote of all their samples."""

    num_problems: int


@dataclass(frozen=True, kw_only=True)
class Gain(Accuracy):
    """The paired difference of two exams over the problems that both hold."""

    num_problems: int
    num_samples: int


@dataclass(frozen=True, kw_only=True)
class Headline(Accuracy):
    """pass@1, the vote of 64 and the best-scored of 1,000, or of as many as there are."""

    rerank_at: Mapping[int, Mapping[str, Estimate]] = at_k("rerank")  # by scorer
    left_out: Mapping[str, str] = field(default_factory=dict)  # scorers, and why


@dataclass(frozen=True, kw_only=True)
class TokenCounts:
    """Totals, the prompt counted once a problem, and means per sample: over problems, of each one's own mean."""

    prompt: int
    reasoning: int
    completion: int
    reasoning_per_sample: float
    completion_per_sample: float


@dataclass(frozen=True, kw_only=True)
class Flops:
    """All of them, and the mean of one problem's prompt and of one sample: k samples cost prompt + k x sample."""

    total: float = NAN
    prompt: float = NAN
    sample: float = NAN
    per_token: tuple[float, float] | None = None  # of token 0, and how many more for each token after it


@dataclass(frozen=True, kw_only=True)
class Hit:
    """A problem that is also in what was trained on."""

    id: str
    kind: str  # exact, 13 words, all its words
    source: str
    training_id: str


@dataclass(frozen=True, kw_only=True)
class SourceRead:
    source: str
    num_problems: int


@dataclass(frozen=True, kw_only=True)
class Contamination:
    """What an exam shares with the training data of its model, see contamination.py."""

    status: str  # checked, partly, unknown
    method: str
    num_problems: int
    num_training: int
    exact: int
    overlap: int
    share: float | None  # None: nothing could be compared
    hits: tuple[Hit, ...]
    read: tuple[SourceRead, ...]
    unknown: tuple[str, ...]  # sources, and why they could not be read


@dataclass(frozen=True, kw_only=True)
class SampleShares:
    """How much there is, and shares of the samples: over problems, of each one's own share; nan where there is none."""

    num_problems: int  # that have samples
    num_samples: int  # that each of them has
    no_answer_rate: float
    truncated_rate: float
    undecided_rate: float


@dataclass(frozen=True, kw_only=True)
class BankSummary(BankSpec, SampleShares):
    """What follows from the samples of a bank alone."""

    metrics: Accuracy
    headline: Headline = named("trio", Headline())
    sampling_sd: Mapping[str, float] = field(default_factory=dict)
    failed_rate: float = NAN
    verifier_errors: int
    finish_reasons: Mapping[str, int] = field(default_factory=dict)
    tokens: TokenCounts
    flops: Flops = Flops()
    levels: Mapping[str, GroupAccuracy] = field(default_factory=dict)
    subjects: Mapping[str, GroupAccuracy] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ExamResult(BankSummary, Stored):
    """result.json: the numbers, and what made them."""

    remedy: ClassVar[str] = "delete it; the command that made the exam writes it anew from the bank, drawing nothing"

    verifier_error: str = ""  # the last one
    contamination: Contamination | None = None
    data: tuple[Mapping[str, Any], ...] = ()  # where the problems came from
    seconds: float = 0.0
    complete: bool = True  # nothing that was asked for is missing
    command: str = ""
    revision: str = ""
    machine: Mapping[str, Any] = field(default_factory=dict)


# --- a run's exams: curves.json ----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class TrainingCost(Stored):
    """checkpoint.json of a checkpoint: what training had spent until then."""

    remedy: ClassVar[str] = "it comes with the checkpoint: delete that, or train again"

    step: int
    train_flops: float | None = None
    rollout_tokens: float | None = None
    train_tokens: float | None = None
    seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class WayCount:
    samples: int
    correct: int


@dataclass(frozen=True, kw_only=True)
class CheckpointResult(TrainingCost, SampleShares, Accuracy):
    """A checkpoint: what it cost, and pass@1 and cons@k at the k of the curves."""

    levels: Mapping[str, GroupAccuracy] = field(default_factory=dict)
    subjects: Mapping[str, GroupAccuracy] = field(default_factory=dict)
    flops: Flops
    folder: str
    role: str  # base, middle, final, or none of them
    reasoning_per_sample: float
    ways: Mapping[str, WayCount] | None = if_known()  # of thinking


@dataclass(frozen=True, kw_only=True)
class VotePoint:
    """k samples of a problem: their mean cost, and what they give."""

    k: int
    flops: float | None
    tokens: float
    cons_at_k: Estimate = named("cons")
    pass_at_k: Estimate = named("pass")


@dataclass(frozen=True, kw_only=True)
class VoteCurve:
    """Accuracy of one checkpoint against test-time compute."""

    role: str
    step: int
    points: tuple[VotePoint, ...]


@dataclass(frozen=True, kw_only=True)
class BudgetPoint(Accuracy):
    """One sample of the last checkpoint with a cap on its reasoning."""

    folder: str
    max_reasoning_tokens: int
    flops: float | None
    tokens: float
    truncated_rate: float
    reasoning_per_sample: float


# --- ways of choosing: strategies.json, scores/NAME.json ---------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ReadingCost:
    """How often a scorer reads the tokens of the prompt and of a sample, and what one costs. Zeros: it reads nothing
    anew, as a head on the sampler's own hidden states."""

    prompt: float = 1.0
    sample: float = 1.0
    flops_per_token: float | None = None  # None: as much as the policy's


@dataclass(frozen=True, kw_only=True)
class ScorerFacts(Stored):
    """scores/NAME.json: which scorer the scores beside it are of. Only `name` is needed."""

    remedy: ClassVar[str] = "it does not say which scorer it is: delete it and its .parquet file"

    name: str  # what the scores are kept under
    kind: str = ""
    scorer: str = ""  # its own name
    fingerprint: str = ""
    policy: str = ""  # fingerprint of the model whose samples it was trained on; "" = any
    cost: ReadingCost = ReadingCost()
    joint: bool = False  # a score depends on all samples of the problem


@dataclass(frozen=True, kw_only=True)
class Matched(Estimate):
    """The difference to the vote of as many samples as the same cost pays for."""

    k: int
    is_all: bool  # the bank has no more samples


@dataclass(frozen=True, kw_only=True)
class StrategyPoint:
    """A strategy at one k; costs are means of a problem."""

    k: int
    accuracy: Estimate
    mc_sd: float  # how far the choice of orders could have moved it; 0 where it is exact
    samples: float
    tokens: float  # of the policy, the prompt included
    scorer_tokens: float
    flops: float | None  # of both
    gain: Estimate | None = if_known()  # over the vote of k samples
    matched: Matched | None = if_known()

    def cost(self, unit: str) -> float:
        """In "flops" or "tokens", the scorer's included."""
        return self.flops if unit == "flops" and self.flops is not None else self.tokens + self.scorer_tokens


@dataclass(frozen=True, kw_only=True)
class StrategyCurve:
    strategy: str
    scorer: str | None
    exact: bool
    points: tuple[StrategyPoint, ...]


@dataclass(frozen=True, kw_only=True)
class AccuracyAtCompute:
    """Every strategy that only selects, at every k."""

    num_problems: int
    num_samples: int
    draws: int  # orders of the samples of a problem
    unit: str  # of cost: flops or tokens
    scorers: Mapping[str, ScorerFacts]
    left_out: Mapping[str, str]
    rows: tuple[StrategyCurve, ...]


@dataclass(frozen=True, kw_only=True)
class Strategies(BankSpec, AccuracyAtCompute, Stored):
    """strategies.json: the same, of which bank, with its headline."""

    remedy: ClassVar[str] = "`ponder scale FOLDER` writes it anew, drawing nothing"

    folder: str
    headline: Headline = named("trio")


@dataclass(frozen=True, kw_only=True)
class Curves(Stored):
    """curves.json: both scaling curves of a run."""

    remedy: ClassVar[str] = "`ponder scale RUN` writes it anew from the banks, drawing nothing that is there"

    task: str
    split: str
    seed: int
    params: SamplingParams
    grader: str
    num_problems: int
    revision: str
    machine: Mapping[str, Any]
    verifier: str = ""
    contamination: Contamination | None = None  # of the checkpoint that was trained longest
    k: int  # of the votes that all checkpoints are compared by
    checkpoints: tuple[CheckpointResult, ...]
    test: tuple[VoteCurve, ...]
    budgets: tuple[BudgetPoint, ...]
    gain: Gain | None = if_known()  # of the last checkpoint over the base
    strategies: Strategies | None = if_known()
    complete: bool = True  # every exam of the plan is done
    command: str = ""
    seconds: float = 0.0


# --- a scorer's result.json, which train/scorer_examples.py writes -----------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ReliabilityBin:
    predicted: float
    correct: float
    count: int


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    ece: float
    reliability: tuple[ReliabilityBin, ...]


@dataclass(frozen=True, kw_only=True)
class SelectionPoint:
    """Choosing among k samples: by the scorer, by a vote, by the verdicts."""

    k: int
    rerank_at_k: float | None = named("rerank", None)
    cons_at_k: float | None = named("cons", None)
    pass_at_k: float | None = named("pass", None)


@dataclass(frozen=True, kw_only=True)
class ScorerResult(Stored):
    """How good a scorer of samples is, on problems that it was not trained on."""

    remedy: ClassVar[str] = "`ponder scorer` with the same recipe writes it anew"

    held_out: HeldOut
    curve: tuple[SelectionPoint, ...]
