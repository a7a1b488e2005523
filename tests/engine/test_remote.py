"""The remote engine against a small server on loopback: the protocol, its dialects, its failures."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ponder.engine.remote import RemoteEngine, RemoteError, _divide, _read, _retry_after
from ponder.types import Completion, Engine, Message, SamplingParams, Usage, sample_seed

QUESTION = [Message(role="user", content="2+2?")]
Reply = tuple[int, Any] | tuple[int, Any, dict[str, str]]


class Server:
    """Answers every request by `reply(body)`; keeps what was asked and how many were in flight at once."""

    def __init__(self, reply: Callable[[dict[str, Any]], Reply]) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.in_flight = self.most_in_flight = 0
        lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                with lock:
                    server.bodies.append({"path": self.path, **body})
                    server.headers.append(dict(self.headers))
                    server.in_flight += 1
                    server.most_in_flight = max(server.most_in_flight, server.in_flight)
                try:
                    status, answer, headers = (*reply(body), {})[:3]
                finally:
                    with lock:
                        server.in_flight -= 1
                data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(status)
                for name, value in {"content-length": str(len(data)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *arguments: Any) -> None:
                pass

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *arguments: Any) -> None:
                pass  # clients that go away are part of the tests

        self._server = Quiet(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Callable[[dict[str, Any]], Reply]], Server]]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    servers: list[Server] = []

    def start(reply: Callable[[dict[str, Any]], Reply]) -> Server:
        servers.append(Server(reply))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def choice(content: Any = "4", finish: str = "stop", **message: Any) -> dict[str, Any]:
    return {"message": {"role": "assistant", "content": content, **message}, "finish_reason": finish}


def answer(*choices: dict[str, Any], **usage: Any) -> Reply:
    numbered = [{"index": index, **one} for index, one in enumerate(choices)]
    return 200, {"choices": numbered, "usage": {"prompt_tokens": 7, "completion_tokens": 3, **usage}}


def many(body: dict[str, Any]) -> Reply:
    return answer(*(choice() for _ in range(body.get("n", 1))))


def generate(server: Server, params: SamplingParams | None = None, n: int = 1, first: int = 0, **options: Any) -> Any:
    engine = RemoteEngine(server.url, "some-model", **{"first_wait": 0.01, **options})
    return asyncio.run(engine.generate(QUESTION, params or SamplingParams(), n=n, first=first))


def read(serve: Any, *choices: dict[str, Any], **usage: Any) -> list[Completion]:
    return generate(serve(lambda body: answer(*choices, **usage)), n=len(choices))


def slowly(seconds: float, reply: Reply) -> Reply:
    time.sleep(seconds)
    return reply


# ------------------------------------------------------------------------------------------------------ the protocol


def test_it_is_an_engine(serve: Any) -> None:
    assert isinstance(RemoteEngine("http://x", "m"), Engine)


def test_a_request_says_what_was_asked_and_no_more(serve: Any) -> None:
    server = serve(many)
    messages = [Message(role=role, content=role) for role in ("system", "developer", "user", "assistant", "tool")]  # type: ignore[arg-type]
    params = SamplingParams(temperature=0.5, top_p=0.9, max_reasoning_tokens=30, max_answer_tokens=12, seed=3)
    asyncio.run(RemoteEngine(server.url + "/", "some-model").generate(messages, params, n=2, first=5))
    assert server.bodies == [
        {
            "path": "/v1/chat/completions",
            "model": "some-model",
            "messages": [
                {"role": role, "content": content}
                for role, content in zip(
                    ("system", "system", "user", "assistant", "user"),
                    ("system", "developer", "user", "assistant", "tool"),
                    strict=True,
                )
            ],
            "temperature": 0.5,
            "top_p": 0.9,
            "max_tokens": 42,
            "n": 2,
            "seed": sample_seed(3, 5) >> 32,
        }
    ]
    assert "Authorization" not in server.headers[0]


def test_a_completion_holds_what_the_server_told_and_nothing_made_up(serve: Any) -> None:
    details = {"completion_tokens_details": {"reasoning_tokens": 20}}
    reply = choice("4", reasoning_content="two and two")
    (completion,) = read(serve, reply, prompt_tokens=11, completion_tokens=25, **details)
    assert completion == Completion(
        prompt_ids=(), token_ids=(), sampler_logprobs=(), sampled=(), finish_reason="stop", reasoning="two and two",
        answer="4", num_reasoning_tokens=20, seed=sample_seed(0, 0),
        counted=Usage(prompt_tokens=11, reasoning_tokens=20, completion_tokens=25, samples=1),
    )  # fmt: skip
    assert Usage.of([completion]) == completion.counted
    assert completion.num_tokens == 25 and not completion.was_cut


def test_the_servers_total_is_kept_when_it_is_divided_among_samples(serve: Any) -> None:
    replies = [choice("4"), choice("four hundred"), choice("")]
    details = {"completion_tokens_details": {"reasoning_tokens": 7}}
    for usage in ({}, details):
        completions = read(serve, *replies, prompt_tokens=11, completion_tokens=100, **usage)
        assert Usage.of(completions).completion_tokens == 100
        assert Usage.of(completions).prompt_tokens == 11
        assert completions[1].num_tokens > completions[0].num_tokens
    assert [c.seed for c in completions] == [sample_seed(0, index) for index in range(3)]


def test_no_sample_has_more_reasoning_than_tokens(serve: Any) -> None:
    """A thought without an answer beside an answer with little thought, and a server that counts reasoning apart."""
    replies = [choice("", reasoning_content="a" * 100), choice("b" * 100, reasoning_content="a")]
    for reasoning, whole in ((19, 20), (300, 320)):
        details = {"completion_tokens_details": {"reasoning_tokens": reasoning}}
        completions = read(serve, *replies, completion_tokens=20, **details)
        assert all(0 <= one.num_reasoning_tokens <= one.num_tokens for one in completions)
        used = Usage.of(completions)
        assert (used.reasoning_tokens, used.completion_tokens) == (reasoning, whole)


@given(st.integers(0, 10_000), st.lists(st.integers(0, 50), min_size=1).filter(any))
def test_dividing_keeps_the_sum_and_follows_the_weights(total: int, weights: list[int]) -> None:
    parts = _divide(total, weights)
    assert sum(parts) == total
    assert all(abs(part - total * weight / sum(weights)) < 1 for part, weight in zip(parts, weights, strict=True))


def test_reasoning_tokens_are_estimated_where_the_server_does_not_count_them(serve: Any) -> None:
    (completion,) = read(serve, choice("b" * 49, reasoning="a" * 50), completion_tokens=100)
    assert completion.num_reasoning_tokens == 50
    (completion,) = read(serve, choice("b"), completion_tokens=100)
    assert completion.num_reasoning_tokens == 0


@pytest.mark.parametrize(
    ("message", "reasoning", "said"),
    [
        ({"content": "4"}, "", "4"),
        ({"content": "4", "reasoning_content": "hm"}, "hm", "4"),
        ({"content": "4", "reasoning": "hm"}, "hm", "4"),
        ({"content": "4", "reasoning_content": None, "reasoning": ""}, "", "4"),
        ({"content": "<think>\nhm\n</think>\n\n4"}, "hm", "4"),
        ({"content": "\n<think>hm</think>4</think>"}, "hm\n\n4", ""),
        ({"content": "hm</think>4"}, "hm", "4"),
        ({"content": "<think>never closed"}, "never closed", ""),
        ({"content": "4 <think> is a word"}, " is a word", "4 "),
        ({"content": "say </think>", "reasoning": "hm"}, "hm\n\nsay ", ""),
        ({"content": "Hello <THINK>two</think >Done", "reasoning_content": "one"}, "one\n\ntwo", "Hello Done"),
        ({"content": None}, "", ""),
        ({"content": None, "reasoning_content": "cut"}, "cut", ""),
        ({"content": [{"type": "text", "text": "4"}, {"type": "text", "text": "2"}]}, "", "42"),
        ({}, "", ""),
        (None, "", ""),
        ({"content": 3, "reasoning": {"a": 1}}, "", ""),
    ],
)
def test_reasoning_and_answer_are_told_apart(message: Any, reasoning: str, said: str) -> None:
    assert _read(message, ()) == (reasoning, said, False)


def test_stop_strings_cut_the_answer_and_leave_the_reasoning(serve: Any) -> None:
    server = serve(lambda body: answer(choice("4. And more; so", "length", reasoning="a; b. c")))
    (completion,) = generate(server, SamplingParams(stop=(";", ". ")))
    assert (completion.reasoning, completion.answer, completion.finish_reason) == ("a; b. c", "4", "stop")
    assert "stop" not in server.bodies[0]


def test_a_cut_completion_is_counted_as_cut(serve: Any) -> None:
    (completion,) = read(serve, choice("", "length", reasoning="on and on"))
    assert completion.finish_reason == "length" and completion.was_cut and completion.answer == ""
    assert read(serve, choice("no", "content_filter"))[0].finish_reason == "stop"


@pytest.mark.parametrize("reason", ["length", "max_tokens", "model_length"])
def test_a_limit_is_a_limit_under_any_name_that_servers_give_it(serve: Any, reason: str) -> None:
    (completion,) = read(serve, choice("The answer is 12", reason, reasoning="hm"))
    assert completion.finish_reason == "length" and completion.was_cut


def test_a_cut_text_without_marks_is_reasoning_unless_the_model_is_known_to_answer_plainly(serve: Any) -> None:
    replies: list[dict[str, Any]] = []
    server = serve(lambda body: answer(replies.pop(0)))
    engine = RemoteEngine(server.url, "m")

    def said(*given: dict[str, Any]) -> tuple[str, str]:
        replies.extend(given)
        (completion,) = [asyncio.run(engine.generate(QUESTION, SamplingParams())) for _ in given][-1]
        return completion.reasoning, completion.answer

    assert said(choice("SECRET", "length")) == ("SECRET", "")
    assert said(choice("SECRET", "content_filter")) == ("SECRET", "")
    assert said(choice("4"), choice("12 is the sum of", "length")) == ("", "12 is the sum of")
    assert said(choice("half an", "length", reasoning="hm")) == ("hm", "half an")
    assert said(choice("SECRET", "length")) == ("SECRET", "")  # it has been seen to think


# ----------------------------------------------------------------------------------------------------- many samples


def test_samples_come_in_the_order_of_their_index(serve: Any) -> None:
    def reply(body: dict[str, Any]) -> Reply:
        choices = [{**choice(str(index)), "index": index} for index in (2, 0, 1)]
        return 200, {"choices": choices}

    assert [c.answer for c in generate(serve(reply), n=3)] == ["0", "1", "2"]


def test_a_server_that_refuses_n_is_asked_one_by_one_with_seeds_of_their_own(serve: Any) -> None:
    def reply(body: dict[str, Any]) -> Reply:
        if body.get("n", 1) > 1:
            return 400, {"error": {"message": "Only one completion choice is allowed"}}
        return answer(choice(str(body["seed"])))

    server = serve(reply)
    engine = RemoteEngine(server.url, "m")

    async def twice() -> list[list[Completion]]:
        return [await engine.generate(QUESTION, SamplingParams(), n=3, first=first) for first in (0, 3)]

    one, two = asyncio.run(twice())
    assert [c.answer for c in one + two] == [str(sample_seed(0, index) >> 32) for index in range(6)]
    assert len(server.bodies) == 1 + 3 + 3  # the second time it is not asked for n again


def test_a_server_that_ignores_n_is_asked_for_the_rest(serve: Any) -> None:
    server = serve(lambda body: answer(choice()))
    assert [c.seed for c in generate(server, n=4)] == [sample_seed(0, index) for index in range(4)]
    assert len(server.bodies) == 4
    assert len(generate(serve(lambda body: answer(choice(), choice(), choice())), n=2)) == 2


def test_a_refused_prompt_does_not_look_like_a_refused_n(serve: Any) -> None:
    server = serve(lambda body: (400, {"error": {"message": "maximum context length is 10 tokens"}}))
    engine = RemoteEngine(server.url, "m")
    with pytest.raises(RemoteError, match="answered 400: maximum context length is 10 tokens"):
        asyncio.run(engine.generate(QUESTION, SamplingParams(), n=2))
    assert engine._takes_n


def test_refused_parameters_are_sent_otherwise_even_by_requests_at_the_same_time(serve: Any) -> None:
    def reply(body: dict[str, Any]) -> Reply:
        time.sleep(0.02)
        if "max_tokens" in body:
            return 400, {"error": {"message": "'max_tokens' is not supported. Use 'max_completion_tokens' instead."}}
        if "seed" in body:
            return 422, {"detail": [{"loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]}
        return many(body)

    server = serve(reply)
    engine = RemoteEngine(server.url, "m")

    async def at_once() -> list[list[Completion]]:
        return await asyncio.gather(*(engine.generate(QUESTION, SamplingParams()) for _ in range(4)))

    assert len(asyncio.run(at_once())) == 4
    assert server.bodies[-1]["max_completion_tokens"] == 256 + 64


def test_no_more_requests_than_allowed_are_in_flight(serve: Any) -> None:
    def reply(body: dict[str, Any]) -> Reply:
        time.sleep(0.02)
        return (400, "n") if "n" in body else many(body)

    server = serve(reply)
    assert len(generate(server, n=12, max_concurrency=3)) == 12
    assert server.most_in_flight <= 3


def test_one_engine_serves_several_event_loops(serve: Any) -> None:
    engine = RemoteEngine(serve(many).url, "m", max_concurrency=1)

    async def ask() -> None:
        await asyncio.gather(*(engine.generate(QUESTION, SamplingParams()) for _ in range(3)))

    asyncio.run(ask())
    asyncio.run(ask())


# --------------------------------------------------------------------------------------------------------- failures


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 529])
def test_passing_failures_are_tried_again(serve: Any, status: int) -> None:
    replies: Iterator[Reply] = iter([(status, {"error": "later"}), (status, b"<html>"), many({})])
    server = serve(lambda body: next(replies))
    assert generate(server)[0].answer == "4"
    assert len(server.bodies) == 3


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 413])
def test_lasting_failures_are_told_at_once(serve: Any, status: int) -> None:
    server = serve(lambda body: (status, {"error": {"message": "no,\n because"}}))
    with pytest.raises(RemoteError, match=f"answered {status}: no, because") as caught:
        generate(server)
    assert caught.value.status == status and len(server.bodies) == 1
    fixes = {401: "set OPENAI_API_KEY", 403: "set OPENAI_API_KEY", 404: "check base_url .* name 'some-model'"}
    assert caught.match(fixes.get(status, ""))


def test_tries_end(serve: Any) -> None:
    server = serve(lambda body: (503, {"message": "loading"}))
    with pytest.raises(RemoteError, match=r"answered 503: loading \(tried 3 times\)"):
        generate(server, max_retries=2)
    assert len(server.bodies) == 3


def test_the_server_says_how_long_to_wait(serve: Any) -> None:
    replies: Iterator[Reply] = iter([(429, {}, {"retry-after": "0.3"}), many({})])
    start = time.monotonic()
    generate(serve(lambda body: next(replies)))
    assert time.monotonic() - start >= 0.3


def test_a_retry_after_header_is_seconds_or_a_date() -> None:
    assert _retry_after("3") == 3 and _retry_after("-3") == 0
    assert _retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert _retry_after("Wed, 21 Oct 2115 07:28:00 GMT") > 1e9
    for junk in ("", "soon", "\x00", "1e", "Wed"):
        assert _retry_after(junk) == 0


def test_a_server_that_is_not_there_is_one_clear_error(serve: Any) -> None:
    server = serve(many)
    server.close()
    with pytest.raises(RemoteError, match="cannot be reached: .*tried 2 times"):
        generate(server, max_retries=1)


def test_a_server_that_does_not_answer_is_given_up(serve: Any) -> None:
    server = serve(lambda body: slowly(1, many(body)))
    with pytest.raises(RemoteError, match=r"no answer within 0.1 s \(tried 2 times\)"):
        generate(server, timeout=0.1, max_retries=1)


@pytest.mark.parametrize(
    "junk",
    [
        b"<html>hello</html>",
        b"",
        b"[]",
        b"null",
        b"[" * 100_000,
        b"\xff\xfe\xfd",
        {},
        {"choices": []},
        {"choices": [3]},
        {"error": "model is loading"},
    ],
)
def test_an_answer_of_another_kind_is_one_clear_error(serve: Any, junk: Any) -> None:
    with pytest.raises(RemoteError, match="answered without choices.*check base_url"):
        generate(serve(lambda body: (200, junk)))


def test_strange_fields_in_an_answer_do_no_harm(serve: Any) -> None:
    usages: list[Any] = [None, [], {"prompt_tokens": "many", "completion_tokens": -3, "completion_tokens_details": 1}]
    for usage in usages:
        for odd in ({}, {"message": None}, {"index": None, "finish_reason": 3}, {"message": {"content": "x" * 10_000}}):
            (completion,) = generate(serve(lambda body, u=usage, o=odd: (200, {"choices": [o], "usage": u})))
            assert completion.num_tokens == 0 and completion.finish_reason == "stop"


def test_cancelling_ends_every_request(serve: Any) -> None:
    release = threading.Event()
    server = serve(lambda body: (400, "n") if "n" in body else (release.wait(5), many(body))[1])
    engine = RemoteEngine(server.url, "m")

    async def cancel() -> float:
        task = asyncio.create_task(engine.generate(QUESTION, SamplingParams(), n=4))
        while server.in_flight < 4:
            await asyncio.sleep(0.01)
        start = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.wait(others, timeout=1) if others else None
        assert not asyncio.all_tasks() - {asyncio.current_task()}
        return time.monotonic() - start

    try:
        assert asyncio.run(cancel()) < 1
    finally:
        release.set()


def test_one_failure_ends_the_other_requests_of_a_call(serve: Any) -> None:
    def reply(body: dict[str, Any]) -> Reply:
        if "n" in body or body["seed"] == sample_seed(0, 0) >> 32:
            return 400, {"error": "bad"}
        return slowly(2, many(body))

    start = time.monotonic()
    with pytest.raises(RemoteError, match="bad"):
        generate(serve(reply), n=3)
    assert time.monotonic() - start < 1.5


# ------------------------------------------------------------------------------------------------------------ doors


def test_the_key_is_sent_and_appears_nowhere_else(
    serve: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    key = "sk-very-secret-0123456789"
    server = serve(lambda body: (401, {"error": {"message": f"Incorrect API key provided: {key}"}}))
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(RemoteError) as caught:
        generate(server)
    assert server.headers[0]["Authorization"] == f"Bearer {key}"
    shown = f"{caught.value!r} {caught.value.__cause__!r} {RemoteEngine(server.url, 'm')!r}"
    assert key not in shown and key not in caplog.text and "***" in shown
    with pytest.raises(RemoteError):
        generate(server, api_key="another")
    assert server.headers[1]["Authorization"] == "Bearer another"
    with pytest.raises(RemoteError):
        generate(server, api_key="with-a-newline\n")
    assert server.headers[2]["Authorization"] == "Bearer with-a-newline"
    with pytest.raises(ValueError, match="copy it again") as refused:
        generate(server, api_key="a key no header\n can carry")
    assert "no header" not in str(refused.value)


def test_a_password_in_the_url_is_not_shown(serve: Any) -> None:
    engine = RemoteEngine(serve(lambda body: (400, "no")).url.replace("//", "//me:secret@"), "m")
    with pytest.raises(RemoteError) as caught:
        asyncio.run(engine.generate(QUESTION, SamplingParams()))
    assert "secret" not in str(caught.value)


def test_what_a_chat_endpoint_cannot_do_is_refused() -> None:
    engine = RemoteEngine("http://127.0.0.1:9", "m")
    for prompt, params, n, words in (
        ([1, 2, 3], SamplingParams(), 1, "takes messages, not token ids"),
        ([], SamplingParams(), 1, "takes messages"),
        (QUESTION, SamplingParams(min_reasoning_tokens=1), 1, "min_reasoning_tokens"),
        (QUESTION, SamplingParams(form="[]"), 1, "not held to a form"),
        (QUESTION, SamplingParams(), 0, "n=0"),
    ):
        with pytest.raises(ValueError, match=words):
            asyncio.run(engine.generate(prompt, params, n=n))
    for url in ("localhost:8000", "", "http://", "ftp://x", "http://x:y"):
        with pytest.raises(ValueError, match="write it as http://localhost:8000/v1"):
            RemoteEngine(url, "m")


def test_without_the_extra_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(RemoteError, match=r'pip install "ponder\[remote\]"'):
        RemoteEngine("http://x", "m")


def test_half_a_surrogate_pair_can_be_asked(serve: Any) -> None:
    server = serve(many)
    engine = RemoteEngine(server.url, "m")
    asyncio.run(engine.generate([Message(role="user", content="a\ud800b😀")], SamplingParams()))
    assert server.bodies[0]["messages"][0]["content"] == "a\ufffdb😀"
