"""The app, the groups its verbs are listed under, and errors as one line."""

from __future__ import annotations

import errno
import io
import os
import sys
import warnings
from typing import Annotated

import typer

from ponder import __version__
from ponder.config import ConfigError

app = typer.Typer(
    name="ponder",
    help="Teach a language model to think, spend compute at test time, and measure both.\n\n"
    "Start with:  ponder ask 'What is 47+5+4*3-22-8*4?' --show-reasoning   then   ponder rl demo_nano_cpu",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
LEARN, MEASURE, USE = "Teach", "Measure", "Use"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def main() -> None:
    """Run the CLI; an error that a person can fix is one line on stderr and exit code 1."""
    from ponder.cli.show import show_warning, shown
    from ponder.files import StorageError

    warnings.showwarning = show_warning
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr has it: an answer that was paid for is printed
    try:
        app()
    except (ConfigError, StorageError, ImportError, ValueError, RuntimeError, OSError) as error:
        if os.environ.get("PONDER_TRACEBACK"):
            raise
        is_full = isinstance(error, OSError) and error.errno in FULL and not isinstance(error, StorageError)
        fix = "; free some space and run the same command again" if is_full else ""
        print(f"error: {shown(str(error), sys.stderr)}{fix}", file=sys.stderr)
        raise SystemExit(1) from None


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
    unfenced: Annotated[
        bool, typer.Option("--unfenced", help="Run the model's programs without a fence. Every result will say so.")
    ] = False,
) -> None:
    if version:
        print(__version__)
        raise typer.Exit
    if unfenced:
        from ponder.sandbox.executions import allow_unfenced

        allow_unfenced()
