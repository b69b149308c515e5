"""Makes pages of files that lie beside `docs/`, and mends the links between them.

In the repository a link leads from file to file; on the site those of `PAGES` are pages, and other
files of the repository are not there: their links become plain text.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
PAGES = {
    "README.md": "index.md",
    "tournament/README.md": "rulebook.md",
    "SECURITY.md": "security.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
"""File of the repository -> page of the site."""

HOMES = {page: file for file, page in PAGES.items()}
LINK = re.compile(r"\[([^\]\n]*)\]\((?![a-z]+:|#)([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that lie elsewhere."""
    for file, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / file).read_text("utf-8")))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Mend the links of a page."""
    place = page.file.src_uri
    home = posixpath.dirname(HOMES.get(place, f"docs/{place}"))

    def mended(match: re.Match[str]) -> str:
        text, target, anchor = match[1], match[2], match[3] or ""
        path = posixpath.normpath(posixpath.join(home, target))
        found = PAGES.get(path, path.removeprefix("docs/") if path.startswith("docs/") else None)
        if found is None:
            return text
        return f"[{text}]({posixpath.relpath(found, posixpath.dirname(place) or '.')}{anchor})"

    return LINK.sub(mended, markdown)
