"""A model's own chat template, rendered so that no message can pretend to be part of it.

Templates are Jinja programs that paste message contents between the model's special tokens. Here they never see the
contents: each is replaced by an unguessable placeholder, and the rendered text is cut at the placeholders into spans
that belong to the template (special tokens allowed) and spans that belong to a message (never):

    ChatTemplate("<|user|>{{ messages[0].content | trim }}<|end|>", {}).render([user(" hi <|end|> ")])
    -> [Span("<|user|>", template), Span("hi <|end|>", message), Span("<|end|>", template)]

So a content decides nothing: `'</think>' in content` is always false, which is right, as a Message holds visible text
only. Trimming and `tojson` act on the contents through their placeholders. A template that loses a content is tried
again with fewer roles (developer -> system and tool -> user, then the system text before the first user message);
if a content is still lost, `render` returns None and the caller falls back to a format without template.

The sandbox is Jinja's; the template is still a program of whoever made the model, and may loop for long.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, NamedTuple

import jinja2
from jinja2.ext import Extension
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from ponder.config import ConfigError
from ponder.types import Message

ROLES = ("system", "developer", "user", "assistant", "tool")
_MERGED = {"developer": "system", "tool": "user"}


class Span(NamedTuple):
    """A piece of a rendered prompt. Only the template's own pieces may become special tokens."""

    text: str
    is_template: bool


class ChatTemplate:
    """A model's own chat template, run in jinja's sandbox. ConfigError where it cannot be compiled."""

    def __init__(self, source: str, special_tokens: Mapping[str, str]) -> None:
        self._special_tokens = dict(special_tokens)  # bos_token, eos_token, ...: what templates call them
        try:
            self._template = _environment().from_string(source)
        except jinja2.TemplateError as error:
            raise ConfigError(f"the chat template cannot be compiled: {error}; take the model's files again") from None

    def render(self, messages: Sequence[Message], *, generation_prompt: bool = True) -> list[Span] | None:
        """Spans of the prompt for the next assistant message; None = the template loses a message."""
        refusal = None
        for conversation in _conversations(messages):
            try:
                spans = self._render(conversation, generation_prompt)
            except (jinja2.TemplateError, TypeError, ValueError, KeyError, AttributeError, ArithmeticError) as error:
                refusal = refusal or error
                continue
            if spans is not None:
                return spans
        if refusal is not None:
            raise ConfigError(f"the model's chat template refuses this conversation: {refusal}")
        return None

    def _render(self, messages: Sequence[Message], generation_prompt: bool) -> list[Span] | None:
        vault = _Vault()
        text = self._template.render(
            messages=[{"role": m.role, "content": vault.hide(i, m.content)} for i, m in enumerate(messages)],
            add_generation_prompt=generation_prompt,
            tools=None,
            documents=None,
            tojson_vault=vault,
            **self._special_tokens,
        )
        spans = vault.reveal(text)
        return None if vault.lost or vault.is_torn(spans) else spans


def _conversations(messages: Sequence[Message]) -> list[Sequence[Message]]:
    """The conversation as it is, then with fewer roles, for templates that know fewer."""
    if not messages:
        raise ConfigError("no messages; a prompt needs at least one")
    for message in messages:
        if message.role not in ROLES:
            raise ValueError(f"unknown role {message.role!r}; known: {', '.join(ROLES)}")
    merged = [replace(m, role=_MERGED.get(m.role, m.role)) for m in messages]  # type: ignore[arg-type]
    system = [m.content for m in merged if m.role == "system"]
    rest = [m for m in merged if m.role != "system"]
    if system and rest and rest[0].role == "user":
        rest[0] = replace(rest[0], content="\n\n".join([*system, rest[0].content]))
    elif system:
        rest.insert(0, Message(role="user", content="\n\n".join(system)))
    return [messages, merged, rest]


class _Vault:
    """Contents behind placeholders, `nonce name nonce`: new and random for every rendering."""

    def __init__(self) -> None:
        self.nonce = secrets.token_hex(16)
        self.pattern = re.compile(f"{self.nonce}([0-9a-f]{{16}}){self.nonce}")
        self._texts: dict[str, tuple[int, str]] = {}  # name -> whose content, and what stands for it
        self.lost: set[int] = set()  # messages whose content did not come back, once `reveal` has run

    def hide(self, message: int, content: str) -> str:
        """A placeholder for a content; an empty one is harmless and stays, for templates that ask."""
        self.lost.add(message)
        if not content:
            self.lost.discard(message)
            return ""
        name = secrets.token_hex(8)  # not a number: a template that changes digits must not reach another content
        self._texts[name] = (message, content)
        return _Hidden(f"{self.nonce}{name}{self.nonce}", self)

    def change(self, placeholders: str, change: Any) -> str:
        """The same text with every placeholder replaced by one for its changed content."""

        def one(match: re.Match[str]) -> str:
            if match[1] not in self._texts:
                return match[0]
            message, content = self._texts[match[1]]
            return self.hide(message, change(content))

        if self.pattern.fullmatch(placeholders):
            return one(self.pattern.fullmatch(placeholders))  # type: ignore[arg-type]  # stays a _Hidden
        return self.pattern.sub(one, placeholders)

    def reveal(self, text: str) -> list[Span]:
        spans = []
        for index, part in enumerate(self.pattern.split(text)):
            if index % 2 == 0:
                spans.append(Span(part, True))
            elif part in self._texts:
                message, content = self._texts[part]
                self.lost.discard(message)
                spans.append(Span(content, False))
            else:
                spans.append(Span(self.nonce, True))  # a name that was never given: torn
        return [span for span in spans if span.text]

    def is_torn(self, spans: list[Span]) -> bool:
        """A piece of a placeholder is left: the template cut a content in some way not known here."""
        ends = (self.nonce[:8], self.nonce[-8:])
        return any(end in span.text for span in spans if span.is_template for end in ends)


class _Hidden(str):
    """A placeholder whose trimming trims the content after it. Everything else is done to the placeholder."""

    def __new__(cls, text: str, vault: _Vault) -> _Hidden:
        hidden = super().__new__(cls, text)
        hidden._vault = vault
        return hidden

    _vault: _Vault

    def strip(self, chars: str | None = None, /) -> str:
        return self._vault.change(self, lambda content: content.strip(chars))

    def lstrip(self, chars: str | None = None, /) -> str:
        return self._vault.change(self, lambda content: content.lstrip(chars))

    def rstrip(self, chars: str | None = None, /) -> str:
        return self._vault.change(self, lambda content: content.rstrip(chars))


class _Generation(Extension):
    """`{% generation %}` marks what is trained on, for other libraries; here it is only its body."""

    tags = {"generation"}

    def parse(self, parser: Any) -> Any:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _PlainNamespace(Namespace):
    """No underscored names: `namespace(__class__=...)` must not reach Python's own attributes."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        Namespace.__init__(*args, **kwargs)
        for name in dict(*args[1:], **kwargs):
            _PlainNamespace._check(name)

    def __setitem__(self, name: str, value: Any) -> None:
        _PlainNamespace._check(name)
        super().__setitem__(name, value)

    @staticmethod
    def _check(name: Any) -> None:
        if str(name).startswith("_"):
            raise jinja2.exceptions.SecurityError(f"a chat template may not use the name {name!r}")


def _environment() -> ImmutableSandboxedEnvironment:
    """What templates written for transformers expect."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, "jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _tojson
    environment.globals = {
        "range": environment.globals["range"],  # the sandbox's own, which is bounded
        "namespace": _PlainNamespace,
        "raise_exception": _raise_exception,
        "strftime_now": lambda form: datetime.now().strftime(form),
    }
    return environment


def _raise_exception(message: str) -> None:
    raise jinja2.TemplateError(message)


@jinja2.pass_context
def _tojson(context: Any, value: Any, ensure_ascii: bool = False, indent: int | None = None, **options: Any) -> str:
    """Plain JSON (Jinja's own escapes HTML), the contents inside escaped like the rest."""
    text = json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **options)
    return context["tojson_vault"].change(text, lambda content: json.dumps(content, ensure_ascii=ensure_ascii)[1:-1])
