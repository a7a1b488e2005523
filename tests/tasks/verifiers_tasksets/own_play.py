"""A taskset that cannot be used: its environment has two agents."""

from __future__ import annotations

import verifiers.v1 as vf


class OddTask(vf.Task[vf.TaskData]):
    @vf.reward
    async def passes(self, trace) -> float:
        return 1.0


class PlayConfig(vf.EnvConfig):
    white: vf.AgentConfig = vf.AgentConfig()
    black: vf.AgentConfig = vf.AgentConfig()


class Play(vf.Env[PlayConfig]):
    async def run(self, task, agents):
        await agents.white.run(task)


class Odd(vf.Taskset[OddTask, vf.TasksetConfig]):
    def load(self):
        yield OddTask(vf.TaskData(prompt="write a file"))


__all__ = ["Odd", "Play"]
