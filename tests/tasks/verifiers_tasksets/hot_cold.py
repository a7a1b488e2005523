"""A game as a user of the package writes one: guess a number, with an environment that misbehaves on demand."""

from __future__ import annotations

import asyncio
import os
import random

import verifiers.v1 as vf


class NumberData(vf.TaskData):
    secret: int


class NumberConfig(vf.TasksetConfig):
    top: int = 40
    opens_itself: bool = False


class NumberTask(vf.Task[NumberData]):
    @vf.reward(weight=0.75)
    async def found(self, trace) -> float:
        said = [node.message.content for node in trace.nodes if node.sampled]
        if "crash the reward" in said:
            raise ValueError("I cannot read this")
        return float(bool(said) and said[-1] == str(self.data.secret))


class HotColdConfig(vf.EnvConfig):
    player: vf.AgentConfig = vf.AgentConfig()


class HotCold(vf.Env[HotColdConfig]):
    async def run(self, task, agents):
        given = task
        if task.data.prompt is None:
            given = type(task)(task.data.model_copy(update={"system_prompt": "You guess numbers."}), task.config)
        async with agents.player.interaction(given) as talk:
            segment = await talk.turn(None if task.data.prompt else f"Game {task.data.id}: which number?")
            while not segment.terminated:
                said = segment.last_reply
                if said == "crash":
                    raise RuntimeError("the game broke")
                if said == "hang":
                    await asyncio.sleep(600)
                if said == "exit" and os.environ.get("PONDER_TEST_EXIT"):
                    os._exit(1)
                if said == "dice":
                    segment = await talk.turn(f"you rolled {random.random()}")
                    continue
                if said == str(task.data.secret):
                    return
                hint = "higher" if said.isdigit() and int(said) < task.data.secret else "lower"
                segment = await talk.turn([{"role": "user", "content": hint}])

    async def finalize(self, task, episode):
        (trace,) = episode.traces
        trace.record_reward("quick", trace.num_turns <= 3, 0.25)


class Numbers(vf.Taskset[NumberTask, NumberConfig]):
    def load(self):
        for number in range(self.config.top):
            prompt = None if self.config.opens_itself else f"Game {number}: which number from 0 to 99 do I think of?"
            data = NumberData(id=f"n{number}", secret=(7 * number + 3) % 100, prompt=prompt)
            yield NumberTask(data, self.config.task)


__all__ = ["HotCold", "Numbers"]
