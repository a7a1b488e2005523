"""A taskset as a user of the package writes it: capitals, with rewards that misbehave on demand."""

from __future__ import annotations

import os
import time

import verifiers.v1 as vf

CAPITALS = {"France": "Paris", "Italy": "Rome", "Peru": "Lima", "Chad": "N'Djamena", "Cuba": "Havana"}


class CapitalData(vf.TaskData):
    answer: str


class CapitalConfig(vf.TasksetConfig):
    size_of_world: int = 40
    polite: bool = False


class CapitalTask(vf.Task[CapitalData]):
    @vf.reward(weight=0.75)
    async def right(self, trace) -> float:
        reply = trace.last_reply
        if reply == "crash":
            raise ValueError("I cannot read this")
        if reply == "hang":
            time.sleep(60)
        if reply == "exit":
            os._exit(1)
        if reply == "huge":
            return 1e6
        if reply == "nan":
            return float("nan")
        return float(self.data.answer in reply)

    @vf.reward(weight=0.25)
    async def short(self, trace) -> float:
        return float(len(trace.last_reply) < 12)


class Capitals(vf.Taskset[CapitalTask, CapitalConfig]):
    def load(self):
        for number in range(self.config.size_of_world):
            country = list(CAPITALS)[number % len(CAPITALS)]
            yield CapitalTask(
                CapitalData(
                    id=f"c{number}", answer=CAPITALS[country], prompt=f"({number}) What is the capital of {country}?",
                    system_prompt="Answer politely." if self.config.polite else None,
                ),
                self.config.task,
            )  # fmt: skip


__all__ = ["Capitals"]
