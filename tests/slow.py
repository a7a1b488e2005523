"""What takes long: what `make check` leaves out beside tests that are marked slow, and what the workers take first.

    python -m pytest -n 2 --dist loadfile --junitxml=times.xml && python -m tests.slow times.xml

writes that list anew: a test function is in it if all of its cases took more than 4 s, or one more than 0.4 s where
the mean is more than 0.1 s. Marks in the code stay; they are for tests whose nature it is.
"""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET
from collections import Counter, defaultdict
from pathlib import Path

import pytest

FILE = Path(__file__).with_name("slow.txt")
ALL, ONE, MEAN = 4.0, 0.4, 0.1  # seconds


class Slow:
    """Marks the tests of the list, and puts the files with most slow tests first.

    A worker of xdist takes a whole file. The last ones should be short, or the other workers wait for its end.
    """

    @pytest.hookimpl(tryfirst=True)  # before -m is looked at
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        slow, counts = set(FILE.read_text().split()), Counter[Path]()
        for item in items:
            if item.nodeid.partition("[")[0] in slow:
                item.add_marker("slow")
            counts[item.path] += item.get_closest_marker("slow") is not None
        items.sort(key=lambda item: -counts[item.path])  # stable: within a file, and among equals, as collected


def names(times: str) -> list[str]:
    """Test functions of a JUnit file that take long."""
    taken: dict[str, list[float]] = defaultdict(list)
    for case in ET.parse(times).getroot().iter("testcase"):
        test = f"{case.get('classname', '').replace('.', '/')}.py::{case.get('name', '').partition('[')[0]}"
        taken[test].append(float(case.get("time", 0)))
    return sorted(
        test for test, each in taken.items()
        if sum(each) > ALL or (max(each) > ONE and sum(each) / len(each) > MEAN)
    )  # fmt: skip


if __name__ == "__main__":
    FILE.write_text("\n".join(names(sys.argv[1])) + "\n")
