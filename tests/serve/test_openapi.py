"""Our own OpenAPI document, fuzzed: what fits it is served or refused for a reason that is in the contract, what does
not is refused, and every answer is of a documented form."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from ponder.serve.app import OPERATIONS

EXAMPLES = int(os.environ.get("PONDER_EXAMPLES", "3"))  # an operation and phase
# all checks, on all operations, but for two excuses. What fits a request's schema may still have nothing in it to
# answer, give a function's output without its call or ask for a mode that needs more (400), and no scripted model
# writes JSON for any schema (422). And among items that are given, one may refer to a stored item that is not there:
# 404, as in the contract, but `ensure_resource_availability` takes any 404 for a conversation just created being gone
CONFIG = """
[[operations]]
include-path = [
    "/v1/chat/completions", "/v1/responses", "/v1/responses/input_tokens", "/v1/responses/{id}/cancel", "/v1/messages",
    "/v1/messages/count_tokens",
]
include-method = "POST"
checks.positive_data_acceptance.expected-statuses = ["2xx", "400", "401", "403", "404", "409", "422"]

[[operations]]
include-path = ["/v1/conversations", "/v1/conversations/{id}/items"]
include-method = "POST"
checks.ensure_resource_availability.enabled = false
"""


@pytest.mark.slow
@pytest.mark.timeout(1600)  # more than its child may take
def test_schemathesis_finds_nothing(server, tmp_path):
    (tmp_path / "schemathesis.toml").write_text(CONFIG)
    key = server.key("infer", "read", "admin", "raw_cot")
    # all checks are on unless CONFIG says otherwise; `--checks all` would overrule it
    command = [
        sys.executable, "-m", "schemathesis.cli", "--config-file", str(tmp_path / "schemathesis.toml"), "--no-color",
        "run", f"{server.url}/openapi.json", "-H", f"Authorization: Bearer {key}", "--max-examples", str(EXAMPLES),
        "--workers", "1", "--seed", "1", "--request-timeout", "30",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=1500)
    if "No module named schemathesis" in done.stderr:
        pytest.skip("schemathesis is not installed")
    print(done.stdout[-6000:])
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2000:]
    cases = re.search(r"(\d+) generated, (\d+) passed", done.stdout)
    assert cases is not None and int(cases[2]) >= 2000
    documented = sum(operation.is_documented for operation in OPERATIONS)
    assert f"{documented - 1} selected" in done.stdout  # all but the one that gives the document itself
