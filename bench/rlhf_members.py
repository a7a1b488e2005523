"""Why the lowest of four reward models turns where one does: what members share, from stored banks, without a run.

    python bench/rlhf.py prepare --out runs/rlhf
    python bench/rlhf_members.py --out runs/rlhf              members.json, tables; again = go on
    python bench/rlhf_members.py --out runs/rlhf --save       rm_KIND_SEED folders, for bench/rlhf.py learn

Ensembles of four, all from the same votes, each member on prompts drawn again with replacement:

    heads      linear heads over one frozen network, the base: what `members=4` makes
    trunks     one head each over the base and three small networks that were pretrained apart, from other seeds
    trained    networks trained whole on the votes, each from another of these four starts

What is said of each: gold at the best of n by one member, by the lowest, by the mean and by the mean less a deviation;
how members' errors go together, over all samples and among those that one member likes most. An error is what is left
of a member's word on a problem's samples, centred and scaled, when gold's part is taken out. And where the errors come
from: the mean of all heads that all draws of votes gave (variance is gone, what is left is what they share), and heads
that are told one thing more, whether the answer is right.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import rlhf
import torch
from numpy.typing import NDArray

from ponder.evals.bank import Bank
from ponder.evals.overoptimisation import best_of, completion_of_text, label, shown_work
from ponder.files import write_atomic
from ponder.intervals import student
from ponder.models import hub
from ponder.runs import find_checkpoints
from ponder.scorers import load_scorer
from ponder.scorers.preference import PreferenceScorer
from ponder.scorers.preference_ensemble import PreferenceEnsemble
from ponder.scorers.reader import Reader
from ponder.scorers.reward import TRAINED_ON
from ponder.tasks.preferences import load_comparisons
from ponder.train.preference_examples import JudgedPrompt, Judgements, judged
from ponder.train.scorer_preference import best_head, head_tensors, resampled
from ponder.types import Message

Floats = NDArray[np.float64]
NS = (1, 4, 8, 16, 32, 96)
BASE, SMALL = "base", ("small_1", "small_2", "small_3")
LAYERS = {"base": (3, 6)} | dict.fromkeys(SMALL, (2, 3))
MEMBERS = 4


# ---- networks that were pretrained apart ---------------------------------------------------------------------------


def pretrain(out: Path, name: str, steps: int) -> None:
    """A fresh network of a sixth of the size, from rows and weights of its own."""
    from ponder.train.sft import ArchitectureConfig, SFTConfig, sft

    number = int(name.rpartition("_")[2])
    if not (out / f"rows_{name}.jsonl").exists():
        rlhf.rows(out / f"rows_{name}.jsonl", seed=100 + number)
    sft(SFTConfig(
        out=str(out / name), model="", architecture=ArchitectureConfig(width=64, depth=3, inner=192),
        data=str(out / f"rows_{name}.jsonl"), num_steps=steps, batch_size=48, lr=3e-3, warmup_steps=20, save_every=50,
        max_tokens_per_batch=2048, num_workers=0, seed=number,
    ), on_step=lambda step, m: step % 20 or print(name, step, f"{m['loss']:.3f}", flush=True))  # fmt: skip


# ---- what every network sees of the banks --------------------------------------------------------------------------


@dataclass(frozen=True)
class Exam:
    """Samples of problems that no reward model sees, end to end."""

    problem: NDArray[np.int64]
    gold: Floats
    right: Floats
    features: Mapping[str, NDArray[np.float32]]  # by network

    @property
    def groups(self) -> list[NDArray[np.int64]]:
        return [np.flatnonzero(self.problem == p) for p in np.unique(self.problem)]


Seen = dict[tuple[Sequence[Message], str], int]  # (prompt, answer) -> row of the features


def read(out: Path, name: str, bank: Bank) -> tuple[Seen, NDArray[np.float32]]:
    """The features of all different answers of a bank, kept beside it."""
    model, tokenizer = hub.load(hub.resolve(str(out / name)), dtype=None)
    reader, place, parts = Reader(model, tokenizer, layers=LAYERS[name]), {}, []
    path = out / f"features_{bank.folder.name}_{name}.npy"
    for problem in bank.problems:
        answers = list(dict.fromkeys(row.answer for row in bank.rows(problem.id)))
        place |= {(problem.prompt, text): len(place) + i for i, text in enumerate(answers)}
        if not path.exists():
            parts += reader.features([reader.group(problem.prompt, answers)])
    if parts:
        np.save(path, np.concatenate(parts))
    return place, np.load(path)


def exam_of(out: Path, names: Sequence[str]) -> Exam:
    bank = Bank.read(out / "bank_exam")
    number, gold, right, keys = [], [], [], []
    for i, problem in enumerate(bank.problems):
        for row in bank.rows(problem.id):
            if row.outcome == "undecided":
                continue
            number.append(i)
            right.append(float(row.outcome == "correct"))
            gold.append(shown_work(problem, completion_of_text(row), bool(right[-1])))
            keys.append((problem.prompt, row.answer))
    features = {}
    for name in names:
        place, rows = read(out, name, bank)
        features[name] = rows[[place[key] for key in keys]]
    return Exam(np.array(number), np.array(gold), np.array(right), features)


# ---- heads ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Votes:
    """One draw of votes, split as reward models split it."""

    train: list[JudgedPrompt]
    held: list[JudgedPrompt]

    @classmethod
    def drawn(cls, out: Path, bank: Bank, seed: int, size: int) -> Votes:
        path = out / (f"votes_{seed}.jsonl" if size == rlhf.COMPARISONS else f"votes_{seed}_{size}.jsonl")
        if not path.exists():
            found = label(bank, shown_work, size=size, noise=rlhf.NOISE, seed=seed)
            write_atomic(path, "".join(json.dumps(row) + "\n" for row in found))
        train, held = (load_comparisons(f"file:{path}", split=split).comparisons for split in ("train", "dev"))
        return cls(judged(train), judged(held))


def rows_of(examples: Sequence[JudgedPrompt], place: Seen) -> list[int]:
    return [place[e.prompt, text] for e in examples for text in e.answers]


@dataclass(frozen=True)
class Member:
    network: str
    head: Any
    shift: float
    scale: float

    def standard(self, rows_NF: NDArray[np.float32]) -> Floats:
        return (self.head.rewards(rows_NF) - self.shift) / self.scale


def member(
    network: str, votes: Votes, place: Seen, rows_NF: NDArray[np.float32], draw: str, told: Floats | None = None
) -> Member:
    """A head over a network; told: one feature more of every answer of the bank."""
    if told is not None:
        rows_NF = np.column_stack([rows_NF, told]).astype(np.float32)
    x, other = rows_NF[rows_of(votes.train, place)], rows_NF[rows_of(votes.held, place)]
    counts = resampled(votes.train, Random(draw)) if draw else None
    head, _ = best_head(x, Judgements.of(votes.train), other, Judgements.of(votes.held), 0.01, counts)
    raw = head.rewards(other)
    return Member(network, head, float(raw.mean()), float(raw.std()) or 1.0)


# ---- measures ------------------------------------------------------------------------------------------------------


def reduced(words_MN: Floats, how: str) -> Floats:
    if how == "one":
        return words_MN[0]
    if how == "mean-sd":
        return words_MN.mean(0) - words_MN.std(0, ddof=1)
    return (np.min if how == "min" else np.mean)(words_MN, axis=0)


def pressed(exam: Exam, words_N: Floats, what: Floats) -> Floats:
    """(problems, NS): of the best of n by these words."""
    return np.array([[best_of(what[g], words_N[g], n) for n in NS] for g in exam.groups])


def errors(exam: Exam, words_N: Floats) -> Floats:
    """What is left of a member's word when gold's part is taken out, each problem's samples centred and scaled."""
    found = np.zeros(len(words_N))
    for g in exam.groups:
        z, gold = (x - x.mean() for x in (words_N[g], exam.gold[g]))
        z = z / (z.std() or 1.0)
        found[g] = z - gold * (z @ gold) / (gold @ gold if gold.any() else 1.0)
    return found


def together(exam: Exam, words_MN: Floats) -> tuple[float, float]:
    """The mean correlation of two members' errors: over all samples, and over the tenth that one of them likes most."""
    every, top = [], []
    left = [errors(exam, words) for words in words_MN]
    for i in range(len(left)):
        liked = np.concatenate([g[np.argsort(-words_MN[i][g], kind="stable")[: max(2, len(g) // 10)]]
                                for g in exam.groups])  # fmt: skip
        for j in range(len(left)):
            if i != j:
                every.append(np.corrcoef(left[i], left[j])[0, 1])
                # of what one member overrates, how much does the other overrate, too: in units of the first's error
                top.append(left[j][liked].mean() / left[i][liked].mean())
    return float(np.mean(every)), float(np.mean(top))


def estimate(values_SP: Floats) -> dict[str, float]:
    """Of seeds and problems: the mean and its 95 % interval over problems, seeds averaged."""
    each = values_SP.mean(0)
    half = student(len(each) - 1) * each.std(ddof=1) / len(each) ** 0.5
    return {"mean": float(each.mean()), "low": float(each.mean() - half), "high": float(each.mean() + half),
            "seeds_low": float(values_SP.mean(1).min()), "seeds_high": float(values_SP.mean(1).max())}  # fmt: skip


def summary(exam: Exam, by_seed: Sequence[Floats]) -> dict[str, Any]:
    """by_seed: words (members, samples) of each draw of votes."""
    found: dict[str, Any] = {}
    gold = {how: np.array([pressed(exam, reduced(w, how), exam.gold) for w in by_seed])
            for how in (("one", "min", "mean", "mean-sd") if len(by_seed[0]) > 1 else ("one",))}  # fmt: skip
    for how, values_SPn in gold.items():
        found[how] = {str(n): estimate(values_SPn[:, :, k]) for k, n in enumerate(NS)}
        found[how]["fall 4 to 96"] = estimate(values_SPn[:, :, NS.index(96)] - values_SPn[:, :, NS.index(4)])
        found[how]["less one"] = {
            str(n): estimate(values_SPn[:, :, k] - gold["one"][:, :, k]) for k, n in enumerate(NS)
        }
        right = np.array([pressed(exam, reduced(w, how), exam.right) for w in by_seed])
        found[how]["right"] = {str(n): estimate(right[:, :, k]) for k, n in enumerate(NS)}
    if len(by_seed[0]) > 1:
        pairs = [together(exam, words) for words in by_seed]
        found["errors together"] = float(np.mean([a for a, _ in pairs]))
        found["overrated together"] = float(np.mean([b for _, b in pairs]))
    return found


def agreement(member: Member, rows_NF: NDArray[np.float32], place: Seen, held: Sequence[JudgedPrompt]) -> float:
    """The share of held-out votes that it would cast."""
    right = []
    for example in held:
        words = member.standard(rows_NF[[place[example.prompt, text] for text in example.answers]])
        right += [float((words[p.first] > words[p.second]) == (p.target > 0.5)) for p in example.pairs]
    return float(np.mean(right))


# ---- networks trained whole ----------------------------------------------------------------------------------------


def trained(out: Path, votes_path: Path, seed: int, number: int, start: str) -> Path:
    """One member trained whole on prompts drawn again, from a start of its own; the dev split's votes stop it."""
    from ponder.train.scorer import load_recipe, train_scorer

    target = out / f"trained_{seed}_{number}"
    if (target / "result.json").exists():
        return target
    rows = [json.loads(line) for line in votes_path.read_text().splitlines()]
    keys = sorted({row["prompt"][-1]["content"] for row in rows})
    drawn = set(Random(f"{seed}/whole/{number}").choices(keys, k=len(keys)))  # two thirds of them
    own = out / f"votes_{seed}_{number}_own.jsonl"
    write_atomic(own, "".join(json.dumps(row) + "\n" for row in rows if row["prompt"][-1]["content"] in drawn))
    train_scorer(load_recipe("rm_nano_cpu", [
        f"out={target}", f"model={out / start}", f"comparisons=file:{own}", "trunk=trained", "layers=[]", "lr=5e-4",
        "warmup_steps=6", "num_epochs=6", "problems_per_step=8", "checks_per_epoch=1", "patience=3",
        "max_tokens_per_batch=4096", f"seed={100 * seed + number}", "num_workers=0",
    ]), on_check=lambda check: print(target.name, check, flush=True))  # fmt: skip
    return target


def words_of(scorer: Any, out: Path, exam: Exam) -> Floats:
    """What a scorer says of the exam's samples."""
    bank, found = Bank.read(out / "bank_exam"), []
    for problem in bank.problems:
        texts = [row.answer for row in bank.rows(problem.id) if row.outcome != "undecided"]
        different = list(dict.fromkeys(texts))
        said = scorer.standard(scorer.raw_groups([scorer.reader.group(problem.prompt, different)])[0])
        found.append(np.array([dict(zip(different, said, strict=True))[text] for text in texts]))
    return np.concatenate(found)


# ---- all of it -----------------------------------------------------------------------------------------------------


def measure(out: Path, seeds: int, whole_seeds: int, sizes: Sequence[int]) -> dict[str, Any]:
    names = (BASE, *SMALL)
    bank, exam = Bank.read(out / "bank_rm"), exam_of(out, names)
    seen = {name: read(out, name, bank) for name in names}
    told = np.zeros(len(seen[BASE][1]))
    for problem in bank.problems:
        for row in bank.rows(problem.id):
            told[seen[BASE][0][problem.prompt, row.answer]] = float(row.outcome == "correct")
    found: dict[str, Any] = {"problems": len(exam.groups), "samples": len(exam.gold), "seeds": seeds}
    gold = pressed(exam, exam.gold, exam.gold)
    found["by gold itself"] = {str(n): float(gold[:, k].mean()) for k, n in enumerate(NS)}
    every: list[Floats] = []
    for size in sizes:
        heads, trunks, oracle, said = [], [], [], {name: [] for name in names}
        for seed in range(seeds):
            votes = Votes.drawn(out, bank, seed, size)
            own = [member(BASE, votes, *seen[BASE], f"{seed}/member/{k}") for k in range(MEMBERS)]
            apart = [own[0], *(member(n, votes, *seen[n], f"{seed}/member/{k}") for k, n in enumerate(SMALL, 1))]
            heads.append(np.stack([m.standard(exam.features[BASE]) for m in own]))
            trunks.append(np.stack([m.standard(exam.features[m.network]) for m in apart]))
            for m in apart:
                said[m.network].append(agreement(m, seen[m.network][1], seen[m.network][0], votes.held))
            if size == rlhf.COMPARISONS:
                knows = member(BASE, votes, *seen[BASE], "", told)
                oracle.append(knows.standard(np.column_stack([exam.features[BASE], exam.right]))[None])
                every += [*heads[-1]]
            print(size, seed, flush=True)
        part = {"heads": summary(exam, heads), "trunks": summary(exam, trunks),
                "agreement": {name: float(np.mean(values)) for name, values in said.items()}}  # fmt: skip
        if oracle:
            part["told what is right"] = summary(exam, oracle)
            part["mean of all heads"] = summary(exam, [np.mean(every, axis=0, keepdims=True)])
        found[str(size)] = part
        write_atomic(out / "members.json", json.dumps(found, indent=1) + "\n")
    whole = []
    for seed in range(whole_seeds):
        folders = [trained(out, out / f"votes_{seed}.jsonl", seed, k, start) for k, start in enumerate(names)]
        whole.append(np.stack([words_of(load_scorer(folder), out, exam) for folder in folders]))
    if whole:
        found["trained"] = summary(exam, whole) | {"seeds": whole_seeds}
        write_atomic(out / "members.json", json.dumps(found, indent=1) + "\n")
    return found


def save(out: Path, seeds: int) -> None:
    """rm_trunks_SEED: four heads over four networks, for runs."""
    names, bank = (BASE, *SMALL), Bank.read(out / "bank_rm")
    for seed in range(seeds):
        votes, members = Votes.drawn(out, bank, seed, rlhf.COMPARISONS), []
        for k, name in enumerate(names):
            found = member(name, votes, *read(out, name, bank), f"{seed}/member/{k}")
            folder = hub.resolve(str(out / name))
            reader = Reader(*hub.load(folder, dtype=torch.float32), layers=LAYERS[name])
            members.append(PreferenceScorer(
                reader, head_tensors(found.head), name="preference", model=str(folder), shift=found.shift,
                scale=found.scale,
            ))  # fmt: skip
        target = out / f"rmtrunks_{seed}" / "scorer"
        PreferenceEnsemble(members, name="preference").save(target)
        keys = sorted({example.opening for example in (*votes.train, *votes.held)})
        write_atomic(target / TRAINED_ON, "\n".join(keys) + "\n")


def lines(found: Mapping[str, Any]) -> list[str]:
    kinds = [(f"{kind}, {size} votes", part[kind]) for size, part in found.items() if size.isdigit()
             for kind in ("heads", "trunks", "told what is right", "mean of all heads") if kind in part]  # fmt: skip
    if "trained" in found:
        kinds.append(("trained, 1000 votes", found["trained"]))
    told = ["| | by | " + " | ".join(f"n = {n}" for n in NS) + " | n = 96 less n = 4 | errors together | overrated |",
            "|---" * (len(NS) + 5) + "|"]  # fmt: skip
    for name, part in kinds:
        for how in ("one", "min", "mean", "mean-sd"):
            if how not in part:
                continue
            cells = [f"{part[how][str(n)]['mean']:.2f}" for n in NS]
            fall = part[how]["fall 4 to 96"]
            shared = [f"{part.get(key, float('nan')):.2f}" for key in ("errors together", "overrated together")]
            told.append(f"| {name} | {how} | {' | '.join(cells)} | {fall['mean']:+.2f} ({fall['low']:+.2f} to "
                        f"{fall['high']:+.2f}) | {' | '.join(shared)} |")  # fmt: skip
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/rlhf"))
    parser.add_argument("--seeds", type=int, default=8, help="draws of votes")
    parser.add_argument("--whole-seeds", type=int, default=2, help="draws on which networks are trained whole")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 100], help="votes of a draw")
    parser.add_argument("--pretrain-steps", type=int, default=240)
    parser.add_argument("--save", action="store_true", help="the ensembles over networks apart, as folders")
    given = parser.parse_args()
    out = given.out.resolve()
    for name in SMALL:
        if not find_checkpoints(out / name):
            pretrain(out, name, given.pretrain_steps)
    if given.save:
        save(out, given.seeds)
    else:
        print("\n".join(lines(measure(out, given.seeds, given.whole_seeds, given.sizes))))


if __name__ == "__main__":
    main()
