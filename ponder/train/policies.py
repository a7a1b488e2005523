"""Deliberative training: a policy moves from the prompt into the weights, and the habit of going through it with it.

    1. rows     ponder policies (recipes/desk_2_policy_nano_cpu.toml has the whole command)
    2. imitate  ponder sft recipes/desk_2_policy_nano_cpu.toml
    3. practise ponder rl recipes/desk_3_rl_nano_cpu.toml

Deliberative alignment (arXiv:2412.16339): the model works with the policy in its prompt; a judge that knows the policy
keeps what followed it; the kept work is trained on with the policy taken out of the prompt; reinforcement learning goes
on with the same judge. Here the judge is the task's verifier. It is asked `verify(problem, answer)`, so it never reads
the reasoning, and no reward of step 3 presses on how the model reasons about the policy. Step 2 does: it is imitation
of chains, so a chain of a model trained so is weaker evidence of its motives than an untrained one's (docs/safety.md).

A model that only ever sees one policy recites it whatever it is told. So rows of other policies, which keep theirs in
the prompt, are mixed in, and rows of anything else (`extra`: capability). `direct` leaves the reasoning out of the
rows: the control that tells imitation of answers from reasoning about the policy.

What is left out: a judge that is a language model, scored several times, of which the lowest counts. A task whose
`verify` asks one fits in here as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

from ponder.config import ConfigError
from ponder.files import jsonl, write_atomic
from ponder.train.sft import read_solutions
from ponder.train.star import StarConfig, star, system_of
from ponder.types import Engine, Task

Row = dict[str, str]
Progress = Callable[[str, int, int, float], None]  # which rows, problems done, problems, share of them with a kept row


@dataclass(frozen=True, kw_only=True)
class PolicyTasks:
    """What is drawn: the policy that is to be learned, and others that go on being shown."""

    own: Task
    own_name: str  # as its user wrote it
    others: Task | None = None
    others_name: str = ""


def shown_policy(task: Task) -> str:
    """The one system message under which all problems of a task are asked."""
    shown = {system_of(task[i], "system").get("system", "") for i in range(len(task))}
    if shown == {""}:
        raise ConfigError(f"{task.name} shows no policy: rows are drawn with it in the prompt (desk: leave out shown=)")
    if len(shown) > 1:
        raise ConfigError(
            f"{task.name} shows {len(shown)} different policies; the one to be learned is named, as in "
            "desk:policy=no 47/no times/max 60"
        )
    return shown.pop()


async def policy_rows(
    tasks: PolicyTasks,
    engine: Engine,
    config: StarConfig,
    *,
    out: str | Path,
    model: str,
    extra: Sequence[str | Path] = (),
    direct: bool = False,
    on_progress: Progress | None = None,
) -> dict[str, Any]:
    """Draw, judge, drop the policy, mix; returns counts. Asking again goes on where it stopped."""
    out, policy = Path(out), shown_policy(tasks.own)
    parts: dict[str, Path] = {"own": beside(out, "own")}
    facts: dict[str, Any] = {"policy": policy}

    def progress(part: str) -> Callable[[int, int, float], None] | None:
        return None if on_progress is None else lambda done, total, share: on_progress(part, done, total, share)

    facts["own"] = await star(
        tasks.own, engine, replace(config, drop_system=True), out=parts["own"], model=model, name=tasks.own_name,
        on_progress=progress("own"),
    )  # fmt: skip
    if tasks.others is not None:
        parts["others"] = beside(out, "others")
        facts["others"] = await star(
            tasks.others, engine, replace(config, drop_system=False), out=parts["others"], model=model,
            name=tasks.others_name, on_progress=progress("others"),
        )  # fmt: skip
    rows = {part: read_solutions(path) if facts[part]["rows"] else [] for part, path in parts.items()}
    rows["extra"] = [row for path in extra for row in read_solutions(Path(path))]
    if not rows["own"]:
        raise ConfigError(
            f"none of {facts['own']['problems']} problems was done as the policy says; the model cannot follow it in "
            "its prompt yet: train that first (desk: recipes/desk_1_read_nano_cpu.toml), or draw more --samples"
        )
    mixed = mix(rows, policy, direct=direct, seed=config.seed)
    write_atomic(out, jsonl(mixed))
    return facts | {"rows": len(mixed), "extra": len(rows["extra"]), "direct": direct}


def beside(out: Path, part: str) -> Path:
    """data/desk.jsonl -> data/desk.own.jsonl"""
    return out.with_name(f"{out.name.removesuffix('.jsonl')}.{part}.jsonl")


def mix(rows: Mapping[str, Sequence[Row]], policy: str, *, direct: bool, seed: int) -> list[Row]:
    """All rows in one shuffled order; own ones without their policy, which is kept aside. direct: without reasoning."""
    assert not any("system" in row for row in rows.get("own", ())), "a row of the policy to be learned shows it"
    mixed: list[Row] = []
    for part, found in rows.items():
        aside = {"dropped_system": policy} if part == "own" else {}
        for row in sorted(found, key=lambda row: sorted(row.items())):  # samples arrive in any order
            changed = {"reasoning": ""} if direct and part != "extra" else {}
            mixed.append({"source": part, **aside, **row, **changed})
    Random(f"{seed}/policies").shuffle(mixed)
    return mixed
