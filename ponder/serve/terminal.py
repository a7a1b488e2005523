"""`ponder chat`: a conversation in the terminal, over the server's own Responses API.

Ctrl-C while it thinks makes it answer now; once more stops it. An empty line or Ctrl-D ends the conversation. The
reasoning is not shown, as the API does not have it; its summary and its seconds are.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import math
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

from ponder.files import printable


class ChatError(RuntimeError):
    """The server cannot be reached, or refused."""


def key_for(base_url: str, given: str, ask: Callable[[str], str] = getpass.getpass) -> str:
    """The key that was given, else one that is asked for; an error where nobody can be asked."""
    key = given.strip()
    if not key and sys.stdin.isatty():
        key = ask(f"key for {base_url} (it is not shown): ").strip()
    if not key:
        raise ChatError(f"{base_url} wants a key: give --api-key or set PONDER_API_KEY; `ponder keys create` makes one")
    return key


class Chat:
    """One conversation: `for event in chat.ask("2+2?")`, then `chat.answer_now()` from a signal or another thread."""

    def __init__(self, base_url: str, api_key: str, *, model: str | None, effort: str, mode: str | None) -> None:
        try:
            import httpx
        except ImportError:
            raise ChatError('a chat needs httpx: pip install "ponder[serve]"') from None
        if not api_key.strip():
            raise ChatError(f"{base_url} wants a key: give --api-key, or set PONDER_API_KEY")
        if not all("!" <= char <= "~" for char in api_key.strip()):
            raise ChatError("--api-key holds spaces or other characters that no key has; copy it again")
        try:
            self._client = httpx.Client(
                base_url=base_url.rstrip("/"),
                headers={"Authorization": f"Bearer {api_key.strip()}"},
                timeout=httpx.Timeout(20, read=120),
            )
        except httpx.InvalidURL as error:
            raise ChatError(f"{base_url!r} is no address of a server: {error}") from None
        self._model, self._reasoning = model, {"effort": effort, "summary": "auto", **({"mode": mode} if mode else {})}
        self._previous: str | None = None
        self.response: str | None = None  # the one that runs

    def ask(self, text: str) -> Iterator[dict[str, Any]]:
        """The events of one response as they arrive; the next question goes on from a response that completed or was
        cut. Raises ChatError where the server refuses or cannot be reached."""
        body: dict[str, Any] = {"input": text, "stream": True, "reasoning": self._reasoning}
        body |= {"model": self._model} if self._model else {}
        body |= {"previous_response_id": self._previous} if self._previous else {}
        import httpx

        try:
            with self._client.stream("POST", "/responses", json=body) as answer:
                if answer.status_code != 200:
                    answer.read()
                    raise ChatError(error_message(answer))
                for line in answer.iter_lines():
                    if not line.startswith("data: "):
                        continue
                    event = json.loads(line[6:])
                    response = event.get("response") or {}
                    self.response = response.get("id", self.response)
                    if response.get("status") in ("completed", "incomplete"):
                        self._previous = response["id"]
                    yield event
        except httpx.HTTPError as error:
            raise ChatError(f"{self._client.base_url} cannot be reached: {error or type(error).__name__}") from None
        finally:
            self.response = None

    def greeting(self) -> str:
        """Who answers; a wrong address or key is reported before the first question."""
        import httpx

        try:
            answer = self._client.get("/models")
        except httpx.HTTPError as error:
            raise ChatError(f"{self._client.base_url} cannot be reached: {error or type(error).__name__}") from None
        if answer.status_code != 200:
            hint = "; give its key with --api-key" if answer.status_code in (401, 403) else ""
            raise ChatError(f"{error_message(answer)}{hint}")
        try:
            served = [str(model["id"]) for model in answer.json()["data"]]
        except (ValueError, KeyError, TypeError):
            raise ChatError(f"{self._client.base_url} is no server of ponder's API; its address ends in /v1") from None
        if self._model is not None and self._model not in served:
            raise ChatError(f"{self._model} is not served here; the server has {', '.join(served)}")
        if self._model is None and len(served) > 1:
            raise ChatError(f"the server has {', '.join(served)}: say which with --model")
        name = printable(self._model or ", ".join(served))
        return f"{name}, effort {self._reasoning['effort']}. Ctrl-C: answer now; an empty line ends.\n"

    def answer_now(self) -> None:
        """Close the reasoning of the response that runs; without one nothing is done."""
        import httpx

        if self.response:
            with contextlib.suppress(httpx.HTTPError):  # whoever reads the response hears of it
                self._client.post(f"/responses/{self.response}/finish")

    def close(self) -> None:
        self._client.close()


def error_message(answer: Any) -> str:
    """Why a server refused, in its words."""
    try:
        return str(answer.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"the server answered {answer.status_code}"


def talk(chat: Chat, *, read: Callable[[], str], write: Callable[[str], None]) -> None:
    """Questions in, answers out, until there is no question."""
    while True:
        try:
            question = read().strip()
        except (EOFError, KeyboardInterrupt):
            question = ""
        if not question:
            write("\n")
            return
        _turn(chat, question, write)


def _turn(chat: Chat, question: str, write: Callable[[str], None]) -> None:
    """One question. Ctrl-C is caught by a handler, as raised inside a generator it would end the stream."""
    presses = 0

    def pressed(number: int, frame: Any) -> None:
        nonlocal presses
        presses += 1
        if presses > 1:
            raise KeyboardInterrupt
        threading.Thread(target=chat.answer_now, daemon=True).start()

    is_main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGINT, pressed) if is_main else None
    try:
        for event in chat.ask(question):
            write(shown(event))
    except KeyboardInterrupt:
        write("\n(stopped)\n")
    finally:
        if is_main:
            signal.signal(signal.SIGINT, before)


def shown(event: dict[str, Any]) -> str:
    """What a person sees of an event; control characters of the model's text are left out, as terminals obey them."""
    kind = event["type"]
    if kind == "response.output_text.delta":
        return printable(event["delta"])
    if kind == "response.reasoning_summary_text.done":
        return f"\x1b[2m{printable(event['text'])}\x1b[0m\n"
    if kind == "response.output_item.done" and event["item"]["type"] == "reasoning":
        return f"\x1b[2mThought for {duration(event['item'].get('thinking_seconds', 0.0))}\x1b[0m\n"
    if kind in ("response.completed", "response.incomplete", "response.failed"):
        response = event["response"]
        if response["status"] == "incomplete":
            return "\n(cut: the token limit was reached)\n"
        return f"\n({printable(response['error']['message'])})\n" if response["error"] else "\n"
    return ""


def duration(seconds: float) -> str:
    whole = math.floor(seconds + 0.5)  # a half goes up, as on the page
    if whole < 1:
        return "less than a second"
    if whole < 60:
        return f"{whole} second{'s' if whole > 1 else ''}"
    return f"{whole // 60} min {whole % 60} s"


def run(chat: Chat) -> None:
    """`talk` on the terminal."""

    def write(text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    try:
        write(f"\x1b[2m{chat.greeting()}\x1b[0m")
        talk(chat, read=lambda: input("> "), write=write)
    finally:
        chat.close()
