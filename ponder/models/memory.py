"""How much memory is free here, so that a model too big for it is refused in a second, not after minutes.

The kernel's estimate (MemAvailable), and every limit that a container sets above this process (cgroup v2 and v1). Where
nothing can be read (macOS, Windows) nothing is refused.
"""

from __future__ import annotations

from pathlib import Path

import torch

from ponder.config import ConfigError

GIB = 2**30
_CGROUPS = Path("/sys/fs/cgroup")


def free_memory(device: str | torch.device = "cpu") -> int | None:
    """Bytes that can still be used on a device; None = not known."""
    if torch.device(device).type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    found = [_available(Path("/proc/meminfo")), *_limits(Path("/proc/self/cgroup"), _CGROUPS)]
    known = [size for size in found if size is not None]
    return max(0, min(known)) if known else None


def check_memory(needed: int, what: str, device: str | torch.device = "cpu") -> None:
    """Refuse what cannot fit."""
    free = free_memory(device)
    if free is not None and needed > free:
        raise ConfigError(
            f"{what} needs {needed / GIB:.1f} GiB, and {free / GIB:.1f} GiB of memory are free on {device}; "
            "take a smaller model, free memory, or use a larger machine"
        )


def _available(meminfo: Path) -> int | None:
    try:
        lines = meminfo.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    sizes = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(sizes[0]) * 1024 if sizes else None


def _limits(membership: Path, root: Path) -> list[int | None]:
    """What each control group over this process has left; the cache of files counts as free, as it gives way."""
    try:
        lines = membership.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    left: list[int | None] = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        names = ("memory.max", "memory.current") if not controllers else (
            "memory.limit_in_bytes", "memory.usage_in_bytes"
        )  # fmt: skip
        top = root / controllers
        group = top / path.lstrip("/")
        for folder in [group, *group.parents]:
            if folder != top and top not in folder.parents:
                break
            limit, used = (_number(folder / name) for name in names)
            if limit is not None and used is not None:
                left.append(limit - used + _file_cache(folder / "memory.stat"))
    return left


def _number(file: Path) -> int | None:
    try:
        text = file.read_text(encoding="utf-8").strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() else None  # "max" = no limit


def _file_cache(stat: Path) -> int:
    try:
        pairs = [line.split() for line in stat.read_text(encoding="utf-8").splitlines()]
    except OSError:
        return 0
    return sum(int(pair[1]) for pair in pairs if pair and pair[0] in ("inactive_file", "active_file"))
