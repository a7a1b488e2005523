"""A hub id -> a folder in the hub's own store, through `huggingface_hub` (`pip install "ponder[hub]"`).

    from_hub("owner/name@v1")     # what was downloaded before, else from the network
    download("owner/name@v1")     # from the network; what is there already is compared and completed

Settings are the library's own: HF_ENDPOINT, HF_TOKEN, HF_HOME, HF_HUB_OFFLINE. Only weights, configs and tokenizers are
fetched, never code or pickles. One short request comes first: whether the model is there, may be had, is of a family
read here, and fits on the disk, so that nothing is fetched in vain and a dead network is known within seconds (the
library itself would try for minutes). What arrived is compared with the hub's sizes and hashes; files that are whole
stay when a download is cut short.
"""

from __future__ import annotations

import fnmatch
import hashlib
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ponder.config import ConfigError
from ponder.models.weights import read_config, stored_tensors, weight_files

_SMALL = ["*.json", "*.jinja"]
_FILES = ["model*.safetensors", *_SMALL]  # not consolidated.safetensors: the same weights once more
_NESTED = "*/*"  # other forms of the model
_SECONDS = 10.0  # for the first answer of the hub


def from_hub(reference: str, *, hint: str = "") -> Path:
    """A snapshot from the local store, or from the network."""
    snapshot = _library(reference, hint)
    found = ""
    try:
        return _complete(snapshot(reference, local_files_only=True))
    except OSError:
        pass  # not downloaded
    except ConfigError as error:
        found = f"; {error}"  # cut short: the network has the rest
    return download(reference, hint=hint, found=found)


def download(reference: str, *, hint: str = "", found: str = "") -> Path:
    """A snapshot as the hub has it now; damaged files of an earlier download are fetched again. found: what is wrong
    with the files that are here, for the case that the hub cannot be reached."""
    snapshot = _library(reference, hint)
    from huggingface_hub import constants, errors

    if constants.HF_HUB_OFFLINE:
        try:
            return _complete(snapshot(reference, local_files_only=True))
        except (OSError, ConfigError):
            fix = (
                "HF_HUB_OFFLINE is set and the model was not downloaded before: unset it once, or copy the folder here"
            )
            raise _refusal(reference, hint, fix) from None
    try:
        return _download(reference, snapshot)
    except ConfigError as error:
        fix = str(error)
    except errors.GatedRepoError:
        fix = "the model is gated: accept its terms on the hub and set HF_TOKEN"
    except errors.RepositoryNotFoundError:
        fix = "the hub has no such model, or it is private: check the name, or set HF_TOKEN"
    except errors.RevisionNotFoundError:
        fix = f"the model has no revision {reference.partition('@')[2]!r}: use a branch, a tag or a commit"
    except (errors.HTTPError, OSError, ValueError) as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        fix = f"the hub cannot be reached ({reason}){found}"
    raise _refusal(reference, hint, fix)


def _refusal(reference: str, hint: str, fix: str) -> ConfigError:
    return ConfigError(f"there is no folder {reference!r}{hint}, and as a hub id: {fix}")


def _library(reference: str, hint: str) -> Callable[..., Path]:
    """The library's download of one reference."""
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise ConfigError(
            f'there is no folder {reference!r}{hint}; if it is a hub id: pip install "ponder[hub]"'
        ) from None

    def snapshot(reference: str, *, files: list[str] = _FILES, local_files_only: bool = False) -> Path:
        repo, _, revision = reference.partition("@")
        return Path(
            snapshot_download(
                repo,
                revision=revision or None,
                allow_patterns=files,
                ignore_patterns=[_NESTED],
                local_files_only=local_files_only,
            )
        )

    return snapshot


def _download(reference: str, snapshot: Callable[..., Path]) -> Path:
    from huggingface_hub import HfApi

    repo, _, revision = reference.partition("@")
    facts = HfApi().model_info(repo, revision=revision or None, files_metadata=True, timeout=_SECONDS)
    files = {file.rfilename: file for file in facts.siblings or [] if _is_wanted(file.rfilename)}
    others = [file.rfilename for file in facts.siblings or [] if file.rfilename.endswith((".bin", ".gguf", ".pt"))]
    if not any(name.endswith(".safetensors") for name in files):
        also = f" (it has {others[0]}, which is not read from there)" if others else ""
        raise ConfigError(f"the model has no safetensors{also}; take another upload of it")
    before = set(_present(reference, snapshot))
    read_config(snapshot(reference, files=["config.json"]))  # a family that is not read: before its weights come
    _check_space(sum(file.size or 0 for name, file in files.items() if name not in before))
    snapshot(reference, files=_SMALL)  # before the weights: where those are whole, no template or end mark is missing
    for _ in range(2):
        folder = snapshot(reference)
        damaged = [
            name for name, file in files.items() if (folder / name).exists() and _is_damaged(folder / name, file)
        ]
        for name in damaged:
            (folder / name).resolve().unlink(missing_ok=True)  # what it links to in the store; else it would be reused
            (folder / name).unlink(missing_ok=True)
        if not damaged:
            return _complete(folder)
        if not before.issuperset(damaged):
            break
    raise ConfigError(
        f"{damaged[0]} arrived damaged (not the size or hash that the hub states) and was removed; "
        f"run `ponder pull {reference}` to fetch it again"
    )


def _is_wanted(name: str) -> bool:
    return "/" not in name and any(fnmatch.fnmatch(name, pattern) for pattern in _FILES)


def _present(reference: str, snapshot: Callable[..., Path]) -> Mapping[str, Path]:
    """Files of an earlier download."""
    try:
        folder = snapshot(reference, local_files_only=True)
    except OSError:
        return {}
    return {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}


def _check_space(needed: int) -> None:
    from huggingface_hub import constants

    place = Path(constants.HF_HUB_CACHE)
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if needed > free:
        raise ConfigError(
            f"the model needs {needed / 1e9:.1f} GB in {constants.HF_HUB_CACHE}, which has {free / 1e9:.1f} GB free; "
            "free some space, or set HF_HOME to another disk"
        )


def _is_damaged(path: Path, file: Any) -> bool:
    """Whether a file differs from what the hub states; large files have a sha256 there, small ones git's sha1."""
    size = path.stat().st_size
    if file.size is not None and size != file.size:
        return True
    if file.lfs is not None:
        digest, expected = hashlib.sha256(), file.lfs.sha256
    elif file.blob_id:
        digest, expected = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False), file.blob_id
    else:
        return False
    with open(path, "rb") as content:
        while block := content.read(1 << 20):
            digest.update(block)
    return digest.hexdigest() != expected


def _complete(folder: Path) -> Path:
    """A snapshot that has all its files, each as long as its header says; without a network the hub returns what
    there is of one."""
    try:
        read_config(folder)
        weight_files(folder)
        stored_tensors(folder)
    except ConfigError as error:
        raise ConfigError(f"what was downloaded is not a whole model ({error})") from None
    return folder
