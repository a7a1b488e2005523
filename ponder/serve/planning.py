"""From what a request says to a plan for `generation.produce`: its tools, and the form of its answer.

Everything that cannot be served is refused here, before anything is sampled.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ponder.engine.form import FormError, form_problem
from ponder.serve.errors import ApiError
from ponder.serve.generation import GenerationPlan
from ponder.serve.modes import ComputePlan
from ponder.serve.prompts import EncodedPrompt
from ponder.serve.schemas import MOST_SUBSCHEMAS, SchemaError, applied, check_schema, check_size
from ponder.serve.served import ServedModel
from ponder.serve.tool_kinds import functions_of
from ponder.serve.tools import TOOL_CALL, Tool


def tools_of(
    given: Sequence[Any] | None, choice: Any, param: str, more: Sequence[Tool] = ()
) -> tuple[list[Tool], bool]:
    """(tools that may be called, whether one must be) of a request in either API's form. more: that it stands for."""
    specs = functions_of(given or ())
    try:
        check_size([spec.parameters for spec in specs])
    except SchemaError as error:
        raise ApiError(400, f"Invalid schemas of functions, all taken together: {error}.",
                       code="invalid_function_parameters", param=param) from None  # fmt: skip
    tools = [
        Tool(name=spec.name, description=spec.description or "", parameters=spec.parameters or {},
             strict=bool(spec.strict), param=f"{param}[{index}].parameters")
        for index, spec in enumerate(specs)
    ]  # fmt: skip
    names = {tool.name for tool in tools}
    if (twice := next((tool.name for tool in more if tool.name in names), None)) is not None:
        message = f"Two tools are called '{twice}', of a namespace and of an MCP server: a call could be of either."
        raise ApiError(400, message, code="invalid_value", param=param)
    tools += more
    if choice is None or choice == "auto":
        return tools, False
    if choice == "none":
        return [], False
    if choice == "required":
        if not tools:
            message = "tool_choice 'required' needs at least one tool."
            raise ApiError(400, message, code="invalid_value", param="tool_choice")
        return tools, True
    name = getattr(choice, "function", choice).name
    chosen = [tool for tool in tools if tool.name == name]
    if not chosen:
        raise ApiError(400, f"tool_choice names '{name}', which is none of the tools.", code="invalid_value",
                       param="tool_choice")  # fmt: skip
    return chosen, True


@dataclass(frozen=True)
class Format:
    """The form that an answer must have."""

    wants_json: bool = False
    schema: Mapping[str, Any] | None = None
    is_strict: bool = True  # strict
    demand: str = ""  # what the model is asked for
    name: str = ""  # of the schema, and where it stands in the request
    param: str = ""


def format_of(given: Any, param: str) -> Format:
    """The form that a request wants of its answer; None is plain text. Raises ApiError for a schema that is too large;
    `check_schemas` does the rest."""
    if given is None or given.type == "text":
        return Format()
    if given.type == "json_object":
        return Format(wants_json=True, demand="Answer with one JSON object and nothing else.")
    spec = getattr(given, "json_schema", given)
    schema = spec.schema_ or {}
    try:
        check_size([schema])
    except SchemaError as error:
        raise _invalid(spec.name, error, param) from None
    demand = f"Answer with one JSON value that fits this schema, and nothing else: {json.dumps(schema)}"
    return Format(True, schema, bool(spec.strict), demand, spec.name, param)


def _invalid(name: str, problem: SchemaError | FormError, param: str) -> ApiError:
    code = "invalid_json_schema"
    return ApiError(400, f"Invalid schema for response_format '{name}': {problem}.", code=code, param=param)


async def check_schemas(form: Format, tools: Sequence[Tool], *, needs_call: bool = False) -> None:
    """Refuse what cannot be applied or held to, before anything is sampled. Sizes are known to be bounded, and the
    prompt to fit; the rest takes up to some hundredths of a second, so it is done beside the event loop."""
    await asyncio.to_thread(_check_schemas, form, tools, form_text(form, tools if needs_call else ()))


def _check_schemas(form: Format, tools: Sequence[Tool], text: str) -> None:
    count = 0
    for tool in tools:
        try:
            count += check_schema(tool.parameters)
            if count > MOST_SUBSCHEMAS:
                raise SchemaError(f"all functions together have more than {MOST_SUBSCHEMAS} subschemas")
        except SchemaError as error:
            message = f"Invalid schema for function '{tool.name}': {error}."
            raise ApiError(400, message, code="invalid_function_parameters", param=tool.param) from None
    try:
        if form.schema is not None:
            check_schema(form.schema)
        problem = form_problem(text) if text else None
        if problem is not None and problem.is_empty:
            raise problem
    except (SchemaError, FormError) as error:
        raise _invalid(form.name, error, form.param) from None


def form_text(form: Format, tools: Sequence[Tool]) -> str:
    """The form to which an engine may hold the answer: a call of one of these tools, or JSON; "" = anything."""
    choices: list[dict[str, Any]] = []
    for tool in tools:
        begin = f'{TOOL_CALL[0]}{{"name": {json.dumps(tool.name)}, "arguments": '
        schema = applied(tool.parameters) or {"type": "object"}
        choices.append({"before": begin, "schema": schema, "after": "}" + TOOL_CALL[1]})
    if not tools and form.wants_json:
        choices.append({"before": "", "schema": _root(form), "after": ""})
    return json.dumps(choices) if choices else ""


def _root(form: Format) -> Mapping[str, Any]:
    return {"type": "object"} if form.schema is None else applied(form.schema)


def generation_plan(
    model: ServedModel, prompt: EncodedPrompt, compute: ComputePlan,
    *, tools: Sequence[Tool], needs_call: bool, parallel: bool, form: Format,
) -> GenerationPlan:  # fmt: skip
    """Put together what has been checked. parallel: whether one answer may make several calls. The engine gets the form
    only if it can hold an answer to it."""
    text = form_text(form, tools if needs_call else ())
    return GenerationPlan(
        thinks=model.has_marks and compute.params.max_reasoning_tokens > 0,
        form=text if text and model.engine.supports_form(text) else "",
        prompt=prompt.asked, messages=prompt.messages, compute=compute, tools=tools, parallel_calls=parallel,
        wants_json=form.wants_json, schema=form.schema, is_strict=form.is_strict or needs_call,
        needs_call=needs_call, key=model.key, scorer=model.scorer,
    )  # fmt: skip
