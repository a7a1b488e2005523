"""The samples on a report's page, leafed through in a real browser: what is chosen is shown, and no script does it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_run import fingerprint, make_run, open_engine

from ponder.engine.base import ScriptedEngine
from ponder.evals.exams import run_exam
from ponder.evals.report import report
from ponder.evals.scaling import scale
from ponder.types import SamplingParams
from tests.serve import visiting
from tests.serve.visiting import needs_browser

pytestmark = [pytest.mark.slow, needs_browser]
pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("reports")


@pytest.fixture
def pages(folder: Path, make_task: Callable[..., Any]) -> dict[str, Path]:
    """The reports of an exam and of a run, made once."""
    if not (folder / "exam").exists():
        options: dict[str, Any] = {"model": "m", "num_samples": 4, "params": SamplingParams(), "out": folder / "exam"}
        asyncio.run(run_exam(make_task(4), ScriptedEngine([("<b>hm</b>", "1"), ("hm", "2"), ("", "?")]), **options))
        make_run(folder / "run", (0, 40))
        options = {"num_samples": 8, "checkpoint_samples": 4, "params": SamplingParams(), "fingerprint": fingerprint}
        asyncio.run(scale(folder / "run", task=make_task(12), open_engine=open_engine, **options))
    return {name: report(folder / name) for name in ("exam", "run")}


@pytest.fixture
def chromium(pages: dict[str, Path]) -> Any:  # after the pages: while playwright runs, this thread has an event loop
    with visiting.sync_api.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=visiting.BROWSER, args=["--no-sandbox"])
        yield started
        started.close()


def opened(chromium: Any, path: Path, **options: Any) -> Any:
    page = chromium.new_page(java_script_enabled=False, **options)
    page.goto(f"file://{path}")
    return page


def entries(page: Any) -> Any:
    return page.locator(".entry").locator("visible=true")


def choose(page: Any, label: str) -> None:
    page.locator(".browser label", has_text=label).click()


def told(page: Any) -> list[tuple[float, float]]:
    """The share of right samples, before and after, of each problem that is shown."""
    texts = page.locator(".entry .told").locator("visible=true").all_inner_texts()
    found = [re.fullmatch(r"(\d+) of (\d+) right → (\d+) of (\d+) right", text) for text in texts]
    return [(int(each[1]) / int(each[2]), int(each[3]) / int(each[4])) for each in found if each]


def test_problems_are_chosen_by_how_often_and_samples_by_whether_they_were_right(pages, chromium) -> None:
    page = opened(chromium, pages["exam"])
    assert entries(page).count() == 4
    mixed = page.locator(".browser label", has_text="sometimes right").inner_text()
    choose(page, "sometimes right")
    assert entries(page).count() == int(mixed.partition("(")[2].rstrip(")")) > 0
    assert entries(page).count() == page.locator(".entry.mixed").count()
    entries(page).first.locator("summary").click()
    samples = entries(page).first.locator(".sample")
    assert samples.locator("visible=true").count() == 4
    for label, verdict in (("right", "correct"), ("wrong", "wrong")):
        page.locator(f"label[for=only-{verdict}]").click()
        assert page.locator(f"label[for=only-{verdict}]").inner_text() == label
        shown = samples.locator("visible=true")
        assert 0 < shown.count() < 4
        assert all(verdict in each.get_attribute("class").split() for each in shown.all())
    choose(page, "never right")  # both hold
    assert entries(page).count() == page.locator(".entry.never:has(.sample.wrong)").count()


def test_before_and_after_stand_side_by_side_and_what_changed_can_be_chosen(pages, chromium) -> None:
    page = opened(chromium, pages["run"], viewport={"width": 1100, "height": 800})
    assert len(told(page)) == 12
    choose(page, "better than before")
    gained = told(page)
    assert gained and all(before < after for before, after in gained)
    entry = entries(page).first
    entry.locator("summary").click()
    before, after = (entry.locator("h3", has_text=name) for name in ("before: ", "after: "))
    assert before.bounding_box()["y"] == after.bounding_box()["y"]
    assert after.inner_text() == f"after: {round(8 * gained[0][1])} of 8 right"


def test_a_phone_and_a_keyboard_can_leaf_through_it(pages, chromium) -> None:
    page = opened(chromium, pages["exam"], viewport={"width": 360, "height": 640})
    page.focus("#browse-all")
    page.keyboard.press("ArrowRight")
    assert page.locator("#browse-never").is_checked()
    entries(page).first.locator("summary").focus()
    page.keyboard.press("Enter")
    assert entries(page).first.get_attribute("open") is not None
