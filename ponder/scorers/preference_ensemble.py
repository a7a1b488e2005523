"""kind "preference_ensemble": a folder of reward models, whose reward is the lowest of theirs, or their mean.

    save_ensemble("runs/rm4", ["runs/rm_0", "runs/rm_1", "runs/rm_2", "runs/rm_3"])
    load_scorer("runs/rm4")                              # min over members of (r - shift) / scale, each its own

A policy that is optimised against one reward model finds what that one gets wrong; the lowest of several removes most
of it (arXiv:2310.02743). Members with one network share it, and its pass.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np

from ponder.config import ConfigError
from ponder.scorers import files
from ponder.scorers.base import Key
from ponder.scorers.packing import CompletionGroup
from ponder.scorers.preference import PreferenceScorer
from ponder.scorers.reward import Floats, RewardModel
from ponder.types import Completion, Message

Reduce = Literal["min", "mean"]


class PreferenceEnsemble(RewardModel):
    """Several reward models as one, by their mean or their least (arXiv:2310.02743). ConfigError where they are for
    different policies."""

    kind = "preference_ensemble"

    def __init__(
        self, members: Sequence[RewardModel], *, name: str = "ensemble", reduce: Reduce = "min", key: Key | None = None
    ) -> None:
        super().__init__(name=name, key=key)
        self.members, self.reduce = list(members), reduce
        self.reads_reasoning = any(member.reads_reasoning for member in members)  # type: ignore[misc]
        self.needs = frozenset().union(*(member.needs for member in members))
        self.needs_forward_pass = any(member.needs_forward_pass for member in members)
        policies = {member.policy for member in members} - {""}
        if len(policies) > 1:
            raise ConfigError(f"the members are for different policies ({', '.join(sorted(policies))})")
        self.policy = next(iter(policies), "")

    def raw(self, prompt: Sequence[Message], completions: Sequence[Completion]) -> Floats:
        first = self.members[0]
        if not self._share_a_reader() or not completions:
            return self._reduced([member.standard(member.raw(prompt, completions)) for member in self.members])
        assert isinstance(first, PreferenceScorer)
        return self._read([first.group_of(prompt, completions)])[0]

    def score(self, groups: Sequence[CompletionGroup]) -> list[Floats]:
        if self._share_a_reader():
            return [self.bounded(r) for r in self._read(groups)]
        logits = [[_logit(x) for x in member.score(groups)] for member in self.members]
        return [self.bounded(self._reduced(list(each))) for each in zip(*logits, strict=True)]

    def group_of_answers(
        self, prompt: Sequence[Message], answers: Sequence[str], finished: Sequence[bool]
    ) -> CompletionGroup | None:
        """In the ids of the network that all members share. ConfigError where they read answers by different networks;
        None where none of them reads answers."""
        if not self._share_a_reader():
            if any(isinstance(member, PreferenceScorer) for member in self.members):
                raise ConfigError("the members read answers by different networks: score the bank with each of them")
            return None
        return self.members[0].group_of_answers(prompt, answers, finished)

    def _share_a_reader(self) -> bool:
        readers = {id(m.reader) if isinstance(m, PreferenceScorer) else -i for i, m in enumerate(self.members, 1)}
        return len(readers) == 1 and isinstance(self.members[0], PreferenceScorer)

    def _read(self, groups: Sequence[CompletionGroup]) -> list[Floats]:
        """One pass for all members."""
        members = [member for member in self.members if isinstance(member, PreferenceScorer)]
        features = members[0].reader.features(groups)
        return [self._reduced([m.standard(m.raw_features(rows)) for m in members]) for rows in features]

    def _reduced(self, standard: Sequence[Floats]) -> Floats:
        found: Floats = (np.min if self.reduce == "min" else np.mean)(np.stack(standard), axis=0)  # nan stays nan
        return found

    def cost(self, completions: Sequence[Completion]) -> int:
        """Of one pass where the members share a network, else the sum of theirs."""
        costs = [member.cost(completions) for member in self.members]
        return max(costs) if self._share_a_reader() else sum(costs)

    def save(self, folder: str | Path) -> None:
        """Each member in a folder of its own (member_0, member_1, ...), with its fingerprint in scorer.json."""
        for number, member in enumerate(self.members):
            member.save(Path(folder) / f"member_{number}")
        _write(Path(folder), [f"member_{i}" for i in range(len(self.members))], self.name, self.reduce)

    @classmethod
    def load(cls, folder: Path, facts: dict[str, Any], *, key: Key | None = None) -> PreferenceEnsemble:
        """ConfigError where a member is no single reward model, or was changed since the ensemble was written."""
        path, names, reduce = folder / files.FACTS, facts.get("members"), facts.get("reduce")
        if not isinstance(names, dict) or not names or reduce not in get_args(Reduce):
            raise ConfigError(f"{path}: members or reduce is not as it was written; make the ensemble again")
        members = []
        for name, known in names.items():
            member = files.load_scorer(folder / name, key=key)
            if not isinstance(member, RewardModel) or isinstance(member, cls):
                raise ConfigError(f"{folder / name} is a scorer of kind {member.kind!r}, not a single reward model")
            if files.fingerprint(folder / name) != known:
                raise ConfigError(f"{folder / name} is not the scorer that {path} names; make the ensemble again")
            members.append(member)
        return cls(members, name=facts["name"], reduce=cast(Reduce, reduce), key=key)


def save_ensemble(
    folder: str | Path, members: Sequence[str | Path], *, name: str = "ensemble", reduce: Reduce = "min"
) -> Path:
    """Copies scorers' folders into one, whose scorer.json makes an ensemble of them."""
    if len(members) < 2:
        raise ConfigError(f"{len(members)} scorers make no ensemble; give two or more folders")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / files.FACTS).exists():
        raise ConfigError(f"{folder} has a scorer already; choose another folder")
    names = [f"member_{number}" for number in range(len(members))]
    for target, member in zip(names, members, strict=True):
        with tempfile.TemporaryDirectory(dir=folder) as part:
            shutil.copytree(files.scorer_folder(member), Path(part) / target)
            os.replace(Path(part) / target, folder / target)
    _write(folder, names, name, reduce)
    files.load_scorer(folder)  # what cannot be opened is said now
    return folder


def _write(folder: Path, names: Sequence[str], name: str, reduce: Reduce) -> None:
    """The members' fingerprints stand in scorer.json, so that the ensemble's own depends on them."""
    members = {each: files.fingerprint(folder / each) for each in names}
    facts = {"kind": PreferenceEnsemble.kind, "name": name, "policy": "", "reduce": reduce, "members": members}
    files.write_facts(folder, facts)


def _logit(bounded: Floats) -> Floats:
    return np.log(bounded / (1 - bounded))
