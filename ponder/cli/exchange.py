"""Verbs for other programs' files: export (a model, a bank or what was served), push (a model, to the hub), import."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Optional

import typer

from ponder.cli import options as opt
from ponder.cli.app import MEASURE, USE, app
from ponder.cli.options import number
from ponder.config import ConfigError

BANK_FORMATS = "inspect, eee, lm-eval or hub"


@app.command(rich_help_panel=USE)
def export(
    context: typer.Context,
    source: Annotated[str, typer.Argument(
        help="A model (its folder, a run, RUN@step, or a name), a bank, the --out of `ponder eval`, or the http:// "
             "address of a running `ponder serve`: its stored answers, as rows for `ponder sft`."
    )],
    out: Annotated[Path, typer.Argument(
        help="Of a model mine.gguf, or a folder for its adapter; of a bank exam.eval (inspect), or a folder; "
             "rows.jsonl of a server."
    )],
    form: Annotated[Optional[str], typer.Option("--format", help=f"Of a bank: {BANK_FORMATS}.")] = None,
    with_reasoning: Annotated[
        bool, typer.Option("--with-reasoning", help="Of a bank or a server: the hidden reasoning too, for everybody to "
                                                    "read; a server has to be started with --show-reasoning.")
    ] = False,
    model_id: Annotated[str, typer.Option(help="Of a bank: the model's public name, OWNER/NAME.")] = "",
    dataset: Annotated[
        str, typer.Option(help="Of a bank, for hub: the benchmark there, OWNER/NAME:TASK.")
    ] = "",
    kind: Annotated[str, typer.Option("--type", help="Of a model: how matrices are stored, F16, Q8_0 or F32.")] = "F16",
    rank: Annotated[int, number("Of an adapter: cut to this rank; 0 = the sum of all ranks folded.", least=0)] = 0,
    api_key: Annotated[
        str, typer.Option(envvar="PONDER_API_KEY", help="Of a server: the key it was started with, or one with admin.")
    ] = "",
    limit: Annotated[int, number("Of a server: so many answers, the newest.", least=1, most=10_000)] = 10_000,
    as_json: opt.Json = False,
) -> None:  # fmt: skip
    """Write a model as GGUF, its adapters as one, an exam in other formats, or a server's answers as training rows."""
    is_served = source.startswith(("http://", "https://"))
    if form is None and out.suffix == ".eval" and not is_served:
        form = "inspect"
    is_bank = form is not None or (Path(source) / "bank.json").exists()
    what = "a server" if is_served else "a bank" if is_bank else "a model" if out.suffix == ".gguf" else "an adapter"
    options_of = {
        "a bank": ("form", "model_id", "dataset"), "a bank or a server": ("with_reasoning",), "a model": ("kind",),
        "an adapter": ("rank",), "a server": ("limit", "api_key"),
    }  # fmt: skip
    for of, names in options_of.items():
        if what not in of:
            opt.refuse_given(context, f"of {of}, and this writes what is of {what}", *names)
    if is_served:
        return _export_served(source, out, api_key, with_reasoning, limit, as_json)
    if form is None:
        files, notes = _export_model(source, out, kind, rank)
    else:
        files, notes = _export_bank(Path(source), out, form, with_reasoning, model_id, dataset)
    if as_json:
        print(json.dumps({"files": [str(path) for path in files], "notes": notes}, ensure_ascii=False))
        return
    for line in notes if form is None else [*files, *notes]:
        print(line)


def _export_model(source: str, out: Path, kind: str, rank: int) -> tuple[list[Path], list[str]]:
    """A GGUF file of the whole model, adapters merged into their base; any other name is a folder for the adapter."""
    from ponder.models import hub
    from ponder.models.fold import fold
    from ponder.models.gguf_export import export_gguf

    if (Path(source) / "bank.json").exists():
        raise ConfigError(f"{source} is a bank of samples; say what to write: --format {BANK_FORMATS}")
    if out.suffix == ".gguf":
        export_gguf(*hub.load(source, dtype=None), out, kind)
        return [out], [f"{out}: {out.stat().st_size / 1e6:.0f} MB; llama-cli -m {out} talks to it"]
    if out.exists():
        raise ConfigError(f"{out} is there already: give mine.gguf for the model, or a new folder for its adapter")
    kept = fold(source, out, rank=rank)
    size = sum(path.stat().st_size for path in out.iterdir()) / 1e6
    return [out], [f"{out}: an adapter, {size:.0f} MB, {kept:.2%} of the change"]


def _export_served(url: str, out: Path, api_key: str, with_reasoning: bool, limit: int, as_json: bool) -> None:
    """The rows of one's own stored answers, each with whether a monitor flagged it: trained on whole, or not at all."""
    from ponder.cli.show import finish
    from ponder.files import jsonl, write_atomic
    from ponder.serve.terminal import error_message, key_for

    try:
        import httpx
    except ImportError:
        raise ConfigError('exporting from a server needs httpx: pip install "ponder[serve]"') from None
    if out.suffix != ".jsonl":
        raise ConfigError(f"{out}: rows of a server go into a .jsonl file")
    base = url.rstrip("/").removesuffix("/v1")
    try:
        response = httpx.get(
            f"{base}/v1/training_rows", params={"limit": limit, "with_reasoning": str(with_reasoning).lower()},
            headers={"Authorization": f"Bearer {key_for(base + '/v1', api_key)}"}, timeout=120,
        )  # fmt: skip
        found = response.json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise ConfigError(f"no `ponder serve` answers at {base} ({type(error).__name__}); is it running?") from None
    if response.status_code != 200:
        raise ConfigError(f"{base} refused: {error_message(response)}")
    try:
        rows, left_out = found["data"], found["left_out"]
    except (KeyError, TypeError):
        raise ConfigError(f"{base} is no `ponder serve`, or one of another version") from None
    if not rows:
        raise ConfigError(
            f"{base} has stored no answers of this key's owner to train on; left out: {left_out or 'none'}"
        )
    write_atomic(out, jsonl(rows))
    flagged = sum(row["flagged"] for row in rows)
    lines = [f"{len(rows)} rows are in {out}; monitors flagged {flagged}, which stay in: rows are not chosen by that",
             *(f"left out, {why}: {count}" for why, count in left_out.items())]  # fmt: skip
    if rows[0]["flagged_in_export"] > flagged:
        lines.append("note: monitors stopped or held responses, so these rows are a selection by them: sft refuses it")
    finish({"out": str(out), "rows": len(rows), "flagged": flagged, "left_out": left_out}, "\n".join(lines), as_json)


def _export_bank(
    bank: Path, out: Path, form: str, with_reasoning: bool, model_id: str, dataset: str
) -> tuple[list[Path], list[str]]:
    from ponder.config import lookup
    from ponder.evals.exports import EXPORTS, write_hub
    from ponder.evals.exports.shared import HUB_NAME, shared

    write = lookup(EXPORTS, form, what="format")
    if model_id and not HUB_NAME.fullmatch(model_id):
        raise ConfigError(f"--model-id {model_id} is not OWNER/NAME")
    if dataset and write is not write_hub:
        raise ConfigError("--dataset is for --format hub")
    source = shared(bank, with_reasoning=with_reasoning, model_id=model_id)
    files = list(write_hub(source, out, dataset=dataset) if write is write_hub else write(source, out))
    notes = []
    if source.is_gated:
        notes.append("the benchmark is gated: verdicts, classes by number and costs are there, texts are not")
    if form == "eee" and not HUB_NAME.fullmatch(source.model):
        notes.append(f"the owner of the model {source.model} is not known; give --model-id OWNER/NAME to publish it")
    return files, notes


@app.command(rich_help_panel=USE)
def push(
    model: Annotated[str, typer.Argument(help="A run (RUN, RUN@step, RUN@best), or a model or adapter folder.")],
    name: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="Where on the hub.")],
    adapter: Annotated[
        bool, typer.Option("--adapter", help="The adapter alone (lora_rank), for whoever has its base.")
    ] = False,
    bank: Annotated[
        Optional[list[Path]], typer.Option(help="An evaluation of exactly this model, for the card; several: again.")
    ] = None,
    base: Annotated[str, typer.Option(help="The base's OWNER/NAME on the hub, where ponder does not know it.")] = "",
    license: Annotated[str, typer.Option(help="For the card, e.g. apache-2.0. The base's licence may bind you.")] = "",
    private: Annotated[bool, typer.Option("--private", help="A new repository is private.")] = False,
    out: Annotated[Optional[Path], typer.Option(help="Where the folder is made; default push/NAME.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Make the folder, push nothing.")] = False,
    as_json: opt.Json = False,
) -> None:
    """Put a model or an adapter on the hub, with a card made from its run."""
    from ponder.cli.show import finish
    from ponder.evals.card import prepare
    from ponder.files import lock_beside
    from ponder.models.upload import publication, upload

    out = out or Path("push") / name.rpartition("/")[2]
    what = publication(model, name, adapter=adapter, base=base, license=license)
    with lock_beside(out):  # what goes out is what lies there
        files = prepare(what, out, banks=bank or ())
        size = sum(path.stat().st_size for path in files)
        sentence = f"{len(files)} files, {size / 1e6:.1f} MB, in {out}"
        names = [str(path.relative_to(out)) for path in files]
        found: dict[str, object] = {"folder": str(out), "files": names, "bytes": size}
        if dry_run:
            return finish(found, f"{sentence}; read {out / 'README.md'} before it goes out", as_json)
        url = upload(out, name, private=private)
    finish(found | {"url": url}, f"{sentence}, are at {url}", as_json)


@app.command("import", rich_help_panel=MEASURE)
def import_log(
    log: Annotated[Path, typer.Argument(help="Inspect's .eval or .json; lm-eval's folder, results or samples file.")],
    out: Annotated[Path, typer.Option(help="The bank to make.")],
    score: Annotated[
        str, typer.Option(help="Which score is the verdict; NAME=5: where 5 is right, and less is wrong.")
    ] = "",
    task: Annotated[str, typer.Option(help="Which task of lm-eval's folder.")] = "",
    as_json: opt.Json = False,
) -> None:
    """Make a bank of another program's samples, so that report, compare and regrade work on them."""
    from ponder.cli.show import print_metrics, shown
    from ponder.evals.codec import encode
    from ponder.evals.imports import read_log
    from ponder.evals.imports.foreign import write_bank

    found = write_bank(read_log(log, score=score, task=task), out)
    if as_json:
        print(json.dumps({**encode(found), "out": str(out)}, ensure_ascii=False))
        return
    print_metrics(found.result)
    print(f"{found.num_samples} samples of {found.num_problems} problems are in {out}")
    print(f"not in the log: {', '.join(found.missing)}")
    for note in found.notes:
        print(shown(f"note: {note}"))
