"""Opening what a verb works with: engines, scorers, checkpoints of a run, and what is known of a model."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ponder import processes
from ponder.config import ConfigError, nearest
from ponder.engine.base import EngineWrapper
from ponder.types import Usage

if TYPE_CHECKING:
    from ponder.strategies.submit import Tester
    from ponder.types import Engine, Sampler, Scorer

ENGINES = ("local", "vllm")


def open_engine(
    model: str, base_url: str | None, *, num_workers: int | None = None, num_slots: int = 128,
    keep_hidden: bool = False, api_key: str | None = None, share: int = 1, engine: str = "local", int8: bool = False,
) -> Engine:  # fmt: skip
    """An engine over a model reference, or a remote endpoint. share: engines that divide this machine's cores between
    them. engine: local or vllm. int8: the local engine's products with weights."""
    if engine not in ENGINES:
        raise ConfigError(f"unknown engine {engine!r}{nearest(engine, ENGINES)}")
    if engine != "local" and base_url:
        raise ConfigError("--base-url has an engine of its own; leave out --engine")
    if int8 and (base_url or engine != "local"):
        raise ConfigError("--int8 is of the local engine; leave it out with --base-url and --engine")
    if base_url:
        from ponder.engine.remote import RemoteEngine

        return RemoteEngine(base_url, model, api_key)
    if num_workers != 0:
        processes.prepare()
    from ponder.engine.local import LocalEngine
    from ponder.models import hub
    from ponder.train.distributed import pick_device

    device = pick_device()
    if share > 1 and num_workers is None and device == "cpu":
        num_workers = max(1, processes.num_cores() // share)
    warn_of_experiments(model)
    if engine == "vllm":
        return _open_vllm(model, num_slots)
    # as stored: what was pulled as bfloat16 is sampled five times faster than in float32
    loaded = hub.load(model, dtype=None, device=device)
    return LocalEngine(*loaded, num_workers=num_workers, num_slots=num_slots, keep_hidden=keep_hidden, int8=int8)


def _open_vllm(model: str, num_slots: int) -> Engine:
    from ponder.engine.vllm import open_vllm
    from ponder.models import hub
    from ponder.models.hf_tokenizer import load_tokenizer

    folder = hub.resolve(model)
    return open_vllm(folder, load_tokenizer(folder), dtype=hub.stored_dtype(folder), num_slots=num_slots)


def warn_of_experiments(model: str) -> None:
    """A note where a model was trained with a monitor in its reward: its monitors' judgements mean little."""
    from ponder.models import hub
    from ponder.trained_on import experiments

    for reason in experiments(hub.resolve(model)):
        print(f"note: {model} was trained with a monitor in its reward ({reason}): it may hide from monitors",
              file=sys.stderr)  # fmt: skip


def measured_efforts(model: str) -> Any:
    """The effort levels that `ponder scale` measured for these weights, if it did."""
    from ponder import efforts
    from ponder.models import hub

    return efforts.find(hub.found(model), policy=lambda: hub.describe(model)["fingerprint"])


def open_scorer(folder: Path, model: str, base_url: str | None, key: Callable[[str], str | None]) -> Scorer:
    """A trained scorer, with a warning where it is another policy's."""
    from ponder.scorers import check_policy, load_scorer

    loaded = load_scorer(folder, key=key)
    check_policy(loaded, describe(model, base_url).fingerprint)
    return loaded


def open_testers() -> dict[str, Tester]:
    """What runs programs for mode submit, by the kind of examples. Refused where this machine has no fence: programs of
    a model are never run without one."""
    from ponder.grading.testers import sandbox_testers
    from ponder.sandbox.executions import shared
    from ponder.tasks.pipes_tester import PipesTester

    return {**sandbox_testers(shared().sandbox, num_workers=processes.num_cores()), "pairs": PipesTester()}


def flops_of(usage: Usage, model: str, base_url: str | None, scorer: Scorer | None) -> float | None:
    """What a solution cost, a token's cost taken at the middle of a sample; None where the network is not known."""
    from ponder.strategies import flops

    if base_url:
        return None
    from ponder.models import hub
    from ponder.models.transformer import flops_per_token
    from ponder.models.weights import read_config

    middle = (usage.prompt_tokens + usage.completion_tokens // 2) // max(1, usage.samples)
    each = flops_per_token(read_config(hub.resolve(model)), middle)
    return flops(usage, per_token=each, scorer_per_token=(scorer.flops_per_token if scorer else None) or each)


def close(engine: Engine) -> None:
    """Stop what the engine runs."""
    asyncio.run(engine.aclose())


@contextlib.contextmanager
def closing(engine: Engine) -> Iterator[Engine]:
    """The engine, closed at the end."""
    try:
        yield engine
    finally:
        close(engine)


class CheckpointEngines:
    """One local engine for all checkpoints of a run: starting workers costs more than changing weights."""

    def __init__(self, environment: Any = None) -> None:
        self._engine: Sampler | None = None
        self._environment = environment  # of a run whose rollouts are whole trajectories: so is a sample then

    def open(self, checkpoint: Path) -> Engine:
        """An engine with the weights of this checkpoint. It is the same engine each time: the one opened before has the
        new weights too."""
        processes.prepare()
        from ponder.engine.local import LocalEngine
        from ponder.models import hub
        from ponder.train.distributed import pick_device

        model, tokenizer = hub.load(str(checkpoint), dtype=None, device=pick_device())
        if self._engine is None:
            self._engine = LocalEngine(model, tokenizer, closes_once=False)  # as in training
        else:
            self._engine.update_weights(model.state_dict(), version=self._engine.policy_version + 1)
        if self._environment is None:
            return SharedEngine(self._engine)
        from ponder.rollouts.deliberate import Deliberating

        return SharedEngine(Deliberating(self._engine, self._environment))

    def __enter__(self) -> CheckpointEngines:
        return self

    def __exit__(self, *_: object) -> None:
        if self._engine is not None:
            close(self._engine)


class SharedEngine(EngineWrapper):
    """An engine that its owner closes, not its users."""

    async def aclose(self) -> None:
        """Does nothing."""


def check_kind(run: Path) -> None:
    """Curves and diagnoses are of reinforcement learning; other runs have neither groups nor checkpoints on the way."""
    from ponder.files import read_object

    kind = read_object(run / "run.json", "kind")["kind"]
    instead = {
        "sft": f"ponder eval --task TASK --model {run}` measures it, `ponder report {run}` draws its loss",
        "scorer": f"ponder score BANK --scorer {run}` uses it, {run}/result.json says how good it is",
    }
    if kind != "rl":
        hint = f": `{instead[kind]}" if kind in instead else ""
        raise ConfigError(f"{run} is a run of `ponder {kind}`; this needs one of `ponder rl`{hint}")


def own_recipe(verb: str, recipe: str, overrides: Sequence[str]) -> Any:
    """The config of `ponder VERB`; what is a recipe of another verb is said to be one, in place of its first strange
    key."""
    try:
        return _RECIPES[verb](recipe, overrides)
    except ConfigError:
        others = [] if _opens(verb, recipe) else [name for name in _RECIPES if name != verb]
        if other := next((name for name in others if _opens(name, recipe)), None):
            raise ConfigError(f"{recipe} is a recipe of `ponder {other}`, not of `ponder {verb}`") from None
        raise


def _opens(verb: str, recipe: str) -> bool:
    try:
        _RECIPES[verb](recipe, ())
    except ConfigError:
        return False
    return True


def _rl(path: str, overrides: Sequence[str]) -> Any:
    from ponder.train.recipe import load_recipe

    return load_recipe(path, overrides)


def _sft(path: str, overrides: Sequence[str]) -> Any:
    from ponder.config import load
    from ponder.train.sft import SFTConfig

    return load(SFTConfig, path, overrides)


def _scorer(path: str, overrides: Sequence[str]) -> Any:
    from ponder.train.scorer import load_recipe

    return load_recipe(path, overrides)


_RECIPES = {"rl": _rl, "sft": _sft, "scorer": _scorer}


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """What a bank and a ledger of costs need to know of a model; of one at an endpoint its name alone."""

    name: str
    fingerprint: str = ""  # of its weights
    flops_per_token: Callable[[int], float] | None = None  # of a token, by its place in the sequence
    training: tuple[Mapping[str, Any], ...] = ()  # what it was trained on, for the contamination check


def describe(model: str, base_url: str | None, *, int8: bool = False) -> ModelInfo:
    """int8: products with weights, so that samples of both are never taken for those of one model."""
    if base_url:
        return ModelInfo(name=f"{base_url} {model}")
    from ponder.models import hub
    from ponder.models.transformer import flops_per_token
    from ponder.models.weights import read_config
    from ponder.scorers.base import INT8
    from ponder.trained_on import training_sources

    folder = hub.resolve(model)
    config = read_config(folder)
    return ModelInfo(
        name=f"{model} in int8" if int8 else model,
        fingerprint=hub.describe(model)["fingerprint"] + (INT8 if int8 else ""),
        flops_per_token=lambda context: flops_per_token(config, context),
        training=tuple(training_sources(folder)),
    )
