"""Which tests may be skipped, and why: the whole list.

A skip that is not here means that something a contributor is told to install is not installed, or that a test was
switched off. It is printed at the end of every run, and fails the run where the environment says CI=true
(`tests/conftest.py`). What `pip install "ponder[dev]"` installs is never a reason.
"""

from __future__ import annotations

import re

# what the reason of the skip says -> why it may be so on a machine that has all of `make test`'s requirements
EXPECTED = {
    r"for want of Chromium": "a browser is a system package, and some CI machines have none",
    r"PONDER_TEST_POSTGRES names no database": "needs a PostgreSQL server, which nothing here may start or empty",
    r"could not import 'litellm'": "a client of the server, heavy, and no part of the test requirements",
    r"vLLM has an environment of its own": "4 GB, and a start takes a minute: make vllm-test",
    r"PONDER_TINKER_PYTHON names no Python": "the Tinker SDK lives in an environment of its own: make tinker-test",
    r"could not import 'llama_cpp'": "llama.cpp, compiled for minutes, and no part of the test requirements",
    r"could not import 'mkdocs'": "the site's builder, in the extra `docs`, and no part of the test requirements",
    r"TRL is not installed": "an oracle for the losses, in the extra `parity`, and no part of the test requirements",
    r"needs the real model": "a download of some hundred MB; tests need no network",
    r"no compiled (C|network|softmax|attention) here": "C needs an x86 CPU with AVX2, and a compiler",
    r"this is what C is here": "a CPU without AVX-512 has no second path to compare",
    r"pairs of numbers are bfloat16's": "in float32 there is no such path",
    r"only root may mount": "a double stands for the mount beside it",
    r"no C\+\+ compiler here": "a compiler is a system package: apt-get install g++",
    r"no fence for compilers here": "compilers run behind Landlock, which is Linux's, since 5.13",
    r"PONDER_DATA holds no package of IOI 2024": "the packages are the organizers', 400 kB to 10 MB, no part of this",
    r"PONDER_DATA holds no published comparisons": "sets of human preferences are not part of the package",
    r"PONDER_DATA holds no PandaLM": "a public set of votes that is not part of the package",
    r"could not import '(choix|evalica)'": "oracles for the ratings, and no part of the test requirements",
    r"no recorded Codeforces rounds": "public facts that are not part of the package",
    r"Ray is installed here": "the message is for those who lack it",
    r"on Linux only": "other systems start workers another way",
}


def why(reason: str) -> str | None:
    """Why a skip of this reason is expected; None if it is not."""
    return next((text for pattern, text in EXPECTED.items() if re.search(pattern, reason)), None)
