"""`ponder`: one verb, one function. The only file that imports every room; nothing is decided here.

Heavy imports happen inside the verbs, so that `ponder --help` and `ponder grade` answer at once.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import re
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one thread a process: two stall each other on small products

import typer
from rich.console import Console
from typer.core import TyperCommand

from ponder import __version__, processes
from ponder.config import ConfigError, dumps, load, to_dict
from ponder.types import Budget, Message, Problem, SamplingParams, Usage

if TYPE_CHECKING:
    from ponder.engine.local import LocalEngine
    from ponder.types import Completion, Engine, Task

app = typer.Typer(
    name="ponder",
    help="Teach a language model to think, spend compute at test time, and measure both.\n\n"
    "Start with:  ponder ask 'What is 47+5+4*3-22-8*4?' --show-reasoning   then   ponder rl demo_nano_cpu",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
LEARN, MEASURE, USE = "Teach", "Measure", "Use"



def number(text: str, *names: str, least: float, most: float = math.inf) -> Any:
    """An option that is a number within bounds; nan is in none. The error is one line, as everywhere."""

    def check(param: typer.CallbackParam, value: Any) -> Any:
        if value is not None and not least <= value <= most:
            bounds = f"between {least:g} and {most:g}" if most < math.inf else f"{least:g} or more"
            raise ConfigError(f"{param.opts[0]} {value} must be {bounds}")
        return value

    return typer.Option(*names, help=text, callback=check)


Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
Model = Annotated[
    str, typer.Option(help="nano, smollm2-135m, a model or adapter folder, a run folder (RUN, RUN@step), or a hub id.")
]
BaseUrl = Annotated[
    Optional[str], typer.Option(help="Use a remote OpenAI-compatible endpoint; --model is then its name there.")
]
ApiKey = Annotated[
    Optional[str], typer.Option(envvar=["OPENAI_API_KEY", "PONDER_API_KEY"], help="The key of the --base-url endpoint.")
]
Reasoning = Annotated[
    int, number("At the cap reasoning is closed, then answered.", "--max-reasoning-tokens", least=0)
]
Answer = Annotated[int, number("Tokens of the visible answer.", "--max-answer-tokens", least=1)]
Temperature = Annotated[float, number("0 = always the most likely token.", least=0, most=100)]
Seed = Annotated[int, typer.Option(help="Same seed, same machine: same tokens.")]
Recipe = Annotated[str, typer.Argument(help="A TOML recipe, or a shipped one by name, e.g. demo_nano_cpu.")]
Overrides = Annotated[Optional[list[str]], typer.Argument(metavar="[KEY=VALUE]...", help="Recipe keys to change.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the resolved recipe with its cost, and stop.")]


def main() -> None:
    """Run the CLI; an error that a person can mend is one line on stderr and exit code 1."""
    from ponder.runs import StorageError

    try:
        app()
    except (ConfigError, StorageError, ImportError, ValueError, RuntimeError, OSError) as error:
        if os.environ.get("PONDER_TRACEBACK"):
            raise
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False) -> None:
    if version:
        print(__version__)
        raise typer.Exit


# --- use ---------------------------------------------------------------------------------------------------------


class Questions(TyperCommand):
    """A question may begin with a minus sign: "-5+3" is asked, of other words the error says how."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, list(args))
        except Exception as error:  # NoSuchOption, which each version of typer has elsewhere
            name = getattr(error, "option_name", "--")
            if name.startswith("--"):
                raise
            meant = [word for word in args if word.startswith(name)]
            if len(meant) == 1 and re.match(r"-\s*[\d.(\\$]", meant[0]):
                return super().parse_args(ctx, [*(word for word in args if word != meant[0]), "--", meant[0]])
            raise ConfigError(
                f"no such option: {name}; a question that begins with a minus sign goes behind two of them, after the "
                'options: ponder ask --samples 8 -- "-x*-x"'
            ) from None


@app.command(cls=Questions, rich_help_panel=USE)
def ask(
    question: Annotated[str, typer.Argument(help="What to ask.")],
    model: Model = "nano",
    mode: Annotated[
        Optional[str],
        typer.Option(
            help="single, consensus, adaptive, best_of_n, weighted, confident, rerank_vote, judge, search, dvts, mcts, "
            "forced, revise, deliberate, controller: see docs/strategies.md. Default: single, or consensus of several."
        ),
    ] = None,
    samples: Annotated[
        Optional[int], number("Samples; of a search, candidates a step; of revise, versions.", least=1)
    ] = None,
    scorer: Annotated[Optional[Path], typer.Option(help="What `ponder scorer` made, for modes that rank.")] = None,
    controller_file: Annotated[
        Optional[Path], typer.Option("--controller", help="What `ponder controller` made, for mode controller.")
    ] = None,
    budget_tokens: Annotated[Optional[int], number("Tokens that may be sampled in all.", least=2)] = None,
    word: Annotated[
        str, typer.Option(help='For mode forced: what is said in place of closing too early, e.g. " Wait".')
    ] = "",
    option: Annotated[
        Optional[list[str]],
        typer.Option(metavar="NAME=VALUE", help="For mode deliberate, one at a time: m=4, turns=12, choice=vote, ..."),
    ] = None,
    max_reasoning_tokens: Reasoning = 256,
    max_answer_tokens: Answer = 64,
    temperature: Temperature = 1.0,
    seed: Seed = 0,
    show_reasoning: Annotated[bool, typer.Option("--show-reasoning", help="Print the hidden reasoning too.")] = False,
    base_url: BaseUrl = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Ask one question; the model thinks first, and the reasoning stays hidden unless asked for.

    Ctrl-C ends it with the best answer so far.
    """
    import functools

    from ponder.config import lookup
    from ponder.live import Leader
    from ponder.strategies import STRATEGIES
    from ponder.strategies.base import parse_options
    from ponder.strategies.keys import answer_key

    mode = mode or ("consensus" if samples and samples > 1 else "single")
    strategy = lookup(STRATEGIES, mode, what="mode")
    if base_url and (mode in ("search", "dvts", "mcts", "deliberate") or word):
        raise ConfigError(f"mode {mode} goes on from token ids, which an endpoint does not give; leave out --base-url")
    extra = parse_options(option or [])
    if extra and mode != "deliberate":
        raise ConfigError(f"--option is for mode deliberate, not {mode}")
    problem = Problem(id="ask", prompt=(Message(role="user", content=question),), target="", task="ask")
    params = SamplingParams(
        temperature=temperature,
        max_reasoning_tokens=max_reasoning_tokens,
        max_answer_tokens=max_answer_tokens,
        seed=seed,
    )
    levels = None if base_url else measured_efforts(model)
    key = functools.cache(answer_key(levels.verifier if levels else ""))  # once an answer: the terminal asks it too
    begun, stopped = time.monotonic(), False
    judge: Any = open_scorer(scorer, model, base_url, key) if scorer else None
    # one prompt keeps one core busy, processes start slowly, and unused slots cost memory
    engine: Any = open_engine(
        model, base_url, num_workers=0, num_slots=min(max(samples or 64, 1), 128),
        keep_hidden=getattr(judge, "kind", "") == "probe", api_key=api_key,
    )  # fmt: skip
    options: dict[str, Any] = {} if samples is None or mode == "single" else {"n": samples}
    if mode == "judge" and judge is None:
        from ponder.scorers.judge import Judge

        judge = Judge(engine, mode="compare")
    if mode == "forced" and word:
        options |= {"word": word, "word_ids": engine.tokenizer.encode(word)}
    if mode == "controller":
        options["rule"] = controller_file
    options |= extra
    try:
        with Leader(Console(stderr=True), key) as leader:
            try:
                solution = asyncio.run(
                    strategy(
                        problem.prompt, engine, params=params, key=key, scorer=judge,
                        budget=Budget(max_tokens=budget_tokens), watch=leader, **options,
                    )
                )  # fmt: skip
            except KeyboardInterrupt:
                if leader.best is None:
                    print("stopped before there was an answer", file=sys.stderr)
                    raise SystemExit(130) from None
                solution, stopped = leader.best, True
    finally:
        close(engine)
    usage, unread = solution.usage, getattr(judge, "unread", 0)
    if as_json:
        result: dict[str, Any] = {
            "answer": solution.answer,
            "mode": mode,
            "stopped_early": stopped,
            "usage": to_dict(usage) | {"flops": flops_of(usage, model, base_url, judge)},
            "seconds": time.monotonic() - begun,
        }
        if show_reasoning:
            result["reasoning"] = solution.reasoning
        if unread:
            result["judge"] = {"replies": judge.replies, "unread": unread}
        print(json.dumps(result, ensure_ascii=False))
        return
    if show_reasoning:
        print(solution.reasoning or "(no reasoning)")
    print(solution.answer or "(no answer: the model never closed its reasoning)")
    cost = f"{usage.reasoning_tokens} reasoning tokens, {usage.samples} sample{'s' if usage.samples > 1 else ''}"
    cost += f", {usage.scorer_tokens} scorer tokens" if usage.scorer_tokens else ""
    cost += f"; {unread} of {judge.replies} replies of the judge could not be read" if unread else ""
    cost += "; stopped early" if stopped else ""
    Console(stderr=True, highlight=False).print(f"({cost})", style="dim")


@app.command(rich_help_panel=USE)
def serve(
    model: Model = "nano",
    host: Annotated[str, typer.Option(help="0.0.0.0 = reachable from other machines.")] = "127.0.0.1",
    port: Annotated[int, number("0 = any free one.", least=0, most=65535)] = 8000,
    api_key: Annotated[
        Optional[str], typer.Option(envvar="PONDER_API_KEY", help="A key with scope infer; others: ponder keys.")
    ] = None,
    db: Annotated[str, typer.Option(help="A SQLite file, or postgresql://USER@HOST/NAME.")] = "ponder.db",
    temperature: Temperature = 1.0,
    requests_per_minute: Annotated[int, number("Requests a minute a key may make.", "--rpm", least=1)] = 6000,
    tokens_per_minute: Annotated[int, number("Tokens a minute.", "--tpm", least=1)] = 10_000_000,
    monitor: Annotated[
        Optional[list[str]], typer.Option(help="Who reads the reasoning: rules, none, or module:attr. Default: rules.")
    ] = None,
    summarizer: Annotated[
        Optional[str], typer.Option(metavar="URL MODEL", help="Another model for summaries: 'http://HOST/v1 NAME'.")
    ] = None,
    scorer: Annotated[
        Optional[Path], typer.Option(help="A folder made by `ponder scorer`, for modes that choose by score.")
    ] = None,
    verifier: Annotated[
        str, typer.Option(help="Whose key says when answers agree: exact, integer, choice, math or module:attr. "
                               "Default: what the model was measured with, else math.")
    ] = "",
    lenient: Annotated[
        bool, typer.Option("--lenient", help="Ignore what o1 refuses: temperature, logprobs, ...")
    ] = False,
    base_url: BaseUrl = None,
) -> None:
    """Serve the model: an OpenAI-compatible API with hidden reasoning, and a page to talk to it."""
    from ponder.serve.monitor import load_monitors
    from ponder.serve.run import serve as run
    from ponder.serve.service import Settings
    from ponder.serve.summary import ModelSummarizer
    from ponder.strategies.keys import answer_key

    url, _, name = (summarizer or "").strip().partition(" ")
    levels = None if base_url else measured_efforts(model)
    key = answer_key(verifier or (levels.verifier if levels else ""))
    judge: Any = open_scorer(scorer, model, base_url, key) if scorer else None
    settings = Settings(
        model=model, db=db, api_key=api_key, temperature=temperature,
        requests_per_minute=requests_per_minute, tokens_per_minute=tokens_per_minute,
        strict_params=not lenient, monitors=load_monitors(monitor or ["rules"]),
        scorer=judge, efforts=levels, key=key,
        summarizer=ModelSummarizer(open_engine(name.strip(), url)) if url else None,
    )  # fmt: skip
    engine = open_engine(model, base_url, keep_hidden=getattr(judge, "kind", "") == "probe")

    def tell(url: str) -> None:
        """One line for programs; for people the page and the way to a key."""
        has_key = "the key of --api-key, or " if api_key else ""
        print(f"the page to talk to it: {url}/", file=sys.stderr)
        print(f"it asks for a key: {has_key}one of `ponder keys create --db {shown_db(db)}`", file=sys.stderr)
        print(f"ponder serves {model} at {url}/v1", flush=True)

    try:
        run(engine, settings, host=host, port=port, on_ready=tell)
    finally:
        close(engine)


@app.command(rich_help_panel=USE)
def chat(
    base_url: Annotated[str, typer.Option(help="A running `ponder serve`.")] = "http://127.0.0.1:8000/v1",
    api_key: Annotated[str, typer.Option(envvar="PONDER_API_KEY", help="A key of it with scope infer.")] = "",
    model: Annotated[Optional[str], typer.Option(help="Default: the one that is served.")] = None,
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
        typer.Option(help="infer (the default), read, metrics, admin or raw_cot; several may be given."),
    ] = None,
    name: Annotated[str, typer.Option(help="A note on whose it is.")] = "",
    owner: Annotated[str, typer.Option(help="Keys of one owner see the same objects; default: its own.")] = "",
    db: Database = "ponder.db",
    as_json: Json = False,
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
def keys_list(db: Database = "ponder.db", as_json: Json = False) -> None:
    """The keys there are, without the keys themselves."""
    from ponder.serve.store import Store

    store = Store(db)
    found = store.now(store.keys)
    state = lambda row: "revoked" if row["revoked"] else "valid"
    lines = [f"{row['id']}  {row['scopes']:<12}  {state(row):<8}  {row['name']}" for row in found]
    print(json.dumps(found) if as_json else "\n".join(lines) or f"no keys yet in {shown_db(db)}: ponder keys create")


@keys.command("revoke")
def keys_revoke(identity: Annotated[str, typer.Argument(metavar="ID")], db: Database = "ponder.db") -> None:
    """End a key; a running server notices within two seconds."""
    from ponder.serve.store import Store

    store = Store(db)
    if not store.now(lambda: store.revoke_key(identity)):
        raise ConfigError(f"no valid key {identity!r}; ponder keys list shows them")
    print(f"{identity} is revoked")


@app.command(rich_help_panel=USE)
def play(
    task: Annotated[str, typer.Option(help="A task: a name, NAME:level=3, file:PATH, gym:FAMILY.")] = "arithmetic",
    limit: Annotated[int, number("How many problems.", least=1)] = 5,
    seed: Seed = 0,
) -> None:
    """Sit a task yourself: you answer in the model's place, and the same code checks you."""
    from ponder.tasks import load_task

    problems, right, asked = load_task(task, split="train", seed=seed), 0, 0
    print(f"{task}: {min(limit, len(problems))} problems, Ctrl-D to stop.")
    for index in range(min(limit, len(problems))):
        problem = problems[index]
        print(f"\n{problem.text}")
        try:
            answer = input("> ")
        except (EOFError, KeyboardInterrupt):
            print()
            break
        asked += 1
        verdict = problems.verify(problem, answer)
        right += verdict.is_correct
        note = "" if verdict.is_correct else f"; the target is {problem.target}"
        print(f"{verdict.outcome} (read as {verdict.extracted!r}){note}")
    print(f"{right} of {asked} correct")


# --- teach -------------------------------------------------------------------------------------------------------


@app.command(rich_help_panel=USE)
def pull(
    model: Annotated[str, typer.Argument(help="smollm2-135m, a hub id (owner/name[@revision]), or a GGUF file.")],
    as_json: Json = False,
) -> None:
    """Fetch a model once, and keep it: afterwards its name works as --model, without a network."""
    from ponder.models import hub

    folder = hub.pull(model, say=lambda line: print(line, file=sys.stderr, flush=True))
    facts = hub.describe(folder) | {"name": model}
    sentence = f"{facts['parameters'] / 1e6:.0f} M parameters, {facts['dtype']}, window {facts['window']}, in {folder}"
    finish(facts, sentence, as_json)


@app.command(rich_help_panel=LEARN)
def data(
    sources: Annotated[
        list[str], typer.Argument(help="Files of worked solutions (GSM8K or MATH form), or tasks: words:level=1-5.")
    ],
    out: Annotated[Path, typer.Option(help="The JSON Lines file to write, for `ponder sft`.")],
    style: Annotated[
        str, typer.Option(help="plain, marks, equations or operations; deliberate, or chain with the same faults.")
    ] = "equations",
    count: Annotated[Optional[int], number("Problems of each source; default all, or 500 made.", least=1)] = None,
    no_exam: Annotated[bool, typer.Option("--no-exam", help="A file without `train` in its name is no exam.")] = False,
    slip: Annotated[float, number("deliberate, chain: how often an answer slips.", least=0, most=1)] = 0.1,
    early: Annotated[float, number("deliberate, chain: how often it guesses a step.", least=0, most=1)] = 0.15,
    careless: Annotated[float, number("deliberate: how often a choice falls at random.", least=0, most=1)] = 0.4,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Make training rows (problem, reasoning, answer) from worked solutions; every row is checked."""
    from ponder.train import deliberations
    from ponder.train.solutions import make_rows, write_rows

    if style in deliberations.STYLES:
        faults = deliberations.Faults(slip=slip, early=early, careless=careless)
        rows, dropped = deliberations.make_rows(sources, style, faults, count=count, seed=seed, no_exam=no_exam)
    else:
        rows, dropped = make_rows(sources, style, count=count, seed=seed, no_exam=no_exam)
    write_rows(rows, out)
    left_out = "; ".join(f"{number} left out: {reason}" for reason, number in dropped.most_common())
    finish(
        {"rows": len(rows), "dropped": dict(dropped), "out": str(out)},
        f"{len(rows)} rows are in {out}" + (f" ({left_out})" if left_out else ""),
        as_json,
    )


@app.command(rich_help_panel=LEARN)
def star(
    task: Annotated[str, typer.Option(help="What to draw on; its train split is used.")],
    out: Annotated[Path, typer.Option(help="The JSON Lines file of kept rows. Again = go on.")],
    model: Model = "nano",
    samples: Annotated[int, number("Samples a problem.", least=1)] = 8,
    keep: Annotated[int, number("Different right solutions of a problem to keep, at most.", least=1)] = 4,
    environment: Annotated[str, typer.Option(help="deliberate: draw whole deliberations.")] = "",
    hint: Annotated[bool, typer.Option("--hint", help="Try unsolved problems again with the answer told.")] = False,
    limit: Annotated[Optional[int], number("Only the first problems.", least=1)] = None,
    max_reasoning_tokens: Reasoning = 256,
    max_answer_tokens: Answer = 64,
    temperature: Temperature = 1.0,
    seed: Seed = 0,
    base_url: BaseUrl = None,
    as_json: Json = False,
) -> None:
    """Draw solutions from a model and keep the verified ones as training rows (STaR, expert iteration)."""
    from ponder.live import Bar
    from ponder.tasks import load_task
    from ponder.train.star import StarConfig
    from ponder.train.star import star as draw

    params = SamplingParams(
        temperature=temperature, max_reasoning_tokens=max_reasoning_tokens, max_answer_tokens=max_answer_tokens
    )
    config = StarConfig(num_samples=samples, keep=keep, hint=hint, params=params, seed=seed)
    problems = load_task(task, split="train", seed=seed)
    facts = describe(model, base_url)
    engine: Any = open_engine(model, base_url)
    if environment:
        from ponder.rollouts.deliberate import Deliberating, DeliberationConfig

        if environment != "deliberate" or base_url:
            raise ConfigError("--environment is deliberate or nothing, and needs a local model")
        engine = Deliberating(engine, DeliberationConfig().environment())
    try:
        with resumable("the same command"), Bar(Console(stderr=True), "star") as bar:
            result = asyncio.run(
                draw(
                    problems, engine, config, out=out, model=facts["fingerprint"] or facts["name"],
                    name=f"{task}, {environment}" if environment else task,
                    limit=limit, on_progress=lambda done, total, share: bar("", done, total, share),
                )
            )  # fmt: skip
    finally:
        close(engine)
    told = f"{result['rows']} rows of {result['solved'] + result['solved_with_hint']} problems are in {out}"
    finish(result, f"{told}; {result['pass_rate']:.1%} of the samples were right", as_json)


@app.command(rich_help_panel=LEARN)
def sft(recipe: Recipe, overrides: Overrides = None, dry_run: DryRun = False, as_json: Json = False) -> None:
    """Supervised fine-tuning on worked solutions: the cold start. Run it again to go on where it stopped."""
    if not dry_run:
        processes.prepare()
    from ponder.train.estimate import estimate_sft
    from ponder.train.sft import SFTConfig
    from ponder.train.sft import sft as train

    config = load(SFTConfig, recipe, overrides or [])
    if dry_run:
        return print_plan(config, estimate_sft(config), as_json)
    console = Console(stderr=as_json, highlight=False)

    def show(step: int, metrics: dict[str, float]) -> None:
        if step % 20 == 0 or step + 1 == config.num_steps:
            console.print(
                f"step {step + 1}/{config.num_steps}  loss {metrics['loss']:.4f}  "
                f"{metrics['tokens'] / 1e6:.2f} M tokens  {metrics['seconds']:.0f} s"
            )

    with resumable(f"ponder sft {recipe}"):
        folder = train(config, on_step=show)
    finish({"model": str(folder)}, f"the model is in {folder}", as_json)


@app.command(rich_help_panel=LEARN)
def rl(recipe: Recipe, overrides: Overrides = None, dry_run: DryRun = False, as_json: Json = False) -> None:
    """Reinforcement learning with verified answers. Run it again to go on where it stopped."""
    if not dry_run:
        processes.prepare()
    from ponder.live import RLView
    from ponder.train.estimate import estimate_rl
    from ponder.train.rl import load_recipe
    from ponder.train.rl import rl as train

    config = load_recipe(recipe, overrides or [])
    if dry_run:
        return print_plan(config, estimate_rl(config), as_json)
    console = Console(stderr=as_json)
    with resumable(f"ponder rl {recipe}"), RLView(console, num_steps=config.num_steps) as view:
        folder = train(config, on_step=view)
    finish(
        {"model": str(folder), "run": config.out},
        f"the run is in {config.out}; ponder scale {config.out} draws its curves",
        as_json,
    )


@app.command(rich_help_panel=LEARN)
def scorer(recipe: Recipe, overrides: Overrides = None, dry_run: DryRun = False, as_json: Json = False) -> None:
    """Train a scorer from a policy's own samples: will a completion end correct? Run it again to go on."""
    if not dry_run:
        processes.prepare()
    from ponder.evals.scorer_plots import save_page
    from ponder.evals.stats import cons_at
    from ponder.live import Bar
    from ponder.train.estimate import estimate_scorer
    from ponder.train.scorer import ScorerConfig, train_scorer

    config = load(ScorerConfig, recipe, overrides or [])
    if dry_run:
        return print_plan(config, estimate_scorer(config), as_json)
    console = Console(stderr=True, highlight=False)
    with resumable(f"ponder scorer {recipe}"), Bar(console, "draw") as bar:
        folder = train_scorer(
            config,
            on_draw=lambda done, total, share: bar("", done, total, share),
            on_check=lambda check: console.print(str(check)),
            consensus=lambda counts, correct, k, blank: cons_at(counts, correct, k, blank=blank),
        )
    result = json.loads((Path(config.out) / "result.json").read_text())
    try:
        save_page(result, Path(config.out))
    except ImportError as error:
        print(f"note: {error}", file=sys.stderr)
    held, last = result["held_out"], result["curve"][-1]
    finish(
        {"scorer": str(folder), **result},
        f"the scorer is in {config.out}; on {held['problems']} unseen problems: pass@1 {held['pass@1']:.1%}, "
        f"cons@{last['k']} {last['cons']:.1%}, rerank@{last['k']} {last['rerank']:.1%}; AUC within problems "
        f"{held['auc_within']:.3f}, ECE {held['ece']:.3f}",
        as_json,
    )


@app.command(rich_help_panel=LEARN)
def doctor(run: Annotated[Path, typer.Argument(help="A run folder.")], as_json: Json = False) -> None:
    """Explain a run that does not learn: what was seen, the likely cause, what to change."""
    import tomllib
    from dataclasses import asdict

    from ponder.runs import read_jsonl
    from ponder.train.doctor import diagnose, render

    if not (run / "metrics.jsonl").exists():
        raise ConfigError(f"{run} has no metrics.jsonl; give the folder of a `ponder rl` run")
    check_kind(run)
    findings = diagnose(list(read_jsonl(run / "metrics.jsonl")), tomllib.loads((run / "config.toml").read_text()))
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings], ensure_ascii=False))
    else:
        print(render(findings))


# --- measure -----------------------------------------------------------------------------------------------------


@app.command("eval", rich_help_panel=MEASURE)
def evaluate(
    task: Annotated[str, typer.Option(help="A task: a name, NAME:level=3-6, file:PATH, gym:FAMILY.")],
    model: Model = "nano",
    out: Annotated[
        Optional[Path],
        typer.Option(help="Where samples and result.json go; default runs/eval/TASK-MODEL. Again = add."),
    ] = None,
    samples: Annotated[int, number("Samples a problem.", least=1)] = 8,
    verifier: Annotated[Optional[str], typer.Option(help="For file: tasks: exact, integer, choice or math.")] = None,
    limit: Annotated[Optional[int], number("Only the first problems.", least=1)] = None,
    split: Annotated[str, typer.Option(help="train, dev or test.")] = "test",
    prompting: Annotated[
        str, typer.Option(help="How it is asked: none, direct, zero_shot_cot or few_shot_cot (baselines).")
    ] = "none",
    max_reasoning_tokens: Reasoning = 256,
    max_answer_tokens: Answer = 64,
    temperature: Temperature = 1.0,
    seed: Seed = 0,
    base_url: BaseUrl = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Sit an exam: pass@k and cons@k with intervals, from a bank of samples that is kept."""
    from ponder.evals.exams import run_exam
    from ponder.live import Bar
    from ponder.tasks import load_task
    from ponder.tasks.prompting import Prompted

    problems = load_task(task, split=split, verifier=verifier)
    if prompting != "none":
        problems = Prompted(problems, prompting)
    facts = describe(model, base_url)
    name = f"{task}-{model}" + (f"-{prompting}" if prompting != "none" else "")
    out = out or Path("runs/eval") / re.sub(r"[^\w.=@+-]+", "_", name).strip("_")
    params = SamplingParams(
        temperature=temperature, max_reasoning_tokens=max_reasoning_tokens, max_answer_tokens=max_answer_tokens
    )
    engine = open_engine(model, base_url, api_key=api_key)
    try:
        with resumable("the same command"), Bar(Console(stderr=True), "eval") as bar:
            result = asyncio.run(
                run_exam(
                    problems, engine, name=task, model=facts["name"], fingerprint=facts["fingerprint"],
                    num_samples=samples, params=params, out=out, seed=seed, limit=limit,
                    flops_per_token=facts["flops_per_token"], training=facts["training"],
                    on_progress=lambda done, total, figure: bar("", done, total, figure),
                )
            )  # fmt: skip
    finally:
        close(engine)
    if as_json:
        print(json.dumps(json.loads((out / "result.json").read_text())))
    else:
        print_metrics(result)
        print(f"samples and result.json are in {out}; ponder report {out} makes a page of them")


@app.command(rich_help_panel=MEASURE)
def scale(
    run: Annotated[Path, typer.Argument(help="The folder of a `ponder rl` run, or the --out of an exam.")],
    task: Annotated[
        Optional[str], typer.Option(help="What to sit; default: unseen problems of the run's task.")
    ] = None,
    samples: Annotated[
        int, number("Samples a problem for the base, the middle and the last checkpoint.", least=1)
    ] = 64,
    ladder_samples: Annotated[int, number("Samples a problem for the other checkpoints.", least=1)] = 16,
    limit: Annotated[int, number("Problems.", least=1)] = 120,
    rung: Annotated[
        Optional[int], number("The step whose ways of choosing are compared; default the last.", least=0)
    ] = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Draw both curves of a run: accuracy against train-time and against test-time compute.

    And, of one checkpoint or of the samples of any exam, every way of choosing an answer from many samples.
    """
    from ponder.evals.report import report as render
    from ponder.evals.scaling import scale as examine
    from ponder.evals.scaling import spend_bank
    from ponder.live import Bar
    from ponder.models import hub
    from ponder.models.transformer import flops_per_token
    from ponder.models.weights import read_config
    from ponder.runs import checkpoints, training_sources
    from ponder.tasks import load_task
    from ponder.tasks.ways import count
    from ponder.train.rl import RLConfig, reached

    if (run / "bank.json").exists():
        spent = spend_bank(run)
        return finish_scale(render(run), spent, spent, as_json)
    if not (run / "config.toml").exists():
        raise ConfigError(f"{run} is neither a run nor an exam; make one with ponder rl demo_nano_cpu")
    check_kind(run)
    config = load(RLConfig, run / "config.toml", prepare=reached)
    rungs = checkpoints(run)
    if not rungs:
        raise ConfigError(f"{run} has no checkpoint yet; let ponder rl run to its first one")
    problems = load_task(task or config.task, split="test")
    refuse_overlap(problems, load_task(config.task, split="train", seed=config.seed, size=config.pool_size), limit)
    model = read_config(rungs[0])
    environment = config.deliberation.environment() if config.environment else None
    with Ladder(environment) as ladder, resumable(f"ponder scale {run}"), Bar(Console(stderr=True), "scale") as bar:
        curves = asyncio.run(
            examine(
                run, task=problems, name=task or config.task, open_engine=ladder.open,
                fingerprint=hub.fingerprint, params=config.params,
                num_samples=samples, ladder_samples=ladder_samples, limit=limit, seed=seed,
                flops_per_token=lambda place: flops_per_token(model, place),
                way_of=lambda problem, reasoning: count(reasoning).way, on_progress=bar,
                training=training_sources(rungs[-1]), rung=rung,
            )
        )  # fmt: skip
    finish_scale(render(run), curves, curves.get("strategies"), as_json)


@app.command(rich_help_panel=MEASURE)
def score(
    bank: Annotated[Path, typer.Argument(help="The --out folder of an exam: its samples are scored.")],
    scorer: Annotated[Path, typer.Option(help="What `ponder scorer` made: its run folder.")],
    name: Annotated[str, typer.Option(help="What the scores are kept under; default: the scorer's own name.")] = "",
    workers: Annotated[int, number("Processes; -1 = one a core.", least=-1)] = -1,
    as_json: Json = False,
) -> None:
    """Score every sample of a bank that has no score yet; the samples themselves stay as they are."""
    processes.prepare()
    from ponder.evals.bank import Bank
    from ponder.evals.scoring import score_bank
    from ponder.live import Bar
    from ponder.train.distributed import resolve_workers

    bar = Bar(Console(stderr=True), "score", unit="samples", figure="mean score")
    with Bank.read(bank) as samples, resumable("the same command"), bar:
        result = score_bank(
            samples, scorer, name=name, num_workers=resolve_workers(workers),
            on_progress=lambda done, total, mean: bar("", done, total, mean),
        )  # fmt: skip
    told = f"{result['scored_now']} of {result['samples']} samples scored in {result['seconds']:.0f} s"
    finish(result, f"{told}; the scores are kept as {result['name']!r} in {bank}", as_json)


@app.command(rich_help_panel=MEASURE)
def report(folder: Annotated[Path, typer.Argument(help="A run folder or the --out of an eval.")]) -> None:
    """Write report.html from a folder, without running anything again."""
    from ponder.evals.report import report as render

    print(f"the report is {render(folder)}")


@app.command(rich_help_panel=MEASURE)
def compare(
    folders: Annotated[
        list[Path], typer.Argument(help="The --out folders of two or more exams; or a run: its base and its last step.")
    ],
    as_markdown: Annotated[bool, typer.Option("--markdown", help="A table for a page of documentation.")] = False,
    as_json: Json = False,
) -> None:
    """Put finished exams side by side: a row each, with intervals and the paired gain to the first.

    RUN alone compares its base with its last checkpoint, RUN@20 is the exam of step 20 (`ponder scale` makes them).
    """
    from ponder.evals.comparison import comparison, markdown, table
    from ponder.evals.exams import dumps as as_text

    compared = comparison(folders)
    if as_json:
        print(json.dumps(json.loads(as_text(compared)), ensure_ascii=False))
        return
    shown = table(compared)
    if as_markdown:
        print(markdown(shown))
    else:
        print_tables([shown])
    for note in compared["notes"]:
        print(f"note: {note}", file=sys.stderr)


@app.command(rich_help_panel=MEASURE)
def controller(
    samples: Annotated[Path, typer.Argument(metavar="BANK", help="The --out of `ponder eval`: the stored samples.")],
    out: Annotated[Path, typer.Option(help="The controller's file, for `ponder ask --mode controller`.")],
    budget: Annotated[
        Optional[float], number("Mean tokens a problem; default: what 8 samples cost.", least=1)
    ] = None,
    scorer: Annotated[str, typer.Option(help="A scorer whose scores the bank has, by name.")] = "",
    probes: Annotated[int, number("Samples that are looked at before it picks.", least=1)] = 4,
    as_json: Json = False,
) -> None:
    """Fit a rule that picks how to spend by problem, and compare it with the best fixed way at equal cost."""
    from ponder.evals.controlling import fit_controller, sentence

    result = fit_controller(samples, out=out, budget=budget, scorer=scorer, num_probes=probes)
    finish(result, sentence(result), as_json)


@app.command(rich_help_panel=MEASURE)
def grade(
    target: Annotated[Optional[str], typer.Option(help="The reference answer.")] = None,
    answer: Annotated[Optional[str], typer.Option(help="The answer to check.")] = None,
    file: Annotated[Optional[Path], typer.Option(help="JSON Lines of target and answer instead.")] = None,
    verifier: Annotated[str, typer.Option(help="exact, integer, choice or math.")] = "math",
    as_json: Json = False,
) -> None:
    """Check answers as training and evaluation do: correct, wrong, or undecided."""
    from ponder.grading.verifiers import grade_file, grade_row

    rows: Iterable[dict[str, Any]]
    if file is not None:
        rows = grade_file(file, verifier)
    elif target is None or answer is None:
        raise ConfigError("give --target and --answer, or --file PAIRS.jsonl")
    else:
        rows = [grade_row(target, answer, verifier)]
    for row in rows:
        if as_json or file is not None:
            print(json.dumps(row, ensure_ascii=False), flush=True)
        else:
            print(f"{row['verdict']} (read as {row['extracted']!r})" + (f": {row['note']}" if "note" in row else ""))


# --- helpers of the verbs ----------------------------------------------------------------------------------------


def shown_db(db: str) -> str:
    """Where a database is, whatever the current folder; an address has no password in it."""
    return re.sub(r"(?<=//)([^:/@]*):[^@/]*@", r"\1@", db) if "://" in db else str(Path(db).resolve())


def open_engine(
    model: str, base_url: str | None, *, num_workers: int | None = None, num_slots: int = 128,
    keep_hidden: bool = False, api_key: str | None = None,
) -> Engine:  # fmt: skip
    """The local engine over a model reference, or a remote endpoint."""
    if base_url:
        from ponder.engine.remote import RemoteEngine

        return RemoteEngine(base_url, model, api_key)
    if num_workers != 0:
        processes.prepare()
    from ponder.engine.local import LocalEngine
    from ponder.models import hub
    from ponder.train.distributed import pick_device

    # as stored: what was pulled as bfloat16 is sampled five times faster than in float32
    loaded = hub.load(model, dtype=None, device=pick_device())
    return LocalEngine(*loaded, num_workers=num_workers, num_slots=num_slots, keep_hidden=keep_hidden)


def measured_efforts(model: str) -> Any:
    """The effort levels that `ponder scale` measured for these weights, if it did."""
    from ponder import efforts
    from ponder.models import hub

    return efforts.find(hub.resolve(model), policy=lambda: hub.describe(model)["fingerprint"])


def open_scorer(folder: Path, model: str, base_url: str | None, key: Callable[[str], str | None]) -> Any:
    """A trained scorer, with a warning where it is another policy's."""
    from ponder.scorers import check_policy, load_scorer

    loaded = load_scorer(folder)
    loaded.key = key
    check_policy(loaded, describe(model, base_url)["fingerprint"])
    return loaded


def flops_of(usage: Usage, model: str, base_url: str | None, scorer: Any) -> float | None:
    """What a solution cost, a token's cost taken at the middle of a sample; None where the network is not known."""
    from ponder.strategies import flops

    if base_url:
        return None
    from ponder.models import hub
    from ponder.models.transformer import flops_per_token
    from ponder.models.weights import read_config

    middle = (usage.prompt_tokens + usage.completion_tokens // 2) // max(1, usage.samples)
    each = flops_per_token(read_config(hub.resolve(model)), middle)
    return flops(usage, per_token=each, scorer_per_token=getattr(scorer, "flops_per_token", None) or each)


def close(engine: Any) -> None:
    """Close an engine that has something to close."""
    closing = getattr(engine, "close", None)
    result = closing() if closing else None
    if asyncio.iscoroutine(result):
        asyncio.run(result)


class Ladder:
    """One local engine for all checkpoints of a run: starting workers costs more than changing weights."""

    def __init__(self, environment: Any = None) -> None:
        self._engine: LocalEngine | None = None
        self._environment = environment  # of a run whose rollouts are whole trajectories: so is a sample then

    def open(self, checkpoint: Path) -> Engine:
        processes.prepare()
        from ponder.engine.local import LocalEngine
        from ponder.models import hub
        from ponder.train.distributed import pick_device

        model, tokenizer = hub.load(str(checkpoint), dtype=None, device=pick_device())
        if self._engine is None:
            self._engine = LocalEngine(model, tokenizer, closes_once=False)  # as in training
        else:
            self._engine.update_weights(model.state_dict(), version=self._engine.policy_version + 1)
        if self._environment is None:
            return Borrowed(self._engine)
        from ponder.rollouts.deliberate import Deliberating

        return Borrowed(Deliberating(self._engine, self._environment))

    def __enter__(self) -> Ladder:
        return self

    def __exit__(self, *_: object) -> None:
        if self._engine is not None:
            self._engine.close()


class Borrowed:
    """An engine that its user may not close."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def generate(self, prompt: Any, params: SamplingParams, *, n: int = 1, first: int = 0) -> list[Completion]:
        return await self._engine.generate(prompt, params, n=n, first=first)


def check_kind(run: Path) -> None:
    """Curves and diagnoses are of reinforcement learning; other runs have neither groups nor a ladder."""
    kind = json.loads((run / "run.json").read_text())["kind"]
    instead = {
        "sft": f"ponder eval --task TASK --model {run}` measures it, `ponder report {run}` draws its loss",
        "scorer": f"ponder score BANK --scorer {run}` uses it, {run}/result.json says how good it is",
    }
    if kind != "rl":
        told = f": `{instead[kind]}" if kind in instead else ""
        raise ConfigError(f"{run} is a run of `ponder {kind}`; this needs one of `ponder rl`{told}")


def refuse_overlap(exam: Task, pool: Task, limit: int) -> None:
    """Stop where a problem of the exam was trained on, and say that none was."""
    trained = {pool[i].text for i in range(len(pool))}
    texts = [exam[i].text for i in range(min(limit, len(exam)))]
    seen = sum(text in trained for text in texts)
    if seen:
        raise ConfigError(f"{seen} of {len(texts)} exam problems were trained on; give --task with unseen ones")
    print(f"none of the {len(texts)} exam problems is among the {len(pool)} of the training pool", file=sys.stderr)


def describe(model: str, base_url: str | None) -> dict[str, Any]:
    """What the bank and the cost ledger need to know of a model."""
    if base_url:
        return {"name": f"{base_url} {model}", "fingerprint": "", "flops_per_token": None, "training": []}
    from ponder.models import hub
    from ponder.models.transformer import flops_per_token
    from ponder.models.weights import read_config
    from ponder.runs import training_sources

    facts, folder = hub.describe(model), hub.resolve(model)
    config = read_config(folder)
    cost: Callable[[int], float] = lambda place: flops_per_token(config, place)
    return {
        "name": model,
        "fingerprint": facts["fingerprint"],
        "flops_per_token": cost,
        "training": training_sources(folder),
    }


class resumable:
    """Turn Ctrl-C into a sentence that says what to do next."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            print(f"stopped; what was done is kept, and {self.command} goes on from there", file=sys.stderr)
            raise SystemExit(130) from None


def print_plan(config: Any, cost: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps({"config": to_dict(config), "estimate": cost}))
        return
    print(dumps(config, explain=True))
    print("\n# estimated: " + ", ".join(f"{name} {value}" for name, value in cost.items()))
    if not cost.get("fits", True):
        print(
            f"# this does NOT fit: about {cost['memory_gib']} GiB are needed, {cost['free_gib']} GiB are free; take a "
            "smaller model, fewer workers (num_workers), slots (num_slots) or tokens (max_tokens_per_batch)"
        )


def finish(result: dict[str, Any], sentence: str, as_json: bool) -> None:
    print(json.dumps(result) if as_json else sentence)


def finish_scale(page: Path, curves: dict[str, Any], spent: dict[str, Any] | None, as_json: bool) -> None:
    """The trio, the table of strategies, and where the report is."""
    from ponder.evals.exams import dumps as as_text
    from ponder.evals.spending import trio_lines
    from ponder.evals.tables import gain_line, strategies_table

    if as_json:
        print(json.dumps({"report": str(page), "curves": json.loads(as_text(curves))}, ensure_ascii=False))
        return
    if spent:
        print_tables([strategies_table(spent)])
        print("\n".join(trio_lines(spent["trio"])))
    for line in (gain_line(curves), levels_line(page.parent / "scale" / "efforts.json")):
        if line:
            print(line)
    print(f"the report is {page}")


def levels_line(path: Path) -> str:
    """What each effort of a served model costs and gives."""
    from ponder.efforts import Efforts
    from ponder.evals.stats import in_percent

    if not path.exists():
        return ""
    levels, told = Efforts.read(path).levels, dict[Any, list[str]]()
    for name, point in levels.items():
        told.setdefault(point, []).append(name)
    how = lambda point: f"a vote of {point.n}" if point.n > 1 else f"up to {point.max_reasoning_tokens} thinking"
    return "effort levels: " + "; ".join(
        f"{', '.join(names)} = {how(point)}: {in_percent(point.accuracy)} % at {point.tokens:.0f} tokens a problem"
        for point, names in told.items()
    )


def print_metrics(result: dict[str, Any]) -> None:
    """The numbers of an exam as a small table, then those of its levels and subjects."""
    from rich.table import Table

    from ponder.evals.contamination import sentence
    from ponder.evals.spending import trio_lines
    from ponder.evals.stats import in_percent
    from ponder.evals.tables import accuracy_tables, truncation_hint

    table = Table(
        title=f"{result['model']} on {result['task']}: {result['num_problems']} problems, "
        f"{result['num_samples']} samples each"
    )
    table.add_column("metric")
    table.add_column("value", justify="right")
    table.add_column("95 % interval", justify="right")
    for name, estimate in result["metrics"].items():
        value, low, high = (f"{in_percent(estimate[end])}%" for end in ("value", "low", "high"))
        table.add_row(name, value, f"{low} to {high}")
    for name in ("no_answer_rate", "truncated_rate", "undecided_rate", "failed_rate"):
        table.add_row(name.replace("_", " "), f"{in_percent(result[name])}%", "")
    Console().print(table)
    if result["verifier_errors"]:
        drawn, why = result["num_problems"] * result["num_samples"], result.get("verifier_error") or "see the bank"
        print(f"do not trust this: the verifier failed on {result['verifier_errors']} of {drawn} samples ({why})")
    if result["metrics"]:
        print_tables(accuracy_tables(result)[1:])
        print("\n".join(trio_lines(result["trio"])))
    print(sentence(result["contamination"]))
    if hint := truncation_hint(result):
        print(f"warning: {hint}", file=sys.stderr)


def print_tables(tables: Iterable[Any]) -> None:
    """Tables of text on the terminal; names from models and files are text, not markup."""
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        console = Console(width=200)  # a file or a pipe takes long lines; nothing is cut out of a number
    for shown in tables:
        grid = Table(title=escape(shown.title))
        for name in shown.head:
            grid.add_column(escape(str(name)), overflow="fold")
        for row in shown.rows:
            grid.add_row(*(escape(str(value)) for value in row))
        console.print(grid)


if __name__ == "__main__":
    main()
