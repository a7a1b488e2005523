"""How fast this machine is, for time limits that were set on another.

    slowness(sandbox)      1.0 where a small reference program takes the processor time that it took on the machine
                           that the limits are meant for, 2.0 where it takes twice as long; never below 1

A time limit of a contest belongs to the contest's machines, which nobody has. The reference program (sorting, trees,
a table of 20,000 numbers) takes 0.25 s on one core of an x86-64 server of 2023, about what such contests use; limits
are multiplied by `slowness`, and results say by how much. Processor time of the same program differs between a quiet
and a busy machine too, as cores share caches and clocks, so it is measured again where a program exceeds its time.
"""

from __future__ import annotations

import threading
import time

from ponder.sandbox.base import Limits, Program, Sandbox

REFERENCE_SECONDS = 0.25
ROUNDS = 3  # the least of them counts
FRESH_SECONDS = 20.0  # a measurement is not repeated sooner
MAX_SLOWNESS = 10.0  # beyond it something is wrong with the measurement, not with the machine

SOURCE = """
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <map>
#include <vector>
int main() {
  std::uint64_t state = 88172645463325252ull, sum = 0;
  auto next = [&] { state ^= state << 13; state ^= state >> 7; state ^= state << 17; return state; };
  for (int round = 0; round < 4; ++round) {
    std::vector<std::uint32_t> values(200000);
    for (auto& value : values) value = next() % 1000003;
    std::sort(values.begin(), values.end());
    std::map<std::uint32_t, int> counts;
    for (int i = 0; i < 60000; ++i) counts[next() % 50021] += i;
    for (auto [key, count] : counts)
      sum += std::lower_bound(values.begin(), values.end(), key) - values.begin() + count;
    std::vector<std::uint32_t> best(20001);
    for (int i = 0; i < 300; ++i) {
      std::uint32_t weight = 1 + next() % 900, worth = next() % 1000;
      for (int w = 20000; w >= (int)weight; --w) best[w] = std::max(best[w], best[w - weight] + worth);
    }
    sum += best.back();
  }
  std::printf("%llu\\n", (unsigned long long)sum);
}
"""
PRINTS = b"7903229545\n"

_lock = threading.Lock()
_known: list[tuple[float, float]] = []  # the largest so far, and when it was last measured


def slowness(sandbox: Sandbox, *, again: bool = False) -> float:
    """Of this machine, measured once; `again` measures now, unless that was just done, and keeps the larger."""
    with _lock:
        largest, when = _known[-1] if _known else (1.0, -FRESH_SECONDS)
        if not _known or (again and time.monotonic() - when > FRESH_SECONDS):
            largest = max(largest, _measured(sandbox))
            _known[:] = [(largest, time.monotonic())]
        return largest


def _measured(sandbox: Sandbox) -> float:
    program, limits = Program(source=SOURCE, language="c++17"), Limits(cpu_seconds=MAX_SLOWNESS)
    runs = [sandbox.run(program, limits=limits) for _ in range(ROUNDS)]
    seconds = [ran.cpu_seconds for ran in runs if ran.status == "ok" and ran.stdout == PRINTS]
    if not seconds:
        raise RuntimeError(f"the reference program did not run: {runs[0].status}, {runs[0].note}")
    return min(max(1.0, min(seconds) / REFERENCE_SECONDS), MAX_SLOWNESS)
