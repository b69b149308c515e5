"""What stands in a run's folder in place of our own files makes no command wait for ever."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import pytest
from support.command import advcomp
from support.run_folder import RunFolder

from advcomp.tournament.entry import known
from advcomp.tournament.outcome.under_way import load_under_way
from advcomp.tournament.store.finished_run import FILE_NAME as FINISHED
from advcomp.tournament.store.finished_run import found_finished
from advcomp.tournament.store.job_results import IMAGES, LABELS, LOG, RESULT, locked
from advcomp.tournament.store.run_log import referee_log

PATIENCE_S = 60
REMEDY = "take away the folder that is there, or name another place"


def fifo(path: Path) -> None:
    os.mkfifo(path)


def endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.fixture(autouse=True)
def nothing_waits() -> Iterator[None]:
    def give_up(_signal: int, _frame: FrameType | None) -> None:
        raise AssertionError(f"it still waits after {PATIENCE_S} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(PATIENCE_S)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(params=[fifo, endless])
def put(request: pytest.FixtureRequest) -> Callable[[Path], None]:
    """Puts something in the place of a file."""

    def replaced(path: Path) -> None:
        path.unlink(missing_ok=True)
        request.param(path)

    return replaced


@pytest.mark.parametrize("name", [RESULT, LABELS, LOG])
def test_a_job_with_a_file_that_is_none_runs_again(
    tmp_path: Path, put: Callable[[Path], None], name: str
) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.attack("fgsm", 8)
    folder.plan()
    folder.defend("right", 1)
    (job,) = (job.parent for job in (folder.run / "jobs").glob(f"*/{LABELS}"))
    put(job / name)
    assert folder.store.load(job.name) is None
    ((broken, whole),) = (each for each in folder.store.verify() if each[0] == job.name)
    assert (broken, whole) == (job.name, False)


def test_images_that_are_no_file_are_refused(tmp_path: Path, put: Callable[[Path], None]) -> None:
    folder = RunFolder(tmp_path / "run")
    (folder.run / "jobs" / "job").mkdir(parents=True)
    put(folder.run / "jobs" / "job" / IMAGES)
    with pytest.raises(OSError, match="expected a file on a disk"):
        folder.store.images("job")


@pytest.mark.parametrize("place", ["job", "job/result.json"])
@pytest.mark.parametrize("make", [fifo, endless, Path.mkdir, Path.touch])
def test_a_result_takes_the_place_of_whatever_is_there(
    tmp_path: Path, place: str, make: Callable[[Path], None]
) -> None:
    folder = RunFolder(tmp_path / "run")
    foreign = folder.run / "jobs" / place
    foreign.parent.mkdir(parents=True, exist_ok=True)
    make(foreign)
    folder.store.delete("job")
    assert not (folder.run / "jobs" / "job").is_symlink()
    assert not (folder.run / "jobs" / "job").exists()


def test_what_is_kept_for_speed_counts_as_absent(
    tmp_path: Path, put: Callable[[Path], None]
) -> None:
    folder = RunFolder(tmp_path / "run")
    for name in (FINISHED, "entries.json", "under_way.json"):
        put(folder.run / name)
    assert found_finished(folder.run, folder.state) is None
    assert known._load(folder.run / "entries.json") == {}
    assert load_under_way(folder.run) == []


def test_the_lock_and_the_log_must_be_files(tmp_path: Path, put: Callable[[Path], None]) -> None:
    for name, opened in (("lock", locked), ("referee.log", referee_log)):
        put(tmp_path / name)
        told = pytest.raises(OSError, match=r"expected a file on a disk; got a .*; remove it")
        with told, opened(tmp_path):
            pass


def test_what_is_named_for_a_page_is_followed_or_refused_and_never_replaced(
    tmp_path: Path, put: Callable[[Path], None]
) -> None:
    folder = RunFolder(tmp_path / "run")
    out = tmp_path / "out"
    put(out)
    before = out.lstat()
    result = advcomp("watch", folder.run, "--out", out)
    assert result.exit_code == 1
    assert result.output.startswith(f"advcomp: {out}: expected a file on a disk; got a ")
    assert out.lstat() == before
    link = tmp_path / "link"
    link.symlink_to("page.html")
    assert advcomp("watch", folder.run, "--out", link).exit_code == 0
    assert link.is_symlink()
    assert (tmp_path / "page.html").is_file()


def test_a_folder_in_place_of_a_file_that_is_written_is_named(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.play()
    (folder.run / FINISHED).mkdir()
    result = advcomp("score", folder.run)
    assert result.exit_code == 1
    assert result.output == f"advcomp: {folder.run / FINISHED}: Is a directory; {REMEDY}\n"


DAMAGED = (b"", b"\xff{", b"[1]", b'{"leaderboard": [{"place": 1}]}', b"[" * 100_000)


@pytest.mark.parametrize("name", ["results/results.json", "run.json", "waves.json", "audit.json"])
def test_a_damaged_file_is_named_in_a_line(tmp_path: Path, name: str) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.play()
    command = {"audit.json": "report", "waves.json": "score"}.get(name, "leaderboard")
    for content in DAMAGED:
        (folder.run / name).write_bytes(content)
        result = advcomp(command, folder.run)
        assert result.exit_code == 1
        (said,) = result.output.splitlines()
        assert said.startswith(f"advcomp: {folder.run / name}: expected ")
        assert "; got " in said


def test_commands_say_which_file_it_is(tmp_path: Path, put: Callable[[Path], None]) -> None:
    folder = RunFolder(tmp_path / "run")
    put(folder.run / "lock")
    result = advcomp("score", folder.run)
    assert result.exit_code == 1
    (said,) = result.output.splitlines()
    assert said.startswith(f"advcomp: {folder.run / 'lock'}: expected a file on a disk; got a ")
    put(folder.run / "run.json")
    (said,) = advcomp("status", folder.run).output.splitlines()
    assert "expected the state of a run of this version; got a " in said
    assert "Errno" not in said
