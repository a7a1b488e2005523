"""A taskset that cannot be used: its reward needs a runtime."""

from __future__ import annotations

import verifiers.v1 as vf


class OddTask(vf.Task[vf.TaskData]):
    @vf.reward
    async def passes(self, trace, runtime) -> float:
        return 1.0


class Odd(vf.Taskset[OddTask, vf.TasksetConfig]):
    def load(self):
        yield OddTask(vf.TaskData(prompt="write a file"))


__all__ = ["Odd"]
