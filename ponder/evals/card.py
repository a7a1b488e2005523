"""A folder for the hub: a run's model or its adapter, with a card that is made from what the run wrote down.

    prepare(publication("runs/mine", "me/mine"), out)     -> out/README.md, out/config.json, out/model.safetensors, ...
    prepare(publication("runs/mine@best", "me/mine", adapter=True), out, banks=["runs/eval/report"])

The card says how good the model is only from files that say so: the run's curves, and banks that were drawn from
exactly these weights. What a number was chosen by stands beside it. Folders of this machine, commands and host names
stay here.
Nothing is uploaded: that is `models/upload.py`.
"""

from __future__ import annotations

import json
import re
import shutil
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from ponder import __version__, efforts
from ponder.config import ConfigError
from ponder.evals.contamination import sentence
from ponder.evals.exports.shared import shared
from ponder.evals.results import Curves
from ponder.evals.scaling import CURVES
from ponder.evals.stats import Estimate, in_percent
from ponder.evals.tables import gain_line, sizes_note
from ponder.files import read_object, write_atomic
from ponder.trained_on import training_sources

_SKIPPED = ("checkpoint.json", "training.json", "README.md", efforts.FILE)
# a server's database, a bank or notes may lie beside them, and are nobody else's
_OF_A_MODEL = re.compile(
    r"(?:(?:generation_|tokenizer_|adapter_)?config|tokenizer|special_tokens_map|added_tokens|vocab|source)\.json|"
    r"chat_template\.(?:jinja|json)|(?:merges|vocab)\.txt|.+\.(?:model|safetensors)|model\.safetensors\.index\.json|"
    r"(?:LICEN[CS]E|NOTICE|USE_POLICY)(?:\.(?:md|txt))?",
    re.IGNORECASE,
)
_FIGURES = ("train_compute.png", "test_compute.png")


class Pushable(Protocol):
    """What is to be pushed, and where it comes from: `models/upload.py` makes one."""

    @property
    def name(self) -> str: ...  # OWNER/NAME on the hub

    @property
    def folder(self) -> Path: ...  # the model's, or the adapter's

    @property
    def run(self) -> Path | None: ...

    @property
    def step(self) -> int | None: ...

    @property
    def base(self) -> str: ...  # OWNER/NAME of the model that training began from; "" = not known there

    @property
    def is_adapter(self) -> bool: ...

    @property
    def license(self) -> str: ...

    @property
    def fingerprint(self) -> str: ...

    @property
    def note(self) -> str: ...  # what a reader has to know of the base


def prepare(what: Pushable, out: Path, *, banks: Sequence[Path] = ()) -> list[Path]:
    """Write the folder that would be pushed; returns its files. It has to be empty or one that this function wrote."""
    if out.exists() and any(out.iterdir()) and not (out / ".ponder-push").exists():
        raise ConfigError(f"{out} holds other files; give another --out")
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    write_atomic(out / ".ponder-push", "made by `ponder push`\n")
    others = []
    for path in sorted(what.folder.iterdir()):
        if path.is_file() and path.name not in _SKIPPED and not path.name.startswith("."):
            if _OF_A_MODEL.fullmatch(path.name):
                shutil.copyfile(path, out / path.name)
            else:
                others.append(path.name)
    if others:
        warnings.warn(f"left here, as no model has such files: {', '.join(others)}", stacklevel=2)
    if what.is_adapter:
        _name_base(out / "adapter_config.json", what.base)
    if sources := training_sources(what.folder):
        write_atomic(out / "training.json", json.dumps({"format": 1, "sources": _shown(sources)}, indent=1) + "\n")
    levels = efforts.find(what.folder, policy=lambda: what.fingerprint)
    if levels:
        levels.write(out / efforts.FILE)
    for figure in _FIGURES if what.run else ():
        if (path := (what.run or out) / "figures" / figure).exists():
            (out / "figures").mkdir(exist_ok=True)
            shutil.copyfile(path, out / "figures" / figure)
    write_atomic(out / "README.md", card(what, sources, banks=banks, figures=sorted(out.glob("figures/*.png"))))
    return sorted(path for path in out.rglob("*") if path.is_file() and path.name != ".ponder-push")


def _name_base(path: Path, base: str) -> None:
    """The base by its name on the hub, and no folder of this machine."""
    config = read_object(path)
    config = {key: value for key, value in config.items() if key != "ponder_base"} | {"base_model_name_or_path": base}
    write_atomic(path, json.dumps(config, indent=2) + "\n")


def _local(value: Any) -> Any:
    """Paths of this machine as the last parts of their names, in texts at any depth."""
    if isinstance(value, Mapping):
        return {_local(key): _local(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_local(inner) for inner in value]
    return re.sub(r"(?:~|(?<![\w.])\.{0,2})/(?:[^\s/,\"']+/)+", "", value) if isinstance(value, str) else value


def _shown(sources: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [_local(dict(source)) for source in sources]


# --- the card -----------------------------------------------------------------------------------------------------


def card(
    what: Pushable, sources: Sequence[Mapping[str, Any]], *, banks: Sequence[Path], figures: Sequence[Path]
) -> str:
    """README.md: a head for the hub, and what a reader has to know."""
    parts = [_head(what), f"# {what.name.partition('/')[2]}", _what_it_is(what), "## How good", *_measured(what, banks)]
    parts += [f"![{path.stem.replace('_', ' ')}](figures/{path.name})" for path in figures]
    parts += ["## What it was trained on", _sources(sources), *_recipe(what), "## Use", _use(what)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _head(what: Pushable) -> str:
    lines = [f"library_name: {'peft' if what.is_adapter else 'transformers'}", "pipeline_tag: text-generation"]
    lines += [f"base_model: {what.base}"] if what.base else []
    lines += [f"license: {what.license}"] if what.license else []
    return "\n".join(["---", *lines, "tags:", "- ponder", "- reasoning", "- reinforcement-learning", "---"])


def _what_it_is(what: Pushable) -> str:
    kind = "A LoRA adapter" if what.is_adapter else "A model"
    of = f" for [{what.base}](https://huggingface.co/{what.base})" if what.base else ""
    at = f", step {what.step} of its run" if what.step is not None else ""
    first = f"{kind}{of}{at}, trained with ponder {__version__}. It reasons before it answers, between its own marks."
    return f"{first} {what.note}".rstrip()


def _measured(what: Pushable, banks: Sequence[Path]) -> list[str]:
    """Every number with its interval, and what was chosen by it."""
    parts = [_bank(what, folder) for folder in banks]
    if what.run and (what.run / "scale" / CURVES).exists():
        parts += _curves(what, Curves.read(what.run / "scale" / CURVES))
    if what.run and (what.run / "best.json").exists():
        best = read_object(what.run / "best.json", "step", "num_problems", "num_samples")
        if best["step"] == what.step:
            parts.append(
                f"Step {best['step']} was chosen on a dev part: {best['num_problems']} problems, {best['num_samples']} "
                "samples each. The accuracy there is no result and is left out."
            )
    return parts or ["Nothing was measured on these weights."]


def _curves(what: Pushable, curves: Curves) -> list[str]:
    own = next((each for each in curves.checkpoints if each.step == what.step), None)
    if own is None:
        return []
    first, k = curves.checkpoints[0], curves.k
    rows = [
        f"| {label} | {_cell(each.pass_at[1])} | {_cell(each.cons_at[k])} | {each.reasoning_per_sample:.0f} |"
        for label, each in {f"before (step {first.step})": first, f"**this model (step {own.step})**": own}.items()
        if label[0] == "*" or own is not first
    ]
    table = [f"| | pass@1 | vote of {k} | reasoning tokens |", "|---|---|---|---|", *rows]
    about = f"On {curves.num_problems} problems of {_local(curves.task)} ({curves.split} split); 95 % intervals."
    gain = f"{gain_line(curves)}." if gain_line(curves) and own is curves.checkpoints[-1] else ""
    overlap = f"{_capital(sentence(curves.contamination))}." if curves.contamination else ""
    return [about, "\n".join(table), gain, sizes_note(curves), _of_part(curves.task), _local(overlap)]


def _bank(what: Pushable, folder: Path) -> str:
    """The numbers of an evaluation of exactly these weights."""
    found = shared(folder)
    if found.bank.spec.fingerprint != what.fingerprint:
        raise ConfigError(f"{folder} is an evaluation of other weights ({found.bank.spec.model}); leave it out")
    n, metrics = found.summary.num_samples, found.summary.metrics
    lines = [f"| {found.task} | pass@1 | vote of {n} |", "|---|---|---|",
             f"| {found.summary.num_problems} problems, {n} samples each | {_cell(metrics.pass_at[1])} | "
             f"{_cell(metrics.cons_at[n])} |"]  # fmt: skip
    known = found.result.contamination if found.result else None
    overlap = f"{_capital(sentence(known))}." if known else ""
    rest = "This evaluation was not finished." if found.result and not found.result.complete else ""
    if failed := found.summary.failed_rate:
        rest += f" The verifier failed on {in_percent(failed)} % of the samples, which count as not correct."
    parts = ("\n".join(lines), rest.strip(), _of_part(found.task), _local(overlap))
    return "\n\n".join(part for part in parts if part)


def _of_part(task: str) -> str:
    if task.endswith("dev part"):
        return "These are dev problems: what was chosen by them is too good on them."
    return "These problems chose nothing (the report part)." if task.endswith("report part") else ""


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _cell(found: Estimate) -> str:
    return f"{in_percent(found.value)} % ({in_percent(found.low)} to {in_percent(found.high)})"


def _sources(sources: Sequence[Mapping[str, Any]]) -> str:
    if not sources:
        return "The run does not say."
    lines = []
    for source in _shown(sources):
        name = source.get("task") or source.get("path") or source.get("name") or source.get("kind")
        split = f", {source['split']} split" if source.get("split") else ""
        size = f", {source['size']} problems at most" if source.get("size") else ""
        note = f" ({source['note']})" if source.get("note") else ""
        lines.append(f"- {name}{split}{size}{note}")
    return "\n".join(lines)


def _recipe(what: Pushable) -> list[str]:
    if what.run is None or not (what.run / "run.json").exists():
        return []
    facts = read_object(what.run / "run.json")
    machine = facts.get("machine", {})
    made_by = f"`ponder {facts.get('kind')}`, seed {facts.get('seed')}, code {facts.get('revision')}, on " + (
        f"{machine.get('cores')} cores of {machine.get('processor')}"
    )
    recipe = _local((what.run / "config.toml").read_text(encoding="utf-8", errors="replace"))
    return ["## Recipe", f"{made_by}.", f"```toml\n{recipe.strip()}\n```"]


def _use(what: Pushable) -> str:
    return f'```bash\nponder ask --model {what.name} "What is 3+4*2?" --show-reasoning\n```'
