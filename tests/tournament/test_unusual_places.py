"""What the command's surroundings do to it: a full output, no home, paths that are no UTF-8."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from support.command import advcomp
from support.contest import COPY, Contest
from support.run_folder import RunFolder

from advcomp.errors import AdvcompError
from advcomp.rules.lock import locked
from advcomp.sandbox import trusted
from advcomp.sandbox.base import Sandbox
from advcomp.terminal.console_tables import print_leaderboard
from advcomp.tournament.store.state import save_state

CONSTANT = 'for f in "$1"/*.png; do echo "${f##*/},3"; done > "$2"'
DIGITS = """\
name = "small"
[dataset]
source = "digits"
images = 6
[threat]
max_epsilons = [16]
[entries]
attacks = ["attack"]
"""


@pytest.mark.parametrize("arguments", [["--help"], ["doctor", "--packages"]])
def test_an_output_that_is_full_is_a_message(arguments: list[str]) -> None:
    with Path("/dev/full").open("wb") as full:
        ran = subprocess.run(
            [sys.executable, "-m", "advcomp", *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert ran.returncode == 1
    (said,) = ran.stderr.splitlines()
    assert said.startswith("advcomp: cannot write: No space left on device; is standard output")


def test_a_full_disk_is_told_with_the_name_of_the_file(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    for name in ("page.html", "run.json"):
        (tmp_path / f".{name}.partial").symlink_to("/dev/full")
    result = advcomp("watch", folder.run, "--out", tmp_path / "page.html")
    assert result.exit_code == 1
    assert result.output == f"advcomp: {tmp_path / 'page.html'}: No space left on device\n"
    with pytest.raises(OSError, match="No space left") as caught:
        save_state(tmp_path, folder.state)
    assert caught.value.filename == str(tmp_path / "run.json")


@pytest.mark.parametrize(
    ("arguments", "closed", "code"),
    [
        (["--version"], "<&- >&-", 0),
        (["--help"], ">&-", 0),
        (["status", "none"], "<&- >&- 2>&-", 1),
    ],
)
def test_whoever_starts_the_command_may_close_its_streams(
    arguments: list[str], closed: str, code: int
) -> None:
    command = shlex.join([sys.executable, "-m", "advcomp", *arguments])
    ran = subprocess.run(["sh", "-c", f"exec {command} {closed}"], stderr=subprocess.PIPE)
    assert (ran.returncode, ran.stderr) == (code, b"")


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("ascii", rb"a r\xfcn\u2603" + b"\xff"),
        ("latin-1", b"a r\xfcn" + rb"\u2603" + b"\xff"),
        ("utf-8:strict", b"a r\xc3\xbcn\xe2\x98\x83\xff"),
    ],
)
def test_a_path_of_any_letters_and_bytes_can_be_told(
    encoding: str, shown: bytes, tmp_path: Path
) -> None:
    path = os.fsencode(tmp_path) + b"/" + b"a r\xc3\xbcn\xe2\x98\x83\xff"
    ran = subprocess.run(
        [sys.executable, "-m", "advcomp", "init", "attack", path],
        env=os.environ | {"PYTHONIOENCODING": encoding},
        capture_output=True,
    )
    assert (ran.returncode, ran.stderr) == (0, b"")
    assert ran.stdout.endswith(b"/" + shown + b"'\n")  # quoted, for a shell


def test_a_cache_that_cannot_be_made_is_a_message_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "attack").mkdir()
    (tmp_path / "attack" / "metadata.json").touch()
    (tmp_path / "file.toml").write_text(DIGITS)
    for home, cache in (("/proc/none", ""), (str(tmp_path), str(tmp_path / "file.toml"))):
        monkeypatch.setenv("HOME", home)
        monkeypatch.setenv("XDG_CACHE_HOME", cache)
        result = advcomp("plan", tmp_path / "file.toml")
        assert result.exit_code == 1
        for expected in ("expected a folder that can be written", "set XDG_CACHE_HOME",
                         "advcomp dataset digits DIR"):  # fmt: skip
            assert expected in result.output


def test_a_traceback_of_our_own_program_becomes_its_last_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken.py").write_text("raise OSError('the disk is gone')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(AdvcompError) as caught:
        trusted.run_module("broken")
    assert caught.value.problems == ("python -m broken: OSError: the disk is gone",)


def test_a_program_of_ours_tells_paths_of_any_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = "import os, sys\nsys.stdout.buffer.write(os.fsencode(sys.argv[1]))"
    (tmp_path / "telling.py").write_text(program)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    path = os.fsdecode(b"a r\xc3\xbcn\xff")
    assert trusted.run_module("telling", path) == path


@pytest.mark.parametrize("form", ["parquet", "csv", "arrow"])
def test_tables_are_written_to_a_path_of_any_bytes(tmp_path: Path, form: str) -> None:
    folder = RunFolder(tmp_path / os.fsdecode(b"run\xff"))
    folder.play()
    assert advcomp("export", folder.run, "--format", form).exit_code == 0
    table = folder.run / "export" / f"leaderboard.{form}"
    assert b"fgsm" in table.read_bytes()


@pytest.mark.parametrize(
    ("name", "surroundings"),
    [
        (b"run\xff", {}),
        ("r\N{LATIN SMALL LETTER U WITH DIAERESIS}n".encode(),
         {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}),
    ],
    ids=["no UTF-8", "UTF-8 in the C locale"],
)  # fmt: skip
def test_a_run_may_have_any_path(
    name: bytes, surroundings: dict[str, str], contest: Contest, tmp_path: Path
) -> None:
    file = contest.file([contest.entry("copy", COPY)], [contest.entry("c", CONSTANT, "defense")])
    out = os.fsencode(tmp_path) + b"/" + name
    for arguments in (["run", file, "--out", out], ["status", out], ["leaderboard", out]):
        ran = subprocess.run(
            [sys.executable, "-m", "advcomp", *arguments],
            env=os.environ | surroundings,
            capture_output=True,
        )
        assert ran.returncode == 0, ran.stderr.decode(errors="replace")
    assert Path(os.fsdecode(out), "results/leaderboard.csv").is_file()


def test_a_run_that_may_only_be_read_is_read(tmp_path: Path, sandbox: Sandbox) -> None:
    run = tmp_path / "run"
    folder = RunFolder(run)
    folder.play()
    with locked(run):
        pass
    walls = ["bwrap", "--dev-bind", "/", "/", "--ro-bind", str(run), str(run)]
    told = {}
    for command in ("verify", "score"):
        told[command] = subprocess.run(
            [*walls, sys.executable, "-m", "advcomp", command, str(run)],
            capture_output=True,
            text=True,
        )
    assert told["verify"].stderr == ""
    assert told["verify"].stdout.startswith("14 results, ")
    assert told["score"].returncode == 1
    (said,) = told["score"].stderr.splitlines()
    assert said.startswith(f"advcomp: {run}/results/")
    assert said.endswith("Read-only file system")


def test_a_terminal_that_is_too_narrow_hides_no_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.play()
    monkeypatch.setenv("FORCE_COLOR", "1")  # as on a terminal
    monkeypatch.setenv("COLUMNS", "20")
    print_leaderboard(folder.run, "table")
    told = capsys.readouterr().out
    assert all(name in told for name in ("noop", "fgsm", "right", "wrong"))
    assert "…" not in told
