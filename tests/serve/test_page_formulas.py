"""Formulas on the page, in a real browser: what is one and what is a price, what a stranger's formula cannot do, and
that the source is what is copied."""

from __future__ import annotations

import hashlib
import random
import re
from pathlib import Path

import pytest

import ponder.serve
from ponder.engine.base import ScriptedEngine
from ponder.serve.arena import ArenaSettings
from ponder.serve.served import ServedModel
from tests.serve.serving import Served
from tests.serve.visiting import needs_browser

pytestmark = [pytest.mark.slow, needs_browser]

TEMML = Path(ponder.serve.__file__).parent / "page" / "temml"
ANSWER = r"""**So \(x = \frac{1}{2}\)** for $5 or $10, not `$x$` and \$3. A sum:

\[
\sum_{k=1}^{n} k
- \sqrt[3]{2} = \begin{cases} a & \text{if } b \\ c \end{cases}
\]

1. $$\boxed{42}$$
2. unknown: $\nonsense{x}$, unclosed: $y

```
$$z$$
```
"""
HOSTILE = (
    r"$\text{<img src=x onerror='window.pwned=20'>}$ $\href{javascript:window.pwned=21}{x}$ $\url{javascript:x}$ "
    r"$\includegraphics{x.png}$ $\class{pwned}{x}$ $\id{question}{x}$ $\style{position:fixed}{x}$ $\data{a=b}{x}$ "
    r"$\begin{equation}x \label{question}\end{equation}$ $\ref{question}$ $\tip{x}{y}$ $\color{red;position:fixed}x$ "
    r"$\htmlClass{pwned}{x}$ $\__proto__$ $\constructor$ $x\tag{<b>1</b>}$ $\ce{H2O}$ $\verb|<i>|$ "
    '$\\text{\ud83d}$ $\x00$ $\\char"110000$ $\\rule{9999em}{9999em}$ $\\kern-20em\\rule{30em}{30em}$'
)


def say(text, seed):
    if "Below are notes" in text:
        return r"**Squaring $I$**" + "\n\n" + r"Uses \(x^2\) for $5 or $6. `$y$`"
    if "hostile" in text:
        return "hm", HOSTILE
    return r"First, \(t^2\) is $a+b$. " * 3, ANSWER


@pytest.fixture(scope="module")
def page_server(tmp_path_factory):
    models = [ServedModel(name=name, engine=ScriptedEngine(say, portions=(4,))) for name in ("left", "right")]
    log = tmp_path_factory.mktemp("arena") / "votes.jsonl"
    with Served(models=models, show_reasoning=True, arena=ArenaSettings(log=log, dwell=0.1)) as server:
        yield server


@pytest.fixture
def me(visit):
    return visit("infer", "admin").enter()


def pieces(me, *texts):
    """What the page takes a text for: strings, and formulas and code as [source]."""
    found = me.page.evaluate(
        "async (texts) => { const { pieces } = await import('/web/formulas.js'); return texts.map(pieces); }", texts
    )
    return [[piece if isinstance(piece, str) else [piece["source"]] for piece in one] for one in found]


DRAW = """async (texts) => {
    const { Markdown } = await import('/web/markdown.js');
    window.shown?.remove();
    window.shown = document.createElement("div");
    shown.className = "answer";
    document.getElementById("log").append(shown);
    const markdown = new Markdown(shown);
    const seen = [];
    for (const text of texts) {
        markdown.update(text);
        shown.getBoundingClientRect();
        seen.push([shown.textContent, shown.querySelectorAll("math").length]);
    }
    return seen;
}"""


def ready(me):
    """Temml is there."""
    me.page.evaluate("async () => (await import('/web/formulas.js')).withFormulas('$x$')")
    me.page.wait_for_function("() => window.temml")
    return me


def elements(me, selector):
    return me.page.eval_on_selector_all(selector, "all => all.map(one => one.localName)")


# --- what is a formula ---------------------------------------------------------------------------------------------


def test_an_answer_shows_its_formulas_and_leaves_prices_and_code_alone(me):
    me.ask("go on")
    me.until("completed")
    me.page.wait_for_function("() => document.querySelectorAll('.answer math').length === 3")
    answer = me.last.locator(".answer")
    assert answer.locator("strong math mfrac").count() == 1
    # the line that begins with a minus is no list, and the formula of four lines is one
    assert answer.locator("ul").count() == 0
    assert {"munderover", "mroot", "mtable"} <= set(elements(me, ".answer .display math *"))
    assert answer.locator("ol > li .display math").count() == 1
    said = answer.inner_text()
    assert "for $5 or $10, not $x$ and $3. A sum:" in said
    assert r"unknown: $\nonsense{x}$, unclosed: $y" in said
    assert answer.locator("pre").inner_text() == "$$z$$"
    me.page.reload()
    me.page.wait_for_function("() => document.querySelectorAll('.answer math').length === 3")


def test_summaries_and_the_shown_reasoning_have_formulas_too(me):
    me.ask("go on", effort="max")
    me.until("completed")
    me.last.locator("summary").click()
    part = me.last.locator(".part").first
    part.locator("p math").wait_for()
    assert part.locator("strong math").count() == 1 and "for $5 or $6. `$y$`" in part.inner_text()
    me.last.get_by_role("button", name="Show the reasoning").click()
    me.last.locator(".raw math").first.wait_for()
    assert me.last.locator(".raw math").count() == 6 and "First, " in me.last.locator(".raw").inner_text()


def test_both_answers_of_the_arena_have_formulas(visit):
    me = visit("vote")
    page = me.page
    page.goto(me.server.url + "/arena")
    page.fill("#key", me.key)
    page.press("#key", "Enter")
    page.wait_for_selector("#domain:visible")
    page.select_option("#domain", index=1)
    page.fill("#question", "go on")
    page.click("#send")
    page.wait_for_function("() => document.querySelectorAll('.side-answer math').length === 6")


def test_prices_stay_text(me):
    prices = [
        "$5 and $10", "$5, or $10.", "from $5-$10", "It costs $5 and you owe me 10$.", "US$5 and US$7",
        "$ 5 $", "100$ a day, 200$ a week", "$5 million or $6 million", "$$", "$", "a $ b $ c", "$5/month for 3$",
    ]  # fmt: skip
    for text, found in zip(prices, pieces(me, *prices), strict=True):
        assert found == [text]
    (found,) = pieces(me, "It costs $5, or $x$ of \\$7.")
    assert found == ["It costs $5, or ", ["$x$"], " of \\$7."]


def test_formulas_are_found_by_all_four_pairs_of_marks(me):
    for text, expected in {
        "$x$": [["$x$"]],
        "the $n$th, $2^{10}$.": ["the ", ["$n$"], "th, ", ["$2^{10}$"], "."],
        r"\(a\) and \[b\]": [[r"\(a\)"], " and ", [r"\[b\]"]],
        "$$a$$b": [["$$a$$"], "b"],
        r"$$\text{for $x$ it is}$$": [[r"$$\text{for $x$ it is}$$"]],
        r"$5 \text{ apples and pears}$": [[r"$5 \text{ apples and pears}$"]],
        r"$\$5 + \$6$": [[r"$\$5 + \$6$"]],
        r"\\(no\\)": [r"\\(no\\)"],
        r"\(one \(two\)": [r"\(one ", [r"\(two\)"]],
        "`$a$` $b$": [["`$a$`"], " ", ["$b$"]],
        "$a\nb$": ["$a\nb$"],
        r"\[ \]": [r"\[ \]"],
        "$" + "x" * 4000 + "$": ["$" + "x" * 4000 + "$"],
    }.items():
        assert pieces(me, text) == [expected], text


def test_no_character_of_any_text_is_lost(me):
    draw = random.Random(20)
    bits = [*"$\\` x5{}\n\ufffc", "$$", "\\(", "\\)", "\\[", "\\]", "**", "and ", "\\$"]
    texts = ["".join(draw.choices(bits, k=draw.randrange(1, 30))) for _ in range(1500)]
    found = pieces(me, *texts)
    assert ["".join(piece if isinstance(piece, str) else piece[0] for piece in one) for one in found] == texts
    assert sum(any(not isinstance(piece, str) for piece in one) for one in found) > 100


def test_a_formula_is_text_until_it_is_closed(me):
    ready(me)
    text = "So $x^2$ and \\(y\\) \\[z\n- 1\\] end"
    shown = me.page.evaluate(DRAW, [text[:end] for end in range(1, len(text) + 1)])
    closed = {text.index(mark) + len(mark) for mark in ("x^2$", "y\\)", "1\\]")}
    for end, (_, count) in enumerate(shown, 1):
        assert count == sum(place <= end for place in closed), text[:end]
    assert shown[text.index("^2") + 1][0] == "So $x^2"
    assert shown[-1][0].startswith("So ") and "$" not in shown[-1][0]


def test_a_percent_sign_hides_nothing(me):
    ready(me)
    ((said, count),) = me.page.evaluate(DRAW, ["$50% + x$"])
    assert count == 1 and "%" in said and "x" in said


# --- what is copied ------------------------------------------------------------------------------------------------


def test_what_is_copied_is_the_source(me):
    me.context.grant_permissions(["clipboard-read", "clipboard-write"])
    me.ask("go on")
    me.until("completed")
    me.page.wait_for_function("() => document.querySelectorAll('.answer math').length === 3")
    clipboard = "navigator.clipboard.readText()"
    me.last.get_by_role("button", name="Copy").click()
    me.last.get_by_role("button", name="Copied").wait_for()
    assert me.page.evaluate(clipboard) == ANSWER
    select = """selector => {
        const range = document.createRange();
        range.selectNodeContents(document.querySelector(selector));
        getSelection().removeAllRanges();
        getSelection().addRange(range);
        document.execCommand("copy");
    }"""
    me.page.evaluate(select, ".answer p")
    assert me.page.evaluate(clipboard) == r"So \(x = \frac{1}{2}\) for $5 or $10, not $x$ and $3. A sum:"
    me.page.evaluate(select, ".answer ol")
    assert me.page.evaluate(clipboard).splitlines()[0] == r"$$\boxed{42}$$"
    me.page.evaluate(select, ".answer .display mroot")  # a part of one
    assert r"\sum_{k=1}^{n} k - \sqrt[3]{2}" in me.page.evaluate(clipboard)
    me.page.evaluate(select, ".asked")
    assert me.page.evaluate(clipboard) == "go on"
    assert me.page.locator(".copied").count() == 0


# --- what a stranger's formula cannot do ---------------------------------------------------------------------------


def test_a_formula_makes_mathml_and_nothing_else(me):
    me.ask("hostile")
    me.until("completed")
    me.page.wait_for_selector(".answer math")
    foreign = """all => all.filter(one => one.namespaceURI !== "http://www.w3.org/1998/Math/MathML"
        || [...one.attributes].some(({ name }) => ["id", "href", "src"].includes(name) || name.startsWith("on")))
        .map(one => one.outerHTML)"""
    assert me.page.eval_on_selector_all(".answer .formula *", foreign) == []
    assert me.last.locator(".answer :is(img, script, a, b, i, span span, .pwned, maction)").count() == 0
    assert me.page.locator("#question").count() == 1
    moved = "all => all.filter(one => getComputedStyle(one).position === 'fixed').length"
    assert me.page.eval_on_selector_all(".answer *", moved) == 0
    said = me.last.locator(".answer").inner_text()
    for source in (r"$\href{javascript:window.pwned=21}{x}$", r"$\includegraphics{x.png}$", r"$\class{pwned}{x}$"):
        assert source in said
    # whatever a formula draws far from its place is cut off at the edge of its answer
    assert me.page.eval_on_selector(".answer", "one => getComputedStyle(one).overflow") == "clip"
    assert not me.scrolls_sideways()


NESTED = {
    "fractions": (r"$$" + r"\frac{1}{" * 10_000 + "x" + "}" * 10_000 + "$$", 0),
    "fractions of one formula": ("$" + r"\frac{1}{" * 200 + "x" + "}" * 200 + "$", 0),
    "fractions as people write them": ("$" + r"\frac{1}{1+" * 12 + "x" + "}" * 12 + "$", 1),
    "roots without braces": ("$" + r"\sqrt" * 500 + "x$", 0),
    "brackets": ("$" + r"\left(" * 150 + "x" + r"\right)" * 150 + "$", 0),
    "matrices": ("$" + r"\begin{matrix}" * 80 + "x" + r"\end{matrix}" * 80 + "$", 0),
    "braces": ("$" + "{" * 1400 + "}" * 1400 + "$", 0),
    "unclosed braces": ("$" + "{" * 30 + "x$", 0),
    "accents": ("$a" + "\u0301" * 2900 + "$", 0),
    "a definition that makes much": (r"$\def\a{" + "x" * 1400 + "}" + r"\a" * 700 + "$", 0),
    "a definition of itself": (r"$\newcommand{\a}{\a\a}\a \let\b\a \gdef\c{\b}$", 0),
}
LONG = {
    "dollars": "$" * 1_000_000,
    "pairs of dollars": "$$ " * 333_000,
    "lines of dollars": "$$\n" * 100_000,
    "open brackets": "\\(" * 500_000,
    "lines of open brackets": "\\[\n" * 100_000,
    "backslashes": "\\" * 1_000_000,
    "ticks": "`$" * 500_000,
    "many formulas": ("$x$ " * 2000 + "\n\n") * 100,
    "many different formulas": "\n\n".join(rf"$x_{{{i}}} = \frac{{{i}}}{{2}}$" for i in range(10_000)),
    "many long formulas": "\n\n".join(f"${i}" + "+x" * 1400 + "$" for i in range(300)),
}


def test_nesting_is_bounded(me):
    ready(me)
    for name, (text, expected) in NESTED.items():
        ((said, count),) = me.page.evaluate(DRAW, [text])
        assert count == expected and (count or said == text), name


def test_a_megabyte_of_anything_is_shown_in_linear_time(me):
    ready(me)
    devtools = me.context.new_cdp_session(me.page)
    devtools.send("Performance.enable", {"timeDomain": "threadTicks"})  # processor time of the page's thread

    def spent():
        found = devtools.send("Performance.getMetrics")["metrics"]
        return next(each["value"] for each in found if each["name"] == "TaskDuration")

    for name, text in LONG.items():
        before = spent()
        ((said, count),) = me.page.evaluate(DRAW, [text])
        assert spent() - before < 12, name
        assert count <= 5000, name  # what else there is stays text
        assert count or len(said) > len(text) / 2, name


def test_where_temml_is_not_to_be_had_the_source_stays_and_nothing_else_fails(me):
    me.page.route("**/temml.min.js", lambda route: route.abort())
    me.ask("go on")
    me.until("completed")
    assert r"So \(x = \frac{1}{2}\) for" in me.last.locator(".answer").inner_text()
    assert me.page.locator("math").count() == 0


def test_temml_is_fetched_when_there_is_a_formula_and_not_before(me):
    fetched = "performance.getEntriesByType('resource').filter(one => one.name.endsWith('temml.min.js')).length"
    assert me.page.evaluate(fetched) == 0
    me.ask("go on")
    me.until("completed")
    me.page.wait_for_selector(".answer math")
    assert me.page.evaluate(fetched) == 1


@pytest.mark.parametrize("width", [360, 1100])
def test_a_wide_formula_scrolls_by_itself(visit, width):
    me = ready(visit(width=width, height=640).enter())
    wide = " + ".join(rf"\frac{{{i}}}{{x_{{{i}}}}}" for i in range(60))
    me.page.evaluate(DRAW, [f"$${wide}$$ and ${wide}$"])
    assert not me.scrolls_sideways()
    log = "document.getElementById('log')"
    assert me.page.evaluate(f"{log}.scrollWidth <= {log}.clientWidth")
    assert me.page.eval_on_selector(".answer .display", "one => one.scrollWidth > one.clientWidth")


def test_temml_is_the_published_file_with_its_licence():
    # dist/temml.min.js of temml 0.13.5 at npm
    published = "1ab19148afe0dbc836b7a74f344071b3f3a70a7a8259ae4049e76894fcdf8d95"
    assert hashlib.sha256((TEMML / "temml.min.js").read_bytes()).hexdigest() == published
    assert "MIT License" in (TEMML / "LICENSE").read_text() and "Ron Kok" in (TEMML / "LICENSE").read_text()
    style = (TEMML / "temml.css").read_text().replace("http://www.w3.org", "")
    assert not re.search(r"https?://|@import|@font-face", style)
