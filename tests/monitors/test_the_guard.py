"""No monitor's verdict reaches a reward or the choice of rows: six ways in, six refusals by name, and some more."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from ponder.config import RECIPES, lookup
from ponder.engine.base import ScriptedEngine
from ponder.evals import contamination
from ponder.grading.killable import Children
from ponder.models.tokenizer import ByteTokenizer
from ponder.models.weights import save_model
from ponder.monitors import Judgement, MonitorInReward, Rules, Suspicion, ask_monitor
from ponder.monitors.base import Adapted
from ponder.monitors.model import PROMPTS, ModelMonitor
from ponder.rewarding import is_rewarding, monitor_in, refuse_monitor, rewarding, training
from ponder.rollouts.grade import grade
from ponder.rollouts.preferences import RewardConfig, preference_term
from ponder.rollouts.rewards import add_terms
from ponder.runs import Run
from ponder.scorers import KINDS
from ponder.scorers.base import floats
from ponder.scorers.judge import Judge
from ponder.strategies.turns import Trajectory
from ponder.train.advantages import advantages
from ponder.train.recipe import ExperimentsConfig, RLConfig, load_recipe
from ponder.train.rl import reward_terms, rl
from ponder.train.sft import read_solutions
from ponder.train.star import StarConfig, star
from ponder.trained_on import experiment_source, experiments, record_training, training_sources
from ponder.types import SamplingParams, Verdict
from tests.helpers import LowercaseTask, group_of, tiny_model
from tests.monitors import asking
from tests.test_house import ROOT

TASK = LowercaseTask(size=2)
BELOW = ("tasks", "engine", "scorers", "strategies", "rollouts", "grading", "sandbox", "models", "train", "live")


def completions(n: int = 2):
    return asyncio.run(ScriptedEngine([("I add", "ab")]).generate(TASK[0].prompt, SamplingParams(), n=n))


def add(term):
    verdicts = [Verdict(outcome="correct", reward=1.0), Verdict(outcome="wrong", reward=0.0)]
    return asyncio.run(add_terms({"mine": term}, TASK[0], [Trajectory.of(c) for c in completions()], verdicts))


@pytest.fixture
def module(tmp_path, monkeypatch, request):
    """Write a module of the current folder; its name is the test's."""
    monkeypatch.chdir(tmp_path)
    name = f"parts_{abs(hash(request.node.nodeid))}"

    def write(text: str) -> str:
        (tmp_path / f"{name}.py").write_text(text)
        return name

    yield write
    sys.modules.pop(name, None)


# ---- what is there before anything runs ------------------------------------------------------------------------------


def reached(*starts: str) -> set[str]:
    """Every file of ponder that importing these leads to, by what stands in it anywhere, names as module:attr too."""
    seen, todo = set(), list(starts)
    while todo:
        name = todo.pop()
        todo += [name.rpartition(".")[0]] if "." in name else []  # a package, or the module of an object
        if name not in seen:
            seen.add(name)
            todo += edges(name)
    return {str(file.relative_to(ROOT / "ponder")) for file in map(file_of, seen) if file}


def file_of(name: str) -> Path | None:
    path = ROOT / "ponder" / Path(*name.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.exists()), None)


_IMPORT = re.compile(r"^\s*(?:from|import) ponder\.([\w.]+)|^\s*from ponder import ([\w, ]+)", re.MULTILINE)
_NAMED = re.compile(r"[\"']ponder\.([\w.]+):\w+[\"']")


@functools.cache
def edges(name: str) -> set[str]:
    file = file_of(name)
    text = file.read_text() if file else ""
    found = {one for match in _IMPORT.finditer(text) for one in (match[1] or match[2]).replace(" ", "").split(",")}
    return found | set(_NAMED.findall(text))


def test_nothing_at_or_below_train_leads_to_a_monitor():
    files = [file for room in BELOW for file in (ROOT / "ponder" / room).rglob("*.py")] + [ROOT / "ponder" / "live.py"]
    names = [".".join(file.relative_to(ROOT / "ponder").with_suffix("").parts) for file in files]
    climbs = {found for found in reached(*names) if found.startswith(("monitors/", "serve/", "evals/"))}
    assert not climbs and len(names) > 100


def test_the_closure_is_followed_through_rooms_and_names():
    assert {"rollouts/collect.py", "scorers/probe.py", "types.py"} <= reached("train.rl")  # the probe by its name alone
    assert "monitors/rules.py" in reached("serve.thoughts")


def test_no_shipped_recipe_names_a_monitor_unless_it_says_why():
    for path in sorted(RECIPES.rglob("*.toml")):
        recipe = tomllib.loads(path.read_text())
        names = [text for text in _texts(recipe) if text.startswith("ponder.") and ":" in text]
        leads = [text for text in names if any(f.startswith("monitors/") for f in reached(text[7:].partition(":")[0]))]
        why = recipe.get("experiments", {}).get("monitor_in_reward", "")
        assert bool(leads) == bool(why), path


def _texts(value):
    if isinstance(value, dict):
        return [text for inner in value.values() for text in _texts(inner)]
    if isinstance(value, list):
        return [text for inner in value for text in _texts(inner)]
    return [value] if isinstance(value, str) else []


def test_no_kind_of_scorer_is_a_monitor():
    for kind in KINDS.values():
        assert not monitor_in(lookup({}, kind, what="kind"))


def test_a_suspicion_is_opened_by_exams_and_by_the_room_alone():
    for path in (ROOT / "ponder").rglob("*.py"):
        if path.relative_to(ROOT / "ponder").parts[0] not in ("evals", "monitors"):
            assert "suspicion.open" not in path.read_text(), path


# ---- a judgement is no number ----------------------------------------------------------------------------------------


def test_a_judgement_and_a_suspicion_are_no_numbers():
    for said in (Judgement("flag"), Suspicion(0.9)):
        for use in (float, int, bool, abs):
            with pytest.raises(TypeError):
                use(said)
        with pytest.raises(TypeError):
            said < said  # noqa: B015
        with pytest.raises(TypeError):
            1.0 - said
    assert "0.9" not in repr(Suspicion(0.9))


def test_a_judgement_as_a_reward_is_an_error_and_as_a_score_too():
    with pytest.raises(TypeError):
        add(lambda problem, trajectories, verdicts: [Judgement("flag") for _ in trajectories])
    for wrong in (Judgement("allow"), Suspicion(0.5), True, "0.5", None):
        with pytest.raises(TypeError, match="must be a float"):
            floats([wrong], "mine")
    assert floats([0, 0.5], "mine") == [0.0, 0.5]


def test_a_verifier_that_returns_a_judgement_has_failed_and_is_no_reward():
    class Judged(LowercaseTask):
        def verify(self, problem, answer):
            return Judgement("allow")

    from ponder.tasks import as_task

    verdicts = asyncio.run(grade(as_task(Judged()), TASK[0], completions()))
    assert {(verdict.outcome, verdict.reward) for verdict in verdicts} == {("failed", 0.0)}


# ---- six ways in -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["reward_terms", "advantage", "environment"])
def test_1_a_part_that_imports_a_monitor_is_refused_when_it_is_named(key, module):
    name = module("def part(*a):\n    from ponder.monitors import Rules\n    return Rules()\n")
    value = (f"{name}:part",) if key == "reward_terms" else f"{name}:part"
    with pytest.raises(MonitorInReward, match=r"uses the monitor ponder\.monitors"):
        RLConfig(out="x", **{key: value})


def test_2_a_closure_over_a_monitor_is_refused_when_it_is_named(module):
    name = module(
        "import ponder.monitors as m, functools\n"
        "def hide(x): return lambda *a: [0.0 if x else 1.0 for _ in a[1]]\n"
        "term = hide({'deep': [m.Rules()]})\nhalf = functools.partial(lambda r, *a: [0.0], m.Rules())\n"
    )
    for attribute in ("term", "half"):
        with pytest.raises(MonitorInReward, match="Rules"):
            RLConfig(out="x", reward_terms=(f"{name}:{attribute}",))


def test_3_a_scorer_that_holds_a_monitor_is_refused_when_it_is_opened(module):
    name = module(
        "import importlib\nclass Held:\n    def __init__(self): self.inner = importlib.import_module('ponder.' + "
        "'monitors').Rules()\n"
    )
    config = RLConfig(out="x", reward=RewardConfig(preference=f"{name}:Held", preference_weight=0.5))
    with pytest.raises(MonitorInReward, match="the preference scorer uses the monitor Rules"):
        reward_terms(config)


def test_3_a_scorer_that_calls_a_monitor_is_refused_when_it_is_asked():
    class Sly:
        name, policy, needs, flops_per_token = "sly", "", frozenset(), None

        async def __call__(self, prompt, completions):
            return [float((await asking.monitor()(c.reasoning, {})).action == "allow") for c in completions]

        def cost(self, completions):
            return 0

    with pytest.raises(MonitorInReward, match="'rules' was asked during the reward term 'mine'"):
        add(preference_term(Sly(), 0.5))


def test_4_a_judge_with_the_prompt_of_a_monitor_by_name_is_refused():
    class Grader(Judge):
        async def _grade(self, problem, texts):
            prompt = lookup(PROMPTS, "intent", what="prompt")
            return [float(bool(prompt.format(mark="=", problem=problem, text=text))) for text in texts], 0

    with pytest.raises(MonitorInReward, match="a prompt of a monitor"):
        add(preference_term(Grader(ScriptedEngine(["7"])), 0.5))
    with pytest.raises(MonitorInReward, match="MonitorPrompt"):
        RLConfig(out="x", reward_terms=("ponder.monitors.model:MonitorPrompt",))
    held = [PROMPTS["intent"]]
    assert monitor_in(lambda: held) == "MonitorPrompt"


def test_4_a_monitor_that_is_near_is_seen_though_a_longer_way_to_it_was_gone_first():
    class Part:
        def __init__(self, **parts):
            vars(self).update(parts)

    near = Part(monitor=PROMPTS["intent"])
    way: object = near
    for _ in range(4):  # so long that `near` is reached, and nothing behind it
        way = Part(next=way)
    assert monitor_in(Part(far=way, near=near)) == "MonitorPrompt"


def test_5_a_worker_process_of_a_run_refuses_too():
    code = "from tests.monitors.asking import ask; print(ask())"
    with training("ponder rl"):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert "MonitorInReward: the monitor 'rules' was asked during ponder rl" in done.stderr
    with contextlib.closing(Children()) as children:
        outcome = children.run("tests.monitors.asking:ask", timeout=30)
    assert outcome.status == "crashed" and "MonitorInReward" in outcome.note  # a child that verifies, whoever asks


def test_6_a_star_filter_that_asks_a_monitor_is_refused(tmp_path):
    class Filtered(LowercaseTask):
        def verify(self, problem, answer):
            if asking.ask_and_swallow(answer) == "flag":
                return Verdict(outcome="wrong", reward=0.0)
            return super().verify(problem, answer)

    from ponder.tasks import as_task

    engine = ScriptedEngine(lambda text, seed: (f"I think about it {seed % 3}", "ab"))
    with pytest.raises(MonitorInReward, match="verification"):
        asyncio.run(star(as_task(Filtered()), engine, StarConfig(num_samples=2), out=tmp_path / "r.jsonl", model="m"))
    assert not is_rewarding()


def test_7_rows_that_were_chosen_by_what_a_monitor_said_are_refused(tmp_path):
    row = {"problem": "1+1?", "reasoning": "1+1=2", "answer": "2"}
    served = [{**row, "flagged": i == 0, "flagged_in_export": 1} for i in range(3)]

    def file(rows):
        (tmp_path / "rows.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows))
        return tmp_path / "rows.jsonl"

    assert read_solutions(file(served)) == [row] * 3  # the column is dropped
    for chosen in (served[1:], served[:1]):
        with pytest.raises(MonitorInReward, match="rows are not chosen by what a monitor said"):
            read_solutions(file(chosen))


# ---- where, and where not --------------------------------------------------------------------------------------------


def test_threads_and_advantages_are_marked_and_a_swallowed_refusal_comes_back():
    class Sly(LowercaseTask):
        def verify(self, problem, answer):
            asking.ask_and_swallow(answer)
            return super().verify(problem, answer)

    from ponder.tasks import as_task

    with pytest.raises(MonitorInReward, match="verification"):
        asyncio.run(grade(as_task(Sly()), TASK[0], completions()))
    sys.modules["sly_parts"] = type(sys)("sly_parts")
    sys.modules["sly_parts"].advantage = lambda groups: [[float(asking.ask_and_swallow("x") == "flag")]]
    with pytest.raises(MonitorInReward, match="advantage"):
        advantages("sly_parts:advantage", [group_of([1.0])])
    del sys.modules["sly_parts"]


def test_outside_of_rewards_monitors_answer_and_a_server_never_swallows_the_refusal():
    class Plain:  # somebody's own, that knows nothing of the guard
        name = "plain"

        async def __call__(self, segment, context):
            return Judgement("flag")

    assert asking.ask() == "flag" and not is_rewarding()

    async def asked():
        return await ask_monitor(Plain(), "x", {}, deadline=1, fail_closed=False)

    assert asyncio.run(asked()).action == "flag"
    with pytest.raises(MonitorInReward, match="a test"), rewarding("a test"):  # again, at the end of the stretch
        for call in (asked, lambda: Adapted(Plain())("x", {}), lambda: ModelMonitor(ScriptedEngine(["1"]))("x", {})):
            with pytest.raises(MonitorInReward):
                asyncio.run(call())
        with pytest.raises(MonitorInReward):
            Rules().suspect("x")
        with pytest.raises(MonitorInReward):
            Suspicion(1.0).open()


def test_ordinary_parts_are_no_monitors():
    for part in (rl, TASK, advantages, Judge(ScriptedEngine(["7"])), lambda: json.dumps({}), None, "ponder.monitors"):
        assert monitor_in(part) == ""
        refuse_monitor(part, "part")


# ---- the hatch -------------------------------------------------------------------------------------------------------


def test_an_experiment_that_says_why_is_let_in_and_is_known_by_it_for_ever(tmp_path):
    with pytest.raises(MonitorInReward, match="experiments.monitor_in_reward"):
        load_recipe("loophole_penalty_nano_cpu", ["experiments.monitor_in_reward="])
    config = load_recipe("loophole_penalty_nano_cpu")
    why = config.experiments.monitor_in_reward
    with training("ponder rl", reason=why), rewarding("verification"):
        assert asking.ask() == "flag"
    with Run(tmp_path / "run", kind="rl", config_toml="", seed=0, facts=config.experiments.facts()):
        assert json.loads((tmp_path / "run" / "run.json").read_text())["monitor_in_reward"] == why
    first, second = tmp_path / "first", tmp_path / "second"
    record_training(first, None, [experiment_source(why)])
    record_training(second, first, [{"kind": "other", "name": "demonstrations"}])  # what is trained from it
    assert experiments(second) == [why] and experiments(tmp_path / "run") == []
    told = contamination.check([], training_sources(second)).unknown  # says how, not on what: no source to read
    assert len(told) == 1 and told[0].startswith("demonstrations")


def test_a_run_with_a_monitor_in_its_reward_says_so_in_every_checkpoint(tmp_path):
    save_model(tiny_model(), tmp_path / "base")
    ByteTokenizer().save(str(tmp_path / "base"))
    config = RLConfig(
        out=str(tmp_path / "run"), model=str(tmp_path / "base"), task="tests.helpers:LowercaseTask", num_steps=1,
        pool_size=4, problems_per_step=2, group_size=2, max_reasoning_tokens=2, max_answer_tokens=2, num_workers=0,
        num_slots=4, reward_terms=("ponder.monitors.pressure:penalty",), warmup_steps=1,
        experiments=ExperimentsConfig(monitor_in_reward="a test"),
    )  # fmt: skip
    last = rl(config)
    assert [experiments(last.parent / name) for name in ("step_00000", "step_00001")] == [["a test"]] * 2
    assert json.loads((tmp_path / "run" / "run.json").read_text())["monitor_in_reward"] == "a test"
    assert not is_rewarding() and asking.ask() == "flag"


def test_whoever_uses_such_a_model_is_told(tmp_path, capsys):
    from ponder.cli.loading import warn_of_experiments

    (tmp_path / "config.json").write_text("{}")
    record_training(tmp_path, None, [experiment_source("a study of pressure")])
    warn_of_experiments(str(tmp_path))
    assert "with a monitor in its reward (a study of pressure)" in capsys.readouterr().err
