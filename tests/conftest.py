"""What holds for every test."""

import gc
import signal

import torch

from tests.account import pytest_configure  # noqa: F401, what did not run is told at the end

# as in the workers: with more threads PyTorch sums in another order, and no two bits would be sure to agree
torch.set_num_threads(1)

# a shell starts what runs in its background with Ctrl-C ignored, and so would every child that a test interrupts
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# what is collected lives to the end: else every large collection of garbage looks through fourteen thousand tests
gc.disable()


def pytest_collection_finish() -> None:
    gc.enable()
    gc.freeze()
