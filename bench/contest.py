"""Whether ratings from contests can be believed: python bench/contest.py (PONDER_DATA adds what needs real rounds)

    changes      the changes of rating that Codeforces recorded, reproduced exactly: rows of all, seconds a round
    people       performances in one round against the rating before it, by round; and of people in 2 to 5 rounds
    coverage     how often the 95 % interval holds the true rating of made-up people, by number of contests
    rules        what each score rule makes of made-up models of known rating, where speed is luck and where it is skill
    populations  the quantiles of ponder/evals/populations.py, from the full lists

The rounds held have no names in them. A person of several rounds is therefore a chain of rows: whoever left one round
with a rating is followed to a random row of a later round that began with exactly this rating. Under "a performance
depends on the rating before it and on luck" a chain is as good as a person; real people are not quite so.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))  # this tree, whatever is installed

from ponder.evals.contest_rating import rate
from ponder.evals.contest_rules import RULES
from ponder.evals.made_up_contests import LUCK, made_up_contests, made_up_tries
from ponder.evals.populations import SHARES
from ponder.ratings import (
    CONTEST_SD,
    FEWEST,
    GRID,
    Floats,
    HumanField,
    Ints,
    Placing,
    likelihood_rating,
    ranks,
    rating_changes,
)

ORDER = ("1305", "1326", "1342", "1352", "1350", "1349")  # by date, March to May 2020
START = 1500  # of newcomers then: their rating says nothing yet


class Round:
    """A real round: ratings before it, changes, and how many were beaten, ties a half."""

    def __init__(self, rows: Sequence[Sequence[float]]) -> None:
        self.points, self.penalty, self.before, self.change = np.array(rows, float).T
        self.places = ranks(self.points, self.penalty)
        _, which, counts = np.unique(self.places, return_inverse=True, return_counts=True)
        size = len(self.places)
        # a person's own row is among the field as a tie with itself: half a win
        self.share = (size - self.places + counts[which] / 2) / size
        self.curve = HumanField.of(self.before).curve
        self.error = np.interp(self.share, self.curve, GRID) - self.before
        # who is first or last of all has no finite performance
        self.is_kept = (self.places > 1) & (self.places < size)


def real_rounds() -> dict[str, Round]:
    path = Path(os.environ.get("PONDER_DATA", "")) / "codeforces" / "rounds.jsonl"
    if not os.environ.get("PONDER_DATA") or not path.exists():
        return {}
    rows = (json.loads(line) for line in path.open())
    return {row["id"].split("-")[2]: Round(row["rows"]) for row in rows}


def changes(rounds: dict[str, Round]) -> Iterator[dict[str, Any]]:
    rows = right = 0
    seconds = []
    for each in rounds.values():
        start = time.process_time()
        found = rating_changes(each.before, ranks(each.points, each.penalty))
        seconds.append(time.process_time() - start)
        rows, right = rows + len(found), right + int((found == each.change).sum())
    yield {"check": "changes", "rows": rows, "exact": right, "seconds a round, at most": round(max(seconds), 3)}


def people(rounds: dict[str, Round], seeds: int = 5) -> Iterator[dict[str, Any]]:
    for name, each in rounds.items():
        error = each.error[each.is_kept]
        yield {"check": "one round", "round": name, "people": len(error), **spread(error)}
    found: dict[int, list[list[float]]] = {}
    for seed in range(seeds):
        by_length: dict[int, list[float]] = {}
        for chain in chains(rounds, np.random.default_rng(seed)):
            curve = np.mean([rounds[name].curve for name, _ in chain], axis=0)
            value = np.interp(np.mean([rounds[name].share[i] for name, i in chain]), curve, GRID)
            before = np.mean([rounds[name].before[i] for name, i in chain])
            by_length.setdefault(len(chain), []).append(float(value - before))
        for length, errors in by_length.items():
            found.setdefault(length, []).append(errors)
    for length in sorted(found):
        each_seed = [spread(errors) for errors in found[length]]
        sds = [figures["sd"] for figures in each_seed]
        yield {
            "check": "several rounds", "rounds": length, "chains": len(found[length][0]),
            "bias": round(float(np.mean([figures["bias"] for figures in each_seed])), 1),
            "sd": round(float(np.mean(sds)), 1), "sd of each seed": sds,
        }  # fmt: skip


def spread(errors: Sequence[float] | Floats) -> dict[str, float]:
    return {"bias": round(float(np.mean(errors)), 1), "sd": round(float(np.std(errors)), 1)}


def chains(rounds: dict[str, Round], rng: np.random.Generator, link: float = 0.6) -> list[list[tuple[str, int]]]:
    """Rows whose ratings fit, of two rounds and more. `link`: whoever could be followed may also have stayed away."""
    held: list[list[tuple[str, int]]] = []
    waiting: dict[int, list[list[tuple[str, int]]]] = {}
    for name in ORDER:
        each, leaving = rounds[name], []
        for i in rng.permutation(np.flatnonzero(each.is_kept & (each.before != START))).tolist():
            fitting = waiting.get(int(each.before[i]))
            if fitting and rng.random() < link:
                chain = fitting.pop()
            else:
                held.append(chain := [])
            chain.append((name, i))
            leaving.append((int(each.before[i] + each.change[i]), chain))
        if name != "1350":  # 1349 and 1350 are the two divisions of one round
            for rating, chain in leaving:
                waiting.setdefault(rating, []).append(chain)
    return [chain for chain in held if len(chain) > 1]


def coverage(num_people: int, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Made-up people by Elo's chances exactly (a contest scatters by 223), and with luck of their own beside (270)."""
    rng = np.random.default_rng(seed)
    fields, performances = made_up_fields(rng, 300)
    for own in (0.0, math.sqrt(CONTEST_SD**2 - 223**2)):
        for k in (1, 2, 4, FEWEST, 8, 12, 24):
            covered, errors, widths = 0, [], []
            for rating in rng.normal(1500, 300, num_people):
                played = rng.choice(len(fields), k, replace=False)
                placings = []
                for which in played:
                    mine = rating + rng.gumbel(scale=LUCK) + own * rng.standard_normal()
                    beaten = float(np.searchsorted(performances[which], mine))
                    placings.append(Placing(field=fields[which], beaten=beaten))
                found = likelihood_rating(placings)
                covered += found.low <= rating <= found.high
                if found.value is not None:
                    errors.append(found.value - rating)
                    widths.append((found.high - found.low) / 2)
            share = covered / num_people
            yield {
                "check": "coverage", "contests": k, "luck beside Elo's": round(own), "people": num_people,
                "covered": round(100 * share, 1), "±": round(196 * math.sqrt(share * (1 - share) / num_people), 1),
                "half width, median": round(float(np.median(widths))), **spread(errors),
            }  # fmt: skip


def made_up_fields(rng: np.random.Generator, num: int, size: int = 500) -> tuple[list[HumanField], list[Floats]]:
    """Fields of people, and how they performed, sorted: the luck that makes Elo's chances exact."""
    fields = [HumanField.of(rng.normal(rng.uniform(1300, 1700), 350, size).clip(-500, 4000)) for _ in range(num)]
    return fields, [np.sort(field.ratings + rng.gumbel(scale=LUCK, size=size)) for field in fields]


def rules(num_models: int, num_problems: int, contests: int = 12) -> Iterator[dict[str, Any]]:
    for speed in (0.0, 1.0):
        held = made_up_contests(
            num=contests * num_models, num_humans=500, num_problems=num_problems, seed=7, speed=speed
        )
        for rating in (900, 1200, 1500, 1800, 2100, 2400, 2700):
            row: dict[str, Any] = {"check": "rules", "speed is skill": speed, "true": rating, "models": num_models,
                                   "problems": num_problems}  # fmt: skip
            for rule in RULES:
                errors, covered = [], 0
                for i in range(num_models):
                    own = held[contests * i : contests * (i + 1)]
                    found = rate(own, made_up_tries(own, rating=rating, seed=i), rule=rule).rating
                    assert found is not None
                    covered += found.low <= rating <= found.high
                    errors += [] if found.value is None else [found.value - rating]
                row[rule] = f"{np.mean(errors):+.0f} ± {196 * np.std(errors) / math.sqrt(len(errors)) / 100:.0f}"
                row[f"{rule} covered"] = f"{covered}/{num_models}"
            yield row


def populations(rounds: dict[str, Round]) -> Iterator[dict[str, Any]]:
    path = Path(os.environ["PONDER_DATA"]) / "codeforces" / "rating_histogram.json"
    histogram = {int(rating): count for rating, count in json.loads(path.read_text())["histogram"].items()}
    lists = {
        "rated users": np.repeat(list(histogram), list(histogram.values())),
        "rows of six rounds": np.concatenate([each.before for each in rounds.values()]).astype(int),
    }
    for name, ratings in lists.items():
        yield {"check": "populations", "name": name, "size": len(ratings), "values": quantiles(np.sort(ratings))}


def quantiles(ratings: Ints) -> list[int]:
    return [int(ratings[math.ceil(share / 100 * len(ratings)) - 1]) for share in SHARES]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "checks", nargs="*", help="changes people coverage rules populations; default: all but the last"
    )
    parser.add_argument("--people", type=int, default=2000, help="made-up people for each number of contests")
    parser.add_argument("--models", type=int, default=10, help="made-up models for each rating")
    parser.add_argument("--problems", type=int, default=8, help="of a made-up contest, for `rules`")
    options = parser.parse_args()
    wanted = options.checks or ["changes", "people", "coverage", "rules"]
    rounds = real_rounds()
    if not rounds and set(wanted) & {"changes", "people", "populations"}:
        print("no codeforces/rounds.jsonl under PONDER_DATA: what needs real rounds is left out", file=sys.stderr)
        wanted = [name for name in wanted if name in ("coverage", "rules")]
    for name in wanted:
        found = {
            "changes": lambda: changes(rounds), "people": lambda: people(rounds),
            "coverage": lambda: coverage(options.people), "rules": lambda: rules(options.models, options.problems),
            "populations": lambda: populations(rounds),
        }[name]()  # fmt: skip
        for row in found:
            print(json.dumps(row, ensure_ascii=False), flush=True)


if __name__ == "__main__":
    main()
