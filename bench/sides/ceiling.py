"""What this machine can do at the moment, one process a core, all at once: matrix products in config["dtype"], copies.

The best of a few shapes: large squares, and batches through a weight of SmolLM2's size. On a GPU the device's own.
"""

from __future__ import annotations

import time
from typing import Any

from link import Job, serve

SHAPES = ((1024, 1024, 1024), (2048, 1024, 1024), (64, 576, 1536), (512, 576, 1536))  # rows, inner, columns


def load(config: Job) -> Any:
    import torch

    torch.set_num_threads(config["threads"])
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = getattr(torch, config["dtype"])
    shapes = [tuple(size * (4 if device == "cuda" else 1) for size in shape) for shape in SHAPES]
    copied = 1 << (30 if device == "cuda" else 26)  # bytes, well past every cache

    def rate(act: Any, work: float, seconds: float) -> float:
        """Work a second, best of several short rounds: a ceiling, so other people's noise is left out."""
        best, end = 0.0, time.perf_counter() + seconds
        while time.perf_counter() < end:
            begun = time.perf_counter()
            act()
            if device == "cuda":
                torch.cuda.synchronize()
            best = max(best, work / (time.perf_counter() - begun))
        return best

    @torch.inference_mode()
    def answer(job: Job) -> Job:
        products = {}
        for rows, inner, columns in shapes:
            x = torch.randn(rows, inner, device=device).to(dtype)
            w = torch.randn(columns, inner, device=device).to(dtype)
            work = 2.0 * rows * inner * columns
            repeat = max(1, int(2e9 / work))  # some ms a round

            def act(x: Any = x, w: Any = w, repeat: int = repeat) -> None:
                for _ in range(repeat):
                    torch.nn.functional.linear(x, w)

            products[f"{rows}x{inner}x{columns}"] = rate(act, work * repeat, job["seconds"] / len(shapes)) / 1e9
        source = torch.ones(copied // 4, device=device)
        target = torch.empty_like(source)
        copy = rate(lambda: target.copy_(source), 2.0 * copied, job["seconds"] / 4) / 1e9  # read and written
        return {"gflops": max(products.values()), "copy_gbytes": copy, "products": products}

    return answer


if __name__ == "__main__":
    serve(load)
