"""Verbs of the server: serve, chat, keys."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from ponder.cli import options as opt
from ponder.cli.app import USE, app
from ponder.cli.loading import closing, describe, measured_efforts, open_engine, open_scorer, open_testers
from ponder.cli.options import number
from ponder.cli.show import finish
from ponder.config import ConfigError

if TYPE_CHECKING:
    from ponder.serve.mcp import ServerSpec
    from ponder.serve.served import ServedModel
    from ponder.serve.service import Settings
    from ponder.serve.summary import Summarizer
    from ponder.strategies.submit import Testers


Served = Annotated[
    list[str],
    typer.Option("--model", metavar="MODEL or NAME=MODEL", help="What to serve, and the name it is served under if not "
                 "MODEL itself; several times for several models. MODEL is nano, smollm2-135m, a model or "
                 "adapter folder, a run folder (RUN, RUN@step, RUN@best), or a hub id."),
]  # fmt: skip
ServerKey = Annotated[
    Optional[str], typer.Option(envvar="PONDER_API_KEY", help="A key with scope infer; others: ponder keys.")
]
MonitorNames = Annotated[
    Optional[list[str]],
    typer.Option(help="Who reads the reasoning: rules, none, a file of `ponder monitor fit`, or module:attr."),
]
SummaryModel = Annotated[
    Optional[str], typer.Option(metavar="URL MODEL", help="Another model for summaries: 'http://HOST/v1 NAME'.")
]
ScorerFolders = Annotated[
    Optional[list[str]],
    typer.Option(metavar="FOLDER or NAME=FOLDER", help="A folder made by `ponder scorer`, for modes that choose by "
                 "score; with several models, NAME is the model that it scores."),
]  # fmt: skip
VerifierName = Annotated[
    str, typer.Option(help="Whose key says when answers agree: exact, integer, choice, math or module:attr. "
                           "Default: what the model was measured with, else math."),
]  # fmt: skip
OffersSubmit = Annotated[
    bool, typer.Option("--submit", help="Offer mode submit: programs in answers are run in the sandbox on the "
                                        "examples of the question, and the best is returned."),
]  # fmt: skip
Lenient = Annotated[
    bool, typer.Option("--lenient", help="Take others' fields too: temperature, max_tokens, enable_thinking, ... "
                                         "(docs/clients.md)."),
]  # fmt: skip
ArenaLog = Annotated[
    Optional[Path], typer.Option(metavar="LOG", help="Blind comparisons of two or more models at /arena; votes are "
                                 "added to this .jsonl file, which `ponder arena` reads."),
]  # fmt: skip
ShowsReasoning = Annotated[
    bool, typer.Option("--show-reasoning", help="Raw reasoning of one's own responses on the page and at "
                                                "/v1/responses/ID/reasoning, for the key of --api-key and admins."),
]  # fmt: skip
PolicyFile = Annotated[
    Optional[Path],
    typer.Option(help="A file of rules: a system message before every conversation, which no request takes away."),
]
McpServers = Annotated[
    Optional[list[str]],
    typer.Option(metavar="NAME=COMMAND or NAME=URL", help="An MCP server whose tools responses may call "
                 "(type mcp); NAME:TOOL,TOOL=... allows these tools alone. Several times for several."),
]  # fmt: skip


@app.command(rich_help_panel=USE)
def serve(
    model: Served = ["nano"],  # noqa: B006 - typer copies it
    host: Annotated[str, typer.Option(help="0.0.0.0 = reachable from other machines.")] = "127.0.0.1",
    port: Annotated[int, number("0 = any free one.", least=0, most=65535)] = 8000,
    api_key: ServerKey = None,
    db: Annotated[str, typer.Option(help="A SQLite file, or postgresql://USER@HOST/NAME.")] = "ponder.db",
    temperature: opt.Temperature = 1.0,
    requests_per_minute: Annotated[int, number("Requests a minute a key may make.", "--rpm", least=1)] = 6000,
    tokens_per_minute: Annotated[int, number("Tokens a minute.", "--tpm", least=1)] = 10_000_000,
    monitor: MonitorNames = None,
    summarizer: SummaryModel = None,
    scorer: ScorerFolders = None,
    verifier: VerifierName = "",
    submit: OffersSubmit = False,
    lenient: Lenient = False,
    arena: ArenaLog = None,
    show_reasoning: ShowsReasoning = False,
    policy: PolicyFile = None,
    mcp: McpServers = None,
    engine_name: opt.EngineName = "local",
    base_url: opt.BaseUrl = None,
    int8: opt.Int8 = False,
) -> None:
    """Serve models: an OpenAI-compatible API with hidden reasoning, and a page to talk to them."""
    from ponder.monitors import load_monitors
    from ponder.serve.arena import ArenaSettings
    from ponder.serve.mcp import parse_servers
    from ponder.serve.prompts import read_policy_file
    from ponder.serve.run import serve as run
    from ponder.serve.service import Settings
    from ponder.serve.summary import ModelSummarizer

    monitors = load_monitors(monitor or ["rules"])
    if blind := [each.name for each in monitors if each.view == "answer"]:
        raise ConfigError(f"the monitor {blind[0]!r} reads answers; here monitors read reasoning while it is written")
    references = named_models(model)
    scorers = named_scorers(scorer or [], references)
    if arena is not None and len(references) < 2:
        raise ConfigError("--arena compares models: name two or more, --model A --model B")
    battles = None if arena is None else ArenaSettings(log=arena, revisions=revisions(references, base_url))
    servers = parse_servers(mcp or [], named=True)
    if servers:
        asyncio.run(check_servers(servers))
    settings = Settings(
        db=db, api_key=api_key, requests_per_minute=requests_per_minute, tokens_per_minute=tokens_per_minute,
        strict_params=not lenient, monitors=monitors, arena=battles, mcp=servers,
        policy=read_policy_file(policy) if policy else "", show_reasoning=show_reasoning,
    )  # fmt: skip
    url, _, name = (summarizer or "").strip().partition(" ")
    summaries = ModelSummarizer(open_engine(name.strip(), url)) if url else None
    with contextlib.ExitStack() as stack:
        testers = open_testers() if submit else None
        models = [
            open_served(
                name, reference, base_url, scorer=scorers.get(name), verifier=verifier, temperature=temperature,
                summarizer=summaries, share=len(references), stack=stack, testers=testers, engine_name=engine_name,
                int8=int8,
            )
            for name, reference in references.items()
        ]  # fmt: skip
        run(models, settings, host=host, port=port, on_ready=functools.partial(announce, list(references), settings))


def announce(models: Sequence[str], settings: Settings, url: str) -> None:
    """One line for programs; for people the page and the way to a key."""
    has_key = "the key of --api-key, or " if settings.api_key else ""
    print(f"the page to talk to {'it' if len(models) == 1 else 'them'}: {url}/", file=sys.stderr)
    if settings.arena is not None:
        print(f"blind comparisons: {url}/arena, with keys of scope vote or infer", file=sys.stderr)
    if settings.show_reasoning:
        shown_to = f"{'the key of --api-key and ' if settings.api_key else ''}keys of scope admin"
        print(f"raw reasoning is shown to {shown_to}, of their own responses", file=sys.stderr)
    print(f"it asks for a key: {has_key}one of `ponder keys create --db {shown_db(settings.db)}`", file=sys.stderr)
    print(f"ponder serves {', '.join(models)} at {url}/v1", flush=True)


async def check_servers(servers: Sequence[ServerSpec]) -> None:
    """Start MCP servers once, to say in a line what is wrong with one, and what they offer."""
    from ponder.serve.mcp import Toolbox

    async with Toolbox(servers) as toolbox:
        print(f"tools of MCP servers: {', '.join(toolbox.tools)}", file=sys.stderr)


def revisions(references: Mapping[str, str], base_url: str | None) -> dict[str, str]:
    """Fingerprints of the weights by the names of models; "" for one at an endpoint."""
    return {name: describe(reference, base_url).fingerprint for name, reference in references.items()}


def named(text: str) -> tuple[str, str] | None:
    """(name, value) of NAME=VALUE; None for a plain value, such as a folder with "=" in its path."""
    name, mark, value = text.partition("=")
    return (name, value) if mark and value and re.fullmatch(r"[\w.:-]+", name) and not Path(text).exists() else None


def named_models(given: Sequence[str]) -> dict[str, str]:
    """The references of models by the names they are served under."""
    found: dict[str, str] = {}
    for text in given:
        name, reference = named(text) or (text, text)
        if name in found:
            raise ConfigError(f"two models are called {name!r}; give one another name: --model other={reference}")
        found[name] = reference
    return found


def named_scorers(given: Sequence[str], models: Mapping[str, str]) -> dict[str, Path]:
    """The folders of scorers by the names of their models."""
    found: dict[str, Path] = {}
    for text in given:
        name, folder = named(text) or (next(iter(models)) if len(models) == 1 else "", text)
        if name not in models:
            raise ConfigError(f"--scorer {text}: say whose it is, NAME=FOLDER with one of {', '.join(models)}")
        if name in found:
            raise ConfigError(f"--scorer {text}: {name} has one already, {found[name]}")
        found[name] = Path(folder)
    return found


def open_served(
    name: str, reference: str, base_url: str | None, *, scorer: Path | None, verifier: str, temperature: float,
    summarizer: Summarizer | None, share: int, stack: contextlib.ExitStack, testers: Testers | None = None,
    engine_name: str = "local", int8: bool = False,
) -> ServedModel:  # fmt: skip
    """A model with its engine, which is closed with the stack. share: models that have this machine between them."""
    from ponder.serve.served import ServedModel
    from ponder.strategies.keys import answer_key

    levels = None if base_url else measured_efforts(reference)
    key = answer_key(verifier or (levels.verifier if levels else ""))
    opened = open_scorer(scorer, reference, base_url, key) if scorer else None
    engine = open_engine(
        reference, base_url, keep_hidden=opened is not None and "hidden" in opened.needs, share=share,
        engine=engine_name, int8=int8,
    )  # fmt: skip
    stack.enter_context(closing(engine))
    return ServedModel(
        name=name, engine=engine, temperature=temperature, efforts=levels, key=key, scorer=opened,
        summarizer=summarizer, testers=testers,
    )  # fmt: skip


@app.command(rich_help_panel=USE)
def chat(
    base_url: Annotated[str, typer.Option(help="A running `ponder serve`.")] = "http://127.0.0.1:8000/v1",
    api_key: Annotated[str, typer.Option(envvar="PONDER_API_KEY", help="A key of it with scope infer.")] = "",
    model: Annotated[Optional[str], typer.Option(help="Default: the one that is served, where it is one.")] = None,
    effort: Annotated[str, typer.Option(help="none, minimal, low, medium, high, xhigh or max.")] = "medium",
    mode: Annotated[Optional[str], typer.Option(help="standard, consensus, ...: see docs/serve.md.")] = None,
) -> None:
    """Talk to a served model. Ctrl-C while it thinks: answer now; twice: stop; an empty line ends."""
    from ponder.serve.terminal import Chat, key_for, run

    run(Chat(base_url, key_for(base_url, api_key), model=model, effort=effort, mode=mode))


keys = typer.Typer(help="Manage the API keys of `ponder serve`.", no_args_is_help=True)
app.add_typer(keys, name="keys", rich_help_panel=USE)
Database = Annotated[str, typer.Option(help="The server's database.")]


@keys.command("create")
def keys_create(
    scope: Annotated[
        Optional[list[str]],
        typer.Option(help="infer (the default), read, vote, metrics, admin or raw_cot; several may be given."),
    ] = None,
    name: Annotated[str, typer.Option(help="A note on whose it is.")] = "",
    owner: Annotated[str, typer.Option(help="Keys of one owner see the same objects; default: its own.")] = "",
    db: Database = "ponder.db",
    as_json: opt.Json = False,
) -> None:
    """Make a key. It is shown once and kept only as a hash."""
    from ponder.serve.keys import create
    from ponder.serve.store import Store

    scopes = scope or ["infer"]
    identity, key = create(Store(db), scopes, name=name, owner=owner)
    finish({"id": identity, "key": key, "scopes": scopes, "db": shown_db(db)}, key, as_json)
    if not as_json:
        print(f"{identity} ({', '.join(scopes)}) is in {shown_db(db)}, for a server with that --db", file=sys.stderr)


@keys.command("list")
def keys_list(db: Database = "ponder.db", as_json: opt.Json = False) -> None:
    """The keys there are, without the keys themselves."""
    from ponder.serve.store import Store

    store = Store(db)
    found = store.now(store.keys)
    state = lambda row: "revoked" if row["revoked"] else "valid"
    lines = [f"{row['id']}  {row['scopes']:<12}  {state(row):<8}  {row['name']}" for row in found]
    print(json.dumps(found) if as_json else "\n".join(lines) or f"no keys yet in {shown_db(db)}: ponder keys create")


@keys.command("revoke")
def keys_revoke(
    identity: Annotated[str, typer.Argument(metavar="ID")], db: Database = "ponder.db", as_json: opt.Json = False
) -> None:
    """End a key; a running server notices within two seconds."""
    from ponder.serve.store import Store

    store = Store(db)
    if not store.now(lambda: store.revoke_key(identity)):
        raise ConfigError(f"no valid key {identity!r}; ponder keys list shows them")
    finish({"id": identity, "revoked": True}, f"{identity} is revoked", as_json)


def shown_db(db: str) -> str:
    """Where a database is, whatever the current folder; an address has no password in it."""
    if "://" not in db:
        return str(Path(db).resolve())
    told = re.sub(r"(?<=//)([^:/?@]*):[^/?]*@", r"\1@", db)
    return re.sub(r"(?<=password=)[^&]*", "...", told)
