"""What documents, docstrings and comments name exists: files of code, and tests of promises."""

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


SECURITY = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
TESTS = {path: path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py")}


def test_every_test_that_a_promise_names_exists() -> None:
    """By its name, by its file or folder, as a case of the hostile suite, or as a part of one."""
    hostile = " ".join(text for path, text in TESTS.items() if path.parent.name == "hostile")
    conformance = TESTS[ROOT / "tests/sandbox/test_conformance.py"]
    functions = set(re.findall(r"^def (test_\w+)", "\n".join(TESTS.values()), re.MULTILINE))
    rows = [line for line in SECURITY.splitlines() if line.startswith("|")]
    cases = re.findall(r"`(?!test_)(\w+)`(?=[^|]*`tests/hostile/attacks\.py`)", " ".join(rows))
    cases += re.findall(r"`(memory_in_\w+)`", SECURITY)
    named = set(re.findall(r"`(test_\w+)`", SECURITY))
    places = set(re.findall(r"`(tests/[\w/.]+)`", SECURITY))
    parts = re.findall(r'`tests/sandbox/test_conformance\.py`, "([^"]+)"', SECURITY)
    assert len(named) > 20
    assert len(places) > 10
    assert {"searches_names", "ENDINGS", "memory_in_udp_sockets"} <= {*cases}
    assert len(parts) == 2
    assert sorted(named - functions) == []
    assert [place for place in sorted(places) if not (ROOT / place).exists()] == []
    assert [case for case in cases if not re.search(rf'"{case}"|^{case} =', hostile, re.M)] == []
    assert [part for part in parts if f"\n# {part}.\n" not in conformance] == []


def test_every_promise_names_a_test_or_says_that_it_has_none() -> None:
    """Of the three tables of promises; who promises nothing says `no` or `only`."""
    tables = re.findall(r"(?:^\|.*\n)+", SECURITY, re.MULTILINE)
    promises = [row for table in tables[:3] for row in table.splitlines()[2:]]
    assert len(promises) > 40
    silent = [
        row
        for row in promises
        if not re.search(
            r"tests?[/_]\w+|\(\*\)|not tested|^(no|only)\b", row.split("|")[-2].strip()
        )
    ]
    assert silent == []
