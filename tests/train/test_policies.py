"""Deliberative training: drawn with the policy, judged blind, trained on without it, other policies mixed in."""

from __future__ import annotations

import asyncio
import json

import pytest

from ponder.config import ConfigError, load
from ponder.engine.base import ScriptedEngine
from ponder.models.tokenizer import ByteTokenizer
from ponder.tasks import load_task
from ponder.tasks.desk_rules import read_policy, right_answer
from ponder.train.policies import PolicyTasks, mix, policy_rows, shown_policy
from ponder.train.recipe import load_recipe
from ponder.train.sft import SFTConfig, open_source, read_solutions
from ponder.train.star import StarConfig, star
from ponder.types import Message, SamplingParams

OWN, OTHERS = "desk:policy=no 47/no times/max 60,size=16", "desk:size=16"


class WholePromptEngine(ScriptedEngine):
    """Its script reads all messages, not the last alone."""

    async def generate(self, prompt, params, *, n=1, first=0):
        text = "\n".join(message.content for message in prompt)
        return await super().generate((Message(role="user", content=text),), params, n=n, first=first)


def asked(text):
    return text.removeprefix("What is ").removesuffix("?")


def follow(text, seed):
    """A model that follows the policy in its prompt two times in three."""
    lines = [line for line in text.split("\n") if line]
    policy, request = lines[:-1], asked(lines[-1])
    answer = right_answer(read_policy("\n".join(policy)), request) if policy else "0"
    return (f"I read {len(policy)} rules about {request}", answer if seed % 3 else "1")


def draw(out, engine=None, *, direct=False, extra=(), others=OTHERS):
    tasks = PolicyTasks(
        own=load_task(OWN, split="train"), own_name=OWN,
        others=load_task(others, split="train", seed=1) if others else None, others_name=others,
    )  # fmt: skip
    config = StarConfig(num_samples=4, keep=1, params=SamplingParams(max_answer_tokens=24))
    return asyncio.run(
        policy_rows(tasks, engine or WholePromptEngine(follow), config, out=out, model="m", extra=extra, direct=direct)
    )


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_own_rows_lose_their_policy_and_rows_of_other_policies_keep_theirs(tmp_path):
    facts = draw(tmp_path / "rows.jsonl")
    rows = lines_of(tmp_path / "rows.jsonl")
    own = [row for row in rows if row["source"] == "own"]
    others = [row for row in rows if row["source"] == "others"]
    assert len(own) == facts["own"]["rows"] > 8 and len(others) == facts["others"]["rows"] > 8
    assert all("system" not in row and row["dropped_system"] == "no 47\nno *\nmax 60" for row in own)
    assert all(row["system"] and "dropped_system" not in row for row in others)
    policy = read_policy("no 47/no times/max 60")
    assert all(row["answer"] == right_answer(policy, asked(row["problem"])) for row in own)
    assert all(row["answer"] == right_answer(read_policy(row["system"]), asked(row["problem"])) for row in others)


def test_training_shows_the_policies_that_were_kept_and_never_the_one_that_was_dropped(tmp_path):
    draw(tmp_path / "rows.jsonl")
    config = SFTConfig(out="o", data=str(tmp_path / "rows.jsonl"))
    tokenizer, rows = ByteTokenizer(), read_solutions(tmp_path / "rows.jsonl")
    assert all("dropped_system" not in row for row in rows)
    source = open_source(config, tokenizer, [("here", row) for row in rows])
    prompts = {tuple(source(i).prompt_ids) for i in range(len(rows))}
    with_system = {prompt for prompt in prompts if ByteTokenizer.system_id in prompt}
    assert len(with_system) == sum("system" in row for row in rows)
    assert not any("no 47\nno *" in tokenizer.decode(prompt) for prompt in prompts - with_system)
    example = next(source(i) for i in range(len(rows)) if ByteTokenizer.system_id not in source(i).prompt_ids)
    assert example.num_trained == len(example.token_ids)


def test_the_control_has_the_same_rows_without_reasoning(tmp_path):
    draw(tmp_path / "chain.jsonl")
    draw(tmp_path / "direct.jsonl", direct=True)
    chain, direct = lines_of(tmp_path / "chain.jsonl"), lines_of(tmp_path / "direct.jsonl")
    assert [{**row, "reasoning": ""} for row in chain] == direct and all(row["reasoning"] for row in chain)
    draw(tmp_path / "again.jsonl")
    assert lines_of(tmp_path / "again.jsonl") == chain  # whatever the order in which samples arrived


def test_the_reasoning_decides_nothing_about_what_is_kept(tmp_path):
    def honest(text, seed):
        return follow(text, seed)

    def lying(text, seed):
        return "kept kept kept, whatever the answer", follow(text, seed)[1]

    for name, respond in (("a", honest), ("b", lying)):
        draw(tmp_path / f"{name}.jsonl", WholePromptEngine(respond))
    kept = [{(row["problem"], row["answer"]) for row in lines_of(tmp_path / f"{name}.jsonl")} for name in "ab"]
    assert kept[0] == kept[1] and len(kept[0]) > 15


def test_rows_of_anything_else_are_mixed_in_whole(tmp_path):
    extra = tmp_path / "extra.jsonl"
    extra.write_text(json.dumps({"problem": "What is 1+1?", "reasoning": "1+1=2", "answer": "2"}) + "\n")
    facts = draw(tmp_path / "rows.jsonl", extra=[extra], direct=True)
    found = [row for row in lines_of(tmp_path / "rows.jsonl") if row["source"] == "extra"]
    assert facts["extra"] == 1 and found[0]["reasoning"] == "1+1=2"  # the control is about the policy alone


def test_a_task_that_shows_no_policy_or_many_cannot_be_learned_from():
    with pytest.raises(ConfigError, match="shows no policy"):
        shown_policy(load_task(f"{OWN},shown=no"))
    with pytest.raises(ConfigError, match="different policies"):
        shown_policy(load_task(OTHERS))


def test_a_model_that_keeps_nothing_is_told_so(tmp_path):
    with pytest.raises(ConfigError, match="none of 16 problems"):
        draw(tmp_path / "rows.jsonl", ScriptedEngine(lambda text, seed: ("I think", "hm")))


def test_a_row_that_shows_the_policy_to_be_learned_stops_the_mixing():
    row = {"system": "no 47", "problem": "1+1", "reasoning": "", "answer": "2"}
    with pytest.raises(AssertionError, match="shows it"):
        mix({"own": [row]}, "no 47", direct=False, seed=0)


def test_star_keeps_the_system_message_in_its_rows_unless_it_is_to_be_dropped(tmp_path):
    task = load_task(OWN, split="train")
    for drop in (False, True):
        config = StarConfig(num_samples=4, keep=1, drop_system=drop, params=SamplingParams(max_answer_tokens=24))
        out = tmp_path / f"{drop}.jsonl"
        asyncio.run(star(task, WholePromptEngine(follow), config, out=out, model="m"))
        field = "dropped_system" if drop else "system"
        assert all(row[field] == "no 47\nno *\nmax 60" for row in lines_of(out))


def test_a_system_message_that_is_no_text_is_refused_by_line(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"system": ["no 47"], "problem": "1+1", "reasoning": "x", "answer": "2"}) + "\n")
    with pytest.raises(ConfigError, match="rows.jsonl:1 misses the text field 'system'"):
        read_solutions(path)


def test_the_recipes_load_and_practise_the_policy_unseen_beside_others_that_are_shown():
    assert load(SFTConfig, "desk_1_read_nano_cpu").demonstrations.family == "desk"
    assert load(SFTConfig, "desk_2_policy_nano_cpu").model == "runs/desk_1_read"
    assert load(SFTConfig, "desk_policy_smollm2_cpu").lora_rank == 32
    task = load_task(load_recipe("desk_3_rl_nano_cpu").task, split="train", size=40)
    shown = [len(task[i].prompt) == 2 for i in range(40)]
    assert 5 < sum(shown) < 35
