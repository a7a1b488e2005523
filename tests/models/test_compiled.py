"""Which instructions the C is compiled for, and where it is left to PyTorch."""

from __future__ import annotations

import pytest
import torch

from ponder.models import compiled


@pytest.fixture
def cpu(monkeypatch):
    """cpu("AVX512", "avx512_bf16"): a processor, as PyTorch tells of it."""

    def pretend(level: str, *features: str) -> None:
        monkeypatch.setattr("platform.machine", lambda: "x86_64")
        monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: level)
        for feature in ("amx_tile", "amx_bf16", "avx512_bf16"):
            has = feature in features
            monkeypatch.setattr(f"torch.cpu._is_{feature}_supported", lambda has=has: has, raising=False)

    return pretend


def test_every_processor_gets_the_instructions_it_has(cpu):
    cpu("AVX2")
    assert compiled.flags(torch.float32) == ("-mavx2", "-mfma")
    assert compiled.flags(torch.bfloat16) == ("-mavx2", "-mfma", "-DBF16")
    cpu("AVX512", "avx512_bf16")
    assert "-mavx512f" in compiled.flags(torch.float32) and "-mavx512bf16" not in compiled.flags(torch.float32)
    assert {"-mavx512bf16", "-DBF16"} <= set(compiled.flags(torch.bfloat16))
    assert "-mamx-bf16" not in compiled.flags(torch.bfloat16)
    cpu("AVX512")
    assert "-mavx512bf16" not in compiled.flags(torch.bfloat16)
    cpu("DEFAULT")
    assert compiled.flags(torch.float32) is None


def test_matrix_units_are_used_where_the_kernel_grants_them(cpu, monkeypatch):
    monkeypatch.setattr("torch.cpu._init_amx", lambda: True, raising=False)
    cpu("AVX512", "avx512_bf16", "amx_tile")  # and none for bfloat16
    assert "-mamx-tile" not in compiled.flags(torch.bfloat16)
    cpu("AVX512", "avx512_bf16", "amx_tile", "amx_bf16")
    assert {"-mamx-tile", "-mamx-bf16", "-mavx512bf16"} <= set(compiled.flags(torch.bfloat16))
    assert "-mamx-tile" not in compiled.flags(torch.float32)
    monkeypatch.setattr("torch.cpu._init_amx", lambda: False, raising=False)
    assert "-mamx-tile" not in compiled.flags(torch.bfloat16)


def test_a_pytorch_that_cannot_tell_is_not_needed(cpu, monkeypatch):
    cpu("AVX512")
    monkeypatch.delattr("torch.cpu._is_avx512_bf16_supported", raising=False)
    assert isinstance(compiled._has("avx512_bf16"), bool)


def test_other_processors_and_dtypes_are_pytorch_s(cpu, monkeypatch):
    cpu("AVX2")
    assert compiled.flags(torch.float16) is None
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    assert compiled.flags(torch.float32) is None
