"""What the tests of killable children run in the child."""

from __future__ import annotations

import os
import sys
import time
from typing import Any


def double(number: int) -> int:
    print("this must not reach the protocol")
    sys.stdin.read()
    return 2 * number


def sleep(seconds: float) -> None:
    time.sleep(seconds)


def spin() -> int:
    return len(str(9 ** (9**8)))  # holds the interpreter's lock for hours


def eat() -> int:
    return len(bytearray(1 << 40))


def die() -> None:
    os.kill(os.getpid(), 11)


def leave() -> None:
    sys.exit(0)


def fail() -> None:
    raise ZeroDivisionError("no")


def pid() -> int:
    return os.getpid()


def unserialisable() -> Any:
    return object()
