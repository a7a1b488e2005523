"""What a user writes to train on a task of ponder's with the package."""

from ponder.tasks.verifiers_taskset import ponder_taskset

Words = ponder_taskset("arithmetic:level=1-3", limit=20)
__all__ = ["Words"]
