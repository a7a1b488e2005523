"""A taskset that cannot be used: it has an environment of its own."""

from __future__ import annotations

import verifiers.v1 as vf


class OddTask(vf.Task[vf.TaskData]):
    @vf.reward
    async def passes(self, trace) -> float:
        return 1.0


class Play(vf.Env):
    pass


class Odd(vf.Taskset[OddTask, vf.TasksetConfig]):
    def load(self):
        yield OddTask(vf.TaskData(prompt="write a file"))


__all__ = ["Odd", "Play"]
