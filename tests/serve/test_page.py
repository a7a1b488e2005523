"""The page in a real browser: what a person sees and does, and what a model's text cannot do to it.

Needs Chromium (`apt-get install chromium`, or any Chrome) and playwright (`pip install "ponder[dev]"`), not the
browsers that playwright would download. Without them everything here is skipped, with a warning.
"""

from __future__ import annotations

import re
import shutil
import warnings

import httpx
import pytest

from ponder.engine.base import ScriptedEngine
from tests.serve.serving import Served

try:
    from playwright import sync_api
except ImportError:
    sync_api = None
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
BROWSER = next(filter(None, map(shutil.which, NAMES)), None)
MISSING = 'playwright: pip install "ponder[dev]"' if sync_api is None else "Chromium: apt-get install chromium"
WHY = f"THE PAGE IS NOT TESTED, for want of {MISSING}"
IS_MISSING = sync_api is None or BROWSER is None
pytestmark = pytest.mark.skipif(IS_MISSING, reason=WHY)
if IS_MISSING:
    warnings.warn(WHY, stacklevel=1)

EVIL = (
    "<script>window.pwned = 1</script><img src=x onerror='window.pwned = 2'>\n\n"
    "[click](javascript:window.pwned=3) **<b onclick='window.pwned=4'>bold</b>** `<i>code</i>`\n\n"
    "- <svg onload=window.pwned=5>\n\n```html\n</code></pre><script>window.pwned = 6</script>\n```\n"
)
THOUGHT = "SECRETTHOUGHT one step follows another and so on it goes.\n"


def say(text, seed):
    """A model by words of the question."""
    if "Below are notes" in text:
        return "**Taking <b>steps</b>**\n\nGoes <img src=x onerror='window.pwned=7'> on."
    if "fail" in text:
        raise RuntimeError("the script fails")
    if "evil" in text:
        return THOUGHT * 40, EVIL
    if "wide" in text:
        return THOUGHT, "w" * 600 + "\n\n```\n" + "c" * 300 + "\n```"
    if "vote" in text:
        return THOUGHT, ("41", "42", "42")[seed % 3]
    if "deceive" in text:
        return "I will deceive the user about it.\n" + THOUGHT, "Fine."
    if "slow" in text:
        return THOUGHT * 80, "The slow answer."
    return THOUGHT * 3, "The answer is **42**, as 2*3*7 is.\n\n1. one\n2. two\n\nDone."


@pytest.fixture(scope="module")
def server():
    with Served(ScriptedEngine(say, portions=(4,), pace=0.001)) as served:
        yield served


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])  # root cannot sandbox
        yield chromium
        chromium.close()


class Visit:
    """One person with a key at a browser of his own."""

    def __init__(self, browser, server, *scopes, width=1100, height=760, scheme="light"):
        self.server = server
        self.key = server.key(*(scopes or ("infer",)))
        self.context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        self.context.set_default_timeout(15_000)
        # what the browser blocked, and what went wrong in our scripts
        self.bad: list[str] = []
        self.page = self.context.new_page()
        self.page.on("console", lambda said: self.bad.append(said.text) if "Content Security" in said.text else None)
        self.page.on("pageerror", lambda error: self.bad.append(str(error)))
        self.api = httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {self.key}"}, timeout=20)

    def enter(self, path="/"):
        self.page.goto(self.server.url + path)
        self.page.fill("#key", self.key)
        self.page.press("#key", "Enter")
        self.page.wait_for_selector("#question")
        return self

    def ask(self, text, effort=None):
        if effort:
            self.page.select_option("#effort", effort)
        self.page.fill("#question", text)
        self.page.press("#question", "Enter")

    @property
    def last(self):
        return self.page.locator("article.turn").last

    def until(self, status):
        self.page.wait_for_selector(f"article.turn:last-child[data-status={status}]")
        self.page.wait_for_selector("#send:visible")

    def thinking(self):
        self.page.wait_for_selector("article.turn:last-child .thought.live")

    def responses(self):
        conversation = self.page.url.partition("#")[2]
        return self.api.get(f"/v1/conversations/{conversation}/responses").json()["data"]

    def scrolls_sideways(self):
        return self.page.evaluate("document.documentElement.scrollWidth > innerWidth")


@pytest.fixture
def visit(browser, server):
    """`visit(*scopes, width=..., scheme=...)`; afterwards nothing may have been blocked, injected or raised."""
    made = []

    def begin(*scopes, **options):
        made.append(Visit(browser, server, *scopes, **options))
        return made[-1]

    yield begin
    for each in made:
        pwned = each.page.evaluate("window.pwned")
        each.context.close()
        each.api.close()
        assert (each.bad, pwned) == ([], None)


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
    assert me.page.inner_text("#model") == "scripted"
    me.ask("slow, please", effort="max")
    me.thinking()
    assert re.match(r"Thinking… \d+ s", me.last.locator(".thought-label").inner_text())
    me.until("completed")
    (response,) = me.responses()
    seconds = response["output"][0]["thinking_seconds"]
    assert me.last.locator(".thought-label").inner_text() == f"Thought for {round(seconds)} s"
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
    me.ask("slow", effort="max")
    me.thinking()
    me.page.keyboard.press("Escape")
    me.until("cancelled")
    assert "You stopped this" in me.last.locator(".note").inner_text()
    me.page.reload()
    me.page.wait_for_selector("article[data-status=cancelled]")
    assert me.last.locator(".asked").inner_text() == "slow" and "Thought for" in me.last.inner_text()
    me.ask("and now")  # goes on after it
    me.until("completed")
    me.ask("slow", effort="max")
    me.page.click("#stop")  # the button, perhaps before the server has answered at all
    me.until("cancelled")
    assert me.page.evaluate("document.activeElement.id") == "question"


def test_answer_now_ends_the_thinking(visit):
    me = visit().enter()
    me.ask("slow", effort="max")
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
    me.ask("slow", effort="max")
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
    page.keyboard.type("slow")
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
    me.ask("wide " + "q" * 300)
    me.until("completed")
    me.last.locator("summary").click()
    me.ask("slow", effort="max")
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
