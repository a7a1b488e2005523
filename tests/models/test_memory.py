"""What does not fit is refused before its weights are read."""

from __future__ import annotations

from pathlib import Path

import pytest

from ponder.config import ConfigError
from ponder.models import memory, weights
from tests.helpers import tiny_model


def test_a_model_too_big_for_memory_is_refused_before_a_tensor_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model()
    weights.save_model(model, tmp_path)
    needed = model.num_parameters * 4
    monkeypatch.setattr(memory, "free_memory", lambda device: needed)
    weights.load_model(tmp_path)
    monkeypatch.setattr(memory, "free_memory", lambda device: needed - 1)
    monkeypatch.setattr(weights, "_read_tensors", None)
    with pytest.raises(ConfigError, match=r"in float32 needs 0.0 GiB.*take a smaller model"):
        weights.load_model(tmp_path)
    monkeypatch.setattr(memory, "free_memory", lambda device: None)
    memory.check_memory(10**15, "x")  # where nothing is known nothing is refused


def test_memory_is_known_on_linux_and_plausible() -> None:
    free = memory.free_memory()
    assert free is None or 10**6 < free < 10**14


def test_the_narrowest_of_all_limits_above_a_process_counts(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    for folder, limit, used, cache in (
        (inner, "max", 5, 0),
        (tmp_path / "a", "1000", 900, 300),
        (tmp_path, "9999", 1, 0),
    ):
        (folder / "memory.max").write_text(f"{limit}\n")
        (folder / "memory.current").write_text(f"{used}\n")
        (folder / "memory.stat").write_text(f"anon 1\ninactive_file {cache}\nactive_file 0\n")
    (tmp_path / "membership").write_text("0::/a/b\n")
    assert sorted(memory._limits(tmp_path / "membership", tmp_path)) == [400, 9998]  # type: ignore[type-var]
    (tmp_path / "memory" / "c").mkdir(parents=True)
    (tmp_path / "memory" / "c" / "memory.limit_in_bytes").write_text("70")
    (tmp_path / "memory" / "c" / "memory.usage_in_bytes").write_text("20")
    (tmp_path / "membership").write_text("7:cpu:/c\n4:memory:/c\n")
    assert memory._limits(tmp_path / "membership", tmp_path) == [50]
    assert memory._limits(tmp_path / "none", tmp_path) == [] and memory._available(tmp_path / "none") is None


def test_what_the_kernel_calls_available_is_read(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 100 kB\nMemAvailable:   42 kB\n")
    assert memory._available(tmp_path / "meminfo") == 42 * 1024
