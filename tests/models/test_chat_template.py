"""Chat templates: contents come back whole, in their places, and never as part of the template."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ponder.config import ConfigError
from ponder.models.chat_template import ChatTemplate, Span
from ponder.types import Message

CHATML = (
    "{%- for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{%- endif %}"
)


def say(*contents: str, roles: tuple[str, ...] = ("user", "assistant") * 9) -> list[Message]:
    return [Message(role=role, content=content) for role, content in zip(roles, contents, strict=False)]  # type: ignore[arg-type]


def render(source: str, *messages: Message, **special: str) -> list[Span] | None:
    return ChatTemplate(source, special).render(messages)


def text(spans: list[Span] | None) -> str:
    assert spans is not None
    return "".join(span.text for span in spans)


def contents(spans: list[Span] | None) -> list[str]:
    return [span.text for span in spans or [] if not span.is_template]


@given(st.lists(st.text(), min_size=1, max_size=4))
def test_every_content_comes_back_as_itself_and_the_rest_is_the_template(parts: list[str]) -> None:
    spans = render(CHATML, *say(*parts))
    assert contents(spans) == [part for part in parts if part]
    expected = "".join(
        f"<|im_start|>{role}\n{part}<|im_end|>\n" for role, part in zip(["user", "assistant"] * 2, parts, strict=False)
    )
    assert text(spans) == expected + "<|im_start|>assistant\n"


def test_a_content_is_never_read_as_a_template() -> None:
    attack = "{{ messages }} {% for x in range(9) %}{{ 7 * 7 }}{% endfor %} {# no #}"
    assert contents(render(CHATML, *say(attack))) == [attack]


def test_trimming_acts_on_the_content() -> None:
    for source in (
        "[{{ messages[0].content | trim }}]",
        "[{{ messages[0]['content'].strip() }}]",
        "[{% set c = messages[0].content %}{{ c.lstrip('\\n').rstrip() | trim }}]",
        "[{{ '' ~ messages[0].content.lstrip().rstrip() }}]",
    ):
        assert render(source, *say("\n  a b \n")) == [Span("[", True), Span("a b", False), Span("]", True)]
    assert text(render("[{{ messages[0].content.rstrip('b') }}]", *say("a b"))) == "[a ]"
    assert text(render("[{{ messages[0].content | trim }}]", *say("   "))) == "[]"


def test_json_escapes_the_content_too() -> None:
    source = "{{ messages[0].content | tojson }}|{{ messages | tojson }}"
    assert text(render(source, *say('a"\n<'))) == '"a\\"\\n<"|[{"role": "user", "content": "a\\"\\n<"}]'
    assert all("a" not in span.text for span in render(source, *say("a")) or [] if span.is_template)


def test_a_content_decides_nothing() -> None:
    source = (
        "{% set content = messages[0].content %}"
        "{% if '</think>' in content %}{% set content = content.split('</think>')[-1].lstrip('\\n') %}{% endif %}"
        "[{{ content }}]"
    )
    assert text(render(source, *say("a</think>\n b"))) == "[a</think>\n b]"
    assert text(render("[{{ messages[0].content.split('x')[0] }}]", *say("axb"))) == "[axb]"


def test_an_empty_content_is_empty_for_the_template() -> None:
    source = "{% if messages[0].content %}[{{ messages[0].content }}]{% else %}none{% endif %}"
    assert text(render(source, *say(""))) == "none"


def test_a_content_may_come_back_twice() -> None:
    assert contents(render("{{ messages[0].content }}-{{ messages[0].content }}", *say("a"))) == ["a", "a"]


@pytest.mark.parametrize(
    "change", ["| upper", "[:20]", "[20:]", "| length", "| reverse", "[::2]", "| replace('1', '2') | replace('0', '3')"]
)
def test_a_content_that_does_not_come_back_whole_means_no_prompt(change: str) -> None:
    assert render("[{{ messages[0].content " + change + " }}]", *say("hello")) is None


def test_a_dropped_message_is_told_in_another_role() -> None:
    only_three = CHATML.replace(
        "for message in messages", "for message in messages if message.role in ['system', 'user', 'assistant']"
    )
    spans = render(only_three, *say("d", "u", "a", "t", roles=("developer", "user", "assistant", "tool")))
    assert "<|im_start|>system\nd<|im_end|>" in text(spans)
    assert "<|im_start|>user\nt<|im_end|>" in text(spans)
    only_two = only_three.replace("'system', ", "")
    assert "<|im_start|>user\ns\n\nu<|im_end|>" in text(render(only_two, *say("s", "u", roles=("system", "user"))))
    assert "<|im_start|>user\ns<|im_end|>" in text(render(only_two, *say("s", roles=("system",))))


def test_a_refusal_of_the_template_is_an_error_with_its_words() -> None:
    refuses = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + CHATML
    assert "s\n\nu" in text(render(refuses, *say("s", "u", roles=("system", "user"))))
    with pytest.raises(ValueError, match="refuses this conversation: roles must alternate"):
        render("{{ raise_exception('roles must alternate') }}", *say("a"))
    for broken in ("{{ nothing.there }}", "{{ 1 / 0 }}", "{{ messages + 1 }}", "{{ messages[0].content.nope() }}"):
        with pytest.raises(ValueError, match="refuses"):
            render(broken, *say("a"))


def test_what_templates_expect_is_there() -> None:
    source = (
        "{{- bos_token }}{% set ns = namespace(last=-1) %}{% for m in messages[::-1] %}{% set ns.last = loop.index0 %}"
        "{% if ns.last == 0 %}{% continue %}{% endif %}{% break %}{% endfor %}"
        "{% generation %}{{ messages[0].content }}{{ messages[1].content }}{% endgeneration %}"
        "{% if tools %}tools{% endif %}{% if enable_thinking is defined and not enable_thinking %}no{% endif %}"
        "{{ strftime_now('%Y') }}{{ ns.last }}"
    )
    assert text(render(source, *say("a", "b"), bos_token="<s>")).startswith("<s>ab2")
    assert text(render(source, *say("a", "b"), bos_token="<s>")).endswith("1")
    lines = "{% for m in messages %}\n    {{ m.content }}\n{% endfor %}\n"
    assert text(render(lines, *say("a"))) == "    a\n"


def test_the_template_cannot_leave_its_sandbox() -> None:
    for attack in (
        "{{ messages[0].content.__class__ }}",
        "{{ messages[0].content._vault }}",
        "{{ messages[0].content.strip.__globals__ }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ namespace(__class__=1) }}",
        "{% set ns = namespace() %}{% set ns.__init__ = 1 %}",
        "{{ namespace.__init__.__globals__ }}",
        "{{ strftime_now.__globals__ }}",
        "{{ tojson_vault._texts }}",
        "{{ messages.append(1) }}",
        "{% for i in range(10 ** 9) %}{% endfor %}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ '%s' | attr('__class__') | attr('__mro__') }}",
    ):
        try:
            shown = text(render(attack + "{{ messages[0].content }}", *say("secret")))
        except ValueError:
            continue
        assert shown == "secret"  # undefined renders as nothing


def test_a_template_that_is_no_jinja_is_refused() -> None:
    for broken in ("{% if %}", "{{", "{% nonsense %}", "{% generation %}"):
        with pytest.raises(ConfigError, match="cannot be compiled"):
            ChatTemplate(broken, {})


def test_roles_are_checked_and_messages_needed() -> None:
    with pytest.raises(ValueError, match="unknown role 'user<|im_end|>'"):
        render(CHATML, *say("a", roles=("user<|im_end|>",)))
    with pytest.raises(ValueError, match="no messages"):
        render(CHATML)


def test_a_huge_content_is_no_problem() -> None:
    huge = "<|im_end|>" * 200_000
    assert contents(render(CHATML, *say(huge))) == [huge]
