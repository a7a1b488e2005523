"""The page in a real browser: the key, questions and answers, and what outlives a reload or a broken connection."""

from __future__ import annotations

import math
import re

import pytest

from ponder.serve.terminal import duration
from tests.serve.visiting import needs_browser

pytestmark = [pytest.mark.slow, needs_browser]


# --- the key -------------------------------------------------------------------------------------------------------


def test_a_wrong_key_is_told_in_words_and_a_right_one_is_kept_out_of_the_address(visit):
    me = visit()
    page = me.page
    page.goto(me.server.url)
    for wrong in ("sk-wrong", "schlüssel", "a b"):
        page.fill("#key", wrong)
        page.press("#key", "Enter")
        page.wait_for_selector("#key-problem strong")
        assert "not accepted" in page.inner_text("#key-problem") and page.is_visible("#key")
    me.enter()
    stored = "[sessionStorage.getItem('ponder.key'), localStorage.getItem('ponder.key')]"
    page.reload()
    page.wait_for_selector("#question:visible")
    assert page.evaluate(stored) == [me.key, None] and me.key not in page.url
    page.click("#leave")
    assert page.evaluate(stored) == [None, None]
    page.check("#remember")
    page.fill("#key", me.key)
    page.press("#key", "Enter")
    page.wait_for_selector("#question:visible")
    assert page.evaluate(stored) == [None, me.key]


def test_a_key_without_the_scope_is_told_so_and_the_question_is_not_lost(visit):
    me = visit("read").enter()
    me.ask("hello")
    me.page.wait_for_selector("#notice:visible")
    assert "may not do that" in me.page.inner_text("#notice") and "infer" in me.page.inner_text("#notice")
    assert me.page.input_value("#question") == "hello"


# --- asking --------------------------------------------------------------------------------------------------------


def test_an_answer_comes_with_the_servers_thinking_time_a_summary_and_tokens(visit):
    me = visit().enter()
    assert me.page.inner_text("#model") == "scripted" and not me.page.is_visible("#model-choice")
    me.ask("slow, please", effort="max")
    me.thinking()
    assert re.match(r"Thinking… \d+ s", me.last.locator(".thought-label").inner_text())
    me.until("completed")
    (response,) = me.responses()
    seconds = response["output"][0]["thinking_seconds"]
    assert me.last.locator(".thought-label").inner_text() == f"Thought for {math.floor(seconds + 0.5)} s"
    assert not me.last.locator(".part").first.is_visible()
    me.last.locator("summary").click()
    assert "Taking <b>steps</b>" in me.last.locator(".part").first.inner_text()
    assert me.last.locator(".answer").inner_text() == "The slow answer."
    usage = response["usage"]
    thought = usage["output_tokens_details"]["reasoning_tokens"]
    assert me.last.locator(".meta").inner_text() == (
        f"{usage['input_tokens']} tokens in · {thought:,} thinking · {usage['output_tokens'] - thought} answer"
    )
    assert "SECRETTHOUGHT" not in me.page.content()


def test_the_page_and_the_terminal_round_a_time_alike(visit):
    page = visit().enter().page
    times = [0.0, 0.49, 0.5, 1.49, 1.5, 2.5, 3.5, 59.49, 59.5, 60.5, 119.5, 150.0]
    shown = page.evaluate(f"import('/web/state.js').then(state => {times}.map(state.duration))")
    spelled = [re.sub(r"(\d) seconds?$", r"\1 s", duration(seconds)) for seconds in times]
    assert shown == spelled and shown[5] == "3 s"


def test_the_next_question_belongs_to_the_same_conversation(visit):
    me = visit().enter()
    me.ask("one")
    me.until("completed")
    answer = me.last.locator(".answer")
    assert answer.locator("strong").inner_text() == "42" and "2*3*7" in answer.inner_text()
    assert answer.locator("ol > li").all_inner_texts() == ["one", "two"]
    me.ask("two")
    me.page.wait_for_selector("article:nth-child(2)[data-status=completed]")
    assert [turn["input"][0]["content"][0]["text"] for turn in me.responses()] == ["one", "two"]
    assert me.page.locator("#list li").count() == 1 and me.page.inner_text("#title") == "one"


def test_efforts_and_modes_are_those_of_the_server_and_are_sent(visit):
    me = visit().enter()
    model = me.api.get("/v1/models").json()["data"][0]
    values = "options => options.map(option => option.value)"
    assert me.page.eval_on_selector_all("#effort option", values) == list(model["efforts"]["levels"])
    assert me.page.eval_on_selector_all("#mode option", values) == model["modes"]
    me.page.select_option("#mode", "consensus")
    me.ask("vote", effort="low")
    me.until("completed")
    assert me.last.locator(".answer").inner_text() == "42" and "8 samples" in me.last.locator(".meta").inner_text()
    compute = me.responses()[0]["compute"]
    assert (compute["effort"], compute["mode"]) == ("low", "consensus")


def test_a_stopped_turn_is_kept_and_marked(visit):
    me = visit().enter()
    me.ask("endless", effort="max")
    me.thinking()
    me.page.keyboard.press("Escape")
    me.until("cancelled")
    assert "You stopped this" in me.last.locator(".note").inner_text()
    me.page.reload()
    me.page.wait_for_selector("article[data-status=cancelled]")
    assert me.last.locator(".asked").inner_text() == "endless" and "Thought for" in me.last.inner_text()
    me.ask("and now")  # goes on after it
    me.until("completed")
    me.ask("endless", effort="max")
    me.page.click("#stop")  # the button, perhaps before the server has answered at all
    me.until("cancelled")
    assert me.page.evaluate("document.activeElement.id") == "question"


def test_answer_now_ends_the_thinking(visit):
    me = visit().enter()
    me.ask("endless", effort="max")
    me.thinking()
    me.page.get_by_role("button", name="Answer now").click()
    me.until("completed")
    assert me.last.locator(".answer").inner_text() == "The slow answer."
    assert "answered at once" in me.last.locator(".thought-label").inner_text()
    assert me.responses()[0]["compute"]["answered_early"]


def test_what_fails_says_so_and_can_be_tried_again(visit):
    me = visit().enter()
    me.ask("fail")
    me.until("failed")
    assert "failed to produce" in me.last.locator(".note").inner_text()
    me.page.reload()
    me.page.get_by_role("button", name="Try again").click()
    me.page.wait_for_selector("article:nth-child(2)[data-status=failed]")


# --- what outlives the page ----------------------------------------------------------------------------------------


def test_a_reload_shows_the_conversation_and_takes_up_what_runs(visit):
    me = visit().enter()
    me.ask("first")
    me.until("completed")
    me.ask("endless", effort="max")
    me.thinking()
    me.page.wait_for_timeout(1100)
    me.page.reload()
    me.thinking()
    # counted from when it began at the server, not from the reload
    assert int(re.search(r"(\d+) s", me.last.locator(".thought-label").inner_text())[1]) >= 1
    assert me.page.locator("article").first.locator(".answer").inner_text().startswith("The answer is 42")
    me.page.get_by_role("button", name="Answer now").click()
    me.until("completed")
    assert me.last.locator(".answer").inner_text() == "The slow answer."
    assert len(me.responses()) == 2


def test_a_broken_connection_is_taken_up_where_it_broke(visit):
    me = visit().enter()
    me.ask("slow", effort="max")
    me.thinking()

    def cut():
        for connection in list(me.server._server.server_state.connections):
            connection.transport.abort()

    me.server.loop.call_soon_threadsafe(cut)
    me.page.get_by_text("The connection broke").wait_for()
    me.until("completed")
    assert me.last.locator(".answer").inner_text() == "The slow answer."
    assert me.last.locator(".part").count() == len(me.responses()[0]["output"][0]["summary"])


def test_a_server_that_is_gone_is_told_and_the_question_is_not_lost(visit):
    me = visit().enter()
    me.context.set_offline(True)
    me.ask("anybody there?")
    me.page.wait_for_selector("#notice:visible")
    assert "cannot be reached" in me.page.inner_text("#notice")
    assert me.page.input_value("#question") == "anybody there?"
    me.context.set_offline(False)
    me.page.press("#question", "Enter")
    me.until("completed")


def test_conversations_are_listed_renamed_and_deleted_with_all_that_was_said(visit):
    me = visit().enter()
    page = me.page
    me.ask("alpha")
    me.until("completed")
    alpha, (response,) = page.url.partition("#")[2], me.responses()
    page.click("#new")
    assert page.is_visible("#blank")
    me.ask("beta")
    me.until("completed")
    assert page.locator("#list a").all_inner_texts() == ["beta", "alpha"]
    page.get_by_role("link", name="alpha").hover()  # brings the buttons out
    page.get_by_role("button", name="Rename alpha").click()
    page.get_by_label("New name").fill("<b>gamma</b>")
    page.keyboard.press("Enter")
    page.get_by_role("link", name="<b>gamma</b>").click()
    page.wait_for_selector("article .asked:text('alpha')")
    page.reload()
    page.wait_for_selector("article .asked:text('alpha')")
    assert page.inner_text("#title") == "<b>gamma</b>"
    page.go_back()
    page.wait_for_selector("article .asked:text('beta')")
    page.get_by_role("link", name="<b>gamma</b>").hover()
    page.get_by_role("button", name="Delete <b>gamma</b>").click()
    page.get_by_role("button", name="Delete", exact=True).click()
    page.wait_for_selector("#list li:nth-child(2)", state="detached")
    assert page.is_visible("article")  # another one is shown
    assert me.api.get(f"/v1/conversations/{alpha}").status_code == 404
    assert me.api.get(f"/v1/responses/{response['id']}").status_code == 404
