"""Strategies: ways of spending test-time compute. Each is an async function, see `types.Strategy`.

vote = STRATEGIES["consensus"]
solution = await vote(problem.prompt, engine, params=params, key=key, budget=Budget(max_samples=8))
"""

from __future__ import annotations

from ponder.strategies.sampling import consensus, single
from ponder.types import Strategy

STRATEGIES: dict[str, Strategy] = {"single": single, "consensus": consensus}
