"""The options and arguments that several verbs share, e.g. `model: opt.Model = "nano"`, and numbers within bounds."""

from __future__ import annotations

import math
from typing import Annotated, Any, Optional

import typer

from ponder.config import ConfigError


def number(text: str, *names: str, least: float, most: float = math.inf) -> Any:
    """An option that is a number within bounds; nan is in none. The error is one line, as everywhere."""

    def check(param: typer.CallbackParam, value: Any) -> Any:
        if value is not None and not least <= value <= most:
            bounds = f"between {least:g} and {most:g}" if most < math.inf else f"{least:g} or more"
            raise ConfigError(f"{param.opts[0]} {value} must be {bounds}")
        return value

    return typer.Option(*names, help=text, callback=check)


def refuse_given(context: typer.Context, because: str, *names: str) -> None:
    """ConfigError where the user gave one of these parameters of a verb, which would do nothing.

    because: what they are of, after the option's name: "--rank is <because>: leave it out".
    """
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if parameter.name in names and source is not None and source.name == "COMMANDLINE":  # not the environment
            raise ConfigError(f"{parameter.opts[0]} is {because}: leave it out")


Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
Model = Annotated[
    str,
    typer.Option(
        help="nano, smollm2-135m, a model or adapter folder, a run folder (RUN, RUN@step, RUN@best), or a hub id."
    ),
]
BaseUrl = Annotated[
    Optional[str], typer.Option(help="Use a remote OpenAI-compatible endpoint; --model is then its name there.")
]
ApiKey = Annotated[
    Optional[str], typer.Option(envvar=["OPENAI_API_KEY", "PONDER_API_KEY"], help="The key of the --base-url endpoint.")
]
EngineName = Annotated[str, typer.Option("--engine", help="What samples: local, or vllm (docs/vllm.md).")]
Reasoning = Annotated[int, number("At the cap reasoning is closed, then answered.", "--max-reasoning-tokens", least=0)]
Answer = Annotated[int, number("Tokens of the visible answer.", "--max-answer-tokens", least=1)]
Int8 = Annotated[
    bool,
    typer.Option("--int8", help="Multiply with weights in int8: faster on a CPU, most with VNNI, not quite as exact."),
]
Temperature = Annotated[float, number("0 = always the most likely token.", least=0, most=100)]
Seed = Annotated[int, typer.Option(help="Same seed, same machine: same tokens.")]


def recipe_names(incomplete: str) -> list[str]:
    """For a shell that completes: the shipped recipes that begin so."""
    from ponder.config import recipe_names as shipped

    return [name for name in shipped() if name.startswith(incomplete)]


def recipe(example: str) -> Any:
    """The argument of a verb that takes a recipe; the example is one of its own."""
    told = f"A TOML recipe, or a shipped one by name, e.g. {example}."
    return typer.Argument(help=told, autocompletion=recipe_names)


Overrides = Annotated[Optional[list[str]], typer.Argument(metavar="KEY=VALUE", help="Recipe keys to change.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the resolved recipe with its cost, and stop.")]
