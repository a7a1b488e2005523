"""The page where several models are served: one chooses, a conversation keeps its own, and efforts are the model's."""

from __future__ import annotations

import pytest

from ponder.efforts import LEVELS, Efforts, Point
from ponder.engine.base import ScriptedEngine
from ponder.serve.served import ServedModel
from tests.serve import visiting
from tests.serve.serving import Served
from tests.serve.visiting import needs_browser

pytestmark = [pytest.mark.slow, needs_browser]

POINTS = [
    Point(max_reasoning_tokens=64 * k, n=1 if k < 4 else 2**k, tokens=1000.0 * k, accuracy=k / 10, low=0.05, high=0.9)
    for k in range(1, 7)
]
LONG = "owner/a-model-with-a-very-long-name-that-no-phone-has-a-place-for@main"


class Failing(ScriptedEngine):
    failure: str | None = None


@pytest.fixture(scope="module")
def page_server():
    efforts = Efforts(task="sums", num_problems=120, policy="p", levels=dict(zip(LEVELS, POINTS, strict=True)))
    engines = [Failing(visiting.say, portions=(4,), pace=0.0002) for _ in range(3)]
    models = [
        ServedModel(name="measured", engine=engines[0], efforts=efforts),
        ServedModel(name="plain", engine=engines[1]),
        ServedModel(name=LONG, engine=engines[2]),
    ]
    with Served(models=models) as server:
        yield server


def choice(me):
    return me.page.input_value("#model-choice")


def finished(me, number):
    me.page.wait_for_selector(f"article:nth-child({number})[data-status=completed]")


def test_one_chooses_and_the_conversation_keeps_it(visit):
    me = visit().enter()
    page = me.page
    assert not page.is_visible("#model") and choice(me) == "measured"
    offered = page.get_by_role("combobox", name="Model", exact=True).locator("option")
    assert offered.all_inner_texts() == ["measured", "plain", LONG]
    me.ask("one")
    finished(me, 1)
    page.focus("#model-choice")
    page.keyboard.press("ArrowDown")  # no mouse is needed
    assert choice(me) == "plain"
    me.ask("two")
    finished(me, 2)
    assert [turn["model"] for turn in me.responses()] == ["measured", "plain"]
    shown = [each.split(" · ")[0] for each in page.locator("article .meta").all_inner_texts()]
    assert shown == ["measured", "plain"]
    kept = page.url
    page.click("#new")
    assert choice(me) == "plain"  # the last one that was chosen
    page.select_option("#model-choice", "measured")
    me.ask("three")
    finished(me, 1)
    other = page.url
    for address, model in ((kept, "plain"), (other, "measured"), (kept, "plain")):
        page.goto(address)
        finished(me, 1)
        page.wait_for_function("name => document.getElementById('model-choice').value === name", arg=model)
    page.reload()
    finished(me, 2)
    assert choice(me) == "plain"
    with page.expect_response(lambda response: response.request.method == "POST"):
        page.select_option("#model-choice", LONG)  # chosen, and nothing asked of it yet
    another = visit("read", "infer")  # of another owner: it sees neither the conversation nor the choice
    another.enter()
    assert choice(another) == "measured"
    page.reload()
    finished(me, 2)
    assert choice(me) == LONG
    page.locator("#list li", has=page.locator("[aria-current]")).hover()
    page.get_by_role("button", name="Rename one").click()
    page.get_by_label("New name").fill("renamed")
    page.keyboard.press("Enter")
    page.wait_for_selector("#title:text('renamed')")
    metadata = me.api.get(f"/v1/conversations/{page.url.partition('#')[2]}").json()["metadata"]
    assert metadata == {"title": "renamed", "model": LONG}


def test_a_conversation_of_another_client_goes_on_with_the_model_of_its_last_answer(visit):
    me = visit().enter()
    made = me.api.post("/v1/conversations", json={}).json()["id"]
    me.api.post("/v1/responses", json={"model": "plain", "conversation": made, "input": "hello"})
    me.page.goto(f"{me.server.url}/#{made}")
    finished(me, 1)
    assert choice(me) == "plain"
    gone = me.api.post("/v1/conversations", json={"metadata": {"model": "served-no-more"}}).json()["id"]
    me.page.goto(f"{me.server.url}/#{gone}")
    me.page.wait_for_selector("#title:text('Untitled')")
    me.ask("who is there?")
    finished(me, 1)
    assert me.responses()[0]["model"] == choice(me) == "measured"


def test_an_effort_shows_what_it_was_measured_to_give_and_to_cost(visit):
    me = visit().enter()
    page = me.page
    page.select_option("#effort", "low")
    assert page.inner_text("#worth") == "20 % right, 2,000 tokens"
    assert page.get_attribute("#effort", "aria-describedby") == "worth"
    page.select_option("#mode", "consensus")  # was measured as one sample
    assert page.inner_text("#worth") == ""
    page.select_option("#effort", "max")
    assert page.inner_text("#worth") == "60 % right, 6,000 tokens"
    page.click("#worths-open")  # all of them beside each other
    assert page.inner_text("#worths-what").startswith("measured, on 120 problems of sums.")
    rows = [row.split("\t") for row in page.locator("#worths tbody tr").all_inner_texts()]
    assert [row[0] for row in rows] == ["None", "Minimal", "Low", "Medium", "High", "Extra high", "Max"]
    assert rows[2] == ["Low", "20 % (5–90)", "2,000", "128", "1"]
    assert rows[6] == ["Max", "60 % (5–90)", "6,000", "384", "Consensus of 64"]
    page.keyboard.press("Escape")
    assert not page.is_visible("#worths") and page.evaluate("document.activeElement.id") == "worths-open"
    page.select_option("#effort", "none")
    assert page.inner_text("#worth") == ""
    page.select_option("#model-choice", "plain")
    page.select_option("#effort", "max")
    assert page.inner_text("#worth") == ""
    assert page.eval_on_selector_all("#mode option", "all => all.map(one => one.value)")[0] == "standard"


def test_a_model_that_is_out_of_order_is_said_to_be_and_another_answers(visit):
    me = visit().enter()
    me.server.service.models["measured"].engine.failure = "gone"
    try:
        me.ask("hello")
        me.page.wait_for_selector("#notice:visible")
        assert "'measured' is out of order" in me.page.inner_text("#notice")
        assert "Choose another model" in me.page.inner_text("#notice")
        assert me.page.input_value("#question") == "hello"
        me.page.select_option("#model-choice", "plain")
        me.page.press("#question", "Enter")
        finished(me, 1)
    finally:
        me.server.service.models["measured"].engine.failure = None


def test_on_a_phone_too_one_sees_what_an_effort_costs(visit):
    me = visit(width=320, height=640).enter()
    page = me.page
    page.select_option("#effort", "max")
    assert page.inner_text("#worth") == "60 % right, 6,000 tokens"
    send, effort = (page.locator(name).bounding_box() for name in ("#send", "#effort"))
    assert abs(send["y"] + send["height"] / 2 - effort["y"] - effort["height"] / 2) < 12  # in one row
    page.click("#worths-open")
    assert page.is_visible("#worths-rows tr >> nth=6") and not me.scrolls_sideways()
    page.click("#worths-close")
    assert not page.is_visible("#worths")


@pytest.mark.parametrize("width", [320, 1100])
def test_a_long_name_takes_no_more_than_its_place(visit, width):
    me = visit(width=width, height=640).enter()
    me.page.select_option("#model-choice", LONG)
    me.ask("hello")
    finished(me, 1)
    assert not me.scrolls_sideways()
    box = me.page.locator("#model-choice").bounding_box()
    assert 60 < box["width"] < width / 2 and box["x"] + box["width"] <= width
