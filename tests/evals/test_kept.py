"""What a model was asked for a measurement is kept as it comes: a measurement that was cut off goes on."""

from __future__ import annotations

import asyncio
import json
import signal
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from ponder.cli import app, loading, monitoring, safety
from ponder.config import ConfigError
from ponder.engine import remote
from ponder.engine.base import ScriptedEngine
from ponder.evals.kept import KeptCompletions, KeptEngine
from ponder.types import SamplingParams
from tests.evals.test_monitoring import CASES
from tests.helpers import user


class CutOff(ScriptedEngine):
    """An engine during which somebody presses Ctrl-C, after some requests."""

    def __init__(self, respond, *, after=10**9):
        super().__init__(respond)
        self.after, self.one_at_a_time = after, asyncio.Lock()

    async def generate(self, prompt, params, *, n=1, first=0):
        async with self.one_at_a_time:
            if len(self.calls) == self.after:
                signal.raise_signal(signal.SIGINT)
                await asyncio.Event().wait()
            return await super().generate(prompt, params, n=n, first=first)


def monitored(tmp_path, capsys, monkeypatch, engine, **more):
    monkeypatch.setattr(remote, "RemoteEngine", lambda url, name, key: engine)
    path = tmp_path / "planted.jsonl"
    rows = [{"problem": each.problem, "reasoning": each.reasoning, "answer": "1", "planted": each.planted}
            for each in CASES]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    endpoint = more.pop("endpoint", "http://host/v1 judge")
    monitoring.evaluate(None, path, None, endpoint=endpoint, view="reasoning", budget=0.02, as_json=True, **more)
    [report] = json.loads(capsys.readouterr().out)
    return report


def suspect(text, seed):
    return "9" if "I trick" in text else f"{seed % 4}"


def test_a_monitor_s_replies_are_asked_for_once_and_a_measurement_goes_on_where_it_was_cut(
    tmp_path, capsys, monkeypatch
):
    out = tmp_path / "kept"
    whole = CutOff(suspect)
    expected = monitored(tmp_path, capsys, monkeypatch, whole, out=tmp_path / "whole")
    cut = CutOff(suspect, after=70)
    with pytest.raises(SystemExit):
        monitored(tmp_path, capsys, monkeypatch, cut, out=out)
    with open(out / "completions.jsonl", "ab") as file:
        file.write(b'{"asked": "torn off')
    rest = CutOff(suspect)
    again = monitored(tmp_path, capsys, monkeypatch, rest, out=out)
    assert len(rest.calls) == len(whole.calls) - 70 > 0
    for report in (again, expected):
        report.pop("seconds")
    assert again == expected and again["tokens"] > 0  # what the kept replies cost is told as before
    none = CutOff(suspect, after=0)
    assert monitored(tmp_path, capsys, monkeypatch, none, out=out)["seconds"] is None  # nobody was waited for
    with pytest.raises(ConfigError, match="begun with another model"):
        monitored(tmp_path, capsys, monkeypatch, whole, out=out, endpoint="http://host/v1 other")
    lines = (out / "completions.jsonl").read_text().splitlines()
    (out / "completions.jsonl").write_text("\n".join([*lines[:3], '{"asked": 1}', *lines[3:]]) + "\n")
    with pytest.raises(ConfigError, match=r"completions\.jsonl:4 is damaged"):
        monitored(tmp_path, capsys, monkeypatch, whole, out=out)


def test_a_certificate_goes_on_where_it_was_cut(tmp_path, monkeypatch):
    monkeypatch.setattr(safety, "describe", lambda name, url: loading.ModelInfo(name=name, fingerprint="f" * 64))
    file = tmp_path / "people.jsonl"
    file.write_text("".join(json.dumps({"prompt": f"q {i}?", "answer": f"no, {i} times no", "label": "refused"}) + "\n"
                            for i in range(8)))  # fmt: skip

    def rubric(text, seed):
        return json.dumps({"refused": "yes", "specific": 1, "convincing": 1})

    def certificate(engine):
        monkeypatch.setattr(safety, "open_engine", lambda *_, **__: engine)
        return CliRunner().invoke(app, ["certify", str(file), "--judge", "m", "--json", "--out", str(tmp_path / "out")])

    assert certificate(CutOff(rubric, after=5)).exit_code == 130
    rest = CutOff(rubric)
    found = certificate(rest)
    assert json.loads(found.output)["found"] == 8 and len(rest.calls) == 3


def test_faithfulness_goes_on_where_it_was_cut(tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "describe", lambda name, url: loading.ModelInfo(name=name))

    def lines(text, seed):
        return f"1+1=2\n2+2={seed % 7}", str(seed % 5)

    def measured(engine, out):
        monkeypatch.setattr(loading, "open_engine", lambda *_, **__: engine)
        return CliRunner().invoke(app, ["monitor", "faithfulness", "--limit", "6", "--json", "--out", str(out)])

    whole = CutOff(lines)
    expected = measured(whole, tmp_path / "whole").output
    assert measured(CutOff(lines, after=20), tmp_path / "out").exit_code == 130
    rest = CutOff(lines)
    assert measured(rest, tmp_path / "out").output == expected
    assert 0 < len(rest.calls) == len(whole.calls) - 20


def test_what_an_engine_gave_up_is_asked_for_again(tmp_path):
    class GaveUp(ScriptedEngine):
        async def generate(self, prompt, params, *, n=1, first=0):
            drawn = await super().generate(prompt, params, n=n, first=first)
            return [replace(each, finish_reason="cancelled") for each in drawn]

    def asked(engine):
        with KeptCompletions(tmp_path, {"model": "m"}) as kept:
            return asyncio.run(KeptEngine(engine, kept).generate(user("hi"), SamplingParams()))[0].answer

    assert asked(GaveUp(["ha"])) == "ha"
    assert asked(ScriptedEngine(["half"])) == asked(ScriptedEngine([])) == "half"


def test_one_process_holds_what_is_kept(tmp_path):
    with KeptCompletions(tmp_path, {"model": "m"}), pytest.raises(ValueError, match="being written by"):
        KeptCompletions(tmp_path, {"model": "m"})
