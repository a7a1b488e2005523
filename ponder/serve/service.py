"""What all requests share, and what turns a request into an order for `work.produce`."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ponder.config import ConfigError
from ponder.efforts import Efforts
from ponder.engine.form import FormError, form_problem
from ponder.serve import lease
from ponder.serve.errors import ApiError, StoreUnavailable, not_found, overloaded
from ponder.serve.items import Item, Thought, conversation, prefix_hashes, prompt_of, turn_start
from ponder.serve.keys import Key, Keyring
from ponder.serve.limits import Charge, Limiter
from ponder.serve.logs import log, log_error
from ponder.serve.metrics import Metrics
from ponder.serve.modes import Spending, modes, plan
from ponder.serve.monitor import Judgement, Monitor, Rules
from ponder.serve.saving import broken, save_running
from ponder.serve.schema import Compute
from ponder.serve.schemas import MOST_SUBSCHEMAS, SchemaError, applied, check_schema, check_size
from ponder.serve.store import Store
from ponder.serve.summary import ModelSummarizer, Summarizer
from ponder.serve.thoughts import Thoughts, Watch
from ponder.serve.tools import TOOL_CALL, Tool
from ponder.serve.vault import Binding, Vault, load_secret
from ponder.serve.work import Count, Order
from ponder.strategies.keys import answer_key
from ponder.types import Engine, Message, SamplingParams, Scorer

if TYPE_CHECKING:
    from ponder.serve.job import Job
    from ponder.serve.responses import ResponseJob


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How the server is run."""

    model: str
    db: str = ":memory:"
    api_key: str | None = None
    temperature: float = 1.0
    requests_per_minute: int = 6000
    tokens_per_minute: int = 10_000_000
    max_running: int = 512  # responses produced at a time; more are refused with 503
    max_body: int = 4 << 20  # bytes
    max_connections: int = 4096  # fewer where the system allows fewer
    max_per_address: int = 2048  # connections of one address
    heartbeat: float = 10.0  # seconds between two comments in a silent stream
    drain: float = 20.0  # seconds that running responses get when the server is told to stop
    monitors: Sequence[Monitor] = field(default_factory=lambda: (Rules(),))
    monitor_deadline: float = 2.0
    fail_closed: bool = False
    summarizer: Summarizer | None = None  # None: the model itself
    scorer: Scorer | None = None
    efforts: Efforts | None = None  # measured levels; None: a ladder of doublings
    key: Callable[[str], str | None] = field(default_factory=answer_key)  # when two answers are the same for a vote
    strict_params: bool = True  # refuse what o1 refuses; False: ignore it


_LONG = 20_000  # characters of a prompt that takes its time to be tokenised
_WAITING = 64  # long prompts that wait to be; more are refused
_GRACE = 86_400.0  # seconds of running after which a clock that jumped is believed


class Service:
    def __init__(self, engine: Engine, settings: Settings) -> None:
        self.engine, self.settings = engine, settings
        self.store = Store(settings.db)
        self.vault = Vault(load_secret(settings.db))
        self.keyring = Keyring(self.store, settings.api_key)
        self.limiter = Limiter(settings.requests_per_minute, settings.tokens_per_minute)
        self.metrics = Metrics()
        self.summarizer = settings.summarizer or ModelSummarizer(engine)
        self.modes = modes(settings.scorer)
        self.created = int(time.time())
        self.window, self.tokenizer = engine.window, engine.tokenizer
        self.longest = longest_token(self.tokenizer)
        self.jobs: dict[str, ResponseJob] = {}  # responses that the store does not have whole
        self.running_jobs: set[Job] = set()
        self.num_running = 0
        self.is_draining = False
        self._tasks: set[asyncio.Task[Any]] = set()
        self.on_failure: Callable[[str], None] = lambda why: None  # the engine will never serve again
        self._ready: tuple[float, str] = (0.0, "")
        # a thread for short prompts and one for long ones, which take a core at most and keep nobody else waiting
        self._readers = [concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="ponder-tokenize") for _ in "12"]
        self._num_long = self.num_body_bytes = 0
        self._jumped: float | None = None  # when a sweep first found the clock far ahead, on the monotonic clock

    def spawn(self, work: Any) -> asyncio.Task[Any]:
        """A task that somebody keeps a reference to."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def start(self) -> None:
        count = swept = None
        try:
            await self.store.do(self.store.beat)
            count = await self.store.do(lambda: self.store.fail_broken(broken))
            swept = await self._sweep()
        except StoreUnavailable:
            pass  # it has been logged, and housekeeping does it as soon as it can
        efforts = "ladder" if self.settings.efforts is None else "measured"
        log("started", model=self.settings.model, broken=count, expired=swept, efforts=efforts)
        self.spawn(self._housekeeping())

    async def _housekeeping(self) -> None:
        """Write events of running responses a few times a second; say that this server lives, and look after those
        that do not; expire old objects now and then."""
        swept, beaten = time.monotonic(), 0.0
        told = False
        while True:
            await asyncio.sleep(0.2)
            if self.engine_failure and not told:
                told = True
                log("engine_failed", reason=self.engine_failure)
                self.on_failure(self.engine_failure)
            if not await save_running(list(self.jobs.values())):
                await asyncio.sleep(1)
            try:
                if time.monotonic() - beaten > lease.BEAT:
                    beaten = time.monotonic()
                    await self.store.do(self.store.beat)
                    count = await self.store.do(lambda: self.store.fail_broken(broken))
                    if count:
                        log("failed_for_another_server", broken=count)
                if time.monotonic() - swept > 3600:
                    swept = time.monotonic()
                    await self._sweep()
            except StoreUnavailable:
                pass  # it has been logged, and there is another time
            except Exception as problem:  # whatever else a database says must not end this loop
                log_error(problem)

    async def _sweep(self) -> int | None:
        """Delete what is too old. A clock that has jumped is believed after a day of running: until then somebody can
        put it right, and nothing is lost."""
        may_jump = self._jumped is not None and time.monotonic() - self._jumped > _GRACE
        count = await self.store.do(lambda: self.store.sweep(may_jump=may_jump))
        if count is None:
            self._jumped = time.monotonic() if self._jumped is None else self._jumped
            log("clock_jumped", hours_until_expiry=round(_GRACE / 3600))
        else:
            self._jumped = None
        return count

    @property
    def engine_failure(self) -> str | None:
        """Why the engine will never serve again; None while it does, or comes back by itself."""
        return self.engine.failure

    def drain(self) -> None:
        """Take no more work; what runs has a while to end, then it is told to, so that its client hears of it."""
        if not self.is_draining:
            self.is_draining = True
            asyncio.get_running_loop().call_later(self.settings.drain, self._fail_all)

    def give_up(self) -> None:
        """Nothing that runs can end well: tell its clients now."""
        self._fail_all()

    def _fail_all(self) -> None:
        for job in list(self.running_jobs):
            job.fail("The server was stopped.")

    async def stop(self) -> None:
        """Wait until nothing runs, `drain` seconds at most and some for the writing."""
        self.drain()
        until = time.monotonic() + self.settings.drain + 5
        while self.running_jobs and time.monotonic() < until:
            await asyncio.sleep(0.02)
        await save_running(list(self.jobs.values()))  # what could not be written before
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for reader in self._readers:
            reader.shutdown(wait=False, cancel_futures=True)
        with contextlib.suppress(StoreUnavailable):
            await self.store.do(self.store.retire)
        self.store.close()

    async def is_ready(self) -> str:
        """"" if the engine generates a token, else why not; asked at most every five seconds."""
        if self.is_draining:
            return "draining"
        if self.engine_failure:
            return "the engine failed"
        if self.num_running >= self.settings.max_running or self._num_long >= _WAITING:
            return "busy"
        at, why = self._ready
        if time.monotonic() - at < 5 and at:
            return why
        try:
            async with asyncio.timeout(30):
                params = SamplingParams(max_reasoning_tokens=0, max_answer_tokens=1, max_tokens=1)
                await self.engine.generate((Message(role="user", content="hi"),), params)
            why = ""
        except TimeoutError:
            why = "the engine gave no token within 30 s"
        except Exception as error:  # whatever ails the engine is what readiness is about
            why = f"the engine failed: {type(error).__name__}"
        self._ready = time.monotonic(), why
        return why

    def check_model(self, name: str | None) -> None:
        if name is not None and name != self.settings.model:
            message = f"The model '{name[:200]}' is not served here; this server has '{self.settings.model}'."
            raise ApiError(404, message, code="model_not_found", param="model")

    @contextlib.contextmanager
    def running(self) -> Any:
        """A place among the running responses."""
        if self.is_draining:
            raise overloaded("The server is shutting down.")
        if self.num_running >= self.settings.max_running:
            raise overloaded(f"The server is producing {self.num_running} responses, the most it takes. Try later.")
        self.num_running += 1
        self.metrics.running.set(self.num_running)
        try:
            yield
        finally:
            self.num_running -= 1
            self.metrics.running.set(self.num_running)

    # --- from a request to an order ----------------------------------------------------------------------------------

    def fits(self, num_characters: int) -> bool:
        """False for a text that no tokenisation can fit into the window, which is known before any."""
        return self.window is None or self.longest is None or num_characters <= self.window * self.longest

    async def encode(self, prompt: Any, placed: Mapping[int, Thought] | None = None) -> tuple[Any, int]:
        """(a prompt as the engine wants it, its tokens): ids, where the engine has a tokenizer. They are made away
        from the event loop, one prompt after the other; raises ApiError where too many long ones wait."""
        if not self.engine.capabilities.token_ids:
            return prompt, 0  # a remote engine counts itself
        is_long = sum(len(part.content) for part in prompt if isinstance(part, Message)) > _LONG
        if is_long and self._num_long >= _WAITING:
            raise overloaded("The server is reading as many long prompts as it takes. Please try again later.")
        self._num_long += is_long
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._readers[is_long], self._encode, prompt, placed or {})
        finally:
            self._num_long -= is_long

    def _encode(self, prompt: Any, placed: Mapping[int, Thought]) -> tuple[Any, int]:
        prompt = prompt_of(self.tokenizer, prompt, placed) if placed else prompt
        ids = self.engine.prompt_ids(prompt)
        return (prompt if self.tokenizer is None else ids), len(ids)

    async def ids(self, prompt: Any) -> Any:
        """What a strategy made up on the way, for the engine."""
        is_text = self.tokenizer is not None and prompt and isinstance(prompt[0], Message)
        return (await self.encode(prompt))[0] if is_text else prompt

    async def prompt(
        self, items: list[Item], thoughts: Mapping[str, Thought], *, param: str, truncate: bool, charge: Charge,
        **parts: Any,
    ) -> tuple[Sequence[Message] | Sequence[int], list[Message], int]:  # fmt: skip
        """(what the engine is asked, the messages, prompt tokens); a conversation that does not fit is refused, or
        loses its oldest items if the request said so. Reading is charged before it is done."""
        while True:
            messages, placed = conversation(items, thoughts, **parts)
            if not messages:
                raise ApiError(400, f"Missing required parameter: '{param}'.",
                               code="missing_required_parameter", param=param)  # fmt: skip
            size = sum(len(message.content) for message in messages)
            if self.fits(size):
                charge.cover(size)
                try:
                    prompt, count = await self.encode(messages, placed)
                except ConfigError as error:  # the chat template refuses the conversation
                    raise ApiError(400, str(error)[:500], code="invalid_value", param=param) from None
                if self.window is None or count <= self.window - 2:
                    return prompt, messages, count
                told = f"your messages resulted in {count} tokens"
            else:
                assert self.window is not None and self.longest is not None
                count = max(self.window, size // self.longest)
                told = f"your messages have {size} characters, at least {count} tokens"
            if not truncate or len(items) < 2:
                raise ApiError(
                    400,
                    f"This model's maximum context length is {self.window} tokens. However, {told}. "
                    "Please reduce the length of the messages.",
                    code="context_length_exceeded",
                    param=param,
                )
            items = _without_oldest(items, count, count - self.window + 2)

    def compute(self, *, effort: str | None, mode: str | None, compute: Compute | None, limit: int | None,
                num_prompt_tokens: int, **more: Any) -> Spending:  # fmt: skip
        return plan(
            effort=effort, mode=mode, compute=compute, limit=limit, num_prompt_tokens=num_prompt_tokens,
            window=self.window, offered=self.modes, efforts=self.settings.efforts,
            temperature=self.settings.temperature, **more,
        )  # fmt: skip

    def watch(self, *, summary: bool, private: Sequence[str], context: Mapping[str, str]) -> Watch:
        settings = self.settings
        return Watch(
            monitors=settings.monitors,
            monitor_deadline=settings.monitor_deadline,
            fail_closed=settings.fail_closed,
            summarizer=self.summarizer if summary else None,
            private=private,
            context=context,
        )

    async def kept_thoughts(
        self, items: list[Item], *, owner: str, user: str, num_history: int = 0
    ) -> tuple[dict[str, Thought], list[dict[str, str]]]:
        """Reasoning of the current turn by its item, and what was sent (behind the stored history) and is not used."""
        begin, prefixes = turn_start(items), prefix_hashes(items)
        kept: dict[str, Thought] = {}
        removed: list[dict[str, str]] = []
        for place, item in enumerate(items):
            if item["type"] != "reasoning" or place < min(begin, num_history):
                continue
            name, reason = item["id"], None
            binding = Binding(owner=owner, model=self.settings.model, prefix=prefixes[place], item=name, user=user)
            sealed = item.get("encrypted_content") or await self._sealed_in_store(name, owner)
            data, reason = self.vault.open(sealed, binding)
            if reason is None and place < begin:
                reason = "turn_boundary"
            if reason is None and data is not None:
                kept[name] = Thought(data["text"])
            else:
                removed.append({"type": "reasoning", "id": name, "action": "removed", "reason": str(reason)})
        return kept, removed

    async def _sealed_in_store(self, item: str, owner: str) -> str:
        rows = await self.store.read(lambda: self.store.reasoning(item=item))
        mine = [row[2] for row in rows if row[1] == owner]
        if not mine:
            raise ApiError(
                404,
                f"Item with id '{item[:100]}' not found. Items are not persisted when `store` is set to false. Send "
                "its `encrypted_content` instead, or leave the item out.",
                code="not_found",
                param="input",
            )
        return str(mine[0])

    async def stored_item(self, name: str, owner: str) -> Item:
        found = await self.store.read(lambda: self.store.item(name, owner=owner))
        if found is None:
            raise not_found("item", name)
        return found

    def seal(self, thoughts: Thoughts, *, owner: str, item: str, prefix: str, user: str) -> str:
        """Encrypted: the reasoning behind the answer, and that of all samples where there were several."""
        binding = Binding(owner=owner, model=self.settings.model, prefix=prefix, item=item, user=user)
        raw = thoughts.raw()
        chosen = raw if thoughts.chosen is None else thoughts.chosen
        return self.vault.seal({"text": chosen, **({"all": raw} if raw != chosen else {})}, binding)

    # --- what every response reports ---------------------------------------------------------------------------------

    def on_verdict(self, response: str, owner: str) -> Callable[[str, int, Judgement], None]:
        def note(monitor: str, segment: int, verdict: Judgement) -> None:
            self.metrics.verdicts.labels(monitor, verdict.action).inc()
            if verdict.action != "allow":
                log("monitor", response=response, monitor=monitor, action=verdict.action, segment=segment)
                self.spawn(self._keep_verdict(response, owner, monitor, verdict.action, segment, verdict.note))

        return note

    async def _keep_verdict(self, *verdict: Any) -> None:
        try:
            await self.store.do(lambda: self.store.add_verdict(*verdict))
        except Exception as problem:  # it is in the log and the metrics all the same
            log_error(problem, response=verdict[0])

    def report(
        self, *, key: Key, kind: str, name: str, status: str, count: Count, compute: Spending,
        thoughts: Sequence[Thoughts], begun: float, first_visible: float | None,
    ) -> None:  # fmt: skip
        metrics = self.metrics
        metrics.prompt_tokens.inc(count.prompt)
        metrics.reasoning_tokens.labels(compute.effort).inc(count.reasoning)
        metrics.answer_tokens.inc(count.answer)
        metrics.summary_tokens.inc(count.summary)
        metrics.samples.labels(compute.mode).inc(count.samples)
        metrics.discarded.inc(count.discarded)
        metrics.finished.labels(status).inc()
        metrics.lengths.observe(count.reasoning)
        for thought in thoughts:
            metrics.thinking.observe(thought.seconds)
        if first_visible is not None:
            metrics.first_visible.observe(first_visible - begun)
        if status == "incomplete":
            metrics.exhausted.labels("answer" if count.answer else "reasoning").inc()
        if status == "cancelled":
            metrics.aborted.inc()
        seconds = time.monotonic() - begun
        metrics.duration.observe(seconds)
        log(
            "response", kind=kind, id=name, key=key.id, status=status, seconds=round(seconds, 3), effort=compute.effort,
            mode=compute.mode, prompt_tokens=count.prompt, reasoning_tokens=count.reasoning, output_tokens=count.output,
        )  # fmt: skip


def longest_token(tokenizer: Any) -> int | None:
    """Characters that one token spells at most; None where that is not known."""
    pieces = getattr(tokenizer, "byte_pieces", None)  # a character has one byte or more
    return max((len(piece) for piece in pieces if piece), default=None) if pieces else None


def _without_oldest(items: list[Item], num_tokens: int, excess: int) -> list[Item]:
    """Drop the oldest items until about `excess` of the tokens are gone, one at least."""
    sizes = [len(json.dumps(item)) for item in items]
    dropped, wanted = 0, excess / num_tokens * sum(sizes)
    place = 0
    while place < len(items) - 1 and (place == 0 or dropped < wanted):
        dropped += sizes[place]
        place += 1
    return items[place:]


def tools_of(given: Sequence[Any] | None, choice: Any, param: str) -> tuple[list[Tool], bool]:
    """(tools that may be called, whether one must be) of a request in either API's form."""
    specs = [getattr(tool, "function", tool) for tool in given or ()]
    try:
        check_size([spec.parameters for spec in specs])
    except SchemaError as error:
        raise ApiError(400, f"Invalid schemas of functions, all taken together: {error}.",
                       code="invalid_function_parameters", param=param) from None  # fmt: skip
    tools = [
        Tool(name=spec.name, description=spec.description or "", parameters=spec.parameters or {},
             strict=bool(spec.strict), param=f"{param}[{place}].parameters")
        for place, spec in enumerate(specs)
    ]  # fmt: skip
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
    """What form an answer is to have."""

    wants_json: bool = False
    schema: Mapping[str, Any] | None = None
    insists: bool = True  # strict
    demand: str = ""  # what the model is told
    name: str = ""  # of the schema, and where it stands in the request
    param: str = ""


def format_of(given: Any, param: str) -> Format:
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
    """What an engine that can hold answers to a form is told: a call of one of these tools, or JSON; "" = anything."""
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


def order_of(
    service: Service, prompt: Sequence[Message] | Sequence[int], messages: list[Message], compute: Spending,
    *, tools: Sequence[Tool], needs_call: bool, parallel: bool, form: Format,
) -> Order:  # fmt: skip
    text = form_text(form, tools if needs_call else ())
    has_marks = service.tokenizer is not None and service.tokenizer.think_id is not None
    return Order(
        thinks=has_marks and compute.params.max_reasoning_tokens > 0,
        form=text if text and service.engine.supports_form(text) else "",
        prompt=prompt, messages=messages, compute=compute, tools=tools, parallel_calls=parallel,
        wants_json=form.wants_json, schema=form.schema, insists=form.insists or needs_call,
        needs_call=needs_call, key=service.settings.key, scorer=service.settings.scorer,
    )  # fmt: skip
