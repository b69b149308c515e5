"""What happens to us, not what they do: kills, full disks, damaged files, clocks, two at once.

A killed harness is tried with every sandbox; all else is about our own files, which no sandbox
knows of, and takes the default one.
"""

import ast
import contextlib
import os
import random
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.contest import BRIGHTNESS, CONSTANT, COPY, DARKER, Contest, write_greys
from support.control_groups import control_groups
from support.engines import gvisors_of
from support.processes import processes
from support.tables import tables

import advcomp
from advcomp.errors import InvalidConfig, RunConflict
from advcomp.tournament.runner import rescore

pytestmark = pytest.mark.slow

TESTS = Path(__file__).parents[1]
CLI = "from advcomp.cli import main; main()"
SLOW_COPY = f"sleep 2; {COPY}"


@pytest.fixture
def contest(tmp_path: Path, require: Callable[[str], None]) -> Contest:
    require("bubblewrap")
    write_greys(tmp_path / "data", 6)
    return Contest(tmp_path)


def tournament(contest: Contest, noop: str = COPY) -> Path:
    return contest.file(
        [contest.entry("noop", noop), contest.entry("darker", DARKER)],
        [
            contest.entry("brightness", BRIGHTNESS, "defense"),
            contest.entry("constant", CONSTANT, "defense"),
        ],
    )


def advcomp_run(
    file: Path, out: Path, backend: str = "bubblewrap", **options: object
) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", CLI, "run", str(file), "--out", str(out)]
    command += ["--sandbox", backend]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **options)  # type: ignore[call-overload, no-any-return]


def until(condition: Callable[[], object], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_killed_harness_leaves_nothing_that_the_next_start_does_not_clear(
    contest: Contest, backend: str
) -> None:
    """C1: the box dies with its harness; staged images and control groups go at the next start."""
    token = f"86403.{os.getpid()}"

    def running(harness: int) -> list[int]:
        """Of a program under gVisor this machine sees gVisor."""
        return gvisors_of(harness) if backend == "gvisor" else processes(f"sleep\0{token}")

    program = f"[ -e /code/mark ] || setsid sleep {token} & sleep {token}"
    file = contest.file(
        [contest.entry("hangs", program)], [contest.entry("c", CONSTANT, "defense")]
    )
    temporary = contest.folder / "tmp"
    temporary.mkdir()
    out, environment = contest.folder / "out", {**os.environ, "TMPDIR": str(temporary)}
    with advcomp_run(file, out, backend, env=environment) as doomed:
        until(lambda: list(temporary.glob("*/*")) and running(doomed.pid))
        doomed.kill()
    until(lambda: not running(doomed.pid))
    fast = contest.folder / "entries_of_the_test" / "hangs" / "run.sh"
    fast.write_text(f"#!/bin/sh\n{COPY}\n")
    with advcomp_run(file, out, backend, env=environment) as again:
        again.communicate()
    assert again.returncode == 0
    assert list(temporary.iterdir()) == []
    assert control_groups(doomed.pid) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own of 64 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    options = ["-o", "size=64k,mode=755", "small", str(disk)]
    made = subprocess.run(["mount", "-t", "tmpfs", *options], capture_output=True, check=False)
    if made.returncode != 0:
        pytest.skip("a full disk is tried as root only, who may mount a small one")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_stops_the_run_cleanly_and_it_goes_on_when_there_is_room(
    contest: Contest, small_disk: Path
) -> None:
    """C3: step by step more room, until there is enough."""
    file = tournament(contest)
    failures = 0
    for size_kib in range(64, 1024, 64):
        subprocess.run(["mount", "-o", f"remount,size={size_kib}k", str(small_disk)], check=True)
        with advcomp_run(file, small_disk / "out", stdout=subprocess.DEVNULL) as process:
            _, said = process.communicate()
        if process.returncode == 0:
            break
        failures += 1
        assert process.returncode == 1, said
        assert "Traceback" not in said
        assert "No space left on device" in said
        assert f"advcomp run {file}" in said
    assert failures >= 3
    whole = contest.run(file)
    assert whole.results is not None
    assert tables(small_disk / "out" / "results") == tables(whole.results)


def test_a_second_harness_on_one_run_is_refused_and_the_first_one_finishes(
    contest: Contest,
) -> None:
    """C4."""
    file, out = tournament(contest, SLOW_COPY), contest.folder / "out"
    with advcomp_run(file, out, stdout=subprocess.DEVNULL) as first:
        until(lambda: (out / "run.json").exists())
        with pytest.raises(RunConflict, match="another advcomp process is working on this run"):
            contest.run(file, out=out)
        with pytest.raises(RunConflict, match="another advcomp process is working on this run"):
            rescore(out)
        first.communicate()
    assert first.returncode == 0
    whole = contest.run(file)
    assert whole.results is not None
    assert tables(out / "results") == tables(whole.results)


KEPT = ("result.json", "labels.npy", "images.zip", "log", "run.json", "waves.json", "key")
"""The names of all files that a finished run is made from."""


def flip(content: bytes, draw: random.Random) -> bytes:
    at = draw.randrange(len(content))
    return content[:at] + bytes([content[at] ^ (1 << draw.randrange(8))]) + content[at + 1 :]


def digit(content: bytes, draw: random.Random) -> bytes:
    """Another digit or letter for one: what stays well-formed JSON."""
    places = [i for i, byte in enumerate(content) if chr(byte).isalnum()]
    at = draw.choice(places)
    other = draw.choice([c for c in b"0123456789abcdef" if c != content[at]])
    return content[:at] + bytes([other]) + content[at + 1 :]


def cut(content: bytes, draw: random.Random) -> bytes:
    return content[: draw.randrange(len(content))]


def gone(content: bytes, draw: random.Random) -> None:
    return None


def some_then_all(numbers: int, some: int) -> list[object]:
    """The first few of these numbers; the rest are of the long set."""
    return [pytest.param(n, marks=pytest.mark.long if n >= some else ()) for n in range(numbers)]


DAMAGES: tuple[Callable[[bytes, random.Random], bytes | None], ...] = (flip, digit, cut, gone)


def damaged(finished: Contest, folder: Path, number: int) -> tuple[Path, dict[str, object], str]:
    """A copy of a run with one damaged file and no tables; the tables; the damage."""
    run = shutil.copytree(finished.folder / "runs" / "contest", folder / "run")
    expected = tables(run / "results")
    shutil.rmtree(run / "results")
    draw = random.Random(number)
    name = KEPT[number % len(KEPT)]
    file = draw.choice(sorted(path for path in run.rglob(name) if "entries" not in path.parts))
    how = DAMAGES[number // len(KEPT) % len(DAMAGES)]
    changed = how(file.read_bytes(), draw) if file.stat().st_size else None
    if changed is None:
        file.unlink()
    else:
        file.write_bytes(changed)
    return run, expected, f"{how.__name__} {file.relative_to(run)}"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, require: Callable[[str], None]) -> Contest:
    """A finished run, `runs/contest`, in the view where jobs depend least on the waves."""
    require("bubblewrap")
    folder: Path = tmp_path_factory.mktemp("finished")
    write_greys(folder / "data", 6)
    contest = Contest(folder)
    file = tournament(contest)
    file.write_text(file.read_text().replace('"latin"', '"pooled"'))
    contest.run(file)
    return contest


@pytest.mark.parametrize("number", some_then_all(4 * len(KEPT) * len(DAMAGES), 28))
def test_no_table_is_ever_made_from_damaged_files(
    finished: Contest, tmp_path: Path, number: int
) -> None:
    """C5: `score` says what is wrong, or makes the same table."""
    run, expected, what = damaged(finished, tmp_path, number)
    with contextlib.suppress(RunConflict, InvalidConfig):
        rescore(run)
        assert tables(run / "results") == expected, what


@pytest.mark.parametrize("number", range(len(KEPT) * len(DAMAGES)))
def test_what_is_damaged_runs_again(finished: Contest, tmp_path: Path, number: int) -> None:
    """C5: `run` mends the run; what it cannot make again it names."""
    run, expected, what = damaged(finished, tmp_path, number)
    try:
        finished.run(finished.folder / "contest.toml", out=run)
    except (RunConflict, InvalidConfig) as error:
        unmendable = error
    else:
        assert tables(run / "results") == expected, what
        return
    assert re.search(r"/run/(run\.json|waves\.json|key): expected", str(unmendable)), what


def test_a_changed_copy_of_an_entry_is_not_run(finished: Contest, tmp_path: Path) -> None:
    """C5: a copy that a crash left empty, or that somebody edited, is made again."""
    run = shutil.copytree(finished.folder / "runs" / "contest", tmp_path / "run")
    expected = tables(run / "results")
    for path in run.glob("entries/*/run.sh"):
        path.write_bytes(b"")
    shutil.rmtree(run / "jobs")
    finished.run(finished.folder / "contest.toml", out=run)
    assert tables(run / "results") == expected


def test_a_note_about_staged_files_never_removes_what_is_not_ours(
    finished: Contest, tmp_path: Path
) -> None:
    """A run folder may come from anybody, or be damaged."""
    run = shutil.copytree(finished.folder / "runs" / "contest", tmp_path / "run")
    (tmp_path / "precious" / "deep").mkdir(parents=True)
    for note in (str(tmp_path / "precious").encode(), b"\xff\0", b""):
        (run / "staging").write_bytes(note)
        finished.run(finished.folder / "contest.toml", out=run)
        assert (tmp_path / "precious" / "deep").is_dir()
        assert not (run / "staging").exists()


def clock_calls(file: Path) -> set[str]:
    """What a module asks of the clock: `time.monotonic`, `datetime.now` and the like."""
    names = (
        f"{node.value.id}.{node.attr}"
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    )
    return {n for n in names if n.startswith(("time.", "datetime.", "date."))}


MAY_TELL_THE_DATE = {
    *("doctor/advisories.py", "doctor/checks.py"),
    *("store/run_log.py", "store/began.py"),
}
"""The doctor may ask how old what it knows is; a log tells the time, and a report its day."""


def test_the_wall_clock_is_never_asked() -> None:
    """C7: so it may jump. Deadlines, measured times and waits go by the monotonic clock."""
    packages = [Path(advcomp.__file__).parent / name for name in ("sandbox", "tournament")]
    asked = {
        call
        for package in packages
        for file in package.rglob("*.py")
        if file.relative_to(package).as_posix() not in MAY_TELL_THE_DATE
        for call in clock_calls(file)
    }
    assert asked == {"time.monotonic", "time.sleep"}
