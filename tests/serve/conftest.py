"""One scripted server for the whole session; for the page one of its own, and a browser."""

from __future__ import annotations

import pytest

from ponder.engine.base import ScriptedEngine
from tests.serve import visiting
from tests.serve.serving import Served, script


@pytest.fixture(autouse=True)
def what_servers_log_is_captured_with_the_test_that_asked():
    """Between two tests nothing captures what the thread of a server that outlives them writes."""
    yield
    for served in list(Served.running):
        served.settle()


@pytest.fixture(scope="session")
def server():
    with Served(ScriptedEngine(script, portions=(1, 3, 7), window=20_000)) as served:
        yield served


@pytest.fixture(scope="module")
def page_server():
    with Served(ScriptedEngine(visiting.say, portions=(4,), pace=0.001)) as served:
        yield served


@pytest.fixture(scope="module")  # not longer: while playwright runs, no test in this thread can have an event loop
def browser():
    with visiting.sync_api.sync_playwright() as driver:
        # the sandbox refuses to run as root
        chromium = driver.chromium.launch(executable_path=visiting.BROWSER, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def visit(browser, page_server):
    """`visit(*scopes, width=..., scheme=...)`; afterwards nothing may have been blocked, injected or raised."""
    made = []

    def begin(*scopes, **options):
        made.append(visiting.Visit(browser, page_server, *scopes, **options))
        return made[-1]

    yield begin
    for each in made:
        pwned = each.page.evaluate("window.pwned")
        each.context.close()
        each.api.close()
        assert (each.bad, pwned) == ([], None)
