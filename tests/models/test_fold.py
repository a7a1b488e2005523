"""Adapters over adapters: as one they are the same model, and of a smaller rank the nearest there is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from ponder.cli import app
from ponder.config import ConfigError
from ponder.models import hub
from ponder.models.fold import chain, cut, fold
from ponder.models.lora import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from tests.models.test_lora import make_adapter, make_base


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PONDER_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def tower(tmp_path: Path) -> Path:
    """An adapter of rank 2 over one of rank 4 over a model; the lower one brings reasoning marks."""
    base = make_base(tmp_path / "base", torch.float32)
    lower = make_adapter(tmp_path / "lower", str(base), reasoning_marks=True)
    return make_adapter(tmp_path / "upper", str(lower), rank=2, seed=1)


def weights(reference: Path) -> dict[str, torch.Tensor]:
    return hub.load(reference)[0].state_dict()


def assert_same_model(one: Path, other: Path, tolerance: float = 1e-6) -> None:
    mine, its = weights(one), weights(other)
    assert mine.keys() == its.keys()
    for name, weight in mine.items():
        torch.testing.assert_close(weight, its[name], rtol=0, atol=tolerance)


def test_an_adapter_over_an_adapter_is_a_model_and_both_as_one_are_the_same_model(tower: Path, tmp_path: Path) -> None:
    assert [folder.name for folder in chain(tower)[0]] == ["lower", "upper"]
    assert Path(chain(tower)[1]).name == "base"
    assert fold(tower, tmp_path / "one", dtype=torch.float32) == pytest.approx(1)
    config = json.loads((tmp_path / "one" / ADAPTER_CONFIG).read_text())
    assert (config["r"], Path(config["base_model_name_or_path"]).name) == (6, "base")
    assert_same_model(tower, tmp_path / "one")
    assert hub.load(tmp_path / "one")[1].think_id == hub.load(tower)[1].think_id == 3


def test_what_a_model_was_trained_on_goes_along(tower: Path, tmp_path: Path) -> None:
    sources = [{"kind": "task", "task": "gsm8k", "split": "train", "seed": 0, "size": 8}]
    (tower / "training.json").write_text(json.dumps({"format": 1, "sources": sources}))
    fold(tower, tmp_path / "one")
    assert json.loads((tmp_path / "one" / "training.json").read_text())["sources"] == sources


def test_the_rows_of_the_marks_are_those_of_the_highest(tower: Path, tmp_path: Path) -> None:
    fold(tower, tmp_path / "lower_alone", dtype=torch.float32)
    held = load_file(tmp_path / "lower_alone" / ADAPTER_WEIGHTS)
    rows = next(name for name in held if name.endswith("trainable_tokens_delta"))
    ids = json.loads((tmp_path / "lower_alone" / ADAPTER_CONFIG).read_text())["trainable_token_indices"]["embed_tokens"]
    assert torch.equal(held[rows], weights(tower)["model.embed_tokens.weight"][ids])


@pytest.mark.parametrize("rank", [1, 3, 5])
def test_a_smaller_rank_is_the_nearest_there_is_and_says_what_it_keeps(rank: int) -> None:
    generator = torch.Generator().manual_seed(rank)
    a, b = torch.randn(6, 20, generator=generator), torch.randn(12, 6, generator=generator)
    (small_a, small_b), kept, whole = cut(a, b, rank)
    assert small_a.shape == (rank, 20) and small_b.shape == (12, rank)
    singular = torch.linalg.svdvals((b @ a).double())
    assert kept == pytest.approx(singular[:rank].square().sum().item(), rel=1e-5)
    assert whole == pytest.approx(singular.square().sum().item(), rel=1e-5)
    missed = (b @ a - small_b @ small_a).square().sum().double()
    torch.testing.assert_close(missed, singular[rank:].square().sum(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("rank", [0, 6, 7])
def test_of_a_rank_that_is_not_smaller_nothing_is_changed(rank: int) -> None:
    a, b = torch.randn(6, 4), torch.randn(3, 6)
    (same_a, same_b), kept, whole = cut(a, b, rank)
    assert same_a is a and same_b is b
    assert kept == whole == pytest.approx((b @ a).square().sum().item(), rel=1e-5)


def test_the_command_says_how_much_is_kept_and_replaces_nothing(tower: Path, tmp_path: Path) -> None:
    told = CliRunner().invoke(app, ["export", str(tower), str(tmp_path / "small-0.5b"), "--rank", "4"])
    assert told.exit_code == 0 and "% of the change" in told.output, told.output
    assert json.loads((tmp_path / "small-0.5b" / ADAPTER_CONFIG).read_text())["r"] == 4
    hub.load(tmp_path / "small-0.5b")
    again = CliRunner().invoke(app, ["export", str(tower), str(tmp_path / "small-0.5b")])
    assert isinstance(again.exception, ConfigError) and "is there already" in str(again.exception)


def test_a_model_without_an_adapter_has_none_to_write_and_a_circle_is_told(tower: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no adapter"):
        fold("nano", tmp_path / "out")
    make_adapter(tmp_path / "lower", str(tower))
    with pytest.raises(ConfigError, match="round in a circle"):
        chain(tower)
