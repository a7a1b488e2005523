"""Weights written straight into a network's memory."""

import pytest
import torch

from ponder.engine.arranging import in_memory, write
from ponder.engine.decoder import fuse
from tests.helpers import tiny_model


def lying():
    return in_memory(list(fuse(tiny_model().state_dict())), torch.float32, torch.device("cpu")).views()


@pytest.mark.parametrize(
    ("changes", "says"),
    [({"num_hidden_layers": 1}, "the new weights lack model.layers.1"), ({"hidden_size": 16}, "do not fit")],
)
def test_weights_of_another_network_are_refused_and_nothing_is_written(changes, says):
    views = lying()
    with pytest.raises(ValueError, match=says):
        write(list(fuse(tiny_model(seed=1, **changes).state_dict())), views)
    assert all(torch.equal(view, before) for view, before in zip(views.values(), lying().values(), strict=True))


def test_memory_is_shared_where_it_is_asked_for_and_holds_the_same():
    tensors = list(fuse(tiny_model().state_dict()))
    shared = in_memory(tensors, torch.float32, torch.device("cpu"), shared=True)
    assert shared.memory.is_shared()
    assert all(torch.equal(a, b) for a, b in zip(shared.views().values(), lying().values(), strict=True))
