"""The recipe of a reinforcement-learning run: every key with its bounds, its meaning and what others call it.

    config = load_recipe("demo_nano_cpu", ["preset=dapo", "lr=5e-5", "out=runs/dapo"])

docs/training.md has the keys as a table, made from this file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ponder.config import REQUIRED, ConfigError, check, load, lookup, nearest, setting
from ponder.models import hub
from ponder.rewarding import refuse_monitor
from ponder.rollouts.deliberate import ENVIRONMENTS, DeliberationConfig
from ponder.rollouts.preferences import RewardConfig, is_attribute
from ponder.train.advantages import ADVANTAGES
from ponder.train.critic import CriticConfig
from ponder.train.dealing import ClusterConfig
from ponder.train.losses import OBJECTIVES, LossConfig
from ponder.train.policy import Precision
from ponder.train.presets import PRESETS, apply_preset
from ponder.types import SamplingParams


@dataclass(frozen=True, kw_only=True)
class ExperimentsConfig:
    """What is refused otherwise, with the reason why it is done all the same."""

    monitor_in_reward: str = setting("", "why monitors may reach the reward; kept in every checkpoint; empty = never")

    def facts(self) -> dict[str, str]:
        """Its entries of run.json."""
        return {"monitor_in_reward": self.monitor_in_reward} if self.monitor_in_reward else {}


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """Evaluation while the run goes on (train/dev.py)."""

    every: int = setting(
        0, "steps from one evaluation to the next; 0 = none", least=0, also="eval_steps eval_interval test_freq"
    )
    task: str = setting(
        "", "problems that are not trained on; empty = the dev split of the task", also="eval_dataset val_files"
    )
    num_problems: int = setting(64, "problems of an evaluation: the first ones", least=1, also="max_eval_samples")
    num_samples: int = setting(4, "samples of each", least=1, also="num_generations_eval val_n")

    def __post_init__(self) -> None:
        check(self)
        if self.task and not self.every:
            raise ConfigError("eval.task is looked at every so many steps: give eval.every too, e.g. eval.every=10")


@dataclass(frozen=True, kw_only=True)
class TinkerConfig:
    """Where `backend = "tinker"` trains. The key is read from TINKER_API_KEY and never from here."""

    base_model: str = setting("", "what the service calls the model; empty = as `model` says")
    base_url: str = setting("", "of the service; empty = TINKER_BASE_URL, or Tinker's own")


@dataclass(frozen=True, kw_only=True)
class RLConfig:
    """A run of `ponder rl`: every key, with its bounds. ConfigError where two of them cannot go together."""

    out: str = setting(REQUIRED, "the run's folder", also="output_dir default_local_dir")
    model: str = setting("nano", "what is trained: a model reference", also="model_name_or_path")
    task: str = setting("arithmetic", "what is practised and verified", also="dataset dataset_name")
    preset: str = setting("grpo", "algorithm: fills in advantage, loss and refills", also="adv_estimator")
    num_steps: int = setting(
        100, "steps in all", least=1, also="max_steps total_training_steps num_train_epochs total_epochs"
    )
    # what is practised
    pool_size: int = setting(2048, "problems of the train split that are practised", least=1)
    selection: Literal["uniform", "adaptive"] = setting("adaptive", "which problems: in turn, or where most is learned")
    problems_per_step: int = setting(
        24, "problems of a step", least=1, also="batch_size train_batch_size per_device_train_batch_size"
    )
    group_size: int = setting(
        16,
        "completions of a problem; their mean is the baseline",
        least=2,
        also="num_generations n num_samples",
    )
    trained_per_group: int = setting(
        0, "completions of a group that are trained on: those whose rewards vary most; 0 = all of them", least=0
    )
    max_refills: int = setting(0, "rounds of sampling in place of all-same groups (DAPO: 3)", least=0)
    # how completions are drawn
    temperature: float = setting(1.0, "of sampling, and of the loss", least=1e-3, most=1e3)
    max_reasoning_tokens: int = setting(
        256, "cap of the reasoning", least=0, also="max_completion_length max_response_length max_new_tokens max_tokens"
    )
    max_answer_tokens: int = setting(
        16, "cap of the answer", least=1, also="max_completion_length max_response_length max_new_tokens max_tokens"
    )
    overlong_tokens: int = setting(0, "the last so many reasoning tokens cost up to 1 reward; 0 = off", least=0)
    truncation_penalty: float = setting(
        0.0, "of a right answer that a budget had to end", least=0, below=1, also="unended_cost"
    )
    # what a rollout is
    environment: str = setting(
        "", "empty = one completion; deliberate, programs, program_turns, openenv, verifiers, or your own, module:attr"
    )
    deliberation: DeliberationConfig = field(default_factory=DeliberationConfig)
    reward: RewardConfig = field(default_factory=RewardConfig)
    reward_terms: tuple[str, ...] = setting((), "your own, each module:attr: added to the reward", also="reward_funcs")
    # how the policy learns
    advantage: str = setting(
        "grpo", "baseline: grpo, dr_grpo, rloo, reinforce_pp, gae (a critic), module:attr", also="scale_rewards"
    )
    min_spread: float = setting(
        0.0, "rewards of a group whose standard deviation is no larger count as equal: they teach nothing", least=0
    )
    critic: CriticConfig = field(default_factory=CriticConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    reference: str = setting(
        "", "of the KL: a model reference; first = the run's first checkpoint; empty = that where it is needed",
        also="ref_model sft_model_path ref_model_path",
    )  # fmt: skip
    kl_budget: float = setting(
        0.0, "nats a completion from the reference at which the run stops; 0 = it never does", least=0,
        also="target_kl kl_target",
    )  # fmt: skip
    updates_per_step: int = setting(
        1, "optimizer steps on the rollouts of a step", least=1, also="num_iterations ppo_epochs num_ppo_epochs"
    )
    lr: float = setting(1e-4, "step size", above=0, most=1, also="learning_rate actor_lr")
    warmup_steps: int = setting(5, "steps of linear warm-up", least=0, also="lr_warmup_steps warmup_ratio")
    max_norm: float = setting(1.0, "gradients are cut to this norm; 0 = never", least=0, also="max_grad_norm grad_clip")
    max_tokens_per_batch: int = setting(
        1024, "packed tokens of one forward pass", least=1,
        also="gradient_accumulation_steps ppo_micro_batch_size_per_gpu ppo_max_token_len_per_gpu",
    )  # fmt: skip
    dtype: Precision = setting("float32", "of computing; what is trained is float32", also="bf16 fp16 torch_dtype")
    sampling_dtype: Literal["", "int8"] = setting(
        "", "of the sampler's products with weights; empty = dtype; int8 = faster, most with VNNI"
    )
    lora_rank: int = setting(0, "of an adapter; 0 = train every weight", least=0, also="lora_r r")
    recompute: bool = setting(False, "activations again in backward: less memory", also="gradient_checkpointing")
    experiments: ExperimentsConfig = field(default_factory=ExperimentsConfig)
    # how sampling and training take turns
    max_lag: int = setting(
        0, "steps that sampling may be ahead; 0 = in turn; 2 and more = completions go on with new weights",
        least=0, also="max_staleness max_off_policy_steps staleness_threshold",
    )  # fmt: skip
    backend: str = setting(
        "local", "who trains and samples: local (this machine), vllm (samples with vLLM), sharded (num_workers ranks), "
        "cluster (Ray), tinker (a service), or your own, module:attr",
    )  # fmt: skip
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    tinker: TinkerConfig = field(default_factory=TinkerConfig)
    # what is kept
    checkpoint_steps: tuple[int, ...] = setting(
        (), "steps whose weights are kept; empty = 0, 1, 2, 4, 8, ...", least=0, also="rungs"
    )
    eval: EvalConfig = field(default_factory=EvalConfig)
    adapter_only: bool = setting(
        False, "checkpoints hold the adapter alone (lora_rank); used, it is merged into its base"
    )
    log_rollouts: bool = setting(
        False, "every rollout goes to all_rollouts.jsonl, not only the best and the worst", also="log_completions"
    )
    save_every: int = setting(10, "steps from one saved state to the next", least=1, also="save_steps save_freq")
    max_error_frac: float = setting(0.1, "a run stops if more of a step's verifications fail", least=0, most=1)
    max_mismatch: float = setting(
        0.0, "nats a token that trainer and sampler may differ by before the run stops; 0 = it never does", least=0
    )
    num_workers: int = setting(-1, "processes that sample and that train; -1 = one a core, 0 = none", least=-1)
    num_slots: int = setting(128, "completions that a process decodes at a time", least=1)
    seed: int = setting(0, "of everything that is drawn", least=0)

    def __post_init__(self) -> None:
        check(self)
        named: list[tuple[str, Mapping[str, Any], str]] = [("advantage", {**ADVANTAGES, "gae": None}, self.advantage)]
        named += [("reward term", {}, name) for name in self.reward_terms]
        named += [("environment", ENVIRONMENTS, self.environment)] if self.environment else []
        named += [("objective", OBJECTIVES, self.loss.clip)]
        named += [("preference scorer", {}, name) for name in (self.deliberation.preference, self.reward.preference)
                  if is_attribute(name)]  # fmt: skip
        for what, known, name in named:
            found = lookup(known, name, what=what)
            refuse_monitor(found, f"{what} {name!r}", reason=self.experiments.monitor_in_reward)
        if self.preset not in PRESETS:
            raise ConfigError(f"unknown preset {self.preset!r}{nearest(self.preset, PRESETS)}")
        if self.trained_per_group == 1 or self.trained_per_group > self.group_size:
            raise ValueError(
                f"trained_per_group={self.trained_per_group} must lie between 2 and group_size={self.group_size}, "
                "or be 0 for all: one completion alone has no baseline"
            )
        if self.trained_per_group and self.advantage == "gae":
            raise ValueError("trained_per_group is of groups' advantages (grpo, rloo), not of gae: leave it out")
        if self.overlong_tokens > self.max_reasoning_tokens:
            raise ValueError(f"overlong_tokens={self.overlong_tokens} must lie between 0 and max_reasoning_tokens")
        if self.environment and (self.overlong_tokens or self.truncation_penalty):
            own = " (deliberate has its own terms: [deliberation] window_penalty and step_cost)"
            raise ValueError(
                "overlong_tokens and truncation_penalty are for single completions: set both to 0 with "
                f"environment={self.environment!r}{own if self.environment == 'deliberate' else ''}"
            )
        if self.environment == "deliberate" and self.reward.preference:
            raise ValueError("a deliberation has a preference of its own: [deliberation] preference, preference_weight")
        if self.environment != "deliberate" and self.deliberation.preference_weight:
            raise ValueError(
                "the preference of [deliberation] is of environment = 'deliberate'; that of any other, and of single "
                "completions, is [reward] preference, preference_weight"
            )
        if self.truncation_penalty + self.reward.preference_weight >= 1 and self.reward.verified:
            raise ValueError(
                "truncation_penalty + reward.preference_weight must stay below 1: a right answer must be worth more "
                "than any wrong one"
            )
        if self.advantage == "gae" and self.environment:
            raise ValueError(
                "advantage = 'gae' is of single completions; take a group's baseline (grpo, rloo) for "
                f"environment = {self.environment!r}"
            )
        if self.reward.targeted and (self.environment or self.advantage == "gae"):
            raise ValueError("reward.targeted is of single completions and groups' advantages, not of gae")
        if not self.has_critic and self.critic != CriticConfig():
            raise ValueError("the table [critic] is of advantage = 'gae'; set that, or leave the table out")
        if self.max_mismatch and self.max_lag:
            raise ValueError("max_mismatch compares a policy with itself: it needs max_lag=0")
        # a backend of your own may read it
        if self.backend in ("local", "vllm", "sharded", "tinker") and self.cluster != ClusterConfig():
            raise ValueError('the table [cluster] is of backend = "cluster"; set that, or leave the table out')
        if self.backend != "tinker" and self.tinker != TinkerConfig():
            raise ValueError('the table [tinker] is of backend = "tinker"; set that, or leave the table out')
        if why := self._not_at_tinker() if self.backend == "tinker" else "":
            raise ValueError(f"backend = 'tinker': {why}")
        if self.sampling_dtype and self.backend in ("vllm", "cluster", "tinker"):
            raise ValueError(f"sampling_dtype is of this machine's engine: leave it out with backend={self.backend!r}")
        if self.updates_per_step > self.problems_per_step:
            raise ValueError("updates_per_step cannot exceed problems_per_step: an update needs a group")
        if self.problems_per_step > self.pool_size:
            raise ValueError(f"problems_per_step={self.problems_per_step} needs a pool_size of at least that many")
        if self.adapter_only and not self.lora_rank:
            raise ValueError("adapter_only needs an adapter: give lora_rank, e.g. lora_rank=16")
        if self.adapter_only and (self.backend == "sharded" or self.cluster.ranks):
            raise ValueError("ranks write whole checkpoints, the adapter beside the weights: leave out adapter_only")
        if beyond := [step for step in self.checkpoint_steps if step > self.num_steps]:
            raise ValueError(
                f"checkpoint_steps={list(self.checkpoint_steps)}: {beyond[0]} is never reached in "
                f"num_steps={self.num_steps}; leave it out"
            )

    def _not_at_tinker(self) -> str:
        """What the service cannot do, and what to write instead; empty = nothing."""
        refused = {
            "it trains adapters: give lora_rank, e.g. lora_rank=32": not self.lora_rank,
            f"its losses are of temperature 1: leave out temperature={self.temperature:g}": self.temperature != 1,
            "it has no critic: take advantage = 'grpo', 'dr_grpo', 'rloo' or 'reinforce_pp' for 'gae'": self.has_critic,
            f"the KL is measured from its base: leave out reference={self.reference!r}":
                self.reference not in ("", "first"),
            f"model = {self.model!r} is another than tinker.base_model = {self.tinker.base_model!r}, and tokens are "
            "those of `model`: let both name the same one": self._names_two_models,
        }  # fmt: skip
        return next((why for why, is_so in refused.items() if is_so), "")

    @property
    def _names_two_models(self) -> bool:
        """Both are on the hub, of one owner. Of two owners one may have a copy of the other's."""
        (here, name), (there, other) = (
            reference.partition("@")[0].lower().split("/") if hub.is_hub_id(reference) else (reference, "")
            for reference in (self.model, self.tinker.base_model)
        )
        return bool(name and other) and here == there and name != other and not Path(self.model).is_dir()

    @property
    def params(self) -> SamplingParams:
        """How completions are drawn, but for the seed, which differs from problem to problem and step to step."""
        return SamplingParams(
            temperature=self.temperature,
            max_reasoning_tokens=self.max_reasoning_tokens,
            max_answer_tokens=self.max_answer_tokens,
        )

    @property
    def has_critic(self) -> bool:
        """Only the built-in gae has one; an advantage of your own has none."""
        return self.advantage == "gae"

    @property
    def has_reference(self) -> bool:
        """Something needs the reference's log-probabilities."""
        return bool(self.loss.kl or self.kl_budget or self.reference)

    @property
    def all_checkpoint_steps(self) -> set[int]:
        """The steps whose checkpoints are kept: those of the recipe, else 0 and the powers of two, and the last in any
        case."""
        doubling = {0} | {2**i for i in range(20) if 2**i < self.num_steps}
        return set(self.checkpoint_steps or doubling) | {self.num_steps}


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> RLConfig:
    """A recipe with its preset filled in. One that `overrides` make shorter keeps the checkpoints that it reaches."""
    given = {override.partition("=")[0].strip() for override in overrides}
    shortened = "num_steps" in given and "checkpoint_steps" not in given
    return load(RLConfig, path, overrides, prepare=lambda data: apply_preset(reached(data) if shortened else data))


def reached(data: dict[str, Any]) -> dict[str, Any]:
    """The values of a recipe without the checkpoints that its num_steps does not reach."""
    steps, last = data.get("checkpoint_steps"), data.get("num_steps")
    if not isinstance(steps, list) or not isinstance(last, int):
        return data  # refused where the values are checked
    return data | {"checkpoint_steps": [step for step in steps if not isinstance(step, int) or step <= last]}
