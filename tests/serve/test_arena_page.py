"""The arena's page in a real browser: a whole battle, by keyboard, on a phone; no name on it before the vote."""

from __future__ import annotations

import pytest

from ponder.engine.base import ScriptedEngine
from ponder.serve.arena import ArenaSettings
from ponder.serve.served import ServedModel
from tests.serve import visiting
from tests.serve.serving import Served
from tests.serve.visiting import needs_browser

pytestmark = [pytest.mark.slow, needs_browser]

NAMES = {"zebrafish-7b", "quokka-with-a-rather-long-name-that-no-phone-has-a-place-for"}


AT_FIRST = """() => {
    const battle = document.getElementById("battle");
    const vote = document.querySelector("[data-choice=left]");
    const look = () => { if (!battle.hidden) window.atFirst ??= vote.disabled; };
    new MutationObserver(look).observe(battle, { attributes: true });
}"""


def terse(text, seed):
    return visiting.EVIL if "evil" in text else "42."


@pytest.fixture(scope="module")
def page_server(tmp_path_factory):
    engines = (ScriptedEngine(visiting.say), ScriptedEngine(terse, delay=0.05))
    models = [ServedModel(name=name, engine=each) for name, each in zip(sorted(NAMES), engines, strict=True)]
    log = tmp_path_factory.mktemp("arena") / "votes.jsonl"
    with Served(models=models, arena=ArenaSettings(log=log, dwell=0.3)) as server:
        yield server


def enter(me):
    me.page.goto(me.server.url + "/arena")
    me.page.fill("#key", me.key)
    me.page.press("#key", "Enter")
    me.page.wait_for_selector("#ask:visible")
    return me.page


def ask(page, text="What is 6*7?"):
    page.select_option("#domain", "mathematics")
    page.fill("#question", text)
    page.press("#question", "Enter")
    page.wait_for_selector("#battle:visible")


def focused(page):
    return page.evaluate("(({ id, dataset, tagName }) => id || dataset.choice || tagName)(document.activeElement)")


def test_a_whole_battle_from_the_keyboard_with_no_name_before_the_vote(visit):
    me = visit("vote")
    heard = []  # every byte that the server sends to this browser
    me.page.on("response", lambda answer: heard.append((answer.url, str(answer.headers), answer)))
    page = enter(me)
    assert focused(page) == "domain"
    page.evaluate(AT_FIRST)
    page.keyboard.press("Tab")
    page.keyboard.type("What is 6*7?")
    page.keyboard.press("Enter")
    assert page.is_hidden("#battle") and focused(page) == "domain"  # the browser asks for what it is about, first
    page.select_option("#domain", "mathematics")
    page.focus("#question")
    page.keyboard.press("Enter")
    page.wait_for_selector("#battle:visible")
    assert focused(page) == "battle-title"
    assert page.locator("#asked").inner_text() == "What is 6*7?"
    texts = {page.locator(f"#{side}").inner_text() for side in ("left", "right")}
    assert "42." in texts and any("as 2*3*7 is" in text for text in texts)
    assert not any(name in page.content() for name in NAMES)
    bodies = [answer.text() for url, _, answer in heard if "/arena/" in url]
    assert bodies and not any(name in body for name in NAMES for body in bodies)
    assert not any(name in headers or name in url for name in NAMES for url, headers, _ in heard)
    assert page.evaluate("window.atFirst") is True  # no vote before anybody can have read them
    page.wait_for_selector("[data-choice=left]:enabled")
    for _ in range(6):
        page.keyboard.press("Tab")
        if focused(page) == "right":
            break
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    page.keyboard.press("Enter")
    page.wait_for_selector("#done:visible")
    assert outline == "solid" and focused(page) == "done"
    assert {page.locator(f"#{side}-name").inner_text() for side in ("left", "right")} == NAMES
    assert "You said that B is better." in page.locator("#verdict").inner_text()
    assert page.locator("#announce").inner_text() == page.locator("#verdict").inner_text()
    page.focus("#undo")
    page.keyboard.press("Enter")
    page.wait_for_selector("#verdict:has-text('withdrawn')")
    page.focus("#again")
    page.keyboard.press("Enter")
    assert page.is_hidden("#battle") and page.is_visible("#ask") and focused(page) == "domain"
    ask(page)  # and nothing of the last one is left
    assert not any(name in page.content() for name in NAMES)


def test_a_battle_outlives_a_reload_and_a_vote_in_another_tab(visit):
    me = visit("vote")
    page = enter(me)
    ask(page)
    before = page.locator("#battle").inner_text()
    page.reload()
    page.wait_for_selector("#battle:visible")
    page.wait_for_selector("[data-choice=left]:enabled")
    assert page.locator(".sides").inner_text() in before and not any(name in page.content() for name in NAMES)
    battle = page.url.partition("#")[2]
    assert me.api.post(f"/arena/battles/{battle}/vote", json={"choice": "tie"}).status_code == 200
    page.click("[data-choice=left]")
    page.wait_for_selector("#done:visible")
    assert "equally good" in page.locator("#verdict").inner_text()  # the vote that counts, not this one
    page.reload()
    page.wait_for_selector("#done:visible")
    assert all(name in page.locator("#verdict").inner_text() for name in NAMES)


def test_what_a_model_writes_is_text_and_a_failure_is_told(visit):
    page = enter(visit("vote"))
    ask(page, "evil")
    assert page.locator(".answer").locator("script, img, a, b, i, svg, [onclick], [onerror]").count() == 0
    assert page.locator(".sides").inner_text().count("<script>window.pwned = 1</script>") == 2
    page.goto(page.url.partition("#")[0])
    page.wait_for_selector("#ask:visible")
    page.select_option("#domain", "mathematics")
    page.fill("#question", "fail")
    page.press("#question", "Enter")
    page.wait_for_selector("#notice:visible")
    assert "No two answers" in page.locator("#notice").inner_text() and page.is_hidden("#battle")
    assert page.input_value("#question") == "fail" and page.is_enabled("#send")


@pytest.mark.parametrize(("width", "scheme"), [(320, "light"), (390, "dark"), (1280, "light")])
def test_it_fits_a_phone_and_a_desk(visit, width, scheme):
    me = visit("vote", width=width, height=780, scheme=scheme)
    page = enter(me)
    ask(page, "wide")
    page.wait_for_selector("[data-choice=tie]:enabled")
    assert not me.scrolls_sideways()
    boxes = [page.locator(f"#{side}").bounding_box() for side in ("left", "right")]
    assert (boxes[0]["y"] < boxes[1]["y"]) == (width < 700)
    page.click("[data-choice=tie]")
    page.wait_for_selector("#done:visible")
    assert not me.scrolls_sideways()
    nameless = """nodes => nodes.filter(node => !(node.getAttribute("aria-label") || node.textContent.trim()
        || node.labels?.length)).map(node => node.outerHTML)"""
    assert page.eval_on_selector_all("button, a, input, select, textarea", nameless) == []
    small = "nodes => nodes.filter(n => n.offsetParent && n.getBoundingClientRect().height < 24).map(n => n.outerHTML)"
    assert page.eval_on_selector_all("#main button, #main select", small) == []


def test_nothing_moves_for_who_wants_no_motion(visit):
    me = visit("vote")
    me.page.emulate_media(reduced_motion="reduce")
    page = enter(me)
    moving = "nodes => nodes.filter(n => getComputedStyle(n).animationName !== 'none').map(n => n.id)"
    assert page.eval_on_selector_all("*", moving) == []
    me.page.emulate_media(reduced_motion="no-preference")
    assert page.eval_on_selector_all("#waiting", moving) == ["waiting"]
