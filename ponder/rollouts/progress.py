"""Which items of a long piece of work are done: a JSON Lines file, the settings first, then a line an item.

    for line in resumed(path, settings, out): ...       # of what was done before; [] where it begins now
    append_jsonl(path, [line])                          # when the next item is done

A line that a kill tore off is dropped, and its item is done again. A line that is damaged otherwise, or other settings,
are a ConfigError, and nothing is written then.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ponder.config import ConfigError
from ponder.files import write_atomic


def resumed(
    path: Path, settings: Mapping[str, Any], out: object, *, added: Mapping[str, str] | None = None, kind: type = dict
) -> list[Any]:
    """The lines after the settings, each of this kind; a new file gets the settings.

    out: what a person calls this work. added: settings that older files do not have, and what each is called; they are
    taken to be the same.
    """
    if not path.exists():
        write_atomic(path, json.dumps(settings) + "\n")
        return []
    first, *lines = whole_json(path) or [None]
    if not isinstance(first, dict):  # nor is it empty after a kill: it is written whole
        raise ConfigError(f"{path}:1 is damaged: it should hold the settings; restore it, or begin again elsewhere")
    wanted = json.loads(json.dumps(settings))
    changed = sorted(name for name in wanted.keys() | first.keys() if wanted.get(name) != first.get(name))
    for name in [name for name in changed if name in (added or {}) and name not in first]:
        warnings.warn(f"{path} keeps no {(added or {})[name]}: it is taken to be the same", stacklevel=4)
        changed.remove(name)
    if changed:
        raise ConfigError(
            f"{out} was begun with another {', '.join(changed)}; give another --out, or the same settings and files"
        )
    for number, line in enumerate(lines, 2):
        if not isinstance(line, kind):
            raise damaged(path, number)
    return lines


def whole_json(path: Path) -> list[Any]:
    """The values of the lines that were written to their end; [] where there is no file."""
    found = []
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1] if path.exists() else (), 1):
        try:
            found.append(json.loads(line.decode()))
        except (ValueError, RecursionError):
            raise damaged(path, number) from None
    return found


def damaged(path: Path, number: int) -> ConfigError:
    """The error for a line, counted from 1; the caller raises it."""
    return ConfigError(f"{path}:{number} is damaged; delete that line, and what it was about is done again")
