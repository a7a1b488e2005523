"""The verb tinker: the Tinker API on this machine."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Optional

import typer

from ponder.cli.app import LEARN, app
from ponder.cli.options import number
from ponder.config import ConfigError

_LOCAL = ("127.0.0.1", "localhost", "::1")


@app.command(rich_help_panel=LEARN)
def tinker(
    model: Annotated[
        list[str],
        typer.Option("--model", metavar="MODEL or NAME=MODEL", help="What adapters are trained on, and the name that "
                     "clients ask for, e.g. meta-llama/Llama-3.2-1B=FOLDER; several times for several models."),
    ] = ["nano"],  # noqa: B006 - typer copies it
    host: Annotated[str, typer.Option(help="Another than this machine's needs --api-key.")] = "127.0.0.1",
    port: Annotated[int, number("0 = any free one.", least=0, most=65535)] = 8010,
    api_key: Annotated[
        Optional[str],
        typer.Option(envvar="PONDER_TINKER_KEY", help="What TINKER_API_KEY must be, tml-... Default: any."),
    ] = None,
    folder: Annotated[Path, typer.Option(help="Of saved weights.")] = Path("tinker"),
    dtype: Annotated[str, typer.Option(help="float32, bfloat16, or stored: as the weights are.")] = "stored",
    seed: Annotated[int, typer.Option(help="Of adapters and samples for which a client gives none.")] = 0,
    workers: Annotated[int, number("Processes that compute; -1 = one a core.", least=-1)] = -1,
    max_models: Annotated[int, number("In training at a time; each has a copy of the weights.", least=1)] = 4,
    max_tokens_per_batch: Annotated[int, number("Tokens of one pack in training, for memory.", least=64)] = 4096,
) -> None:  # fmt: skip
    """Serve the Tinker API: its SDK, and the cookbook's loops, train and sample on this machine."""
    from ponder import processes

    processes.prepare()
    import torch

    from ponder.models import hub
    from ponder.tinker.run import serve
    from ponder.tinker.sampling import Base
    from ponder.tinker.service import TinkerService, TinkerSettings
    from ponder.train.distributed import resolve_workers

    if host not in _LOCAL and not api_key:
        raise ConfigError(f"--host {host} is reachable from elsewhere: set --api-key, or leave it at 127.0.0.1")
    if api_key is not None and not api_key.startswith("tml-"):
        raise ConfigError("--api-key must begin with tml-, or the SDK refuses it")
    if dtype not in ("stored", "float32", "bfloat16"):
        raise ConfigError(f"--dtype {dtype} must be stored, float32 or bfloat16")
    wanted = None if dtype == "stored" else getattr(torch, dtype)
    num_workers = resolve_workers(workers)
    bases = {}
    for name, reference in named_bases(model):
        hub.resolve(reference)  # a model that is not there is said now, not to the first client
        bases[name] = Base(name, reference, dtype=wanted, num_workers=num_workers)
    settings = TinkerSettings(folder=folder, seed=seed, num_workers=num_workers, max_models=max_models,
                        max_tokens_per_batch=max_tokens_per_batch)  # fmt: skip

    def announce(url: str) -> None:
        key = "the key of --api-key" if api_key else "tml-local (any key that begins with tml-)"
        print(f"clients: TINKER_BASE_URL={url} TINKER_API_KEY={key}", file=sys.stderr)
        print(f"saved weights: {folder.resolve()}", file=sys.stderr)
        print(f"ponder tinker trains {', '.join(bases)} at {url}", flush=True)

    serve(TinkerService(bases, settings), host=host, port=port, api_key=api_key, on_ready=announce)


def named_bases(given: list[str]) -> list[tuple[str, str]]:
    """(name, reference) of each model; a name may be a hub id."""
    found: dict[str, str] = {}
    for text in given:
        name, mark, reference = text.partition("=")
        if not mark or Path(text).exists():
            name, reference = text, text
        if not name or not reference:
            raise ConfigError(f"--model {text}: write NAME=MODEL, or MODEL alone")
        if name in found:
            raise ConfigError(f"two models are called {name!r}; give one another name")
        found[name] = reference
    return list(found.items())
