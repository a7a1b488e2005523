"""litellm, pointed at the server as its documentation says, for real."""

from __future__ import annotations

import os

import pytest

from tests.serve.serving import KEY

pytestmark = pytest.mark.slow

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # it would ask the network for prices
litellm = pytest.importorskip("litellm")


def test_litellm_completes_and_streams(server):
    where = {"model": "openai/scripted", "api_base": f"{server.url}/v1", "api_key": KEY}
    messages = [{"role": "user", "content": "2+2?"}]
    whole = litellm.completion(**where, messages=messages, seed=1)
    assert whole.choices[0].message.content.startswith("The answer to 2+2? is 42.")
    assert whole.usage.completion_tokens_details.reasoning_tokens > 0
    assert not getattr(whole.choices[0].message, "reasoning_content", None)
    chunks = litellm.completion(**where, messages=messages, seed=1, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole.choices[0].message.content
