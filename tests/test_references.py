"""Files of code that documents, docstrings and comments name exist: readers look for them."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("advcomp", "attacks", "benchmarks", "defenses", "docker", "docs", "tests", "tournament")
FILES = {
    str(path.relative_to(ROOT)) for folder in FOLDERS for path in (ROOT / folder).rglob("*.*")
}
NAME = re.compile(r"(?<![\w/.{}*<-])(?:\w+/)*\w+\.(?:py|c)\b")
PROSE = re.compile(r'"""(?:.|\n)*?"""|(?:^\s*|  )# .*', re.MULTILINE)
"""Docstrings and comments."""
ELSEWHERE = {"fs/coredump.c"}
"""Of Linux."""


def named(path: Path) -> set[str]:
    """The files of code that a file names where it is written for people."""
    text = path.read_text(encoding="utf-8")
    return set(NAME.findall(" ".join(PROSE.findall(text)) if path.suffix == ".py" else text))


def exists(name: str) -> bool:
    return any(f"/{file}".endswith(f"/{name}") for file in FILES) or name in ELSEWHERE


def test_files_that_are_named_exist() -> None:
    read = [
        *(ROOT / "advcomp").rglob("*.py"),
        *(ROOT / "benchmarks").glob("*.py"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "tournament").rglob("*.md"),
        *(path for path in ROOT.glob("*.md") if path.name != "CHANGELOG.md"),
        ROOT / "advcomp/sandbox/engine/first/first.c",
    ]
    found = {str(path.relative_to(ROOT)): named(path) for path in read}
    assert sum(map(len, found.values())) > 100
    missing = {
        path: gone
        for path, names in found.items()
        if (gone := sorted(name for name in names if not exists(name)))
    }
    assert missing == {}


def test_sections_of_the_rulebook_that_are_cited_exist() -> None:
    rulebook = (ROOT / "tournament/README.md").read_text(encoding="utf-8")
    titles = set(re.findall(r"^## \d+\. (.*)$", rulebook, re.MULTILINE))
    cited = {
        title
        for path in (ROOT / "advcomp").rglob("*.py")
        for title in re.findall(r'rulebook,\s+"([^"]+)"', path.read_text(encoding="utf-8"))
    }
    assert cited
    assert cited <= titles
