"""What holds for every test."""

import torch

from tests.account import pytest_configure  # noqa: F401, what did not run is told at the end

# as in the workers: with more threads PyTorch sums in another order, and no two bits would be sure to agree
torch.set_num_threads(1)
