"""`ponder`: one verb, one function, a file a group of verbs. The only room that imports every other.

    app.py         the app, common options, errors as one line      use.py         ask, play, pull
    loading.py     engines, scorers, checkpoints, a model's facts   serving.py     serve, chat, keys
    show.py        what verbs print                                 teach.py       data, star, sft, rl, scorer, doctor
    fenced.py      sandbox                                          measure.py     eval, scale, score, report, ...
    choosing.py    submit, ioi                                      contest.py     contest rate, standings, ...
    banks.py       regrade, log                                     preferring.py  prefer
    monitoring.py  monitor fit, eval, faithfulness; loophole        arena.py       arena rate, judge, synthetic, export
    policies.py    policies                                         safety.py      safety
    tinkering.py   tinker
    exchange.py    export, import                                  overoptimisation.py  overoptimisation label, curves
    planned.py     plan
    agents.py      mcp

Heavy imports happen inside the verbs, so that `ponder --help` and `ponder grade` answer at once.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one thread a process: two stall each other on small products

from ponder.cli import (  # they register their verbs
    agents,
    arena,
    banks,
    choosing,
    contest,
    exchange,
    fenced,
    measure,
    monitoring,
    overoptimisation,
    planned,
    policies,
    preferring,
    safety,
    serving,
    teach,
    tinkering,
    use,
)
from ponder.cli.app import app, main

__all__ = [
    "agents",
    "app",
    "arena",
    "banks",
    "choosing",
    "contest",
    "exchange",
    "fenced",
    "main",
    "measure",
    "monitoring",
    "overoptimisation",
    "planned",
    "policies",
    "preferring",
    "safety",
    "serving",
    "teach",
    "tinkering",
    "use",
]
