"""The routes of the Tinker API over `TinkerService`, and how errors are reported.

A request that belongs to a model's line is accepted whatever it holds, and what is wrong with it is told by its future:
refused at the door it would leave a hole that those after it wait for. 404 is an id that is not here, 410 an answer
that is kept no more, 401 a key that is none, 408 an answer that is not there yet: the SDK asks again.
"""

from __future__ import annotations

import functools
import hmac
import json
import logging
import re
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from ponder.config import ConfigError
from ponder.tinker.checkpoints import KINDS, as_listed
from ponder.tinker.futures import Refused
from ponder.tinker.protobuf import WireError
from ponder.tinker.service import Model, NotHere, TinkerService
from ponder.tinker.wire import read_request

WAIT = 30.0  # seconds that one poll is held; the SDK gives up on one after 45
MAX_BODY = 64 << 20
_SECRET = secrets.token_bytes(32)  # of the addresses of files: they end with the process
_HERE = re.compile(r"(?:127\.0\.0\.1|localhost|\[::1\])(?::[0-9]{1,5})?", re.IGNORECASE)  # as a Host header says it
_log = logging.getLogger("ponder.tinker")
Handler = Callable[["TinkerCall"], Awaitable[Any]]


class TinkerCall:
    """One request: its service, its path, its body."""

    def __init__(self, request: Request, service: TinkerService, body: bytes) -> None:
        self.request, self.service, self.raw = request, service, body

    @functools.cached_property
    def body(self) -> dict[str, Any]:
        """The JSON object that was sent; {} for an empty body. Raises ConfigError for anything else."""
        try:
            data = json.loads(self.raw or b"{}")
        except (ValueError, RecursionError):
            data = None
        if not isinstance(data, dict):
            raise ConfigError("the body is no JSON object")
        return data

    def need(self, name: str, kind: type) -> Any:
        """A field of the body that must be there and of this type; a bool is no int. Raises ConfigError."""
        value = self.body.get(name)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise ConfigError(f"{name}={str(value)[:100]!r} must be given, as {kind.__name__}")
        return value

    def may(self, name: str, kind: type) -> Any:
        """The same for what may be missing: None."""
        return None if self.body.get(name) is None else self.need(name, kind)

    def path(self, name: str) -> str:
        return str(self.request.path_params[name])


def promised(identity: str, model_id: str | None = None) -> dict[str, Any]:
    """The answer to a request that is done later. identity: of its future, which the client polls for."""
    return {"request_id": identity, "model_id": model_id}


async def health(call: TinkerCall) -> Any:
    return {"status": "ok"}


async def client_config(call: TinkerCall) -> Any:
    """Flags of the SDK: plain HTTP/1.1 with the key, one poll a request."""
    return {
        "pjwt_auth_enabled": False, "credential_default_source": "api_key", "use_pyqwest_transport": False,
        "parallel_fwdbwd_chunks": True, "proto_compress_fwdbwd": False, "sample_use_retrieve_futures": False,
        "custom_loss_server_side": False, "sample_join_sampling_session": False,
        # this machine is slow and alive: a batch may take longer than the SDK's patience with a data centre
        "sample_enable_stuck_detection": False,
    }  # fmt: skip


async def dynamic_config(call: TinkerCall) -> Any:
    return {"sample_cancel_enabled": True}


async def telemetry(call: TinkerCall) -> Any:
    return {"status": "accepted"}  # and dropped


async def capabilities(call: TinkerCall) -> Any:
    models = []
    for name, base in call.service.bases.items():
        window = base.config.max_position_embeddings
        models.append({"model_name": name, "max_context_length": window, "trainable": True, "sampleable": True})
    return {"supported_models": models}


async def create_session(call: TinkerCall) -> Any:
    return {"type": "create_session", "session_id": call.service.create_session()}


async def heartbeat(call: TinkerCall) -> Any:
    """Keeps a session alive. An unknown one gets 410 and not 404, which ends the client's heartbeat."""
    call.service.session(call.need("session_id", str))
    return {"type": "session_heartbeat"}


async def create_model(call: TinkerCall) -> Any:
    body = call.body
    future = call.service.create_model(
        call.need("session_id", str), call.need("model_seq_id", int), base=call.need("base_model", str),
        lora=body.get("lora_config"), optimizer=(call.may("optimizer_config", dict) or {}).get("type", "adamw"),
        metadata=call.may("user_metadata", dict),
    )  # fmt: skip
    return promised(future)


async def load_weights(call: TinkerCall) -> Any:
    """Into the model that is named, or else into a new one that is made for them."""
    body = call.body
    optimizer = bool(body.get("optimizer"))
    if body.get("model_id"):
        model_id, number = call.need("model_id", str), call.need("seq_id", int)
        # whatever is no path is told by the future
        return promised(call.service.load(model_id, number, str(body.get("path")), optimizer=optimizer), model_id)
    future = call.service.create_from(
        call.need("session_id", str), call.need("model_seq_id", int), path=call.need("path", str), optimizer=optimizer,
        metadata=call.may("user_metadata", dict),
    )  # fmt: skip
    return promised(future)


async def get_info(call: TinkerCall) -> Any:
    """Raises ConfigError while the model is not made yet."""
    model = call.service.model(call.need("model_id", str))
    if model.training is None:
        raise ConfigError(f"{model.identity} is not made yet; wait for create_model")
    base, settings = model.training.base, model.training.settings
    return {
        "type": "get_info", "model_id": model.identity, "model_name": base.name, "is_lora": True,
        "lora_rank": settings.rank, "optimizer_config": {"type": "adamw"},
        "model_data": {"arch": base.config.model_type, "model_name": base.name, "tokenizer_id": str(base.folder)},
    }  # fmt: skip


async def unload_model(call: TinkerCall) -> Any:
    model = call.service.model(call.need("model_id", str))
    call.service.unload(model.identity)
    return {"type": "unload_model", "model_id": model.identity}


async def forward_backward(call: TinkerCall) -> Any:
    request = read_request(call.raw)
    return promised(call.service.forward_backward(request), request.model_id)


async def optim_step(call: TinkerCall) -> Any:
    model_id, body = call.need("model_id", str), call.body
    params = body.get("adam_params") or body.get("optimizer_params") or {}
    return promised(call.service.optim_step(model_id, call.need("seq_id", int), params), model_id)


async def save_weights(call: TinkerCall) -> Any:
    return _save(call, "weights")


async def save_weights_for_sampler(call: TinkerCall) -> Any:
    """With a path they are saved. Without one they become a snapshot in memory, drawn from by the sampler of that
    `sampling_session_seq_id`."""
    body = call.body
    if body.get("path") is not None:
        return _save(call, "sampler_weights")
    model_id, number = call.need("model_id", str), call.need("seq_id", int)
    if body.get("kind", "snapshot") != "snapshot":

        def refuse(model: Any) -> Any:
            raise ConfigError("kind='inflight' is not supported here; use the default, kind='snapshot'")

        return promised(call.service.in_line(model_id, number, refuse), model_id)
    return promised(call.service.snapshot(model_id, number, body.get("sampling_session_seq_id")), model_id)


async def save_weights_external(call: TinkerCall) -> Any:
    """A wish for encryption is refused by the future, so that no number is missing in the model's line."""
    if call.body.get("age_encryption_recipients"):
        model_id, number = call.need("model_id", str), call.need("seq_id", int)

        def refuse(model: Any) -> Any:
            raise ConfigError("exports are not encrypted here; leave out age_encryption_recipients")

        return promised(call.service.in_line(model_id, number, refuse), model_id)
    return _save(call, "external_weights")


async def external_weights_urls(call: TinkerCall) -> Any:
    """Where each file of an export lies for an hour. Whoever has the address has the file: no key is asked for."""
    run, kind, name = (call.path(part) for part in ("run", "kind", "name"))
    expires, urls = int(time.time()) + 3600, {}
    for file in sorted(call.service.store.find(f"tinker://{run}/{kind}/{name}").folder.glob("adapter_*")):
        query = f"expires={expires}&signature={_signature(run, kind, name, file.name, expires)}"
        urls[file.name] = f"{call.request.base_url}api/v1/files/{run}/{kind}/{name}/{file.name}?{query}"
    return {"urls": urls, "expires": datetime.fromtimestamp(expires, UTC).isoformat()}


async def download(call: TinkerCall) -> Any:
    """A file of an export, for whoever has its signed address; 403 once that has expired."""
    run, kind, name, file = parts = tuple(call.path(part) for part in ("run", "kind", "name", "file"))
    given = call.request.query_params
    expires = int(given["expires"]) if re.fullmatch("[0-9]{1,12}", given.get("expires", "")) else 0
    is_ours = hmac.compare_digest(given.get("signature", "").encode(), _signature(*parts, expires).encode())
    if not is_ours or expires < time.time():
        return refusal(403, "this address is not valid, or no longer: ask for the URLs again")
    return FileResponse(call.service.store.find(f"tinker://{run}/{kind}/{name}").folder / file)


def _signature(*parts: str | int) -> str:
    return hmac.new(_SECRET, json.dumps(parts).encode(), "sha256").hexdigest()


async def finish(call: TinkerCall) -> Any:
    call.service.finish(call.path("session"))
    return Response(status_code=204)


def _save(call: TinkerCall, kind: str) -> Any:
    body, model_id = call.body, call.need("model_id", str)
    future = call.service.save(
        model_id, call.need("seq_id", int), kind=kind, name=body.get("path"), overwrite=bool(body.get("overwrite")),
        ttl=body.get("ttl_seconds"), metadata=body.get("user_metadata"),
    )  # fmt: skip
    return promised(future, model_id)


async def create_sampling_session(call: TinkerCall) -> Any:
    identity = await call.service.create_sampler(
        call.need("session_id", str), call.need("sampling_session_seq_id", int),
        base_model=call.may("base_model", str), model_path=call.may("model_path", str),
    )  # fmt: skip
    return {"type": "create_sampling_session", "sampling_session_id": identity}


async def get_sampler(call: TinkerCall) -> Any:
    identity = call.path("sampler")
    sampler = call.service.sampler(identity)
    return {"sampler_id": identity, "base_model": sampler.base.name, "model_path": sampler.model_path}


async def sample(call: TinkerCall) -> Any:
    identity, number = call.need("sampling_session_id", str), call.need("seq_id", int)
    future, sequences = call.service.sample(identity, number, call.body)
    return {"request_id": future, "sample_sequence_ids": sequences}


async def retrieve_future(call: TinkerCall) -> Any:
    """Waits `WAIT` seconds at most. 408 where the outcome is not there yet, 410 for a future that is not known."""
    identity = call.need("request_id", str)
    try:
        outcome = await call.service.futures.wait(identity, WAIT)
    except KeyError:
        return refusal(410, f"no request {identity[:100]!r} here: it was fetched long ago, or the server started again")
    if outcome is None:
        waiting = {"type": "try_again", "request_id": identity, "queue_state": "active"}
        return answer(waiting, 408)
    if isinstance(outcome, Refused):
        return answer(outcome.body())
    if isinstance(outcome, bytes):
        return Response(outcome, media_type="application/x-protobuf")
    return answer(dict(outcome))


async def cancel_future(call: TinkerCall) -> Any:
    """Requests in a model's line go on all the same, and an unknown id is no error."""
    call.service.futures.cancel(call.need("request_id", str))
    return {}


async def weights_info(call: TinkerCall) -> Any:
    facts = call.service.store.find(call.need("tinker_path", str)).facts
    return {
        "base_model": facts["base_model"], "is_lora": True, "lora_rank": facts["rank"], "train_unembed": False,
        "train_mlp": facts["train_mlp"], "train_attn": facts["train_attn"], "optimizer_config": {"type": "adamw"},
    }  # fmt: skip


async def training_run(call: TinkerCall) -> Any:
    """Of a model in training, or of the weights that are left of it. Raises NotHere where there is neither."""
    run = call.path("run")
    found, model = call.service.store.of_run(run), call.service.models.get(run)
    if not found and (model is None or model.training is None):
        raise NotHere(f"no training run {run[:100]!r} here")
    facts = model.training.facts() if model and model.training else found[-1].facts
    of_kind = lambda kind: (each for each in reversed(found) if f"/{kind}/" in each.path)
    last = {kind: next(map(as_listed, of_kind(kind)), None) for kind in KINDS}
    metadata = model.metadata if model else found[-1].facts.get("user_metadata")
    return {
        "training_run_id": run, "base_model": facts["base_model"], "model_owner": "local", "is_lora": True,
        "lora_rank": facts["rank"], "last_request_time": _last_request(model, found),
        "last_checkpoint": last["weights"], "last_sampler_checkpoint": last["sampler_weights"],
        "user_metadata": {key: str(value) for key, value in (metadata or {}).items()} or None,
    }  # fmt: skip


def _last_request(model: Model | None, found: list[Any]) -> str:
    return datetime.fromtimestamp(model.last_request if model else found[-1].facts["time"], UTC).isoformat()


async def checkpoints(call: TinkerCall) -> Any:
    return {"checkpoints": [as_listed(each) for each in call.service.store.of_run(call.path("run"))]}


async def delete_checkpoint(call: TinkerCall) -> Any:
    call.service.store.delete(f"tinker://{call.path('run')}/{call.path('kind')}/{call.path('name')}")
    return Response(status_code=204)


ROUTES: list[tuple[str, str, Handler]] = [
    ("GET", "healthz", health),
    ("POST", "client/config", client_config),
    ("POST", "client/dynamic_config", dynamic_config),
    ("POST", "telemetry", telemetry),
    ("GET", "get_server_capabilities", capabilities),
    ("POST", "create_session", create_session),
    ("POST", "session_heartbeat", heartbeat),
    ("POST", "create_model", create_model),
    ("POST", "get_info", get_info),
    ("POST", "unload_model", unload_model),
    ("POST", "forward_backward", forward_backward),
    ("POST", "optim_step", optim_step),
    ("POST", "save_weights", save_weights),
    ("POST", "save_weights_for_sampler", save_weights_for_sampler),
    ("POST", "save_weights_external", save_weights_external),
    ("POST", "load_weights", load_weights),
    ("POST", "weights_info", weights_info),
    ("POST", "create_sampling_session", create_sampling_session),
    ("GET", "samplers/{sampler}", get_sampler),
    ("POST", "asample", sample),
    ("POST", "retrieve_future", retrieve_future),
    ("POST", "cancel_future", cancel_future),
    ("GET", "training_runs/{run}", training_run),
    ("GET", "training_runs/{run}/checkpoints", checkpoints),
    ("DELETE", "training_runs/{run}/checkpoints/{kind}/{name}", delete_checkpoint),
    ("GET", "training_runs/{run}/checkpoints/{kind}/{name}/external_weights_urls", external_weights_urls),
    ("GET", "files/{run}/{kind}/{name}/{file}", download),
    ("POST", "sessions/{session}/finish", finish),
]


def make_app(service: TinkerService, *, api_key: str | None = None) -> Starlette:
    """api_key: the one that is asked for; None takes any, so that the SDK's own check is met by any it accepts. Then
    requests must name this machine as their host: a page in a browser may lead another name here, and knows no key."""

    def endpoint(handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        async def handle(request: Request) -> Response:
            # not `request.url`, which takes the address of the server for a header that it cannot read
            if api_key is None and not _HERE.fullmatch(request.headers.get("host", "")):
                return refusal(403, "without --api-key only http://127.0.0.1 and http://localhost are answered")
            given = request.headers.get("x-api-key", "")
            is_right = bool(given) and (api_key is None or hmac.compare_digest(given.encode(), api_key.encode()))
            if not is_right and handler is not download:
                return refusal(401, "set TINKER_API_KEY to the key that `ponder tinker` was started with")
            body = bytearray()
            try:
                async for part in request.stream():
                    body += part
                    if len(body) > MAX_BODY:
                        return refusal(413, f"the body is larger than {MAX_BODY >> 20} MiB; send fewer data at a time")
            except ClientDisconnect:
                return refusal(400, "the body never came")  # nobody reads this
            try:
                result = await handler(TinkerCall(request, service, bytes(body)))
            except NotHere as error:
                # a heartbeat ends with 410, whatever else is asked of a session that is not here is an error
                return refusal(410 if handler is heartbeat else 404, str(error))
            except (ConfigError, WireError) as error:
                return refusal(400, str(error))
            except Exception:  # a bug of ours
                _log.exception("a request failed")
                return refusal(500, "the server had an error; its log tells more")
            return result if isinstance(result, Response) else answer(result)

        return handle

    async def unknown(request: Request, error: Exception) -> Response:
        return refusal(
            404, f"{request.method} {request.url.path[:200]} is not offered by ponder tinker (docs/tinker.md)"
        )

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        await service.aclose()

    routes = [Route(f"/api/v1/{path}", endpoint(handler), methods=[method]) for method, path, handler in ROUTES]
    return Starlette(routes=routes, lifespan=lifespan, exception_handlers={404: unknown, 405: unknown})


def answer(body: Any, status: int = 200) -> Response:
    return Response(json.dumps(body), status, media_type="application/json")


def refusal(status: int, why: str) -> Response:
    return answer({"error": why, "detail": why}, status)
