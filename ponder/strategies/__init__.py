"""Strategies: ways of spending test-time compute. Each is an async function, see `types.Strategy`.

vote = STRATEGIES["consensus"]
solution = await vote(problem.prompt, engine, params=params, key=key, budget=Budget(max_samples=8))

select.py chooses among samples (pure functions), base.py counts costs and keeps to the budget, turns.py plays rollouts
of several turns, and the rest are the strategies. Each takes n in its own sense: samples, candidates a level,
simulations, versions.
"""

from __future__ import annotations

from ponder.strategies.base import flops
from ponder.strategies.controller import controlled
from ponder.strategies.deliberation_strategy import deliberate
from ponder.strategies.mcts import mcts
from ponder.strategies.sampling import adaptive, best_of_n, confident, consensus, judge, rerank, single, weighted
from ponder.strategies.sequential import forced, revise
from ponder.strategies.submit import submit
from ponder.strategies.tree import beam, dvts
from ponder.types import Strategy

__all__ = ["STRATEGIES", "consensus", "flops", "single"]

STRATEGIES: dict[str, Strategy] = {
    "single": single,
    "consensus": consensus,
    "adaptive": adaptive,
    "best_of_n": best_of_n,
    "weighted": weighted,
    "confident": confident,
    "rerank_vote": rerank,
    "judge": judge,
    "search": beam,
    "dvts": dvts,
    "mcts": mcts,
    "forced": forced,
    "revise": revise,
    "deliberate": deliberate,
    "controller": controlled,
    "submit": submit,
}
