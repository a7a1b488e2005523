"""What one does with an answer on the page: copy it, have it again, ask otherwise, and see the reasoning if one may."""

from __future__ import annotations

import pytest

from ponder.engine.base import ScriptedEngine
from tests.serve import visiting
from tests.serve.serving import Served
from tests.serve.visiting import needs_browser

pytestmark = [pytest.mark.slow, needs_browser]


@pytest.fixture(scope="module")
def page_server():
    with Served(ScriptedEngine(visiting.say, portions=(4,)), show_reasoning=True) as server:
        yield server


def asked(me):
    return me.page.locator("article .asked").all_inner_texts()


def test_an_answer_is_copied_as_it_was_written(visit):
    me = visit().enter()
    me.context.grant_permissions(["clipboard-read", "clipboard-write"])
    me.ask("one")
    me.until("completed")
    me.last.get_by_role("button", name="Copy").click()
    me.last.get_by_role("button", name="Copied").wait_for()
    assert me.page.evaluate("navigator.clipboard.readText()").startswith("The answer is **42**, as 2*3*7 is.")


def test_the_last_answer_is_made_again_in_its_place(visit):
    me = visit().enter()
    for question in ("one", "two"):
        me.ask(question)
        me.until("completed")
    first, second = [turn["id"] for turn in me.responses()]
    assert me.page.get_by_role("button", name="Regenerate").locator("visible=true").count() == 1
    me.last.get_by_role("button", name="Regenerate").click()
    me.page.wait_for_function("() => document.querySelectorAll('article.turn').length === 2")
    me.until("completed")
    again = [turn["id"] for turn in me.responses()]
    assert again[0] == first and len(again) == 2 and again[1] != second
    assert asked(me) == ["one", "two"]


def test_an_edited_question_replaces_itself_and_what_came_after_once_it_is_sent(visit):
    me = visit().enter()
    for question in ("one", "two", "three"):
        me.ask(question)
        me.until("completed")
    me.page.locator("article:nth-child(2)").get_by_role("button", name="Edit").click()
    assert me.page.input_value("#question") == "two"
    assert "replaces this question and the turn after it" in me.page.inner_text("#editing")
    me.page.get_by_role("button", name="Cancel").click()
    assert asked(me) == ["one", "two", "three"] and me.page.input_value("#question") == ""
    me.page.locator("article:nth-child(2)").get_by_role("button", name="Edit").click()
    me.ask("zwei")
    me.page.wait_for_function("() => document.querySelectorAll('article.turn').length === 2")
    me.until("completed")
    assert asked(me) == ["one", "zwei"] and len(me.responses()) == 2
    me.page.reload()
    me.page.wait_for_selector("article:nth-child(2)[data-status=completed]")
    assert asked(me) == ["one", "zwei"]


def test_reasoning_is_on_the_page_for_who_may_see_it_and_only_when_asked_for(visit):
    me = visit("infer", "admin").enter()
    me.ask("one")
    me.until("completed")
    assert "SECRETTHOUGHT" not in me.page.content()
    me.last.get_by_role("button", name="Show the reasoning").click()
    me.page.wait_for_selector("article .raw:visible")
    assert "SECRETTHOUGHT" in me.last.locator(".raw").inner_text()
    me.last.get_by_role("button", name="Hide the reasoning").click()
    assert not me.page.is_visible("article .raw")


def test_a_key_without_the_scope_has_no_button_for_it(visit):
    me = visit().enter()
    me.ask("one")
    me.until("completed")
    assert me.last.get_by_role("button", name="Copy").is_visible()
    assert not me.last.get_by_role("button", name="Show the reasoning").is_visible()
    assert "SECRETTHOUGHT" not in me.page.content()
