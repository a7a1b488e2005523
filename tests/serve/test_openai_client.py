"""The official client, with strict response validation, over both APIs."""

from __future__ import annotations

import json
import time

import openai
import pytest
from openai import OpenAI
from openai.types.shared import ReasoningEffort
from pydantic import BaseModel

from tests.serve.serving import KEY

MODEL = "scripted"
PROPERTIES = {"city": {"type": "string"}}
CITY = {"type": "object", "properties": PROPERTIES, "required": ["city"], "additionalProperties": False}
WEATHER = {"name": "weather", "description": "d", "parameters": CITY, "strict": True}
CHAT_TOOL, TOOL = {"type": "function", "function": WEATHER}, {"type": "function", **WEATHER}


@pytest.fixture(scope="module")
def client(server):
    return OpenAI(base_url=f"{server.url}/v1", api_key=KEY, _strict_response_validation=True, max_retries=0)


DEEP = {"compute": {"max_reasoning_tokens": 5000}}


def ask(client, text="2+2?", **more):
    return client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": text}], **more)


def respond(client, question="2+2?", **more):
    return client.responses.create(model=MODEL, input=question, **more)


def removed(response):
    """input_transformations: newer clients have a field for it."""
    return response.model_dump(mode="json").get("input_transformations") or []


def adds_up(usage):
    out, details = usage.output_tokens, usage.output_tokens_details
    more = details.model_extra
    assert details.reasoning_tokens + more["answer_tokens"] + more["special_tokens"] == out
    assert usage.total_tokens == usage.input_tokens + out


def chat_adds_up(usage):
    details = usage.completion_tokens_details
    more = details.model_extra
    assert details.reasoning_tokens + more["answer_tokens"] + more["special_tokens"] == usage.completion_tokens
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


# --- models --------------------------------------------------------------------------------------------------------


def test_models_are_listed_and_found(client):
    assert [model.id for model in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).owned_by == "ponder"
    with pytest.raises(openai.NotFoundError) as error:
        client.models.retrieve("gpt-4")
    assert error.value.code == "model_not_found"


# --- chat completions ----------------------------------------------------------------------------------------------


def test_a_chat_completion_hides_its_reasoning_and_counts_it(client):
    completion = ask(client)
    choice = completion.choices[0]
    assert choice.message.content.startswith("The answer to 2+2? is 42.") and choice.finish_reason == "stop"
    assert "THOUGHT" not in completion.model_dump_json()
    assert completion.usage.completion_tokens_details.reasoning_tokens == len("THOUGHT about it é€😀".encode())
    chat_adds_up(completion.usage)


def test_a_chat_stream_is_the_completion_in_pieces(client):
    chunks = list(ask(client, stream=True, stream_options={"include_usage": True}, seed=1))
    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == ask(client, seed=1).choices[0].message.content
    assert chunks[-1].choices == [] and all(chunk.usage is None for chunk in chunks[:-1])
    chat_adds_up(chunks[-1].usage)
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert len({chunk.id for chunk in chunks}) == 1 and "THOUGHT" not in str(chunks)


def test_a_stream_without_include_usage_has_none(client):
    assert all(chunk.usage is None for chunk in ask(client, stream=True))


def test_the_chat_stream_helper_agrees(client):
    with client.chat.completions.stream(model=MODEL, messages=[{"role": "user", "content": "2+2?"}]) as stream:
        for _ in stream:
            pass
        assert stream.get_final_completion().choices[0].message.content.endswith("😀")


def test_a_chat_limit_that_the_reasoning_uses_up_gives_length_and_nothing_else(client):
    completion = ask(client, max_completion_tokens=9)
    choice, usage = completion.choices[0], completion.usage
    assert (choice.finish_reason, choice.message.content) == ("length", "")
    assert usage.completion_tokens == usage.completion_tokens_details.reasoning_tokens == 9


def test_a_limit_may_keep_a_part_for_the_answer(client):
    completion = ask(client, max_completion_tokens=30, extra_body={"compute": {"answer_tokens": 20}})
    assert completion.usage.completion_tokens <= 30 and completion.choices[0].message.content


@pytest.mark.parametrize("effort", ["none", "minimal", "low", "medium", "high", "xhigh", "max"])
def test_every_effort_is_accepted_by_both_apis(client, effort):
    if f"'{effort}'" not in str(ReasoningEffort):
        pytest.skip("this version of the client does not know it")
    reasoned = ask(client, reasoning_effort=effort).usage.completion_tokens_details.reasoning_tokens
    assert (reasoned == 0) == (effort == "none")
    assert respond(client, reasoning={"effort": effort}).reasoning.effort == effort


def test_several_choices_share_a_prompt_and_all_are_billed(client):
    one, many = ask(client, seed=5), ask(client, n=3, seed=5)
    assert [choice.index for choice in many.choices] == [0, 1, 2]
    assert many.usage.prompt_tokens == one.usage.prompt_tokens
    assert many.usage.completion_tokens == 3 * one.usage.completion_tokens
    chat_adds_up(many.usage)


def test_stop_strings_end_the_answer(client):
    assert ask(client, stop=[" is 42"]).choices[0].message.content == "The answer to 2+2?"


def test_chat_tools_are_called_and_answered(client):
    first = ask(client, "weather?", tools=[CHAT_TOOL])
    call = first.choices[0].message.tool_calls[0]
    assert first.choices[0].finish_reason == "tool_calls" and first.choices[0].message.content is None
    assert (call.function.name, json.loads(call.function.arguments)) == ("weather", {"city": "Paris"})
    messages = [
        {"role": "user", "content": "weather?"},
        first.choices[0].message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.id, "content": "sunny tool"},
    ]
    second = client.chat.completions.create(model=MODEL, messages=messages, tools=[CHAT_TOOL])
    assert second.choices[0].message.content == "It is sunny."


def test_streamed_chat_tools_are_the_whole_ones(client):
    whole = ask(client, "both", tools=[CHAT_TOOL]).choices[0].message
    calls = {}
    text = ""
    for chunk in ask(client, "both", tools=[CHAT_TOOL], stream=True):
        text += chunk.choices[0].delta.content or ""
        for call in chunk.choices[0].delta.tool_calls or ():
            calls.setdefault(call.index, ["", ""])
            calls[call.index][0] += call.function.name or ""
            calls[call.index][1] += call.function.arguments or ""
    assert text == whole.content == "Looking. "
    expected = [[call.function.name, call.function.arguments] for call in whole.tool_calls]
    assert list(calls.values()) == expected


def test_without_tools_a_call_is_text(client):
    assert "<tool_call>" in ask(client, "weather?").choices[0].message.content
    assert "<tool_call>" in ask(client, "weather?", tools=[CHAT_TOOL], tool_choice="none").choices[0].message.content


def test_parallel_calls_can_be_refused(client):
    message = ask(client, "both", tools=[CHAT_TOOL], parallel_tool_calls=False).choices[0].message
    assert len(message.tool_calls) == 1


def test_a_required_call_that_never_comes_fails(client):
    with pytest.raises(openai.UnprocessableEntityError):
        ask(client, "hello", tools=[CHAT_TOOL], tool_choice="required")


class Answer(BaseModel):
    answer: int


def test_json_schema_answers_are_parsed(client):
    parsed = client.chat.completions.parse(
        model=MODEL, messages=[{"role": "user", "content": "json always"}], response_format=Answer
    )
    assert parsed.choices[0].message.parsed == Answer(answer=42)


def test_json_objects_are_drawn_again_until_they_parse_and_every_try_is_billed(client):
    completion = ask(client, "json", response_format={"type": "json_object"}, seed=3)
    assert json.loads(completion.choices[0].message.content) == {"answer": 42}
    chat_adds_up(completion.usage)


def test_a_parse_whose_limit_ran_out_says_so(client):
    with pytest.raises(openai.LengthFinishReasonError):
        client.chat.completions.parse(
            model=MODEL, messages=[{"role": "user", "content": "json always"}], response_format=Answer,
            max_completion_tokens=5,
        )  # fmt: skip


def test_stored_chats_can_be_listed_changed_and_deleted(client):
    made = ask(client, store=True, metadata={"a": "b"})
    assert client.chat.completions.retrieve(made.id).choices == made.choices
    assert made.id in [chat.id for chat in client.chat.completions.list()]
    assert client.chat.completions.update(made.id, metadata={"c": "d"}).metadata == {"c": "d"}
    # the client's own type of a stored message knows no role but the assistant's
    listed = OpenAI(base_url=client.base_url, api_key=KEY).chat.completions.messages.list(made.id)
    assert listed.data[0].content == "2+2?"
    assert client.chat.completions.delete(made.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.retrieve(made.id)


def test_chats_are_not_stored_unless_asked(client):
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.retrieve(ask(client).id)


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("max_tokens", 5, "unsupported_parameter"), ("temperature", 0.5, "unsupported_value"),
        ("top_p", 0.5, "unsupported_value"), ("presence_penalty", 1, "unsupported_value"),
        ("frequency_penalty", 1, "unsupported_value"), ("logprobs", True, "unsupported_parameter"),
        ("logit_bias", {"1": 2}, "unsupported_parameter"), ("n", 0, "invalid_value"),
    ],
)  # fmt: skip
def test_what_o1_refuses_is_refused_with_its_codes(client, name, value, code):
    with pytest.raises(openai.BadRequestError) as error:
        ask(client, **{name: value})
    assert (error.value.code, error.value.param, error.value.type) == (code, name, "invalid_request_error")


def test_default_sampling_is_accepted(client):
    assert ask(client, temperature=1, top_p=1, presence_penalty=0, frequency_penalty=0).choices


def test_unknown_parameters_and_models_are_refused(client):
    with pytest.raises(openai.BadRequestError) as error:
        ask(client, extra_body={"wat": 1})
    assert error.value.code == "unknown_parameter"
    with pytest.raises(openai.NotFoundError) as error:
        client.chat.completions.create(model="gpt-4", messages=[{"role": "user", "content": "x"}])
    assert (error.value.code, error.value.param) == ("model_not_found", "model")


def test_a_conversation_longer_than_the_window_is_refused(client):
    with pytest.raises(openai.BadRequestError) as error:
        ask(client, "x" * 30_000)
    assert (error.value.code, error.value.param) == ("context_length_exceeded", "messages")
    with pytest.raises(openai.BadRequestError) as error:
        respond(client, "x" * 30_000)
    assert (error.value.code, error.value.param) == ("context_length_exceeded", "input")


def test_truncation_auto_drops_the_oldest(client):
    items = [{"role": "user", "content": "x" * 15_000}, {"role": "user", "content": "y" * 15_000}]
    assert client.responses.create(model=MODEL, input=items, truncation="auto").status == "completed"


def test_a_failing_engine_is_a_500_that_tells_nothing(client):
    with pytest.raises(openai.InternalServerError) as error:
        ask(client, "fail")
    assert "SECRETSCRIPT" not in str(error.value)
    with pytest.raises(openai.APIError):
        list(ask(client, "fail", stream=True))
    assert respond(client, "fail").status == "failed"


def test_wrong_and_missing_keys_are_401(server):
    with pytest.raises(openai.AuthenticationError) as error:
        OpenAI(base_url=f"{server.url}/v1", api_key="wrong").models.list()
    assert error.value.code == "invalid_api_key" and error.value.request_id.startswith("req_")


# --- responses -----------------------------------------------------------------------------------------------------


def test_a_response_has_a_reasoning_item_without_reasoning_and_a_message(client):
    response = respond(client)
    assert [item.type for item in response.output] == ["reasoning", "message"]
    assert response.output[0].summary == [] and response.output[0].encrypted_content
    assert response.output_text.startswith("The answer to 2+2? is 42.")
    assert "THOUGHT" not in response.model_dump_json()
    adds_up(response.usage)


def follow(stream):
    events = list(stream)
    first = events[0].sequence_number
    assert [event.sequence_number for event in events] == list(range(first, first + len(events)))
    return events


def test_events_come_in_order_and_say_what_the_response_says(client):
    events = follow(respond(client, stream=True))
    kinds = [event.type for event in events]
    assert kinds[:2] == ["response.created", "response.in_progress"] and kinds[-1] == "response.completed"
    squeezed = [kind for place, kind in enumerate(kinds) if place == 0 or kinds[place - 1] != kind]
    assert squeezed[2:-1] == [
        "response.output_item.added", "response.output_item.done", "response.output_item.added",
        "response.content_part.added", "response.output_text.delta", "response.output_text.done",
        "response.content_part.done", "response.output_item.done",
    ]  # fmt: skip
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == events[-1].response.output_text
    adds_up(events[-1].response.usage)
    assert "THOUGHT" not in str(events)


def test_the_response_stream_helper_agrees(client):
    with client.responses.stream(model=MODEL, input="both", tools=[TOOL]) as stream:
        for _ in stream:
            pass
        final = stream.get_final_response()
    assert [item.type for item in final.output] == ["reasoning", "message", "function_call", "function_call"]


def test_a_response_whose_limit_ran_out_is_incomplete(client):
    response = respond(client, max_output_tokens=9)
    assert (response.status, response.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert [item.type for item in response.output] == ["reasoning"] and response.output[0].status == "incomplete"
    assert response.usage.output_tokens == response.usage.output_tokens_details.reasoning_tokens == 9
    assert follow(respond(client, max_output_tokens=9, stream=True))[-1].type == "response.incomplete"


def test_summaries_stream_in_parts_and_repeat_no_reasoning(client):
    events = follow(respond(client, "a long one", reasoning={"summary": "auto"}, extra_body=DEEP, stream=True))
    added = [event for event in events if event.type == "response.reasoning_summary_part.added"]
    assert len(added) >= 2 and [event.summary_index for event in added] == list(range(len(added)))
    item = events[-1].response.output[0]
    deltas = [event for event in events if event.type == "response.reasoning_summary_text.delta"]
    for index, part in enumerate(item.summary):
        assert part.text == "".join(event.delta for event in deltas if event.summary_index == index)
        assert part.text.startswith("**") and "more thinking" not in part.text
    assert events[-1].response.usage.output_tokens_details.model_extra["summary_tokens"] > 0


def test_responses_are_stored_found_and_deleted(client):
    made = respond(client, metadata={"a": "b"})
    found = client.responses.retrieve(made.id)
    assert found.output == made.output and found.usage == made.usage and found.metadata == {"a": "b"}
    assert client.responses.input_items.list(made.id).data[0].content[0].text == "2+2?"
    client.responses.delete(made.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(made.id)


def test_store_false_keeps_nothing(client):
    made = respond(client, store=False)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(made.id)
    with pytest.raises(openai.BadRequestError) as error:
        respond(client, previous_response_id=made.id)
    assert error.value.code == "previous_response_not_found"


def test_a_chain_that_lost_a_response_is_refused_instead_of_answered_without_it(client):
    first = respond(client)
    second = respond(client, previous_response_id=first.id)
    third = respond(client, previous_response_id=second.id)
    client.responses.delete(first.id)
    for last in (second, third):
        with pytest.raises(openai.BadRequestError, match=f"goes on from '{first.id}', which was deleted") as error:
            respond(client, previous_response_id=last.id)
        assert error.value.code == "previous_response_not_found"


def test_a_stored_stream_can_be_replayed_from_anywhere(client):
    events = follow(respond(client, stream=True))
    name = events[-1].response.id
    assert [e.type for e in client.responses.retrieve(name, stream=True)] == [e.type for e in events]
    rest = follow(client.responses.retrieve(name, stream=True, starting_after=4))
    assert [event.type for event in rest] == [event.type for event in events[5:]]
    with client.responses.stream(response_id=name, starting_after=3) as stream:
        assert [event.type for event in stream][-1] == "response.completed"


def test_include_is_read_in_both_spellings(client):
    made = respond(client, include=["reasoning.encrypted_content"])
    found = client.responses.retrieve(made.id, include=["reasoning.encrypted_content", "file_search_call.results"])
    assert found.output[0].encrypted_content == made.output[0].encrypted_content


def test_a_background_response_is_polled_to_its_end(client):
    made = respond(client, background=True)
    assert made.status in ("queued", "in_progress") and made.background
    until = time.monotonic() + 10
    while client.responses.retrieve(made.id).status in ("queued", "in_progress"):
        assert time.monotonic() < until
        time.sleep(0.01)
    assert client.responses.retrieve(made.id).output_text
    assert client.responses.cancel(made.id).status == "completed"


def test_a_background_stream_is_left_and_resumed(client):
    stream = respond(client, "a long one", background=True, stream=True, extra_body=DEEP)
    seen = [next(stream) for _ in range(3)]
    assert [event.type for event in seen] == ["response.created", "response.queued", "response.in_progress"]
    stream.close()
    rest = follow(client.responses.retrieve(seen[0].response.id, stream=True, starting_after=2))
    assert rest[0].sequence_number == 3 and rest[-1].type == "response.completed"


def test_background_needs_a_store(client):
    with pytest.raises(openai.BadRequestError):
        respond(client, background=True, store=False)


def test_only_background_responses_can_be_cancelled(client):
    with pytest.raises(openai.BadRequestError):
        client.responses.cancel(respond(client).id)
    with pytest.raises(openai.NotFoundError):
        client.responses.cancel("resp_none")


def test_a_turn_goes_on_from_a_previous_response(client):
    first = respond(client, "one")
    second = respond(client, "two", previous_response_id=first.id)
    assert second.previous_response_id == first.id
    said = first.usage.output_tokens_details.model_extra["answer_tokens"]
    assert second.usage.input_tokens > first.usage.input_tokens + said
    third = respond(client, "three", previous_response_id=second.id)
    assert third.usage.input_tokens > second.usage.input_tokens


def test_conversations_hold_items_and_grow(client):
    talk = client.conversations.create(items=[{"role": "user", "content": "hello"}], metadata={"a": "b"})
    assert talk.metadata == {"a": "b"} and client.conversations.retrieve(talk.id).id == talk.id
    respond(client, "two", conversation=talk.id)
    items = client.conversations.items.list(talk.id, order="asc").data
    assert [item.type for item in items] == ["message", "message", "reasoning", "message"]
    added = client.conversations.items.create(talk.id, items=[{"role": "user", "content": "more"}])
    assert client.conversations.items.retrieve(added.data[0].id, conversation_id=talk.id).role == "user"
    client.conversations.items.delete(added.data[0].id, conversation_id=talk.id)
    with pytest.raises(openai.NotFoundError):
        client.conversations.items.retrieve(added.data[0].id, conversation_id=talk.id)
    assert client.conversations.update(talk.id, metadata={"c": "d"}).metadata == {"c": "d"}
    assert client.conversations.delete(talk.id).deleted
    with pytest.raises(openai.NotFoundError):
        respond(client, conversation=talk.id)


def test_conversation_and_previous_response_exclude_each_other(client):
    talk, first = client.conversations.create(), respond(client)
    with pytest.raises(openai.BadRequestError):
        respond(client, conversation=talk.id, previous_response_id=first.id)


def test_pages_of_items_follow_each_other(client):
    talk = client.conversations.create(items=[{"role": "user", "content": str(i)} for i in range(7)])
    texts = [item.content[0].text for item in client.conversations.items.list(talk.id, limit=3, order="asc")]
    assert texts == [str(i) for i in range(7)]
    texts = [item.content[0].text for item in client.conversations.items.list(talk.id, limit=2)]
    assert texts == [str(i) for i in reversed(range(7))]


def test_a_function_call_is_one_turn_through_previous_response_id(client):
    first = respond(client, "weather?", tools=[TOOL])
    call = next(item for item in first.output if item.type == "function_call")
    second = client.responses.create(
        model=MODEL, previous_response_id=first.id, tools=[TOOL],
        input=[{"type": "function_call_output", "call_id": call.call_id, "output": "sunny tool"}],
    )  # fmt: skip
    assert second.output_text == "It is sunny." and not removed(second)


def test_a_function_call_is_one_turn_by_replaying_items(client):
    first = respond(client, "weather?", tools=[TOOL], store=False)
    call = next(item for item in first.output if item.type == "function_call")
    output = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny tool"}
    items = [{"role": "user", "content": "weather?"}, *first.output, output]
    second = client.responses.create(model=MODEL, input=items, tools=[TOOL], store=False)
    assert second.output_text == "It is sunny." and not removed(second)


def test_reasoning_of_an_earlier_turn_is_removed_and_reported(client):
    first = respond(client, "one", store=False)
    items = [{"role": "user", "content": "one"}, *first.output, {"role": "user", "content": "two"}]
    second = client.responses.create(model=MODEL, input=items)
    (gone,) = removed(second)
    assert (gone["id"], gone["reason"]) == (first.output[0].id, "turn_boundary")


def test_reasoning_moved_to_another_conversation_is_removed(client):
    first = respond(client, "weather?", tools=[TOOL], store=False)
    call = next(item for item in first.output if item.type == "function_call")
    output = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny tool"}
    items = [{"role": "user", "content": "another question, tool?"}, *first.output, output]
    second = client.responses.create(model=MODEL, input=items, tools=[TOOL])
    assert removed(second)[0]["reason"] == "prefix_mismatch"


def test_reasoning_that_was_tampered_with_is_refused(client):
    first = respond(client, "weather?", store=False)
    item = first.output[0].model_dump(exclude_none=True)
    sealed = item["encrypted_content"]
    item["encrypted_content"] = sealed[:60] + ("A" if sealed[60] != "A" else "B") + sealed[61:]
    with pytest.raises(openai.BadRequestError) as error:
        client.responses.create(model=MODEL, input=[{"role": "user", "content": "weather?"}, item])
    assert error.value.code == "invalid_encrypted_content"


def test_reasoning_of_another_key_opens_for_nobody(client, server):
    first = respond(client, "weather?", tools=[TOOL], store=False)
    other = OpenAI(base_url=f"{server.url}/v1", api_key=server.key("infer"), _strict_response_validation=True)
    call = next(item for item in first.output if item.type == "function_call")
    output = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny tool"}
    items = [{"role": "user", "content": "weather?"}, *first.output, output]
    second = other.responses.create(model=MODEL, input=items, tools=[TOOL])
    assert removed(second)[0]["reason"] == "organization_mismatch"


def test_a_bare_reasoning_item_that_was_not_stored_is_404(client):
    first = respond(client, store=False)
    item = {"type": "reasoning", "id": first.output[0].id, "summary": []}
    with pytest.raises(openai.NotFoundError) as error:
        client.responses.create(model=MODEL, input=[{"role": "user", "content": "2+2?"}, item])
    assert "not found. Items are not persisted when `store` is set to false" in str(error.value)


def test_item_references_are_looked_up(client):
    first = respond(client, "one")
    items = [{"type": "item_reference", "id": first.output[1].id}, {"role": "user", "content": "two"}]
    assert client.responses.create(model=MODEL, input=items).status == "completed"


def test_a_message_of_a_chat_completion_is_no_item_of_a_response(client):
    chat = client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "one"}], store=True)
    items = [{"type": "item_reference", "id": f"{chat.id}-0"}]  # as its list of messages has it
    for ask in (lambda: client.responses.create(model=MODEL, input=items),
                lambda: client.conversations.create(items=items)):  # fmt: skip
        with pytest.raises(openai.NotFoundError):
            ask()


def test_function_arguments_stream_before_they_are_done(client):
    kinds = [event.type for event in follow(respond(client, "weather?", tools=[TOOL], stream=True))]
    place = kinds.index("response.function_call_arguments.delta")
    assert kinds[place - 1 : place + 3] == [
        "response.output_item.added", "response.function_call_arguments.delta",
        "response.function_call_arguments.done", "response.output_item.done",
    ]  # fmt: skip


def test_an_output_without_its_call_is_refused(client):
    with pytest.raises(openai.BadRequestError):
        client.responses.create(model=MODEL, input=[{"type": "function_call_output", "call_id": "c", "output": "x"}])


def test_json_schema_of_responses(client):
    parsed = client.responses.parse(model=MODEL, input="json always", text_format=Answer)
    assert parsed.output_parsed == Answer(answer=42)
    failed = respond(client, "json never", text={"format": {"type": "json_object"}})
    assert failed.status == "failed" and failed.error.code == "server_error"
    loose = {"type": "json_schema", "name": "a", "schema": {"type": "object"}, "strict": False}
    assert respond(client, "json never", text={"format": loose}).output_text == "no"
    assert respond(client, "json fenced", text={"format": {"type": "json_object"}}).output_text == '{"answer": 42}'


def test_a_vote_bills_all_samples_and_gives_one_answer(client):
    response = respond(client, "vote", reasoning={"mode": "consensus"}, extra_body={"compute": {"n": 15, "seed": 1}})
    details = response.usage.output_tokens_details.model_extra
    assert response.output_text == "42" and details["samples"] == 15
    assert details["discarded_tokens"] == response.usage.output_tokens * 14 // 15
    adds_up(response.usage)
    assert respond(client, "vote", reasoning={"mode": "pro"}).model_extra["compute"]["mode"] == "consensus"


def test_an_unknown_mode_is_refused(client):
    with pytest.raises(openai.BadRequestError) as error:
        respond(client, reasoning={"mode": "magic"})
    assert error.value.code == "unsupported_value"


def test_tokens_are_counted_before_asking(client):
    if not hasattr(client.responses, "input_tokens"):
        pytest.skip("this version of the client has no such call")
    counted = client.responses.input_tokens.count(model=MODEL, input="2+2?")
    assert counted.input_tokens == respond(client).usage.input_tokens


def test_tokens_are_counted_with_all_that_changes_a_prompt(client):
    other = {**TOOL, "name": "other"}
    for choice in ("auto", "none", "required", {"type": "function", "name": "other"}):
        more = {"tools": [TOOL, other], "tool_choice": choice, "parallel_tool_calls": True, "truncation": "auto"}
        counted = client.responses.input_tokens.count(model=MODEL, input="weather?", **more).input_tokens
        assert counted == respond(client, "weather?", **more).usage.input_tokens, choice


def test_every_answer_tells_the_limits(client):
    raw = client.responses.with_raw_response.create(model=MODEL, input="x")
    for name in ("limit", "remaining", "reset"):
        for what in ("requests", "tokens"):
            assert raw.headers[f"x-ratelimit-{name}-{what}"]
    assert raw.headers["x-request-id"].startswith("req_")
