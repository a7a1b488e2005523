"""A scorer's folder: scorer.json, written last, and its weights beside it. No tokenizer: scorers take token ids.

    DIR/scorer.json        {"format": 1, "kind": "outcome", "name": ..., "policy": ..., ...}
    DIR/head.safetensors   the head (outcome, process, probe)
    DIR/trunk/             the network below it, a model folder (outcome, process)

`kind` may be module:attr, a class of your own. Whatever is wrong with a folder is a ConfigError that names the file and
what to do.
"""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ponder.config import ConfigError, lookup, nearest
from ponder.files import file_hash, write_atomic
from ponder.scorers.base import TokenScorer

if TYPE_CHECKING:
    from torch import Tensor

FORMAT, FACTS, HEAD, TRUNK = 1, "scorer.json", "head.safetensors", "trunk"

KINDS: dict[str, str] = {  # the kind in scorer.json -> module:attr, imported when it is loaded
    "outcome": "ponder.scorers.outcome:OutcomeScorer",
    "process": "ponder.scorers.process:ProcessScorer",
    "probe": "ponder.scorers.probe:Probe",
    "features": "ponder.scorers.features:FeatureScorer",
    "preference": "ponder.scorers.preference:PreferenceScorer",
    "preference_probe": "ponder.scorers.preference_probe:PreferenceProbe",
    "preference_ensemble": "ponder.scorers.preference_ensemble:PreferenceEnsemble",
}


def load_scorer(path: str | Path, *, key: Callable[[str], str | None] | None = None) -> TokenScorer:
    """The scorer of a folder, or of the run that trained it (RUN/scorer). key: when two answers are the same."""
    folder = scorer_folder(path)
    facts = load_facts(folder)
    return scorer_class(facts["kind"], folder / FACTS).load(folder, facts, key=key)


def scorer_class(kind: str, path: Path) -> type[TokenScorer]:
    """The class that a scorer.json names: one of `KINDS`, or module:attr of the current folder or an installed package.
    A scorer's folder has the name only, never code."""
    try:
        cls = lookup({}, KINDS.get(kind, kind), what="kind of scorer")
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    if not (isinstance(cls, type) and issubclass(cls, TokenScorer)) or inspect.isabstract(cls):
        raise ConfigError(f"{path}: kind = {kind!r} must be a TokenScorer (ponder.scorers), a class with save and load")
    return cls


def scorer_folder(path: str | Path) -> Path:
    """The folder that scorer.json is in: the one named, or `scorer` in a run's."""
    folder = Path(path).expanduser()
    inner = folder / "scorer"
    return inner if not (folder / FACTS).exists() and (inner / FACTS).exists() else folder


def load_facts(folder: Path) -> dict[str, Any]:
    """scorer.json, checked."""
    path = folder / FACTS
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        is_model = (folder / "config.json").exists()
        hint = "it is a model; `ponder scorer` trains a scorer for one" if is_model else "`ponder scorer` makes one"
        raise ConfigError(f"no scorer in {folder} (it has no {FACTS}); {hint}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not readable JSON ({error}); train the scorer again") from None
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        raise ConfigError(f"{path} is of another format than {FORMAT}; use the ponder that wrote it")
    kind = facts.get("kind")
    if not isinstance(kind, str) or (kind not in KINDS and ":" not in kind):
        raise ConfigError(f"{path}: unknown kind of scorer {kind!r}{nearest(str(kind), KINDS)}")
    for key in ("name", "policy"):
        if not isinstance(facts.get(key), str):
            raise ConfigError(f"{path}: {key} = {facts.get(key)!r} must be text; train the scorer again")
    return facts


def number(facts: Mapping[str, Any], key: str, default: float, folder: Path) -> float:
    """A finite number of scorer.json."""
    value = facts.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < math.inf:
        raise ConfigError(f"{folder / FACTS}: {key} = {value!r} must be a finite number; train the scorer again")
    try:
        return float(value)
    except OverflowError:
        raise ConfigError(f"{folder / FACTS}: {key} is too large for a number; train the scorer again") from None


def shift_and_scale(folder: Path, facts: Mapping[str, Any]) -> tuple[float, float]:
    """Of a scorer.json, checked."""
    shift, scale = (number(facts, name, default, folder) for name, default in (("shift", 0.0), ("scale", 1.0)))
    if scale <= 0:
        raise ConfigError(f"{folder / FACTS}: scale = {scale} must be positive; train the scorer again")
    return shift, scale


def write_facts(folder: str | Path, facts: Mapping[str, Any]) -> None:
    """Replace scorer.json in one step; the folder is made where it is missing, and the format's number is added."""
    write_atomic(Path(folder) / FACTS, json.dumps({"format": FORMAT, **facts}, indent=1) + "\n")


def fingerprint(path: str | Path) -> str:
    """16 hex digits of everything that a scorer's scores depend on: scores are stored under it. Files that a kind of
    one's own keeps beside scorer.json are included, but not hidden files and texts (.md)."""
    folder = scorer_folder(path)
    known = (folder / FACTS, folder / HEAD, *sorted((folder / TRUNK).glob("*.safetensors")))
    others = (file for file in folder.glob("*") if file.is_file() and not file.name.startswith("."))
    more = sorted(file for file in others if file not in known and file.suffix != ".md")
    return file_hash(*(file for file in (*known, *more) if file.exists()))[:16]


def load_head(folder: Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """The tensors of head.safetensors, which must be the expected ones with their shapes, finite; as float32."""
    import torch
    from safetensors import SafetensorError, safe_open

    path = folder / HEAD
    found = {}
    try:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 (not a dict)
                found[name] = file.get_tensor(name).float()
    except (SafetensorError, OSError) as error:
        raise ConfigError(f"{path} is missing, damaged or cut off ({error}); train the scorer again") from None
    has = {name: tuple(tensor.shape) for name, tensor in found.items()}
    if has != dict(shapes):
        raise ConfigError(f"{path} holds {has}, not {dict(shapes)}: it belongs to another network; copy it again")
    for name, tensor in found.items():
        if not torch.isfinite(tensor).all():
            raise ConfigError(f"{path}: {name} holds numbers that are not finite; train the scorer again")
    return found
