"""What of a model goes to the hub, and the way there, through `huggingface_hub` (`pip install "ponder[hub]"`).

    what = publication("runs/mine@best", "me/mine", adapter=True)     # which folder, which run, which base
    upload(folder, "me/mine", private=True)                           # -> the address of what was made

Between the two the folder is made, with a card: `evals/card.py`. Settings are the library's own: HF_ENDPOINT and
HF_TOKEN. The folder goes up as one commit: all of it is there afterwards, or nothing. A repository that is there
already gets another commit; what only the hub has stays.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ponder.config import ConfigError
from ponder.files import read_recipe
from ponder.models import hub, named
from ponder.models.lora import is_adapter, read_adapter_config

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


@dataclass(frozen=True, kw_only=True)
class Publication:
    """What is to be pushed, and where it comes from."""

    name: str  # OWNER/NAME on the hub
    folder: Path  # the model's, or the adapter's
    run: Path | None
    step: int | None
    base: str  # OWNER/NAME of the model that training began from; "" = not known there
    is_adapter: bool
    license: str
    fingerprint: str  # of the whole model
    note: str  # what a reader has to know of the base


def publication(reference: str, name: str, *, adapter: bool = False, base: str = "", license: str = "") -> Publication:
    """A model or its adapter, to be pushed as `name`. base: its base's hub name, where ponder does not know it."""
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{name!r} is not OWNER/NAME, the place on the hub")
    found, folder = hub.found(reference), hub.resolve(reference)
    is_alone = is_adapter(found) and not (found / "config.json").exists()
    if adapter or is_alone:
        folder = found if is_alone else hub.adapter_of(reference)
        if not is_adapter(folder):
            raise ConfigError(f"{reference} has no adapter of its own (lora_rank=0); leave --adapter out")
    run = found.parent.parent if found.parent.name == "checkpoints" else None
    began = read_adapter_config(folder)["base_model_name_or_path"] if is_adapter(folder) else _began(run)
    note, base = "" if base else _pulled(began), base or _public(began)
    if is_adapter(folder) and not base:
        raise ConfigError(
            f"an adapter is of use only with its base, and {Path(began).name} is a folder of this machine: push the "
            "whole model (without --adapter), or say where the base is on the hub: --base OWNER/NAME. If the base is "
            f"an adapter itself: ponder export {reference} FOLDER writes both as one, which can be pushed"
        )
    step = found.name.removeprefix("step_") if run else ""
    return Publication(
        name=name, folder=folder, run=run, step=int(step) if step.isdecimal() else None, base=base,
        is_adapter=is_adapter(folder), license=license, fingerprint=hub.fingerprint(found), note=note,
    )  # fmt: skip


def _began(run: Path | None) -> str:
    """What a run's recipe calls the model that it began from."""
    if run is None or not (run / "config.toml").exists():
        return ""
    return str(read_recipe(run / "config.toml").get("model", ""))


def _known(base: str) -> str | None:
    """The name that ponder pulls a base under, if it is one of those."""
    return base if base in named.PACKAGES else named.local_name(base)


def _public(base: str) -> str:
    """A base by its name on the hub; "" where it has none."""
    if (known := _known(base)) is not None:
        return named.PACKAGES[known].hub_id
    plain = base.partition("@")[0]
    return plain if hub.is_hub_id(base) and not Path(plain).exists() else ""


def _pulled(base: str) -> str:
    """That a base was not read from the hub's own files."""
    if (known := _known(base)) is None:
        return ""
    return (
        f"It was trained over the weights that `ponder pull {known}` makes from a 4-bit file; over the hub's own "
        "weights of that model its answers differ a little."
    )


def upload(folder: Path, name: str, *, private: bool = False, message: str = "ponder push") -> str:
    """Push a folder; returns its address. A ConfigError says what to do where the hub refuses."""
    try:
        from huggingface_hub import HfApi, constants, errors
    except ImportError:
        raise ConfigError('pushing needs huggingface_hub: pip install "ponder[hub]"') from None
    if constants.HF_HUB_OFFLINE:
        raise ConfigError(f"HF_HUB_OFFLINE is set: unset it to push; the folder is {folder}")
    api = HfApi()
    try:
        api.create_repo(name, repo_type="model", private=private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=name, folder_path=folder, repo_type="model", commit_message=message, ignore_patterns=[".*"]
        )
    except errors.HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        if status in (401, 403):
            owner = name.partition("/")[0]
            fix = f"the hub does not let you write to {name}: set HF_TOKEN to a token of {owner} that may write"
        else:
            fix = f"the hub refused ({' '.join(str(error).split())[:200]})"
        raise ConfigError(f"{fix}; the folder is ready in {folder}") from None
    except (OSError, ValueError, RuntimeError) as error:
        what = " ".join(str(error).split())[:200] or type(error).__name__
        raise ConfigError(f"the hub cannot be reached ({what}); the folder is ready in {folder}") from None
    return str(getattr(commit, "repo_url", None) or f"{constants.ENDPOINT}/{name}")
