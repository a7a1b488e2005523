"""Real models, for tests that are run by hand: where a model lies that `ponder pull` has fetched.

    PONDER_TEST_MODELS=1 pytest tests/models/test_smollm2.py -s

Such a test takes minutes. What a run of the tests does must not depend on what happens to lie in a cache, so it is
asked for by name.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ponder.config import ConfigError
from ponder.models import named


def pulled(name: str) -> Path | None:
    """The folder of the model; None where it was not pulled or real models are not asked for."""
    if not os.environ.get("PONDER_TEST_MODELS"):
        return None
    try:
        return named.find(name)
    except ConfigError:
        return None


def needs(name: str) -> list[pytest.MarkDecorator]:
    """The marks of a file whose tests need the model."""
    reason = f"needs the real model, and to be asked: ponder pull {name}, then PONDER_TEST_MODELS=1 pytest ..."
    return [pytest.mark.slow, pytest.mark.skipif(pulled(name) is None, reason=reason), pytest.mark.timeout(3600)]
