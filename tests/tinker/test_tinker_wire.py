"""The two messages that are not JSON: what the SDK wrote is read, what is broken is refused."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np
import pytest

from ponder.tinker.protobuf import WireError, blob, fields, integer, varint
from ponder.tinker.wire import loss_response, read_datum, read_request, sample_response
from tests.helpers import takes_at_most
from tests.tinker.tinkering import datum, read_output, read_samples, tensor

# bytes that tinker 0.38.0 made of known requests
RECORDED = {
    name: base64.b64decode(text)
    for name, text in json.loads((Path(__file__).parent / "recorded.json").read_text()).items()
}


def test_a_recorded_policy_gradient_request_is_read_as_it_was_sent():
    request = read_request(RECORDED["ppo"])
    assert (request.model_id, request.seq_id, request.loss) == ("s1:train:0", 3, "ppo")
    assert request.settings == {"clip_low_threshold": 0.7} and not request.is_forward_only
    first, second = map(read_datum, request.data)
    assert [chunk.tolist() for chunk in first.chunks] == [[7, 8, 9, 300], [1, 2]]
    assert first.inputs["target_tokens"].tolist() == [0, 0, 0, 1, 2, 3]
    np.testing.assert_allclose(first.inputs["advantages"], [0, 0, 0, 0.5, 0.5, 0.5])
    np.testing.assert_allclose(first.inputs["logprobs"], [0, 0, 0, -0.5, -0.5, -0.5])
    assert len(second) == 4 and second.inputs["target_tokens"].tolist() == [0, 0, 0, 4]


def test_a_recorded_supervised_request_is_read_as_it_was_sent():
    request = read_request(RECORDED["cross_entropy_forward"])
    assert request.is_forward_only and request.seq_id == 1 and request.settings == {}
    (only,) = map(read_datum, request.data)
    assert only.inputs["target_tokens"].tolist() == [2, 3] and only.inputs["weights"].tolist() == [0, 1]


@pytest.mark.parametrize("name", sorted(RECORDED))
def test_a_request_cut_off_anywhere_is_refused_or_read_and_never_crashes(name):
    refused = 0
    for size in range(len(RECORDED[name])):
        try:
            for view in read_request(RECORDED[name][:size]).data:
                read_datum(view)
        except WireError:
            refused += 1
    assert refused > len(RECORDED[name]) / 2


def test_a_body_of_empty_fields_is_refused_before_it_fills_the_memory():
    with takes_at_most(5), pytest.raises(WireError, match="more than 200,000 fields"):
        read_request(b"\x1a\x00" * (16 << 20))


def test_noise_is_refused_or_read_and_never_crashes():
    generator = np.random.default_rng(0)
    for _ in range(300):
        body = generator.integers(0, 256, generator.integers(1, 80), np.uint8).tobytes()
        try:
            for view in read_request(body).data:
                read_datum(view)
        except WireError:
            pass


@pytest.mark.parametrize("number", [0, 1, 127, 128, 300, 2**31, 2**63 - 1, -1])
def test_numbers_come_back_as_they_were_written(number):
    ((field, value),) = fields(memoryview(integer(5, number)))
    assert field == 5 and value == number % 2**64


def test_a_number_that_never_ends_is_refused():
    with pytest.raises(WireError, match="64 bits"):
        list(fields(memoryview(varint(8) + b"\xff" * 12)))


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (blob(1, blob(2, b"png")), "images"),
        (blob(2, b"\x0a\x01w" + blob(2, blob(2, b"") + integer(3, 1))), "sparse"),
        (tensor("weights", [1.0, 2.0], dtype=1, shape=[1, 2]), "one number a position"),
        (blob(2, b"\x0a\x01w" + blob(2, integer(3, 4))), "dtype 4"),
    ],
)
def test_what_is_not_one_number_a_position_is_refused_by_name(body, why):
    with pytest.raises(WireError, match=why):
        read_datum(memoryview(body))


def test_answers_are_read_back():
    logprobs, metrics = read_output(loss_response([np.array([-1.0, -2.0]), np.array([-3.0])], {"loss:sum": 6.5}))
    assert [each.tolist() for each in logprobs] == [[-1, -2], [-3]] and metrics == {"loss:sum": 6.5}
    samples, prompt = read_samples(sample_response([([5, 6], [-0.5, -1.5], "length")], np.array([np.nan, -1.0])))
    assert samples == [([5, 6], [-0.5, -1.5], 1)]
    assert np.isnan(prompt[0]) and prompt[1] == -1


def test_a_datum_counts_the_tokens_of_all_its_chunks():
    assert len(read_datum(memoryview(datum([1, 2], [3], target_tokens=[2, 3, 4])))) == 3
