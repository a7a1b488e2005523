"""A reward model over a frozen network on a whole set of comparisons, by folds of prompts, beside what costs nothing.

    python bench/preference_folds.py --task hh --model smollm2-135m --out runs/folds_hh
    python bench/preference_folds.py --task llmbar --out runs/folds_llmbar --train-on hh=runs/folds_hh

Hidden states of every answer are computed once (OUT/features, a stopped run goes on), then a head is fitted five times,
each time on four fifths of the dialogue openings; its penalty is chosen inside them, on one fold. So is the bag of
words. Every comparison is judged by a head that saw nothing with its opening. --train-on SET=OUT: one head more, fitted
on all of another set whose states lie in OUT, is measured here. --layers and --pool as in `ponder scorer`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ponder.evals.codec import encode
from ponder.evals.comparison import markdown
from ponder.evals.preference import Floats, gain_line, length_table, notes, summarise, table
from ponder.evals.preference_baselines import NUM_FOLDS, folds
from ponder.models import hub
from ponder.scorers.bradley_terry import fit
from ponder.scorers.reader import Reader
from ponder.tasks.preferences import load_comparisons
from ponder.train.preference_examples import Grouped, Judgements, judged
from ponder.train.scorer_preference import PENALTIES, best_head, features
from ponder.types import Comparison

CENTRE = 0.01


def read(
    spec: str, reader: Reader, network: str, out: Path, limit: int | None
) -> tuple[list[Comparison], NDArray[np.float32], Judgements]:
    """The comparisons of a set in the order of their pairs, the features of their answers, and the pairs."""
    found = load_comparisons(spec, size=limit)
    grouped = Grouped.of(judged(found.comparisons), reader)
    if grouped.num_too_long:
        raise SystemExit(f"{grouped.num_too_long} comparisons do not fit into the window of this network")
    x = features(reader, grouped, out / "features", network)
    rows: dict[object, list[Comparison]] = {}
    for comparison in found.comparisons:
        rows.setdefault(comparison.prompt, []).append(comparison)
    return [one for prompt in rows.values() for one in prompt], x, Judgements.of(grouped.examples)


def cross_fitted(comparisons: Sequence[Comparison], x: NDArray[np.float32], all_pairs: Judgements) -> Floats:
    """r_a - r_b of every comparison, by a head of the other folds."""
    pairs, fold, found = all_pairs.pairs, folds(comparisons), np.zeros(len(comparisons))
    for number in range(NUM_FOLDS):
        inner = (number + 1) % NUM_FOLDS

        def only(rows: NDArray[np.bool_]) -> Judgements:
            return replace(all_pairs, pairs=replace(pairs, weight=pairs.weight * rows))

        choosing = only((fold != number) & (fold != inner)), only(fold == inner)
        _, losses = best_head(x, choosing[0], x, choosing[1], CENTRE)
        best = min(PENALTIES, key=lambda l2: losses[f"{l2:g}"])
        weight = only(fold != number).pairs.weight
        head = fit(x, pairs.first, pairs.second, pairs.target, l2=best, weight=weight, centre=CENTRE)
        r = head.rewards(x)
        found[fold == number] = (r[pairs.first] - r[pairs.second])[fold == number]
    return found


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--task", default="hh")
    options.add_argument("--model", default="smollm2-135m")
    options.add_argument("--layers", default="15,23", help="empty = the last")
    options.add_argument("--pool", default="mean", choices=["mean", "last"])
    options.add_argument("--dtype", default="bfloat16")
    options.add_argument("--limit", type=int, default=None)
    options.add_argument("--out", type=Path, required=True)
    options.add_argument("--train-on", default="", metavar="SET=OUT")
    args = options.parse_args()
    torch.set_num_threads(1)

    folder = hub.resolve(args.model)
    model, tokenizer = hub.load(folder, dtype=getattr(torch, args.dtype))
    layers = [int(layer) for layer in args.layers.split(",") if layer]
    reader, network = Reader(model, tokenizer, layers=layers, pool=args.pool), hub.fingerprint(folder)
    comparisons, x, pairs = read(args.task, reader, network, args.out, args.limit)
    name = f"{args.model}, frozen"
    said = {name: cross_fitted(comparisons, x, pairs)}
    if args.train_on:
        spec, _, other = args.train_on.partition("=")
        others, x_other, judged_other = read(spec, reader, network, Path(other), None)
        held = folds(others) == 0  # chooses the penalty
        parts = (replace(judged_other.pairs, weight=judged_other.pairs.weight * rows) for rows in (~held, held))
        kept, choosing = (replace(judged_other, pairs=part) for part in parts)
        head, _ = best_head(x_other, kept, x_other, choosing, CENTRE)
        r = head.rewards(x)
        said[f"{name}, of {spec}"] = r[pairs.pairs.first] - r[pairs.pairs.second]
    found = replace(load_comparisons(args.task, size=args.limit), comparisons=tuple(comparisons))
    for each, difference in said.items():
        report = summarise(each, difference, found)
        print(f"{markdown(table(report))}\n\n{markdown(length_table(report))}\n\n{gain_line(report)}\n")
        (args.out / f"{each.replace(' ', '_')}.json").write_text(json.dumps(encode(report), indent=1) + "\n")
    print("\n".join(notes(report)))


if __name__ == "__main__":
    main()
