"""The whole path of one GPU, case by case: is it right, how fast is it, what does it take.

    python bench/gpu.py                                   # on a GPU: every case, some minutes
    python bench/gpu.py --device cpu --toy                # on a CPU: does every case run
    python bench/gpu.py --only attention packs            # some of them
    python bench/gpu.py --limit 60                        # seconds that a case may take

Each case is a process of its own: one that crashes, hangs or runs out of memory costs its own result only. A JSON line
a case is appended to runs/bench/gpu.jsonl as it ends, and a table in Markdown goes to runs/bench/gpu.md. What is not
installed is skipped and told. `gpu_cases.py` and `gpu_speed.py` have the cases, docs/gpu.md says what each means. Exit
status 1 where a case failed. Nothing but PyTorch and ponder's own needs is used, except by the case `vllm`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
MARK = "GPU-CASE "  # before the JSON of a child, which may print other things
CASES = ("attention", "packs", "sampling", "graphs", "mismatch", "step", "training", "decoding", "rl", "vllm")
_ENV = {"PONDER_CUDA_GRAPHS": "0", "OMP_NUM_THREADS": "1"}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", choices=["cuda", "cpu"], help="default: cuda where there is one")
    parser.add_argument("--toy", action="store_true", help="tiny sizes: does it run, not how fast")
    parser.add_argument("--only", nargs="+", choices=CASES, metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--limit", type=float, default=300.0, help="seconds a case may take")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "bench", help="folder of what is written")
    parser.add_argument("--one", choices=CASES, help=argparse.SUPPRESS)  # a child's
    arguments = parser.parse_args()
    if arguments.one:
        return one_case(arguments.one, arguments.device, arguments.toy)
    about = facts(arguments.device)
    device = arguments.device or ("cuda" if about["gpu"] else "cpu")
    if device == "cuda" and not about["gpu"]:
        sys.exit("error: this PyTorch sees no GPU; use --device cpu --toy to see whether every case runs")
    if device == "cpu" and not arguments.toy:
        sys.exit("error: the sizes are those of a GPU; add --toy on a CPU")
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows = []
    for case in arguments.only or CASES:
        row = {"case": case, "device": device, "toy": arguments.toy} | run_case(case, device, arguments) | about
        rows.append(row)
        print(json.dumps(row), flush=True)
        with (arguments.out / "gpu.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")
    text = table(rows)
    (arguments.out / "gpu.md").write_text(text + "\n")
    print(f"\n{text}")
    sys.exit(any(row["status"] == "failed" for row in rows))


def facts(device: str | None) -> dict[str, Any]:
    import torch

    sys.path.insert(0, str(ROOT))
    from ponder import runs

    has_gpu = device != "cpu" and torch.cuda.is_available()
    gpu = torch.cuda.get_device_name() if has_gpu else ""
    return {"gpu": gpu, "torch": torch.__version__, "revision": runs.revision()}


def run_case(case: str, device: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """In a child; whatever becomes of it is a result."""
    command = [sys.executable, __file__, "--one", case, "--device", device, *(["--toy"] if arguments.toy else [])]
    environment = os.environ | _ENV | ({"CUDA_VISIBLE_DEVICES": ""} if device == "cpu" else {})
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    begun = time.monotonic()
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=arguments.limit, env=environment, cwd=ROOT
        )
    except subprocess.TimeoutExpired:
        return {"status": "failed", "seconds": arguments.limit, "why": f"not done after {arguments.limit:g} s"}
    taken = {"seconds": round(time.monotonic() - begun, 1)}
    told = [line.removeprefix(MARK) for line in done.stdout.splitlines() if line.startswith(MARK)]
    if not told:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return {"status": "failed", **taken, "why": f"exit code {done.returncode}: {last[:300]}"}
    return taken | json.loads(told[-1])


def one_case(case: str, device: str, toy: bool) -> None:
    import gpu_cases
    import torch

    assert tuple(gpu_cases.CASES) == CASES
    place = gpu_cases.Place(torch.device(device), toy)
    try:
        found = json.loads(gpu_cases.as_json(gpu_cases.CASES[case](place)))
        broken = [name for name, check in found["checks"].items() if not check["holds"]]
        found |= {"status": "failed" if broken else "passed", "why": "; ".join(broken)}
    except gpu_cases.Skipped as reason:
        found = {"status": "skipped", "why": str(reason)}
    except torch.OutOfMemoryError as error:
        found = {"status": "failed", "why": f"out of memory: {str(error).splitlines()[0]}"}
    print(MARK + json.dumps(found), flush=True)


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown; one row a case, what was checked and what was measured."""
    first = rows[0]
    where = first["gpu"] or "a CPU; **unmeasured on CUDA**"
    size = ", toy sizes: times mean nothing" if first["toy"] else ""
    lines = [f"On {where}{size}; torch {first['torch']}, revision {first['revision']}.", ""]
    lines += ["| case | result | s | checks (found, bound) | measured |", "|---|---|---|---|---|"]
    for row in rows:
        checks = "; ".join(
            f"{name} {check['found']:g} ({'>=' if 'at least' in check else '<='} "
            f"{check.get('at least', check.get('bound')):g}){'' if check['holds'] else ' **NO**'}"
            for name, check in row.get("checks", {}).items()
        )
        numbers = "; ".join(f"{name} {value:,.4g}" for name, value in row.get("numbers", {}).items())
        told = "; ".join(filter(None, [numbers, *row.get("notes", [])]))
        result = row["status"] + (f": {row['why']}" if row["status"] != "passed" else "")
        lines.append(f"| `{row['case']}` | {result} | {row['seconds']:g} | {checks} | {told} |")
    counts = {status: sum(row["status"] == status for row in rows) for status in ("passed", "failed", "skipped")}
    return "\n".join([*lines, "", ", ".join(f"{count} {status}" for status, count in counts.items())])


if __name__ == "__main__":
    main()
