"""What verbs print: no text of a model or a file steers the terminal, warnings are one line, JSON is JSON."""

from __future__ import annotations

import errno
import io
import json
import math
import sys
import warnings
from dataclasses import replace

import pytest
from rich.console import Console

from ponder.cli import show
from ponder.cli.app import main
from ponder.evals.tables import Table
from ponder.files import StorageError, refuse_overwriting
from ponder.live import Leader, RLView
from ponder.train.ledger import Step
from ponder.types import Solution, Usage
from tests.helpers import group_of

HOSTILE = "\x1b]0;owned\x07 \x1b[2J \x9b31m \u202e [/red] [bold]x"


def is_harmless(text: str) -> bool:
    return not any(each in text for each in ("\x1b]", "\x07", "\x1b[2J", "\x9b", "\u202e"))


def terminals(monkeypatch):
    """Standard output and error as terminals; what they were sent. Asked for in a test, as pytest sets both after its
    fixtures."""
    streams = []
    for name in ("stdout", "stderr"):
        stream = io.StringIO()
        stream.isatty = lambda: True  # type: ignore[method-assign]
        monkeypatch.setattr(sys, name, stream)
        streams.append(stream)
    monkeypatch.setenv("TERM", "xterm")
    return streams


def test_texts_in_tables_warnings_and_last_lines_do_not_steer_the_terminal(monkeypatch):
    terminal = terminals(monkeypatch)
    show.print_tables([Table(HOSTILE, (HOSTILE, "b"), [[HOSTILE, 1]])])
    show.finish({}, HOSTILE, as_json=False)
    show.show_warning(UserWarning(HOSTILE), UserWarning, "x.py", 1)
    out, err = (stream.getvalue() for stream in terminal)
    assert is_harmless(out) and is_harmless(err) and out.count("owned") == 4 and "[/red] [bold]x" in out


def test_a_pipe_gets_the_text_as_it_is(capsys):
    show.finish({}, HOSTILE, as_json=False)
    assert HOSTILE in capsys.readouterr().out


def test_an_error_with_a_models_text_does_not_steer_the_terminal(monkeypatch):
    terminal = terminals(monkeypatch)
    monkeypatch.setattr(sys.modules["ponder.cli.app"], "app", lambda: (_ for _ in ()).throw(ValueError(HOSTILE)))
    with pytest.raises(SystemExit):
        main()
    err = terminal[1].getvalue()
    assert is_harmless(err) and err.startswith("error: ") and "owned" in err


def test_the_live_view_shows_hostile_rollouts_without_obeying_them():
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=120)
    rollout = group_of([1.0]).rollouts[0]
    said = replace(rollout.completion, reasoning=HOSTILE, answer=HOSTILE)
    rollout = replace(
        rollout, problem=replace(rollout.problem, target=HOSTILE), turns=(replace(rollout.turns[0], completion=said),)
    )
    with RLView(console, num_steps=1) as view:
        view(Step(1, {}, rollout, rollout))
    assert "owned" in stream.getvalue() and is_harmless(stream.getvalue())
    solution = Solution(answer=HOSTILE, reasoning="", usage=Usage())
    assert is_harmless(Leader(Console(file=io.StringIO()), lambda text: text).line(solution))


def test_a_warning_is_one_line_without_a_place_in_the_code(capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = show.show_warning
        warnings.warn("the scorer is of another model", stacklevel=1)
    assert capsys.readouterr().err == "warning: the scorer is of another model\n"


def test_printed_json_has_null_for_what_is_no_finite_number(capsys):
    show.finish({"a": math.nan, "b": [math.inf, 1.5], "c": {"d": -math.inf}}, "", as_json=True)
    text = capsys.readouterr().out
    assert json.loads(text, parse_constant=pytest.fail) == {"a": None, "b": [None, 1.5], "c": {"d": None}}


@pytest.mark.parametrize("kind", [OSError, StorageError])
def test_a_full_disk_always_comes_with_what_to_do(kind, capsys, monkeypatch):
    text = "No space left on device" if kind is OSError else "cannot write x; free some space"
    monkeypatch.setattr(sys.modules["ponder.cli.app"], "app", lambda: (_ for _ in ()).throw(kind(errno.ENOSPC, text)))
    with pytest.raises(SystemExit):
        main()
    assert capsys.readouterr().err.count("free some space") == 1


def test_a_command_never_writes_over_what_it_reads(tmp_path):
    path, link = tmp_path / "train.jsonl", tmp_path / "link.jsonl"
    path.write_text("{}\n")
    link.symlink_to(path)
    for read in (str(path), f"file:{path}", path, link):
        with pytest.raises(ValueError, match="is what this command reads"):
            refuse_overwriting(path, "words", read)
    refuse_overwriting(path, "words:level=1", tmp_path / "other.jsonl")
    refuse_overwriting(tmp_path / "new.jsonl", path)


def test_rows_are_not_written_over_their_own_problems(tmp_path, monkeypatch, capsys):
    path = tmp_path / "train.jsonl"
    text = json.dumps({"problem": "What is 2*3+1?", "answer": "7", "solution": "2*3=6\n6+1=7"}) + "\n"
    path.write_text(text)
    monkeypatch.setattr(sys, "argv", ["ponder", "data", str(path), "--style", "operations", "--out", str(path)])
    with pytest.raises(SystemExit):
        main()
    assert "give another --out" in capsys.readouterr().err and path.read_text() == text
