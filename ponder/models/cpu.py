"""What this CPU can do, as PyTorch sees it."""

from __future__ import annotations

import torch


def multiplies_bfloat16() -> bool:
    """Whether products in bfloat16 have kernels of their own. Without them they take six times as long as in float32
    (AVX2: 8 GFLOP/s a core against 50)."""
    check = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return bool(check and check())


def fast_dtype(dtype: torch.dtype, device: torch.device | str) -> torch.dtype:
    """The dtype to compute in when weights are wanted in `dtype`: float32 where bfloat16 would be slower."""
    slow = dtype == torch.bfloat16 and torch.device(device).type == "cpu" and not multiplies_bfloat16()
    return torch.float32 if slow else dtype
