"""C files, compiled for this machine the first time they are needed, and kept in the cache.

    path = compiled.library(Path("native.c"), torch.float32)     # None: PyTorch has to do
    functions = compiled.loaded(Path("softmax.c"), torch.float32)

For x86 CPUs with AVX2 or AVX-512, and for the matrix units (AMX) of some. Where there is no C compiler, or the cache
lies where nothing can be run (noexec), the caller goes on with PyTorch, and a warning says why.
PONDER_NATIVE=0 asks for that without a warning.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import multiprocessing
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ponder.models import named

HEADERS = Path(__file__).parent


def library(source: Path, dtype: torch.dtype, *, int8: bool = False) -> str | None:
    """The compiled file for a dtype, with int8 products where the source has them; None where PyTorch has to do."""
    options = flags(dtype, int8=int8)
    if options is None or os.environ.get("PONDER_NATIVE") == "0":
        return None
    for _ in range(2):
        try:
            path = str(build(source, options))
        except (OSError, subprocess.SubprocessError) as error:
            _without(
                f"the C code could not be compiled ({type(error).__name__}: {error}); install gcc or clang, or set CC"
            )
            return None
        why = _refusal(path)
        if not why:
            return path
        if "map segment" in why:  # a mount that lets nothing in it run
            break
        Path(path).unlink(missing_ok=True)  # cut off, by a crash of the machine for one: it is compiled anew
    _without(
        f"the compiled C code cannot be loaded from {Path(path).parent} ({why}); set PONDER_CACHE to a folder on a "
        "disk that is not mounted with noexec"
    )
    return None


def _refusal(path: str) -> str:
    """Why a file cannot be loaded; "" where it can."""
    try:
        ctypes.CDLL(path)
    except OSError as error:
        return str(error).removeprefix(f"{path}: ")
    return ""


@functools.cache
def loaded(source: Path, dtype: torch.dtype) -> Any:
    """The functions of the compiled file, a `ctypes.CDLL`; None where PyTorch has to do."""
    path = library(source, dtype)
    return ctypes.CDLL(path) if path else None


def pointers(*tensors: torch.Tensor | None) -> list[ctypes.c_void_p]:
    """Arguments of a compiled function; None is NULL."""
    return [ctypes.c_void_p(None if tensor is None else tensor.data_ptr()) for tensor in tensors]


def sizes(*numbers: int) -> list[ctypes.c_int64]:
    """Whole numbers as arguments of a compiled function."""
    return [ctypes.c_int64(number) for number in numbers]


def flags(dtype: torch.dtype, *, int8: bool = False) -> tuple[str, ...] | None:
    """Of the compiler: the instructions that this CPU has, as PyTorch sees it. None: not a CPU or dtype for this."""
    if dtype not in (torch.float32, torch.bfloat16) or platform.machine().lower() not in ("x86_64", "amd64"):
        return None
    if sys.platform == "win32":  # the C counts in `long`, which is 64 bits elsewhere
        return None
    level = torch.backends.cpu.get_cpu_capability()
    if level not in ("AVX2", "AVX512"):
        return None
    options = ["-mavx2", "-mfma"]
    if level == "AVX512":
        options += ["-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq"]
    if dtype == torch.bfloat16:
        options += ["-DBF16"]
        if level == "AVX512" and _has("avx512_bf16"):
            options += ["-mavx512bf16"]
            if _has("amx_tile") and _has("amx_bf16") and _grants_matrix_units():
                options += ["-mamx-tile", "-mamx-bf16"]
    if int8:
        options += ["-DINT8"]
        options += [f"-m{feature.replace('_', '')}" for feature in [vnni()] if feature]
    return tuple(options)


def vnni() -> str | None:
    """The instruction set of this CPU that multiplies int8, at the width that the C code computes in."""
    feature = "avx512_vnni" if torch.backends.cpu.get_cpu_capability() == "AVX512" else "avx_vnni"
    return feature if _has(feature) else None


def _grants_matrix_units() -> bool:
    """Whether the kernel lets this process use them: asked by PyTorch, in every process again by the C."""
    ask = getattr(torch.cpu, "_init_amx", None)
    return bool(ask and ask())


def _has(feature: str) -> bool:
    check = getattr(torch.cpu, f"_is_{feature}_supported", None)  # not in every version of PyTorch
    if check is not None:
        return bool(check())
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.exists() and feature in cpuinfo.read_text(encoding="utf-8").split()


@functools.cache
def _without(reason: str) -> None:
    if multiprocessing.parent_process() is None:  # a worker's parent has said it
        warnings.warn(
            f"computing by PyTorch, which is slower on this CPU: {reason}, or silence this with PONDER_NATIVE=0",
            stacklevel=4,
        )


def build(source: Path, options: Sequence[str]) -> Path:
    """Compile a file into the cache, unless it is there. Raises OSError or SubprocessError with the reason."""
    names = [os.environ["CC"]] if os.environ.get("CC") else ["cc", "gcc", "clang"]
    compiler = next((found for name in names if (found := shutil.which(name))), None)
    if compiler is None:
        raise FileNotFoundError(f"none of {', '.join(names)} is installed")
    command = [compiler, "-O3", "-shared", "-fPIC", f"-I{HEADERS}", *options]
    text = b"".join(path.read_bytes() for path in (source, *sorted(HEADERS.glob("*.h"))))
    digest = hashlib.sha256(repr(command).encode() + text).hexdigest()[:16]
    target = named.cache_folder().parent / "native" / f"{source.stem}-{digest}.so"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            made = Path(folder) / target.name
            done = subprocess.run([*command, str(source), "-o", str(made), "-lm"], capture_output=True, timeout=120)
            if done.returncode:
                raise OSError(f"{compiler} says: {done.stderr.decode(errors='replace').strip()[:500]}")
            os.replace(made, target)  # whoever compiles at the same time makes the same file
    return target
