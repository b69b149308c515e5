"""Whatever stands in place of a file that a command is given, one line says which and why."""

import codecs
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from support.command import advcomp
from support.run_folder import RunFolder

from advcomp.tournament.store.state import KEY_FILE

TOML = 'name = "t"\n[dataset]\nsource = "digits"\n'
READERS = (
    ["run"],
    ["plan"],
    ["pull"],
    ["validate"],
    ["submit", "."],
    ["practice", ".", "--against"],
    ["plan", "whole.toml", "--cluster"],
    ["doctor", "--cluster"],
    ["tune"],
)


def link_to_itself(path: Path) -> None:
    path.symlink_to(path.name)


CONTENTS: dict[str, tuple[bytes, str]] = {
    "utf-16": (codecs.BOM_UTF16_LE + TOML.encode("utf-16-le"), "got UTF-16 or UTF-32; save it"),
    "latin-1": (b"# \xe9\n", "got byte 0xe9 at offset 2; save it as UTF-8"),
    "NUL": (b'name = "t\0"\n', "expected TOML; Illegal character"),
    "zeros": (bytes(100), "expected TOML; Invalid statement"),
    "truncated": (b'name = "', "expected TOML; "),
    "nested": (b"a = " + b"[" * 100_000, "expected TOML; got tables or arrays nested too deeply"),
    "a web page": (b"<!DOCTYPE html>\n<html>", "expected TOML; Invalid statement"),
}


def enormous(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


PLACES: dict[str, tuple[Callable[[Path], object], str]] = {
    "nothing": (lambda _: None, "cannot be read: No such file or directory"),
    "a folder": (Path.mkdir, "cannot be read: Is a directory"),
    "a FIFO": (os.mkfifo, "got a FIFO"),
    "a dangling link": (lambda p: p.symlink_to("none"), "cannot be read: No such file"),
    "a loop of links": (link_to_itself, "cannot be read: Too many levels of symbolic links"),
    "a terabyte": (enormous, "expected at most 16,777,216 bytes; got 1,099,511,627,776 bytes"),
    "a device": (lambda p: p.symlink_to("/dev/zero"), "got a device"),
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "whole.toml").write_text(TOML)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("command", READERS, ids=" ".join)
@pytest.mark.parametrize("kind", [*CONTENTS, *PLACES])
def test_a_file_that_is_no_toml_is_named_with_what_it_is(
    here: Path, command: list[str], kind: str
) -> None:
    file = here / "file.toml"
    if kind in CONTENTS:
        content, expected = CONTENTS[kind]
        file.write_bytes(content)
    else:
        put, expected = PLACES[kind]
        put(file)
    before = sorted(here.iterdir())
    result = advcomp(*command, "file.toml")
    assert result.exit_code == 1
    (said,) = result.output.splitlines()
    assert said.startswith("advcomp: file.toml: ")
    assert expected in said
    assert sorted(here.iterdir()) == before


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("run/run.json", ["status", "run"]),
        ("run/waves.json", ["score", "run"]),
        ("run/key", ["logs", "run"]),
        ("run/results/results.json", ["leaderboard", "run"]),
        ("images.csv", ["plan", "folder.toml"]),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_an_enormous_file_is_not_read(here: Path, name: str, command: list[str]) -> None:
    RunFolder(here / "run").play()
    (here / "folder.toml").write_text(
        'name = "t"\n[dataset]\nsource = "folder"\nimages_dir = "."\ncsv = "images.csv"\n'
        '[entries]\nattacks = ["run"]\n'
    )
    enormous(here / name)
    result = advcomp(*command)
    assert result.exit_code == 1
    (said,) = (line for line in result.output.splitlines() if f"{name}: " in line)
    assert "got 1,099,511,627,776 bytes" in said


@pytest.mark.parametrize("change", ["mark", "line ends"])
def test_a_mark_and_line_ends_of_windows_change_nothing(here: Path, change: str) -> None:
    text = f'{TOML}[limits]\nmemory = "1 B"\n'.encode()
    marked = {"mark": codecs.BOM_UTF8 + text, "line ends": text.replace(b"\n", b"\r\n")}
    (here / "file.toml").write_bytes(marked[change])
    (said,) = advcomp("plan", "file.toml").output.splitlines()
    assert said.startswith("advcomp: file.toml:5: [limits] memory: expected a size")


OF_A_RUN = (
    *(["score"], ["leaderboard"], ["status"], ["logs"], ["verify"], ["report"], ["audit"]),
    *(["watch", "--out", "page.html"], ["rerun", "--submission", "a"], ["compare", "run"]),
)


@pytest.mark.parametrize("command", OF_A_RUN, ids=lambda words: words[0])
@pytest.mark.parametrize(
    "put",
    [lambda _: None, Path.touch, Path.mkdir, os.mkfifo, link_to_itself],
    ids=["nothing", "a file", "a folder", "a FIFO", "a loop of links"],
)
def test_what_is_no_run_is_named_and_none_is_begun(
    here: Path, command: list[str], put: Callable[[Path], object]
) -> None:
    put(here / "run")
    before = sorted(here.rglob("*"))
    result = advcomp(*command, "run")
    assert result.exit_code == 1
    (said,) = result.output.splitlines()
    assert "run: expected the folder of a run (with run.json); got none" in said or (
        "Too many levels of symbolic links; " in said
    )
    assert sorted(here.rglob("*")) == before


@pytest.mark.parametrize(
    "command",
    [
        ["validate", "loop"],
        ["practice", "loop"],
        ["submit", "loop", "whole.toml"],
        ["run", "whole.toml", "--out", "loop"],
    ],
    ids=lambda words: words[0],
)
def test_links_that_lead_to_each_other_are_told(here: Path, command: list[str]) -> None:
    link_to_itself(here / "loop")
    (here / "whole.toml").write_text(f'{TOML}[entries]\nattacks = ["whole.toml"]\n')
    result = advcomp(*command)
    assert result.exit_code == 1
    (said,) = result.output.splitlines()
    assert said.startswith("advcomp: ")
    assert "loop: " in said


@pytest.mark.parametrize(
    ("left", "command"),
    [
        *[("nothing", command) for command in ("status", "score", "export", "watch")],
        *[("another", command) for command in ("status", "report")],
        ("a loop of links", "logs"),
    ],
)
def test_a_run_whose_key_is_gone_gets_no_other_one(here: Path, left: str, command: str) -> None:
    """Under another key every answer would be to another image, and all would run again."""
    RunFolder(here / "run").play()
    key = here / "run" / KEY_FILE
    whole = key.read_text()
    key.unlink()
    if left == "another":
        key.write_text("ab" * 32)
    elif left == "a loop of links":
        link_to_itself(key)
    before = key.read_bytes() if key.exists() else None
    result = advcomp(command, "run", *(["--out", "page.html"] if command == "watch" else []))
    assert result.exit_code == 1
    (said,) = result.output.splitlines()
    assert f"/{KEY_FILE}: expected the key that the run was made with (SHA-256 " in said
    assert "; put it back, or play a new run in another folder" in said
    assert (key.read_bytes() if key.exists() else None) == before
    key.unlink(missing_ok=True)
    key.write_text(whole)
    assert advcomp("status", "run").exit_code == 0


def test_a_wrong_key_leaves_no_run(here: Path) -> None:
    (here / "key").write_text("12")
    result = advcomp("run", "whole.toml", "--key", "key", "--out", "run")
    assert result.exit_code == 1
    assert "key: expected a key of 32 bytes (64 hexadecimal digits); got 1" in result.output
    assert sorted(path.name for path in here.iterdir()) == ["key", "whole.toml"]


def test_a_folder_in_a_tables_place_leaves_no_draft_beside_it(here: Path) -> None:
    RunFolder(here / "run").play()
    table = here / "run" / "results" / "leaderboard.csv"
    table.unlink()
    table.mkdir()
    (said,) = advcomp("score", "run").output.splitlines()
    assert "leaderboard.csv: Is a directory; take away the folder that is there" in said
    assert not list(here.rglob("*.unfinished"))


@pytest.mark.parametrize(("umask", "folder", "file"), [(0o777, 0o700, 0o600), (0, 0o777, 0o666)])
def test_no_umask_keeps_the_user_from_what_was_written(
    here: Path, umask: int, folder: int, file: int
) -> None:
    RunFolder(here / "run").play()
    users = os.umask(umask)
    try:
        ended = [
            advcomp("report", "run", "--for-all", "reports").exit_code,
            advcomp("watch", "run", "--out", "new/page.html").exit_code,
            advcomp("init", "attack", "starter").exit_code,
        ]
        assert os.umask(0o022) == umask
    finally:
        os.umask(users)
    assert ended == [0, 0, 0]
    made = {path.name: stat.S_IMODE(path.stat().st_mode) for path in here.rglob("*")}
    assert {made[name] for name in ("reports", "new", "starter")} == {folder}
    assert {made[name] for name in ("page.html", "right.html")} == {file}


def test_a_file_where_a_folder_is_to_be_is_told_with_the_remedy(here: Path) -> None:
    RunFolder(here / "run").play()
    (here / "file").write_text("mine")
    (said,) = advcomp("report", "run", "--for-all", "file").output.splitlines()
    assert said.endswith("file: File exists; take away what is there, or name another place")
    assert (here / "file").read_text() == "mine"


@pytest.mark.parametrize(
    "size",
    ["0x4", "4097x4", "4x99999999999999999999", f"{'9' * 5000}x1", "4", "4x", "²x4"],
)
def test_a_size_that_no_drawn_image_has_is_refused(here: Path, size: str) -> None:
    result = advcomp("validate", "entry", f"--size={size}")
    assert result.exit_code == 2
    assert 'expected height and width such as "32x32", each 1 to 4096; got "' in result.output


@pytest.mark.parametrize(
    "command",
    [
        *(["run"], ["score"], ["validate"], ["practice"], ["export"], ["compare"], ["train"]),
        *(["gc"], ["run", "whole.toml", "--out"], ["report", "run", "--for-all"]),
        *(["practice", "run", "--out"], ["run", "whole.toml", "--key"], ["init", "attack"]),
    ],
    ids=" ".join,
)
def test_an_empty_path_is_not_the_current_folder(here: Path, command: list[str]) -> None:
    """A script that has lost a variable would write there, or remove something."""
    before = sorted(here.iterdir())
    result = advcomp(*command, "")
    assert result.exit_code == 2
    assert "expected a path; got an empty text; is it a variable" in result.output
    assert sorted(here.iterdir()) == before


@pytest.mark.parametrize(
    "command",
    [
        ["run", "whole.toml", "--jobs", str(10**30)],
        ["plan", "whole.toml", "--jobs", "65537"],
        ["dataset", "digits", "new", "--seed", "-1"],
    ],
    ids=" ".join,
)
def test_numbers_that_nothing_can_be_are_refused(here: Path, command: list[str]) -> None:
    result = advcomp(*command)
    assert result.exit_code == 2
    assert "is not in the range" in result.output
