"""Problems of any data set on the hub: `load_task("hub:OWNER/NAME")`, for sets that have no name of their own here.

    hub:openai/gsm8k,config=main                  columns question and answer are found by their names
    hub:me/mine,problem=text,answer=label,size=500
    hub:me/mine,split=validation                  the set's own name of a split

Which columns are the problem and the answer: those called so, or by an alias (`columns.py`), or what the dials
`problem`, `answer`, `solution`, `choices` and `id` say. Fetched as in `datahub.py`: `pip install "ponder[data]"`, once
with a network.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from ponder.config import ConfigError, nearest
from ponder.tasks.base import check_size
from ponder.tasks.columns import canonical
from ponder.tasks.datahub import Row, hub_rows, parts_of
from ponder.tasks.file import FileTask, choose_verifier, problem_of, unique_problems, verifier_of
from ponder.types import Verifier

COLUMNS = ("problem", "answer", "solution", "choices", "id", "level", "subject")
DIALS = ("config", "split", "verifier", "size", *COLUMNS)


def hub_task(
    spec: str, *, split: str = "test", seed: int = 0, verifier: str | Verifier | None = None, size: int | None = None
) -> FileTask:
    """The problems of one split of a data set, in the hub's order; `seed` changes nothing."""
    repo, dials = read_spec(spec)
    size = int(dials["size"]) if size is None and "size" in dials else size
    check_size(size)
    config, part = dials.get("config") or only_config(repo), dials.get("split", split)
    try:
        rows, revision = hub_rows(repo, config, part)
    except ConfigError as error:
        raise ConfigError(f"hub:{repo}, config {config}, split {part}: {error}{_what_there_is(repo)}") from None
    found = ((f"{repo}/{config}/{part}, row {i}", _renamed(row, dials, repo)) for i, row in enumerate(rows))
    problems = unique_problems(
        ((where, problem_of(canonical(row, where), repo, where)) for where, row in found), f"hub:{repo}"
    )
    chosen = verifier or dials.get("verifier") or choose_verifier(problems)
    task = FileTask(repo, problems[:size], verifier_of(chosen, problems[0]), split=split)
    task.origin = [{"hub": f"{repo}/{config}/{part}", "revision": revision, "problems": len(task)}]
    return task


def read_spec(spec: str) -> tuple[str, dict[str, str]]:
    """ "me/mine,problem=text" -> ("me/mine", {"problem": "text"})."""
    repo, *rest = [part.strip() for part in spec.split(",")]
    if repo.count("/") != 1 or not all(repo.split("/")):
        raise ConfigError(f"hub:{repo} is not OWNER/NAME; write hub:openai/gsm8k,config=main")
    dials = {name.strip(): value.strip() for name, _, value in (part.partition("=") for part in rest)}
    for name, value in dials.items():
        if name not in DIALS:
            raise ConfigError(f"hub:{repo} has no dial {name!r}{nearest(name, DIALS)}")
        if not value or (name == "size" and not re.fullmatch("[0-9]{1,9}", value)):
            raise ConfigError(f"hub:{repo}: {name}={value} is not valid; write {name}=VALUE")
    return repo, dials


def only_config(repo: str) -> str:
    """The configuration of a set that has one; of several, the caller has to name one."""
    try:
        configs = sorted({config for config, _ in parts_of(repo)})
    except ConfigError:
        return "default"  # what the hub calls the only one; the error of the rows will say more
    if len(configs) == 1:
        return configs[0]
    raise ConfigError(f"hub:{repo} has {len(configs)} configurations; choose one: config={' or '.join(configs[:20])}")


def _what_there_is(repo: str) -> str:
    try:
        parts = sorted(parts_of(repo))
    except ConfigError:
        return ""
    return "; it has " + ", ".join(f"config={config} split={split}" for config, split in parts[:20])


def _renamed(row: Row, dials: Mapping[str, str], repo: str) -> Row:
    row = dict(row)
    for name in COLUMNS:
        if name in dials:
            if dials[name] not in row:
                raise ConfigError(f"hub:{repo}: no column {dials[name]!r}; there are {', '.join(sorted(row)[:30])}")
            row[name] = row[dials[name]]
    return {name: value for name, value in row.items() if value is not None}
