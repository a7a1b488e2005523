"""One scripted server for the whole session."""

from __future__ import annotations

import pytest

from ponder.engine.base import ScriptedEngine
from tests.serve.serving import Served, script


@pytest.fixture(scope="session")
def server():
    with Served(ScriptedEngine(script, portions=(1, 3, 7), window=20_000)) as served:
        yield served
