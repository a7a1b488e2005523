"""Which instructions the C is compiled for, and where it is left to PyTorch."""

from __future__ import annotations

import asyncio
import ctypes
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch

from ponder.engine import native
from ponder.engine.local import LocalEngine
from ponder.models import compiled
from ponder.models.tokenizer import ByteTokenizer
from ponder.types import SamplingParams
from tests.helpers import in_c, tiny_model, user

pytestmark = pytest.mark.slow


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


def test_a_cache_whose_files_cannot_be_loaded_leaves_it_to_pytorch_with_one_warning(monkeypatch):
    in_c(native.SOURCE, torch.float32)

    def refuse(path, *more):
        raise OSError(f"{path}: failed to map segment from shared object")

    monkeypatch.setattr(ctypes, "CDLL", refuse)
    compiled._without.cache_clear()
    compiled.loaded.cache_clear()
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            assert compiled.loaded(Path(compiled.HEADERS) / "softmax.c", torch.float32) is None
            with LocalEngine(tiny_model(), ByteTokenizer(), num_workers=1) as engine:
                (one,) = asyncio.run(engine.generate(user("hi"), SamplingParams(max_reasoning_tokens=4)))
        assert one.token_ids
        ours = [str(warning.message) for warning in said if "computing by PyTorch" in str(warning.message)]
        assert len(ours) == 1 and "noexec" in ours[0] and "failed to map segment" in ours[0]
    finally:
        compiled.loaded.cache_clear()


@pytest.mark.parametrize("content", [b"", b"\x7fELF", b"no library"])
def test_a_compiled_file_that_was_cut_off_is_compiled_anew(content, monkeypatch, tmp_path):
    in_c(native.SOURCE, torch.float32)
    whole, path = Path(compiled.library(native.SOURCE, torch.float32)).read_bytes(), tmp_path / "native.so"
    path.write_bytes(content)

    def build(source, options):
        if not path.exists():
            path.write_bytes(whole)
        return path

    monkeypatch.setattr(compiled, "build", build)
    assert compiled.library(native.SOURCE, torch.float32) == str(path) and path.read_bytes() == whole


def test_a_noexec_mount_is_such_a_cache(tmp_path):
    in_c(native.SOURCE, torch.float32)
    mount = ["mount", "-t", "tmpfs", "-o", "noexec,size=8m", "tmpfs", str(tmp_path)]
    if sys.platform != "linux" or os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root may mount, where mounting is allowed at all; the double above stands for it")
    try:
        code = "import torch; from ponder.engine import native; print(native.library(torch.float32))"
        done = subprocess.run(
            [sys.executable, "-c", code], env=os.environ | {"PONDER_CACHE": str(tmp_path)}, capture_output=True,
            text=True, timeout=200,
        )  # fmt: skip
        assert done.stdout.strip() == "None" and "noexec" in done.stderr
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
