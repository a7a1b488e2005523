"""A hook of MkDocs: pages of the site whose texts lie outside of docs/, and links to them.

README.md is readme.html on the site, and so on. A link from any page to one of these files leads to its page. Of a link
to another file of the repository the words stay, as the site has no page of it; of a link to a file that is not there
`mkdocs build --strict` says so.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PAGES = {  # a file of the repository -> its page
    "README.md": "readme.md",
    "CONTRIBUTING.md": "contributing.md",
    "LICENSE": "license.md",
    "ponder/models/smollm2_ponder/README.md": "cards/smollm2_ponder.md",
    "ponder/models/qwen05_ponder/README.md": "cards/qwen05_ponder.md",
    "ponder/models/nano/README.md": "cards/nano.md",
    "ponder/models/nano_pipes/README.md": "cards/nano_pipes.md",
}
LINK = re.compile(r"(\]\()([^)\s#]+)(#[^)\s]*)?(\))")
WHOLE = re.compile(r"(?<!!)\[([^\[\]]+)\]\(([^)\s#]+)\)")  # a link with its words


def on_files(files: Any, *, config: Any) -> Any:
    from mkdocs.structure.files import File

    for source, page in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        content = f"# Licence\n\n```text\n{text}\n```\n" if source == "LICENSE" else linked(text, source, page)
        files.append(File.generated(config, page, content=content))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Any) -> str:
    uri = page.file.src_uri
    return markdown if uri in PAGES.values() else linked(markdown, f"docs/{uri}", uri)


def linked(text: str, source: str, page: str) -> str:
    """The links of a file of the repository as they lead from its page."""

    def target(match: re.Match[str]) -> str:
        opening, path, anchor, closing = match[1], match[2], match[3] or "", match[4]
        if re.match(r"[a-z]+:", path):
            return match[0]
        wanted = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        found = PAGES.get(wanted) or (wanted.removeprefix("docs/") if wanted.startswith("docs/") else None)
        if found is None:
            return match[0]
        return f"{opening}{posixpath.relpath(found, posixpath.dirname(page) or '.')}{anchor}{closing}"

    def words(match: re.Match[str]) -> str:
        wanted = posixpath.normpath(posixpath.join(posixpath.dirname(source), match[2]))
        is_page = wanted in PAGES or wanted.startswith("docs/") or re.match(r"[a-z]+:", match[2])
        return match[1] if not is_page and (ROOT / wanted).is_file() else match[0]

    return LINK.sub(target, WHOLE.sub(words, text))
