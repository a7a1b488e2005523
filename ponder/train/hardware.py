"""GPUs and models as a plan sees them: a few numbers each, with their sources.

HARDWARE["h100"].bandwidth      known_shape("Qwen/Qwen2.5-7B-Instruct").kv_bytes
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Hardware:
    """One GPU at its peak. A plan reaches a share of each figure (`PlanConfig`)."""

    flops: float  # of dense products in bfloat16, a second
    bandwidth: float  # of its memory, bytes a second
    memory: float  # bytes


HARDWARE = {
    "a100": Hardware(312e12, 2.039e12, 80e9),  # NVIDIA A100 80GB SXM data sheet (2021)
    "h100": Hardware(989e12, 3.35e12, 80e9),  # NVIDIA H100 SXM data sheet (2023); without sparsity, as all below
    "h200": Hardware(989e12, 4.8e12, 141e9),  # NVIDIA H200 SXM data sheet (2024)
    "h20": Hardware(148e12, 4.0e12, 96e9),  # as reported at its announcement (2023); no public data sheet
    "b200": Hardware(2250e12, 8.0e12, 180e9),  # NVIDIA DGX B200 data sheet (2024), an eighth of it
    "l40s": Hardware(362e12, 0.864e12, 48e9),  # NVIDIA L40S data sheet (2023)
    "rtx4090": Hardware(165e12, 1.008e12, 24e9),  # NVIDIA Ada architecture paper (2022)
    "mi300x": Hardware(1307e12, 5.3e12, 192e9),  # AMD Instinct MI300X data sheet (2023)
    "cpu": Hardware(216e9, 52e9, 12e9),  # one core of two of an EPYC (Zen 4) with AVX-512: docs/performance.md
}


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A model, as far as its cost goes."""

    name: str
    active: float  # weights that multiply a token
    total: float
    kv_bytes: float  # keys and values of one token, bytes: 2 x layers x key/value heads x head width x 2
    kept_bytes: float = 0.0  # what backward keeps of a token; 0 = not known, and not counted


# for recipes whose model is not on this disk, by a part of its name; from the config.json of each on its hub
SHAPES = {
    "qwen2.5-0.5b": Shape(name="Qwen2.5-0.5B", active=0.49e9, total=0.49e9, kv_bytes=2 * 24 * 2 * 64 * 2),
    "qwen2.5-1.5b": Shape(name="Qwen2.5-1.5B", active=1.54e9, total=1.54e9, kv_bytes=2 * 28 * 2 * 128 * 2),
    "qwen2.5-7b": Shape(name="Qwen2.5-7B", active=7.6e9, total=7.6e9, kv_bytes=2 * 28 * 4 * 128 * 2),
    "qwen2.5-32b": Shape(name="Qwen2.5-32B", active=32.8e9, total=32.8e9, kv_bytes=2 * 64 * 8 * 128 * 2),
    "qwen3-30b-a3b": Shape(name="Qwen3-30B-A3B", active=3.3e9, total=30.5e9, kv_bytes=2 * 48 * 4 * 128 * 2),
    "qwen3-235b-a22b": Shape(name="Qwen3-235B-A22B", active=22e9, total=235e9, kv_bytes=2 * 94 * 4 * 128 * 2),
    "llama-3.1-8b": Shape(name="Llama-3.1-8B", active=8.0e9, total=8.0e9, kv_bytes=2 * 32 * 8 * 128 * 2),
    "llama-3.1-70b": Shape(name="Llama-3.1-70B", active=70.6e9, total=70.6e9, kv_bytes=2 * 80 * 8 * 128 * 2),
}


def known_shape(model: str) -> Shape | None:
    """Of a model that is not on this disk."""
    name = model.lower().replace("_", "-")
    found = [key for key in SHAPES if key in name.replace("meta-", "")]
    return SHAPES[max(found, key=len)] if found else None
