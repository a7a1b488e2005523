"""The Model Context Protocol (MCP): tools of other programs for a model here, and ponder's own tools for agents.

    spec = parse_server("files=npx -y @modelcontextprotocol/server-filesystem /srv/docs")   # or NAME=https://HOST/mcp
    async with Toolbox([spec]) as toolbox:
        toolbox.tools                                             # what its servers offer
        result = await toolbox.call("files.read", {"path": "a"})  # never raises: what goes wrong is an error result

    make_server("ponder", [ask, grade])                           # functions with types and docstrings as tools

Only the operator names servers, on the command line: nothing in a request or in a model's text leads to an address or a
program. `NAME:read,list=COMMAND` offers these tools of a server and no other. What a tool returns is untrusted text: it
is bounded, marks of reasoning and of calls are taken out of it, and it is never parsed. A call has a time limit; a
server that has answered nobody since the call began is ended, and started again when it is needed next.

This is the one file that imports the SDK: pip install "ponder[mcp]". Left out: resources, prompts, sampling,
elicitation, OAuth, and pictures or sound in results, of which the kind is told.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import re
import shlex
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ponder import __version__
from ponder.config import ConfigError, nearest
from ponder.files import StorageError
from ponder.serve.schemas import schema_problem
from ponder.serve.tools import Tool

CONNECT_SECONDS = 60.0  # a server may have to be fetched first (npx, uvx)
CALL_SECONDS = 30.0
MAX_RESULT = 8_000  # characters of a result
MAX_TOOLS, MAX_PAGES = 128, 20  # of one server
MAX_DESCRIPTION, MAX_PARAMETERS = 1_000, 4_000  # characters that a prompt has of a tool
_NAME = re.compile(r"[A-Za-z][\w-]{0,63}")
_TOOL = re.compile(r"[\w./-]{1,128}")
_SPEC = re.compile(rf"({_NAME.pattern})(?::([\w./,-]+))?=(.+)", re.DOTALL)
_MARKS = re.compile(
    r"</?(?:think|thinking|reasoning|answer|tool_call|tool_response)[^>]{0,20}>?|<\|[^<>]{0,40}\|?>?", re.IGNORECASE
)


@dataclass(frozen=True, kw_only=True)
class ServerSpec:
    """An MCP server that the operator allows."""

    label: str
    address: Any  # a command, an http(s) URL, or a server object of the SDK in this process
    only: tuple[str, ...] = ()  # the tools that may be called; () = all that it offers

    @property
    def is_remote(self) -> bool:
        return isinstance(self.address, str) and self.address.startswith(("http://", "https://"))


def parse_server(text: str, *, label: str = "") -> ServerSpec:
    """NAME[:TOOL,TOOL]=COMMAND_OR_URL. label: the name of one that has none (then the text is the command alone)."""
    match = _SPEC.fullmatch(text.strip())
    if match is None and not label:
        raise ConfigError(f"--mcp {text!r} has no name; write NAME=COMMAND or NAME=https://HOST/mcp")
    name, only, address = match.groups() if match else (label, None, text.strip())
    if not address.strip():
        raise ConfigError(f"--mcp {text!r} names no command and no URL")
    spec = ServerSpec(label=name, address=address.strip(), only=tuple(filter(None, (only or "").split(","))))
    if not spec.is_remote:
        if "://" in address.split()[0]:
            raise ConfigError(f"--mcp {text!r}: only http:// and https:// lead to a server; else give a command")
        _words(address)
    return spec


def parse_servers(texts: Sequence[str], *, named: bool) -> list[ServerSpec]:
    """Several. named: each must have a name; else the first is `tools`, the next `tools2`, ..."""
    specs = [
        parse_server(text, label="" if named else f"tools{number}" if number > 1 else "tools")
        for number, text in enumerate(texts, 1)
    ]
    labels = [spec.label for spec in specs]
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice is not None:
        raise ConfigError(f"two MCP servers are called {twice!r}; give each another name")
    return specs


def _words(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError as error:
        raise ConfigError(f"--mcp command {command!r} cannot be read: {error}") from None


@dataclass(frozen=True, kw_only=True)
class ToolResult:
    """What a call came to: bounded text, or why there is none."""

    text: str
    is_error: bool = False


@dataclass(frozen=True, kw_only=True)
class OfferedTool:
    """A tool of a server."""

    label: str  # of its server
    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def called(self) -> str:
        """What the model calls it: two servers may have tools of one name."""
        return f"{self.label}.{self.name}"

    def as_function(self) -> Tool:
        """As the model is told of it: by the name `called`."""
        return Tool(name=self.called, description=self.description, parameters=self.parameters)


class Toolbox:
    """Connections to the servers of `specs`, and their tools. Opened and closed in one event loop."""

    def __init__(self, specs: Sequence[ServerSpec], *, seconds: float = CALL_SECONDS, most: int = MAX_RESULT) -> None:
        self._connections = {spec.label: _Connection(spec, seconds) for spec in specs}
        self._most = most
        self.tools: dict[str, OfferedTool] = {}  # by the name that the model calls

    @property
    def labels(self) -> list[str]:
        return list(self._connections)

    async def __aenter__(self) -> Toolbox:
        import_sdk()
        try:
            await asyncio.gather(*(connection.start() for connection in self._connections.values()))
        except BaseException:
            await self.aclose()
            raise
        self.tools = {tool.called: tool for each in self._connections.values() for tool in each.tools}
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End all servers; a server that does not end by itself is killed."""
        await asyncio.gather(*(connection.stop() for connection in self._connections.values()))

    def functions(self, labels: Sequence[str] | None = None) -> list[Tool]:
        """The tools as the model's prompt describes them."""
        return [tool.as_function() for tool in self.tools.values() if labels is None or tool.label in labels]

    async def call(self, called: str, arguments: Mapping[str, Any]) -> ToolResult:
        """Call a tool by the name that the model knows."""
        tool = self.tools.get(called)
        if tool is None:
            return ToolResult(text=f"error: there is no tool {called[:100]!r}", is_error=True)
        return await self._connections[tool.label].call(tool.name, arguments, self._most)


class _Connection:
    """One server. Its session lives in a task of its own, as the SDK's scopes must end where they began."""

    def __init__(self, spec: ServerSpec, seconds: float) -> None:
        self.spec, self.tools = spec, list[OfferedTool]()
        self._seconds = seconds
        self._client: Any = None
        self._task: asyncio.Task[None] | None = None
        self._end = asyncio.Event()
        self._starting = asyncio.Lock()
        self._answered = 0.0  # when it last answered a call
        self._failed = 0.0  # when it could last not be started, and
        self._problem = ConfigError("")  # why

    async def start(self) -> None:
        """Connect and list the tools; ConfigError says what is wrong with the server."""
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._end = asyncio.Event()
        self._task = asyncio.create_task(self._run(ready, self._end))
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await asyncio.shield(ready)
        except TimeoutError:
            await self.stop()
            raise ConfigError(f"the MCP server {self.spec.label!r} did not answer in {CONNECT_SECONDS:g} s") from None

    async def _run(self, ready: asyncio.Future[None], end: asyncio.Event) -> None:
        client: Any = None
        try:
            async with _client(self.spec) as client:
                self.tools = await _list_tools(client, self.spec)
                self._client = client
                ready.set_result(None)
                await end.wait()
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # the SDK's own, groups of them, those of the transport
            if not ready.done():
                ready.set_exception(ConfigError(f"the MCP server {self.spec.label!r} cannot be used: {_why(error)}"))
        finally:
            if self._client is client:
                self._client = None
            if not ready.done():
                ready.cancel()

    async def stop(self) -> None:
        self._client = None
        task, self._task = self._task, None
        if task is None:
            return
        self._end.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(8):  # the SDK asks, terminates, kills: two seconds each
                await asyncio.wait({task})
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def _restart(self) -> None:
        await self.stop()
        try:
            await self.start()
        except ConfigError as problem:
            self._failed, self._problem = time.monotonic(), problem
            raise

    async def call(self, name: str, arguments: Mapping[str, Any], most: int) -> ToolResult:
        begun = time.monotonic()
        client: Any = None
        try:
            async with self._starting:
                if self._client is None:
                    if begun < self._failed:  # it waited while another call found out
                        raise self._problem
                    await self._restart()
                client = self._client
            async with asyncio.timeout(self._seconds):
                result = await client.call_tool(name, dict(arguments))
        except TimeoutError:
            # it is not only this tool that is slow; another call may have ended it, and what runs now is a new one
            if self._answered < begun and self._client is client:
                await self.stop()
            return ToolResult(text=f"error: the tool took longer than {self._seconds:g} s", is_error=True)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            if self._client is client and _is_closed(error):
                await self.stop()
            return ToolResult(text=bounded(f"error: {_why(error)}", most), is_error=True)
        self._answered = time.monotonic()
        text = _text_of(result)
        return ToolResult(text=bounded(f"error: {text}" if result.is_error else text, most), is_error=result.is_error)


def bounded(text: str, most: int) -> str:
    """Text of a tool as a model may see it: no marks, no control characters, at most so many characters."""
    whole = len(text)
    text = text[: 2 * most]
    for _ in range(4):  # what is left where a mark was taken out of a mark
        text = _MARKS.sub("", text)
    if _MARKS.search(text):
        text = text.replace("<", "?")
    text = "".join(sign if sign.isprintable() or sign in "\n\t" else "?" for sign in text.replace("\r\n", "\n"))
    return text if len(text) <= most and whole <= 2 * most else f"{text[:most]} [cut: {whole} characters in all]"


def _text_of(result: Any) -> str:
    """The text of a result; of anything else the kind."""
    parts = [
        part.text if getattr(part, "type", "") == "text" else f"[{getattr(part, 'type', 'content')}, left out]"
        for part in result.content
    ]
    if not parts and result.structured_content is not None:
        return json.dumps(result.structured_content, ensure_ascii=False)
    return "\n".join(parts) or "(nothing)"


async def _list_tools(client: Any, spec: ServerSpec) -> list[OfferedTool]:
    found: list[OfferedTool] = []
    cursor = None
    for _ in range(MAX_PAGES):
        page = await client.list_tools(cursor=cursor)
        found += [_offered(tool, spec.label) for tool in page.tools if _TOOL.fullmatch(tool.name)]
        cursor = page.next_cursor
        if cursor is None or len(found) > MAX_TOOLS:
            break
    names = {tool.name for tool in found}
    for name in spec.only:
        if name not in names:
            raise ConfigError(f"it has no tool {name!r}{nearest(name, names)}")
    found = [tool for tool in found if not spec.only or tool.name in spec.only]
    if not found:
        raise ConfigError("it offers no tools")
    if len(found) > MAX_TOOLS:
        example = f"{spec.label}:{found[0].name}=..."
        raise ConfigError(f"it offers more than {MAX_TOOLS} tools; name those to use, as in {example}")
    return found


def _offered(tool: Any, label: str) -> OfferedTool:
    schema = tool.input_schema if isinstance(tool.input_schema, dict) else {}
    if len(json.dumps(schema)) > MAX_PARAMETERS or schema_problem(schema):
        schema = {"type": "object"}  # told more briefly; the server itself checks what it is given
    text = bounded(tool.description or "", MAX_DESCRIPTION)
    return OfferedTool(label=label, name=tool.name, description=text, parameters=schema)


def _is_closed(error: BaseException) -> bool:
    """The connection is over, rather than this one call refused."""
    from mcp_types import CONNECTION_CLOSED

    return getattr(error, "code", None) == CONNECTION_CLOSED or type(error).__name__ in (
        "ClosedResourceError", "BrokenResourceError", "EndOfStream",
    )  # fmt: skip


def _why(error: BaseException) -> str:
    """The first cause in a group of errors, in a line."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, FileNotFoundError):
        return f"there is no program {error.filename!r}"
    text = str(error) if isinstance(error, ConfigError) else f"{type(error).__name__}: {error}"
    return " ".join(text.split())[:300]


def import_sdk() -> Any:
    """The SDK, or how to get it."""
    try:
        import mcp
    except ImportError:
        raise ConfigError('MCP needs its SDK: pip install "ponder[mcp]"') from None
    return mcp


def _client(spec: ServerSpec) -> Any:
    sdk = import_sdk()
    if spec.is_remote or not isinstance(spec.address, str):
        return sdk.Client(spec.address)
    command, *arguments = _words(spec.address)
    return sdk.Client(sdk.StdioServerParameters(command=command, args=arguments, encoding_error_handler="replace"))


# --- the other side: ponder's functions as tools ---------------------------------------------------------------------


def make_server(name: str, functions: Sequence[Callable[..., Awaitable[Any]]], *, instructions: str) -> Any:
    """An MCP server whose tools are coroutine functions: names, types and docstrings are what agents are told.

    An error that a person can fix reaches the agent with its message; of any other it learns that there was one, and
    stderr has the traceback.
    """
    import_sdk()
    from mcp.server.mcpserver import MCPServer

    server = MCPServer(name, instructions=instructions, version=__version__, log_level="WARNING")
    for function in functions:
        server.add_tool(_with_tool_errors(function), description=" ".join((function.__doc__ or "").split()))
    return server


def _with_tool_errors(function: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    from mcp.server.mcpserver.exceptions import ToolError

    @functools.wraps(function)
    async def called(*arguments: Any, **named: Any) -> Any:
        try:
            return await function(*arguments, **named)
        except (ConfigError, StorageError) as error:
            raise ToolError(str(error)) from None

    return called


def run_server(server: Any, *, port: int | None = None) -> None:
    """Until the client goes (stdio), or Ctrl-C. port: streamable HTTP on this machine instead, at /mcp."""
    if port is None:
        server.run("stdio")
        return
    print(f"ponder's tools are at http://127.0.0.1:{port}/mcp, for programs on this machine", file=sys.stderr)
    server.run("streamable-http", host="127.0.0.1", port=port)
