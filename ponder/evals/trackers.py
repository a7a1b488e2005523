"""A run's metrics, samples and curves in the tracker one has: TensorBoard, trackio, Weights & Biases, MLflow.

    sent = send(run, TRACKERS["tensorboard"](run))      # run = tracked("runs/demo")
    ponder log runs/demo --to trackio --follow          # beside a run, line by line

Training knows no tracker: it writes metrics.jsonl and samples.jsonl, and this file reads them. So a run that was begun
without a tracker can be sent later, to several, and again. What was sent stands in RUN/sent/TRACKER.json; a run that
was sent in two parts is one run there. A sample's reasoning stays here unless the caller says `with_reasoning`: a
tracker may be a service of others. A tracker is a class with `metrics`, `text` and `close`: another one is an entry
of TRACKERS, and each library is imported in its own class only.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ponder import files
from ponder.config import ConfigError
from ponder.evals.logs import is_number
from ponder.evals.results import Curves

LONGEST = 8_000  # characters of a text that is sent
# of a line of samples.jsonl, what holds none of a model's reasoning; `reasoning` and `trajectory` do
WITHOUT_REASONING = (
    "step", "which", "problem", "target", "answer", "reward", "outcome", "parts", "finish_reason", "reasoning_tokens",
    "policy_version",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class TrackedRun:
    """What a tracker gets of a run before its first number."""

    folder: Path
    project: str = "ponder"
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    @property
    def id(self) -> str:
        """The same for every part of one run, another for the run that replaces it."""
        started = files.read_object(self.folder / "run.json").get("started", "")
        return hashlib.sha256(f"{self.folder.resolve()}/{started}".encode()).hexdigest()[:16]


class Tracker(Protocol):
    """Where numbers go. Steps of one name never go back."""

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Finite numbers of one step, by their names."""
        ...

    def text(self, step: int, name: str, text: str) -> None:
        """A text of one step, such as a sample; several of one step may have the same name."""
        ...

    def close(self) -> None:
        """Called once, after the last number: what is on its way must arrive."""
        ...


class TensorBoard:
    """Event files in RUN/tensorboard: `tensorboard --logdir runs` shows all runs side by side."""

    def __init__(self, run: TrackedRun) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise _missing("tensorboard") from None
        self._writer: Any = SummaryWriter(str(run.folder / "tensorboard"))  # type: ignore[no-untyped-call]
        self._writer.add_text("config", f"```\n{json.dumps(run.config, indent=1, default=str)}\n```", 0)

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def text(self, step: int, name: str, text: str) -> None:
        self._writer.add_text(name, "    " + text.replace("\n", "\n    "), step)  # as code: no markup of a model's

    def close(self) -> None:
        self._writer.close()


class _Names:
    """Another name for every further text of a step, where a second one of the same name would replace the first."""

    def __init__(self) -> None:
        self._used: Counter[tuple[int, str]] = Counter()

    def of(self, step: int, name: str) -> str:
        self._used[step, name] += 1
        number = self._used[step, name]
        return name if number == 1 else f"{name}-{number}"


class _RunOfModule:
    """trackio and wandb speak the same three calls."""

    def __init__(self, module: Any, **options: Any) -> None:
        self._module, self._run, self._names = module, module.init(**options), _Names()

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        self._module.log(dict(values), step=step)

    def text(self, step: int, name: str, text: str) -> None:
        self._module.log({self._names.of(step, name): text}, step=step)

    def close(self) -> None:
        self._module.finish()


def trackio(run: TrackedRun) -> Tracker:
    """Goes on with the run where it is known already. ConfigError where the package is not installed."""
    try:
        import trackio as module
    except ImportError:
        raise _missing("trackio") from None
    name = f"{run.name}-{run.id[:6]}"  # trackio knows a run by its name
    return _RunOfModule(module, project=run.project, name=name, config=dict(run.config), resume="allow")


def wandb(run: TrackedRun) -> Tracker:
    """Goes on with the run of the same id where there is one. ConfigError where the package is not installed."""
    try:
        import wandb as module
    except ImportError:
        raise _missing("wandb") from None
    return _RunOfModule(
        module, project=run.project, name=run.name, id=run.id, config=dict(run.config), resume="allow",
        dir=str(run.folder),
    )  # fmt: skip


class MLflow:
    """Where MLFLOW_TRACKING_URI says, else ./mlruns as the library has it."""

    def __init__(self, run: TrackedRun) -> None:
        try:
            import mlflow
        except ImportError:
            raise _missing("mlflow") from None
        self._mlflow: Any = mlflow
        self._names = _Names()
        mlflow.set_experiment(run.project)
        tag = {"ponder.run": run.id}
        found = mlflow.search_runs(filter_string=f"tags.`ponder.run` = '{run.id}'", output_format="list")
        mlflow.start_run(run_id=found[0].info.run_id if found else None, run_name=run.name, tags=tag)
        if not found:
            mlflow.log_params({key: str(value)[:500] for key, value in run.config.items()})

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        self._mlflow.log_metrics({_mlflow_name(name): value for name, value in values.items()}, step=step)

    def text(self, step: int, name: str, text: str) -> None:
        self._mlflow.log_text(text, f"{_mlflow_name(name)}/{self._names.of(step, f'{step:06d}')}.txt")

    def close(self) -> None:
        self._mlflow.end_run()


def _mlflow_name(name: str) -> str:
    """MLflow takes letters, digits and _-./ in names."""
    return re.sub(r"[^\w./ -]", "_", name.replace("@", "_at_"))


def _missing(package: str) -> ConfigError:
    return ConfigError(f"{package} is not installed: pip install {package}")


TRACKERS: dict[str, Callable[[TrackedRun], Tracker]] = {
    "tensorboard": TensorBoard,
    "trackio": trackio,
    "wandb": wandb,
    "mlflow": MLflow,
}


# ------------------------------------------------------------------------------------------- what a run has to tell


@dataclass(frozen=True, kw_only=True)
class Sent:
    """RUN/sent/TRACKER.json: how much of each file is there already."""

    metrics: int = 0  # lines
    samples: int = 0
    curves: str = ""  # a hash of scale/curves.json

    @classmethod
    def read(cls, path: Path) -> Sent:
        """Nothing was sent where there is no file; ConfigError for a damaged one."""
        try:
            found = cls(**json.loads(path.read_bytes()))
            if not (type(found.metrics) is type(found.samples) is int and min(found.metrics, found.samples) >= 0):
                raise ValueError
            return found
        except FileNotFoundError:
            return cls()
        except (ValueError, TypeError, RecursionError):
            raise ConfigError(f"{path} is damaged; delete it, and everything is sent again") from None


def tracked(folder: Path, project: str = "ponder") -> TrackedRun:
    """ConfigError where the folder is no run."""
    if not all((folder / name).exists() for name in ("run.json", "config.toml")):
        raise ConfigError(f"{folder} is no run: it has no run.json with a config.toml; give the folder of a run")
    config = files.read_recipe(folder / "config.toml")
    return TrackedRun(folder=folder, project=project, config=config)


def send(run: TrackedRun, tracker: Tracker, sent: Sent = Sent(), *, with_reasoning: bool = False) -> Sent:
    """Send what is not in `sent` yet, and say what is now. What is no finite number is left out."""
    folder = run.folder
    metrics = list(files.read_jsonl(folder / "metrics.jsonl"))
    for index in range(sent.metrics, len(metrics)):
        tracker.metrics(_step(metrics[index], index), _numbers(metrics[index]))
    samples = list(files.read_jsonl(folder / "samples.jsonl"))
    for index in range(sent.samples, len(samples)):
        row = samples[index] if with_reasoning else {k: v for k, v in samples[index].items() if k in WITHOUT_REASONING}
        tracker.text(_step(row, index), "samples", json.dumps(row, indent=1)[:LONGEST])
    num_curves = _send_curves(folder / "scale" / "curves.json", tracker, sent.curves)
    return Sent(metrics=len(metrics), samples=len(samples), curves=num_curves)


def _step(row: Mapping[str, Any], index: int) -> int:
    step = row.get("step")
    return step if isinstance(step, int) else index


def _numbers(row: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in row.items()
            if name != "step" and is_number(value)}  # fmt: skip


def _send_curves(path: Path, tracker: Tracker, known: str) -> str:
    """Both curves: accuracy of every checkpoint over its step, and of the last one over the samples of a vote."""
    if not path.exists() or (digest := files.file_hash(path)) == known:
        return known
    curves = Curves.read(path)
    for point in curves.checkpoints:
        values = {f"curves/pass@{k}": found.value for k, found in point.pass_at.items()}
        values |= {f"curves/cons@{k}": found.value for k, found in point.cons_at.items()}
        tracker.metrics(point.step, _numbers({**values, "curves/train_flops": point.train_flops}))
    return digest
