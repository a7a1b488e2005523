"""The page's visitors: a person with a key at a real browser, and the scripted model that answers him.

Needs Chromium (`apt-get install chromium`, or any Chrome) and playwright (`pip install "ponder[dev]"`), not the
browsers that playwright would download. Without them the page's tests are skipped, with a warning.
"""

from __future__ import annotations

import copy
import shutil
import warnings

import httpx
import pytest

from ponder.engine.base import ScriptedEngine

try:
    from playwright import sync_api
except ImportError:
    sync_api = None
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
BROWSER = next(filter(None, map(shutil.which, NAMES)), None)
IS_MISSING = sync_api is None or BROWSER is None
MISSING = 'playwright: pip install "ponder[dev]"' if sync_api is None else "Chromium: apt-get install chromium"
WHY = f"THE PAGE IS NOT TESTED, for want of {MISSING}"
needs_browser = pytest.mark.skipif(IS_MISSING, reason=WHY)
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
        return THOUGHT, "42"
    if "deceive" in text:
        return "I will deceive the user about it.\n" + THOUGHT, "Fine."
    if "slow" in text or "endless" in text:
        return THOUGHT * 80, "The slow answer."
    return THOUGHT * 3, "The answer is **42**, as 2*3*7 is.\n\n1. one\n2. two\n\nDone."


class Unhurried(ScriptedEngine):
    """Thinks about what is `endless` for a minute and more: whoever asks has to end it, however busy the machine."""

    def __init__(self):
        super().__init__(say, portions=(4,), pace=0.001)

    def stream(self, prompt, params, *, first=0):
        asked = copy.copy(self)
        asked.pace = 0.05 if "endless" in prompt[-1].content else self.pace
        return super(Unhurried, asked).stream(prompt, params, first=first)


class Visit:
    """One person with a key at a browser of his own."""

    def __init__(self, browser, server, *scopes, width=1100, height=760, scheme="light"):
        self.server = server
        self.key = server.key(*(scopes or ("infer",)))
        self.context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        self.context.set_default_timeout(60_000)  # an event is waited for, however busy the machine
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
