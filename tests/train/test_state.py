"""The state of a run: taken back whole or refused, and never that of another run."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable, Collection
from pathlib import Path

import pytest
import torch
from safetensors.torch import save
from torch import Tensor

from ponder.runs import Run
from ponder.train.state import load_state, save_state, state_path

BEGUN = {"step": 0, "tokens": 0, "seconds": 0.0}


class OneWeight:
    """Learns nothing."""

    def __init__(self, value: float) -> None:
        self.weight = torch.tensor([value])

    def tensors(self) -> dict[str, Tensor]:
        return {"weight": self.weight}

    def restore(self, tensor: Callable[[str], Tensor], names: Collection[str]) -> None:
        self.weight = tensor("weight")


def opened(folder: Path, *, started: str = "2026-01-01") -> Run:
    return Run(folder, kind="rl", config_toml="", seed=0, facts={"started": started})


def saved(folder: Path, *, started: str = "2026-01-01", value: float = 1.0, step: int = 3) -> Path:
    with opened(folder, started=started) as run:
        save_state(run, OneWeight(value), {**BEGUN, "step": step})
        run.log(step - 1, {"loss": 0.0})
    return state_path(folder)


def test_a_state_of_another_run_is_refused_though_its_weights_fit(tmp_path):
    other, own = saved(tmp_path / "other", started="2026-01-02", value=2.0), saved(tmp_path / "own")
    shutil.copy(other, own)
    learner = OneWeight(0.0)
    with opened(tmp_path / "own") as run, pytest.raises(ValueError, match="of another run: rl, 0, 2026-01-02, not rl"):
        load_state(run, learner, BEGUN)
    assert learner.weight.item() == 0.0


def test_a_run_that_was_moved_goes_on_from_its_state_and_so_does_one_whose_state_names_no_run(tmp_path):
    state = saved(tmp_path / "here", value=2.0)
    (tmp_path / "here").rename(tmp_path / "there")
    for content in (None, save({"weight": torch.tensor([2.0])}, metadata={"facts": json.dumps({**BEGUN, "step": 3})})):
        if content:
            state_path(tmp_path / "there").write_bytes(content)
        learner = OneWeight(0.0)
        with opened(tmp_path / "there") as run:
            assert load_state(run, learner, BEGUN)["step"] == 3
        assert learner.weight.item() == 2.0 and not state.exists()


@pytest.mark.parametrize("facts", ["{}", "[]", "5", "null", "{", '{"step": "3", "tokens": 0, "seconds": 0.0}'])
def test_a_state_without_what_a_run_counts_is_refused_and_changes_nothing(facts, tmp_path):
    state = saved(tmp_path)
    state.write_bytes(save({"weight": torch.tensor([2.0])}, metadata={"facts": facts}))
    learner = OneWeight(0.0)
    with opened(tmp_path) as run, pytest.raises(ValueError, match="is damaged or does not fit this run"):
        load_state(run, learner, BEGUN)
    assert learner.weight.item() == 0.0


def test_a_state_of_which_a_single_bit_has_changed_is_refused(tmp_path):
    state = saved(tmp_path)
    whole = state.read_bytes()
    for at in range(len(whole) - 4, len(whole)):
        state.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        learner = OneWeight(0.0)
        with opened(tmp_path) as run, pytest.raises(ValueError, match="its numbers are not those that were saved"):
            load_state(run, learner, BEGUN)
        assert learner.weight.item() == 0.0


def test_a_run_whose_state_is_gone_says_that_it_begins_again_and_a_new_one_says_nothing(tmp_path):
    saved(tmp_path).unlink()
    with opened(tmp_path) as run, pytest.warns(UserWarning, match="no saved state: it begins again, and its 1 logged"):
        assert load_state(run, OneWeight(0.0), BEGUN) == BEGUN
    with opened(tmp_path / "new") as run, warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_state(run, OneWeight(0.0), BEGUN) == BEGUN
