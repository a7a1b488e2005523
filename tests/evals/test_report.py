"""The page can be made from the folder alone, asks for nothing, and lets no text of a model become markup."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from fake_run import fingerprint, make_run, open_engine, way_of

from ponder import files, runs
from ponder.engine.base import ScriptedEngine
from ponder.evals import browser
from ponder.evals.exams import run_exam
from ponder.evals.plots import running_mean
from ponder.evals.report import report
from ponder.evals.scaling import scale
from ponder.types import SamplingParams

pytestmark = pytest.mark.slow

pytest.importorskip("matplotlib")
EVIL = '</pre></svg><script>alert("x")</script><img src=http://evil.test/x onerror=alert(1)>{{ 7*7 }}$\\frac{'


class Page(HTMLParser):
    """Everything on a page that could run or fetch something."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.dangers: list[str] = []
        self.tags: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            fetches = name in ("src", "href", "xlink:href", "data", "action") and not (value or "").startswith("#")
            if name.startswith("on") or fetches or "url(http" in (value or ""):
                self.dangers.append(f"{tag} {name}={value}")
        if tag in ("script", "iframe", "object", "embed", "link", "base", "form", "img"):
            self.dangers.append(tag)


def check(path: Path) -> str:
    html = path.read_text()
    page = Page(html)
    assert page.dangers == []
    assert "@import" not in html and not re.search(r"url\(\s*['\"]?http", html)
    assert html.count("<html") == 1 and page.tags.count("svg") == html.count("<figure id=")
    return html


def scaled(folder: Path, task: Any, evil: str = "", **options: Any) -> Path:
    make_run(folder, (0, 10, 40), evil=evil)
    asyncio.run(
        scale(
            folder, task=task, open_engine=lambda c: open_engine(c, evil=evil), fingerprint=fingerprint,
            num_samples=8, checkpoint_samples=4,
            params=SamplingParams(max_reasoning_tokens=160, max_answer_tokens=160),
            **{"flops_per_token": 1e6, "way_of": way_of, "command": f"ponder scale {evil}", **options},
        )
    )  # fmt: skip
    return folder


def test_a_run_is_reported_from_its_folder_alone(tmp_path: Path, make_task: Callable[..., Any]) -> None:
    scaled(tmp_path / "run", make_task(12))
    shutil.rmtree(tmp_path / "run/checkpoints")
    shutil.move(tmp_path / "run", tmp_path / "moved")
    html = check(report(tmp_path / "moved"))
    names = ["reasoning_length", "strategies", "test_compute", "train_compute", "training", "ways"]
    figures = tmp_path / "moved/figures"
    assert sorted(path.name for path in figures.iterdir()) == [f"{n}.{e}" for n in names for e in ("png", "svg")]
    assert all((figures / f"{name}.png").read_bytes().startswith(b"\x89PNG") for name in names)
    for text in ("pass@1, base", "gain in pass@1", "Ways of thinking", "base, step 0", "final, step 40", "ponder scale",
                 "grader", "counting 1", "processor"):  # fmt: skip
        assert text in html
    curves = json.loads((tmp_path / "moved/scale/curves.json").read_text())
    assert f"{100 * curves['checkpoints'][-1]['pass@1']['value']:.1f}%" in html


def test_no_text_of_a_model_a_task_or_a_file_becomes_markup(tmp_path: Path, make_task: Callable[..., Any]) -> None:
    task = make_task(6)
    task.name = EVIL
    scaled(tmp_path, task, EVIL, way_of=lambda problem, reasoning: EVIL)
    html = check(report(tmp_path))
    assert "&lt;script&gt;alert" in html and "{{ 7*7 }}" in html
    check(report(tmp_path / "scale/step_00000"))
    shutil.rmtree(tmp_path / "scale")
    html = check(report(tmp_path))
    assert "&lt;script&gt;" in html


def test_the_same_folder_gives_the_same_page(tmp_path: Path, make_task: Callable[..., Any]) -> None:
    scaled(tmp_path, make_task(6))
    first = report(tmp_path).read_text()
    assert report(tmp_path).read_text() == first


def test_a_run_without_scaling_shows_its_training(tmp_path: Path) -> None:
    make_run(tmp_path, evil="<b>")
    html = check(report(tmp_path))
    assert "No scaling curves yet" in html and "groups with a gradient" in html and "1+1? &lt;b&gt;" in html


def test_a_run_that_has_logged_nothing_is_still_a_page(tmp_path: Path) -> None:
    runs.Run(tmp_path, kind="sft", config_toml="", seed=0)
    files.append_jsonl(tmp_path / "metrics.jsonl", [{"step": 0, "odd": 1, "reward/mean": None}, {"step": 1}])
    files.append_jsonl(tmp_path / "samples.jsonl", [{"step": 0}, {"answer": None, "reward": "high"}])
    check(report(tmp_path))


def test_without_flops_the_axes_are_tokens_and_steps(tmp_path: Path, make_task: Callable[..., Any]) -> None:
    scaled(tmp_path, make_task(4), flops_per_token=None, way_of=None)
    assert "tokens a problem (log scale)" in check(report(tmp_path))
    curves = json.loads((tmp_path / "scale/curves.json").read_text())
    for checkpoint in curves["checkpoints"]:
        checkpoint["train_flops"] = 0.0
    (tmp_path / "scale/curves.json").write_text(json.dumps(curves))
    assert "training step (log scale)" in check(report(tmp_path))


def test_a_checkpoint_of_one_checkpoint_is_drawn(tmp_path: Path, make_task: Callable[..., Any]) -> None:
    for step in (0, 5):
        make_run(tmp_path / str(step), (step,)) if step else make_run(tmp_path / "0", (0, 1))
        if step == 0:
            shutil.rmtree(tmp_path / "0/checkpoints/step_00001")
        options: dict[str, Any] = {"num_samples": 2, "params": SamplingParams(), "fingerprint": fingerprint}
        asyncio.run(scale(tmp_path / str(step), task=make_task(2), open_engine=open_engine, **options))
        check(report(tmp_path / str(step)))


def exam(folder: Path, task: Any, engine: Any, n: int = 4) -> None:
    options: dict[str, Any] = {"model": "m<i>", "num_samples": n, "params": SamplingParams(), "out": folder}
    asyncio.run(run_exam(task, engine, **options))


def test_an_exam_is_reported_by_itself(tmp_path: Path, make_task: Callable[..., Any]) -> None:
    exam(tmp_path, make_task(6), ScriptedEngine(["1", "?", "\ud800", ""]))
    html = check(report(tmp_path))
    assert "m&lt;i&gt; on counting" in html and "undecided" in html and "By level" in html and "(no answer)" in html


def test_an_exam_killed_before_its_result_is_reported_from_the_bank(
    tmp_path: Path, make_task: Callable[..., Any]
) -> None:
    exam(tmp_path, make_task(3), ScriptedEngine(["1"]), n=1)
    (tmp_path / "result.json").unlink()
    assert "33.3%" in check(report(tmp_path))
    for part in (tmp_path / "samples").iterdir():
        part.unlink()
    assert "holds no sample yet" in check(report(tmp_path))


def test_huge_texts_are_clipped_and_say_so(tmp_path: Path, make_task: Callable[..., Any]) -> None:
    options: dict[str, Any] = {"model": "m", "num_samples": 1, "out": tmp_path}
    params = SamplingParams(max_reasoning_tokens=100_000)
    asyncio.run(run_exam(make_task(1), ScriptedEngine([("x" * 90_000, "0")]), params=params, **options))
    html = check(report(tmp_path))
    assert len(html) < 80_000 and "86000 more characters" in html


def test_a_folder_that_is_nothing_says_what_it_lacks(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no run.json and no bank.json"):
        report(tmp_path)


def test_without_matplotlib_the_error_names_the_extra(
    tmp_path: Path, make_task: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    exam(tmp_path, make_task(2), ScriptedEngine(["1"]))
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"ponder\[report\]"):
        report(tmp_path)


def test_a_running_mean_starts_with_what_there_is() -> None:
    assert running_mean([1.0, 3.0, 5.0], 2) == [1.0, 2.0, 4.0]


def test_all_samples_can_be_leafed_through_hardest_first_without_a_script(
    tmp_path: Path, make_task: Callable[..., Any]
) -> None:
    exam(tmp_path, make_task(4), ScriptedEngine([("<b>hm</b>", "1"), ("<b>hm</b>", "2")]))  # in turn
    html = check(report(tmp_path))
    found = re.findall(r'<details class="entry (\w+)">\s*<summary><span class="told">(\d) of 4 right', html)
    assert found == sorted(found, key=lambda entry: int(entry[1])) and len(found) == 4
    assert {kind for kind, _ in found} == {"never", "mixed"}
    assert html.count("browse-never") >= 3 and "sometimes right (2)" in html and "&lt;b&gt;hm" in html


def test_a_page_stays_bounded_and_says_what_it_left_out(
    tmp_path: Path, make_task: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(browser, "MAX_PROBLEMS", 2)
    monkeypatch.setattr(browser, "MAX_SAMPLES", 3)
    exam(tmp_path, make_task(4), ScriptedEngine(["1", "2"]))
    html = check(report(tmp_path))
    assert html.count('<details class="entry') == 2
    assert "the 2 hardest of 4 problems, the first 3 samples of each; the bank has all" in html
