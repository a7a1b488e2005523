"""Clients of other people against `ponder serve`: what passes, what is refused, and whether `--lenient` lifts it.

    python bench/clients.py                                  # with the clients of this Python
    python bench/clients.py --python clients-venv/bin/python # with those of another one, which needs no ponder
    python bench/clients.py --only anthropic codex           # a few

Two servers over a scripted engine, one strict and one lenient, so that what is measured is the wire and no model: it
answers, calls a tool, writes JSON. A case passes if the client reads what it should; it is refused if the server says
no with a 4xx whose message the client shows; anything else has failed. Refused cases run again on the lenient server.
Printed: a table in Markdown, then every case that did not pass with its reason. A missing package is named.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from client_cases import HIDDEN, JSON, KEY, MODEL, SAYS, Case, Refused
from framework_cases import CASES

# --- the servers -----------------------------------------------------------------------------------------------------


def say(text: str, seed: int) -> tuple[str, str]:
    """What the scripted model thinks and answers, by words of the question."""
    if "<tool_response>" in text or "Final Result" in text:
        return f"{HIDDEN} it is known", "It is sunny."
    if "weather" in text:
        return f"{HIDDEN} I call", '<tool_call>{"name": "weather", "arguments": {"city": "Paris"}}</tool_call>'
    if "patch" in text:
        return f"{HIDDEN} I edit", '<tool_call>{"name": "apply_patch", "arguments": {"input": "*** Begin"}}</tool_call>'
    if "structure" in text:
        name = re.search(r"the tool named (\S+)", text)
        call = f'<tool_call>{{"name": "{name[1]}", "arguments": {json.dumps(JSON)}}}</tool_call>' if name else ""
        return f"{HIDDEN} in JSON", call or json.dumps(JSON)
    return f"{HIDDEN} about it", SAYS


@contextlib.contextmanager
def served(*, lenient: bool) -> Iterator[str]:
    """The address of a server over the script."""
    import uvicorn

    from ponder.engine.base import ScriptedEngine
    from ponder.serve.app import make_app
    from ponder.serve.connections import ConnectionLimits, listen
    from ponder.serve.run import config_of
    from ponder.serve.served import ServedModel
    from ponder.serve.service import Settings

    settings = Settings(api_key=KEY, drain=1.0, strict_params=not lenient)
    app = make_app([ServedModel(name=MODEL, engine=ScriptedEngine(say, portions=(1, 5), window=50_000))], settings)
    limits = ConnectionLimits(100, 100)
    sockets = listen("127.0.0.1", 0, limits)
    server = uvicorn.Server(config_of(app, limits, drain=1.0))
    server.capture_signals = contextlib.nullcontext  # type: ignore[assignment, method-assign]
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(list(sockets))), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)


# --- running them ----------------------------------------------------------------------------------------------------

PACKAGE = {"codex": "httpx", "pydantic-ai": "pydantic-ai-slim", "inspect": "inspect-ai"}


def attempt(run: Case, url: str) -> tuple[str, str]:
    """(passed, refused or failed; why)"""
    try:
        run(url)
        return "passed", ""
    except Exception as error:  # whatever a client raises is what this is about
        status, text = getattr(error, "status_code", None), " ".join(str(error).split())
        cause = error.__cause__
        while status is None and cause is not None:
            status, cause = getattr(cause, "status_code", None), cause.__cause__
        refused = isinstance(error, Refused) or (isinstance(status, int) and 400 <= status < 500)
        told = re.search(r"""['"]message['"]: (?:'([^}]*?)', '|"([^}]*?)", ['"])""", text)
        said = next((part for part in told.groups() if part), "") if told else text
        return ("refused" if refused else "failed"), f"{type(error).__name__}: {said[:230]}"


def child(strict: str, lenient: str, only: list[str]) -> None:
    """Run in the clients' Python: a line of JSON a client."""
    for client, cases in CASES.items():
        if only and client not in only:
            continue
        try:
            version = importlib.metadata.version(PACKAGE.get(client, client))
        except importlib.metadata.PackageNotFoundError:
            print(json.dumps({"client": client, "missing": PACKAGE.get(client, client)}), flush=True)
            continue
        rows = []
        for name, run in cases.items():
            outcome, why = attempt(run, strict)
            again, still = attempt(run, lenient) if outcome != "passed" else ("", "")
            row = {"case": name.replace("_", " "), "strict": outcome, "why": why, "lenient": again, "still": still}
            rows.append(row)
        print(json.dumps({"client": client, "version": version, "rows": rows}), flush=True)


def show(results: list[dict[str, Any]]) -> None:
    print("| client | version | cases | passed | refused | of these, taken with `--lenient` | failed |")
    print("|---|---|---|---|---|---|---|")
    for each in results:
        if "missing" in each:
            print(f"| {each['client']} | not installed: `pip install {each['missing']}` | - | - | - | - | - |")
            continue
        rows, of = each["rows"], lambda key, word, rows=each["rows"]: sum(row[key] == word for row in rows)
        version = f"its requests, by httpx {each['version']}" if each["client"] == "codex" else each["version"]
        print(f"| {each['client']} | {version} | {len(rows)} | {of('strict', 'passed')} | {of('strict', 'refused')} | "
              f"{of('lenient', 'passed')} | {of('strict', 'failed')} |")  # fmt: skip
    print()
    for each in results:
        for row in each.get("rows", ()):
            if row["strict"] != "passed":
                lenient = f"with --lenient {row['lenient']}" + (f" ({row['still']})" if row["still"] else "")
                print(f"- {each['client']}, {row['case']}: {row['strict']}, {lenient}. {row['why']}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default=sys.executable, help="the Python that has the clients")
    parser.add_argument("--only", nargs="*", default=[], choices=sorted(CASES), help="some clients")
    parser.add_argument("--servers", nargs=2, metavar="URL", help="strict and lenient: run the cases and end")
    given = parser.parse_args()
    if given.servers:
        strict, lenient = given.servers
        child(strict, lenient, given.only)
        return
    with served(lenient=False) as strict, served(lenient=True) as lenient:
        command = [given.python, str(Path(__file__).resolve()), "--servers", strict, lenient]
        command += ["--only", *given.only] if given.only else []
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": ""})
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    show([json.loads(line) for line in lines])
    if done.returncode:
        sys.exit(f"the clients' Python ended with {done.returncode}")


if __name__ == "__main__":
    main()
