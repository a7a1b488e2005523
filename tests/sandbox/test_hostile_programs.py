"""The hostile suite passes here, and would notice if it did not. What is slow in it is run by `ponder sandbox`."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ponder.sandbox import fence, hostile
from ponder.sandbox.programs import Programs

pytestmark = pytest.mark.skipif(bool(fence.probe().problem), reason="on Linux only: there is no fence elsewhere")
ATTACKS = hostile.attacks()
PYTHON = [attack for attack in ATTACKS if attack.kind == "python"]


def test_there_are_enough_attacks_and_each_says_what_it_tries():
    assert len(ATTACKS) >= 60
    assert len(PYTHON) >= 40
    assert sum(attack.kind == "c++" for attack in ATTACKS) >= 8
    assert sum(attack.kind == "compiler" for attack in ATTACKS) >= 8
    assert len({(attack.kind, attack.name) for attack in ATTACKS}) == len(ATTACKS)
    for attack in ATTACKS:
        assert attack.tries
        assert "lost" not in attack.ends
        assert attack.ends <= {"ok", "crashed", "refused", "memory", "time", "idle", "output"}


def test_the_pages_say_how_many_attacks_there_are():
    root = Path(__file__).parents[2]
    kinds = {kind: sum(attack.kind == kind for attack in ATTACKS) for kind in ("python", "c++", "compiler")}
    counted = f"{kinds['python']} in Python, {kinds['c++']} in C++, {kinds['compiler']} for the compiler"
    assert f"{len(ATTACKS)} programs and compiler inputs" in (root / "docs/sandbox.md").read_text()
    assert counted in (root / "docs/sandbox.md").read_text()
    assert f"{len(ATTACKS)} attacks on it" in (root / "README.md").read_text()


def test_no_hostile_python_program_gets_out():
    quick = [attack for attack in PYTHON if attack.ends == hostile.ENDED]
    assert len(quick) > 25
    with Programs() as programs:
        tried = list(hostile.run(programs, quick))
    assert [(each.attack.name, each.breaches) for each in tried if each.breaches] == []
    assert len(tried) == len(quick)


@pytest.mark.slow
def test_nothing_of_the_whole_suite_gets_out():
    with Programs() as programs:
        tried = list(hostile.run(programs))
    assert [(each.attack.name, each.breaches) for each in tried if each.breaches] == []
    assert len(tried) == len(ATTACKS)


def test_it_refuses_to_start_without_a_fence():
    with Programs(unfenced=True) as programs, pytest.raises(fence.FenceError, match="harm"):
        next(hostile.run(programs))


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("print('BREACH it says so')", "BREACH it says so"), ("print('@SECRET@')", None),
        ("while True: pass", "it ended as time"), ("import os; os._exit(0)", None),
    ],
)  # fmt: skip
def test_the_suite_would_notice(source, what):
    harmless = hostile.Attack(name="x", kind="python", tries="test", source=source)
    with Programs() as programs:
        (tried,) = hostile.run(programs, [harmless])
    assert bool(tried.breaches) == bool(what)
    assert not what or what in tried.breaches[0]


def test_the_world_notices_files_listeners_and_the_decoy():
    harmless = hostile.Attack(name="x", kind="python", tries="test", source="pass")
    with Programs() as programs, hostile._World(programs) as world:
        assert world.look_after(harmless).breaches == ()
        world.kept.write_text("changed")
        (world.folder / "new").write_text("x")
        import socket

        socket.create_connection(world.listeners["tcp"].getsockname()).close()
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", world.listeners["udp"].getsockname())
        world.decoy.kill()
        world.decoy.wait()
        found = " ".join(world.look_after(harmless).breaches)
        for what in ("kept", "new", "tcp", "udp", "decoy"):
            assert what in found
        leak = replace(harmless, source=f"print({world.words['decoy']!r})")
        assert "it knows the decoy's secret" in world.look_after(leak).breaches


def test_ponder_sandbox_says_what_holds(monkeypatch):
    from ponder.cli import app

    shown = CliRunner().invoke(app, ["sandbox", "--no-suite"])
    assert shown.exit_code == 0
    assert "closed filter" in shown.stdout
    told = json.loads(CliRunner().invoke(app, ["sandbox", "--no-suite", "--json"]).stdout)
    assert told["filter"] is True
    assert told["attacks"] == []

    monkeypatch.setattr(hostile, "run", lambda _: iter([hostile.Tried(attack=ATTACKS[0], breaches=("it got out",))]))
    shown = CliRunner().invoke(app, ["sandbox"])
    assert shown.exit_code == 1
    assert f"BREACH {ATTACKS[0].name}" in shown.stdout
