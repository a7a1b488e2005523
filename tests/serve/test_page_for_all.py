"""The page in a real browser: what a model's text cannot do to it; keyboard, screen reader, phone, light and dark; the
administrator's view."""

from __future__ import annotations

import re

import pytest

from tests.serve.visiting import needs_browser

pytestmark = [pytest.mark.slow, needs_browser]


# --- what a model says is text -------------------------------------------------------------------------------------


def test_what_a_model_or_a_user_writes_is_never_markup(visit):
    me = visit().enter()
    me.ask("evil <img src=x onerror='window.pwned=8'>", effort="max")
    me.until("completed")
    me.last.locator("summary").click()
    me.page.wait_for_timeout(100)
    turn = me.last
    assert turn.locator("script, img, a, b, i, svg[onload], [onclick], [onerror]").count() == 0
    said = turn.locator(".answer").inner_text()
    for piece in ("<script>window.pwned = 1</script>", "[click](javascript:window.pwned=3)", "</code></pre><script>"):
        assert piece in said
    assert turn.locator(".asked").inner_text() == "evil <img src=x onerror='window.pwned=8'>"
    assert "onerror" in turn.locator(".part").first.inner_text()
    me.page.reload()
    me.page.wait_for_selector("article[data-status=completed]")
    assert me.page.locator("#turns img, #turns script, #list img, #title img").count() == 0


def test_the_policy_would_stop_a_script_that_got_in(visit):
    me = visit().enter()
    me.page.evaluate("""() => {
        const holder = document.createElement("div");
        holder.innerHTML = "<img src=x onerror='window.pwned = 9'>";
        const script = document.createElement("script");
        script.textContent = "window.pwned = 10";
        document.body.append(holder, script);
    }""")
    me.page.wait_for_timeout(200)
    assert len(me.bad) >= 2 and me.page.evaluate("window.pwned") is None
    me.bad.clear()


# --- for everybody -------------------------------------------------------------------------------------------------


def test_everything_can_be_done_from_the_keyboard(visit):
    me = visit()
    page = me.page
    page.goto(me.server.url)
    page.keyboard.type(me.key)  # the field has the focus
    page.keyboard.press("Enter")
    page.wait_for_selector("#question:focus")
    page.keyboard.type("line one")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("line two")
    page.keyboard.press("Enter")
    me.until("completed")
    assert me.last.locator(".asked").inner_text() == "line one\nline two"
    seen = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        seen.add(page.evaluate("document.activeElement.id || document.activeElement.tagName"))
        if page.evaluate("document.activeElement.matches('summary')"):
            outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            page.keyboard.press("Enter")
            break
    assert outline == "solid" and me.last.locator(".part").first.is_visible()
    assert {"effort", "mode", "send", "skip", "new", "theme", "leave", "log"} <= seen
    conversation = page.url
    page.focus("#skip")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "question" and page.url == conversation
    page.keyboard.type("endless")
    page.select_option("#effort", "max")
    page.focus("#question")
    page.keyboard.press("Enter")
    me.thinking()
    page.keyboard.press("Escape")
    me.until("cancelled")


def test_controls_have_names_and_a_screen_reader_hears_whole_things(visit):
    me = visit().enter()
    me.page.evaluate("""() => {
        window.heard = [];
        new MutationObserver(() => heard.push(document.getElementById("announce").textContent))
            .observe(document.getElementById("announce"), { childList: true });
    }""")
    me.ask("slow", effort="high")
    me.until("completed")
    me.page.wait_for_timeout(200)
    heard = me.page.evaluate("window.heard")
    assert heard[0] == "Thinking" and heard[-1].startswith("The slow answer.") and "Thought for" in heard[-1]
    assert len(heard) <= 4
    nameless = """nodes => nodes.filter(node => !(node.getAttribute("aria-label") || node.textContent.trim()
        || node.labels?.length)).map(node => node.outerHTML)"""
    assert me.page.eval_on_selector_all("button, a, input, select, textarea", nameless) == []
    assert me.page.locator(".answer[aria-live], #log[aria-live]").count() == 0
    assert me.last.locator(".parts").get_attribute("aria-live") == "polite"
    for role, name in (("navigation", "Conversations"), ("region", "Conversation"), ("textbox", "Your question")):
        assert me.page.get_by_role(role, name=name, exact=True).count() == 1


CONTRAST = """selector => {
    const parse = (colour) => colour.match(/[\\d.]+/g).map(Number);
    const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
        .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
    const node = document.querySelector(selector);
    let under = node;
    while (under && (parse(getComputedStyle(under).backgroundColor)[3] ?? 1) === 0) under = under.parentElement;
    const [a, b] = [getComputedStyle(node).color, getComputedStyle(under ?? document.body).backgroundColor]
        .map(colour => light(parse(colour))).sort((x, y) => y - x);
    return (a + 0.05) / (b + 0.05);
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark_follow_the_system_or_the_button_and_can_be_read(visit, scheme):
    me = visit(scheme=scheme).enter()
    me.ask("fail")
    me.until("failed")
    me.ask("x")
    me.until("completed")
    page = me.page

    def is_dark():
        return sum(map(int, re.findall(r"\d+", page.evaluate("getComputedStyle(document.body).backgroundColor")))) < 384

    seen = []
    for _ in range(3):
        seen.append((page.inner_text("#theme").removeprefix("Theme: "), is_dark()))
        for selector in (".answer p", ".asked", ".thought-label", ".meta", ".note.bad", "#model", "#hint", "#leave",
                         ".pick span", "#list a"):  # fmt: skip
            assert page.evaluate(CONTRAST, selector) >= 4.5, (seen, selector)
        page.click("#theme")
    assert seen == [("system", scheme == "dark"), ("light", False), ("dark", True)]


def test_a_phone_scrolls_down_only(visit):
    me = visit("infer", "admin", "raw_cot", width=360, height=640)
    page = me.page
    page.goto(me.server.url)
    page.wait_for_selector("#key")
    assert not me.scrolls_sideways()
    me.enter()
    assert not me.scrolls_sideways()
    assert page.evaluate("document.documentElement.scrollHeight <= innerHeight")  # what scrolls is the conversation
    me.ask("wide " + "q" * 300)
    me.until("completed")
    me.last.locator("summary").click()
    me.ask("endless", effort="max")
    me.thinking()
    assert not me.scrolls_sideways() and me.page.get_by_role("button", name="Answer now").is_visible()
    assert page.evaluate("document.getElementById('log').scrollWidth <= document.getElementById('log').clientWidth")
    assert not page.is_visible("#new")
    page.click("#side-open")
    page.wait_for_selector("#new:visible")
    assert not me.scrolls_sideways()
    page.keyboard.press("Escape")  # closes the list, and stops nothing
    page.wait_for_selector("#new", state="hidden")
    assert page.get_attribute("article:last-child", "data-status") == "in_progress"
    page.click("#stop")
    me.until("cancelled")
    page.goto(me.server.url + "/web/admin.html")
    page.fill("#admin-key", me.key)
    page.press("#admin-key", "Enter")
    page.wait_for_selector("#responses tr")
    assert not me.scrolls_sideways()


# --- the administrator ---------------------------------------------------------------------------------------------


def test_raw_reasoning_needs_the_scope_and_a_reason_which_the_log_keeps(visit):
    me = visit().enter()
    me.ask("deceive me")
    me.until("completed")
    (response,) = me.responses()
    stranger = visit("infer")
    chief = visit("admin", "raw_cot")
    for each, is_allowed in ((stranger, False), (chief, True)):
        page = each.page
        page.goto(each.server.url + "/web/admin.html")
        page.fill("#admin-key", each.key)
        page.press("#admin-key", "Enter")
        page.wait_for_selector("#look:visible")
        assert page.is_visible("#lists") == is_allowed
        page.fill("#look-id", response["id"])
        page.click("#look-form button[type=submit]")
        assert page.locator("#raw pre").count() == 0  # the browser asks for the reason
        page.fill("#look-reason", "     ")
        page.click("#look-form button[type=submit]")
        assert "Type a reason" in page.inner_text("#look-problem") and page.locator("#raw pre").count() == 0
        page.fill("#look-reason", "Somebody complained about it.")
        page.click("#look-form button[type=submit]")
        if not is_allowed:
            page.wait_for_selector("#look-problem strong")
            assert "raw_cot" in page.inner_text("#look-problem") and "SECRETTHOUGHT" not in page.content()
            continue
        page.wait_for_selector("#raw pre")
        assert "I will deceive the user" in page.inner_text("#raw pre") and "flag" in page.inner_text("#raw")
        page.wait_for_selector("#audit-rows tr")
        assert "Somebody complained about it." in page.inner_text("#audit-rows")
        assert "SECRETTHOUGHT" not in page.inner_text("#audit") and "deceive" not in page.inner_text("#lists")
        row = page.locator("#responses tr", has=page.get_by_label(f"Choose {response['id']}"))
        assert "1 flag" in row.inner_text()
        page.check("#only-flagged")
        assert row.count() == 1
        assert page.input_value("#look-reason") == ""
    log = chief.api.get("/admin/audit").text
    assert log.count("Somebody complained about it.") == 1 and "SECRETTHOUGHT" not in log
    assert chief.page.evaluate("JSON.stringify([localStorage, sessionStorage])").count(chief.key) == 0


def test_a_wrong_key_opens_nothing_for_an_administrator(visit):
    me = visit()
    me.page.goto(me.server.url + "/web/admin.html")
    me.page.fill("#admin-key", "sk-wrong")
    me.page.press("#admin-key", "Enter")
    me.page.wait_for_selector("#admin-problem strong")
    assert "not accepted" in me.page.inner_text("#admin-problem") and not me.page.is_visible("#look")
