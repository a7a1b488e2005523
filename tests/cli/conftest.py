"""A model of a few thousand parameters for all verbs."""

from __future__ import annotations

from pathlib import Path

import pytest

from ponder.models.tokenizer import ByteTokenizer
from ponder.models.weights import save_model
from tests.helpers import tiny_model


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    save_model(tiny_model(window=512), folder)
    ByteTokenizer().save(str(folder))
    return folder
