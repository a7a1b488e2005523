"""A model reference -> a model folder. There are four forms, and this file alone tells them apart:

    nano                          a shipped name
    path/to/folder                a model folder in Hugging Face layout (config.json + *.safetensors)
    path/to/run, run@20, run@base a run folder: its newest checkpoint, the one of a step, or what training began from
    owner/name[@revision]         a hub id, with `pip install "ponder[hub]"`; what was downloaded is found offline

A shipped name wins over a folder of that name (write ./nano for the folder), a folder wins over a hub id. Only
weights, configs and tokenizers are fetched from a hub, never code or pickles, and a downloaded snapshot is used as it
is: name a revision to get another one.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import re
import tomllib
from pathlib import Path
from typing import Any

import torch

from ponder.config import ConfigError, nearest
from ponder.models.hf_tokenizer import load_tokenizer
from ponder.models.tokenizer import Tokenizer
from ponder.models.transformer import Transformer
from ponder.models.weights import DTYPES, load_model, read_config, stored_tensors, weight_files
from ponder.runs import checkpoints

SHIPPED = ("nano",)
FORMS = (
    f"a model is a shipped name ({', '.join(SHIPPED)}), a model folder (config.json + safetensors), "
    "a run folder (RUN, RUN@step or RUN@base), or a hub id (owner/name[@revision])"
)
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
_HUB_FILES = ["*.safetensors", "*.json", "*.jinja"]


def resolve(reference: str | Path) -> Path:
    """The model folder a reference stands for, downloading it where it must."""
    text = str(reference)
    try:
        return _shipped(text) if text in SHIPPED else _find(text)
    except (OSError, RuntimeError) as error:  # a name too long for a file, no permission, ~nobody
        raise ConfigError(f"cannot look for a model {text[:60]!r} ({error!s:.100}); {FORMS}") from None


def _find(text: str) -> Path:
    folder = Path(text).expanduser()
    if folder.is_dir():
        return _from_folder(folder)
    name, at, rung = text.rpartition("@")
    if at and Path(name).expanduser().is_dir():
        return _rung(Path(name).expanduser(), rung)
    if folder.exists():
        raise ConfigError(f"{text} is a file; {FORMS}")
    if _HUB_ID.fullmatch(text) and not text.startswith("."):
        return _from_hub(text)
    raise ConfigError(f"unknown model {text!r}{_hint(text)}; {FORMS}")


def load(
    reference: str | Path, *, dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu"
) -> tuple[Transformer, Tokenizer]:
    """A model and its tokenizer, ready to use."""
    folder = resolve(reference)
    tokenizer = load_tokenizer(folder)
    known = read_config(folder).vocab_size
    if tokenizer.vocab_size > known:
        raise ConfigError(
            f"the tokenizer in {folder} knows {tokenizer.vocab_size} tokens, its model only {known}; "
            "take the tokenizer files that belong to these weights"
        )
    return load_model(folder, dtype=dtype, device=device), tokenizer


def describe(reference: str | Path) -> dict[str, Any]:
    """What a report says about a model, without loading it: name, folder, parameters, window, dtype, fingerprint."""
    folder = resolve(reference)
    config = read_config(folder)
    with torch.device("meta"):
        parameters = Transformer(config).num_parameters
    embeddings = stored_tensors(folder).get("model.embed_tokens.weight")
    return {
        "name": str(reference),
        "folder": str(folder.resolve()),
        "parameters": parameters,
        "window": config.max_position_embeddings,
        "dtype": str(DTYPES.get(embeddings.dtype, embeddings.dtype)).removeprefix("torch.") if embeddings else "none",
        "fingerprint": fingerprint(folder),
    }


def fingerprint(folder: str | Path) -> str:
    """16 hex digits of the weights' content: samples are stored under it, so other weights never mix with them."""
    digest = hashlib.sha256()
    for file in weight_files(folder):
        with open(file, "rb") as content:
            while block := content.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()[:16]


def _shipped(name: str) -> Path:
    folder = Path(str(importlib.resources.files("ponder.models"))) / name
    if not (folder / "config.json").exists():
        raise ConfigError(f"the shipped model {name!r} is not in {folder}; install ponder again")
    return folder


def _from_folder(folder: Path) -> Path:
    if (folder / "config.json").exists():
        return folder
    if not _is_run(folder):
        raise ConfigError(f"{folder} holds neither config.json nor run.json; {FORMS}")
    ladder = checkpoints(folder)
    if not ladder:
        raise ConfigError(f"the run {folder} has no complete checkpoint yet; {folder}@base is what it began from")
    return ladder[-1]


def _is_run(folder: Path) -> bool:
    return (folder / "run.json").exists() or (folder / "checkpoints").is_dir()


def _rung(run: Path, rung: str) -> Path:
    """One checkpoint of a run: a step, or `base`."""
    if not _is_run(run):
        raise ConfigError(f"{run} is no run folder, so {run}@{rung} names nothing; {FORMS}")
    ladder = {int(path.name.removeprefix("step_")): path for path in checkpoints(run)}
    if rung == "base":
        return ladder[0] if 0 in ladder else _base(run)
    if rung.isdecimal() and int(rung) in ladder:
        return ladder[int(rung)]
    steps = ", ".join(map(str, ladder)) or "none yet"
    raise ConfigError(f"the run {run} has no checkpoint of step {rung!r} (complete: {steps}; or {run}@base)")


def _base(run: Path) -> Path:
    """The model a run's recipe named."""
    try:
        model = tomllib.loads((run / "config.toml").read_text(encoding="utf-8")).get("model")
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read which model {run} began from: {error}") from None
    if not isinstance(model, str):
        raise ConfigError(f"{run / 'config.toml'} does not say which model the run began from (model = ...)")
    if model.endswith("@base") or Path(model).resolve() == run.resolve():
        raise ConfigError(f"{run / 'config.toml'} names {model!r} as its base, which leads round in a circle")
    return resolve(model)


def _hint(text: str) -> str:
    """The nearest shipped name or sibling folder, if any is near."""
    path = Path(text).expanduser()
    siblings = [entry.name for entry in path.parent.iterdir() if entry.is_dir()] if path.parent.is_dir() else []
    return nearest(path.name, [*SHIPPED, *siblings]).partition(" (known")[0]


def _from_hub(reference: str) -> Path:
    """A snapshot from the local store, or from the network."""
    repo, _, revision = reference.partition("@")
    try:
        from huggingface_hub import constants, errors, snapshot_download
    except ImportError:
        raise ConfigError(
            f'there is no folder {reference!r}{_hint(reference)}; if it is a hub id: pip install "ponder[hub]"'
        ) from None

    def snapshot(local_files_only: bool) -> Path:
        return Path(
            snapshot_download(
                repo, revision=revision or None, allow_patterns=_HUB_FILES, local_files_only=local_files_only
            )
        )

    try:
        return _complete(snapshot(True))
    except (OSError, ConfigError):
        pass  # not downloaded, or cut short: the network has the rest
    offline = "HF_HUB_OFFLINE is set and the model was not downloaded before: unset it once, or copy the folder here"
    if constants.HF_HUB_OFFLINE:
        raise ConfigError(f"there is no folder {reference!r}{_hint(reference)}, and as a hub id: {offline}")
    try:
        return _complete(snapshot(False))
    except ConfigError as error:
        fix = f"what could be downloaded is not a whole model ({error})"
    except errors.GatedRepoError:
        fix = "the model is gated: accept its terms on the hub and set HF_TOKEN"
    except errors.RepositoryNotFoundError:
        fix = "the hub has no such model, or it is private: check the name, or set HF_TOKEN"
    except errors.RevisionNotFoundError:
        fix = f"the model has no revision {revision!r}: use a branch, a tag or a commit"
    except (errors.HTTPError, OSError, ValueError) as error:
        fix = f"the hub cannot be reached ({str(error).splitlines()[0][:200] or type(error).__name__})"
    raise ConfigError(f"there is no folder {reference!r}{_hint(reference)}, and as a hub id: {fix}")


def _complete(folder: Path) -> Path:
    """A snapshot that has all its files; without a network the hub returns what there is of one."""
    read_config(folder)
    weight_files(folder)
    return folder
