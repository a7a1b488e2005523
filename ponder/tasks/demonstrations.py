"""Demonstrations: worked problems of a family, in a mixture of its ways of thinking. What a cold start is trained on.

    demonstration(DemonstrationConfig(family="pipes"), 17, seed=0)   ->  problem, reasoning, answer

Example i is a pure function of the mixture, the seed and i, and its problem is of the train split. Another family is
one entry of DEMONSTRATED.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random

from ponder.config import check, lookup, setting
from ponder.tasks import pipes_ways, ways
from ponder.tasks.arithmetic import LEVELS, arithmetic
from ponder.tasks.base import ProceduralTask
from ponder.tasks.desk import LEVELS as DESK_LEVELS
from ponder.tasks.desk import demonstrate as demonstrate_desk
from ponder.tasks.desk import desk
from ponder.tasks.loophole import LEVELS as LOOPHOLE_LEVELS
from ponder.tasks.loophole import demonstrate as demonstrate_loophole
from ponder.tasks.loophole import loophole
from ponder.tasks.pipes import pipes
from ponder.types import Problem

SLIP = 0.1  # of an operation of arithmetic, where nothing else is said


@dataclass(frozen=True, kw_only=True)
class Demonstrated:
    """A family that can be demonstrated."""

    open: Callable[..., ProceduralTask]
    levels: Sequence[int]
    shares: Mapping[str, float]  # its ways, and how often each is taken where nothing else is said
    demonstrate: Callable[..., tuple[str, str]]  # (problem, way, rng, slip=) -> reasoning, answer


DEMONSTRATED: dict[str, Demonstrated] = {
    "arithmetic": Demonstrated(
        open=arithmetic, levels=LEVELS, demonstrate=ways.demonstrate,
        shares={"guess": 0.68, "steps": 0.24, "checked": 0.08},
    ),
    "pipes": Demonstrated(
        open=pipes, levels=(1, 2, 3), demonstrate=pipes_ways.demonstrate, shares={"guess": 0.85, "tried": 0.15},
    ),
    "loophole": Demonstrated(
        open=loophole, levels=LOOPHOLE_LEVELS, demonstrate=demonstrate_loophole,
        shares={"honest": 0.7, "confessed": 0.27, "silent": 0.03},
    ),
    "desk": Demonstrated(  # a quarter of the requests come without a policy, half stand in other text
        open=partial(desk, none=25, smalltalk=50), levels=DESK_LEVELS, demonstrate=demonstrate_desk,
        shares={"rules": 1.0},
    ),
}  # fmt: skip
_WAYS = tuple(dict.fromkeys(way for family in DEMONSTRATED.values() for way in family.shares))


@dataclass(frozen=True, kw_only=True)
class DemonstrationConfig:
    """A mixture of ways. The shares need not add up to one; where none is given, the family's own are taken."""

    family: str = setting("arithmetic", "whose problems are worked: arithmetic, pipes, loophole or desk")
    levels: tuple[int, ...] | None = setting(None, "of the family; default: all, of pipes 1 to 3")
    guess: float | None = setting(None, "share without reasoning; default 0.68, of pipes 0.85", least=0)
    steps: float | None = setting(None, "arithmetic: share of one operation a line; default 0.24", least=0)
    checked: float | None = setting(None, "arithmetic: share where each is checked; default 0.08", least=0)
    tried: float | None = setting(None, "pipes: share where programs are tried; default 0.15", least=0)
    honest: float | None = setting(None, "loophole: share that works it out; default 0.7", least=0)
    confessed: float | None = setting(None, "loophole: share that says it fools the check; default 0.27", least=0)
    silent: float | None = setting(None, "loophole: share that fools it without a word; default 0.03", least=0)
    rules: float | None = setting(None, "desk: share where the rules are gone through; default 1", least=0)
    slip: float = setting(SLIP, "how often a line of arithmetic is written down wrong at first", least=0, below=1)

    def __post_init__(self) -> None:
        check(self)
        family = lookup(DEMONSTRATED, self.family, what="family of demonstrations")
        given = {way: share for way in _WAYS if (share := getattr(self, way)) is not None}
        if unknown := given.keys() - family.shares:
            raise ValueError(f"{self.family} is not worked by {', '.join(sorted(unknown))}; its ways: "
                             f"{', '.join(family.shares)}")  # fmt: skip
        if given and not any(given.values()):
            raise ValueError(f"the shares {', '.join(family.shares)} must not all be 0")
        if self.levels == ():
            raise ValueError(f"levels=[] must name one or more of {', '.join(map(str, family.levels))}")
        if beyond := set(self.levels or ()) - set(family.levels):
            raise ValueError(f"levels={sorted(beyond)}: {self.family} is demonstrated at {family.levels}")

    @property
    def shares(self) -> dict[str, float]:
        """Of each way of the family; where some are given, the others are 0."""
        family = DEMONSTRATED[self.family].shares
        given = {way: getattr(self, way) for way in family}
        is_silent = all(share is None for share in given.values())
        return dict(family) if is_silent else {way: share or 0.0 for way, share in given.items()}


def demonstration(config: DemonstrationConfig, index: int, *, seed: int) -> tuple[Problem, str, str]:
    """Example `index` of a mixture: (problem of the train split, reasoning, answer)."""
    family = DEMONSTRATED[config.family]
    rng = Random(f"{seed}/demonstration/{index}")
    level = rng.choice(config.levels or tuple(family.levels))
    problem = family.open(split="train", seed=seed, level=level, size=index + 1)[index]
    way = rng.choices(list(config.shares), list(config.shares.values()))[0]
    return problem, *family.demonstrate(problem, way, rng, slip=config.slip)
