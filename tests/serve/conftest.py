"""One scripted server for the whole session; for the page one of its own, and a browser."""

from __future__ import annotations

import pytest

from ponder.engine.base import ScriptedEngine
from tests.serve import visiting
from tests.serve.serving import Served, script


def all_is_logged():
    """The end of a phase of a test, once its servers have logged what it asked for: between two phases nothing captures
    what the thread of a server writes."""
    try:
        return (yield)
    finally:
        for served in list(Served.running):
            served.settle()


innermost = pytest.hookimpl(wrapper=True, trylast=True)  # inside of pytest's own, which captures


@innermost
def pytest_runtest_setup():
    return (yield from all_is_logged())


@innermost
def pytest_runtest_call():
    return (yield from all_is_logged())


@innermost
def pytest_runtest_teardown():
    return (yield from all_is_logged())


@pytest.fixture(scope="session")
def server():
    with Served(ScriptedEngine(script, portions=(1, 3, 7), window=20_000)) as served:
        yield served


@pytest.fixture(scope="module")
def page_server():
    with Served(visiting.Unhurried()) as served:
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
