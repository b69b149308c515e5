"""`advcomp run` as a process of its own: progress, signals, exit codes."""

import os
import pty
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.contest import COPY, Contest
from support.processes import command_lines

CONSTANT = 'for f in "$1"/*.png; do echo "${f##*/},3"; done > "$2"'
LONG, SECOND = "sleep 613.25", "sleep 1.0625"
PATIENCE_S = 120

COUNTING_BWRAP = """\
#!/bin/sh
# Fails from call number {limit} on; calls are counted in the file beside it.
count="$(dirname "$0")/count"
calls=$(($(cat "$count") + 1))
echo $calls > "$count"
[ $calls -lt {limit} ] || exit 1
exec {bwrap} "$@"
"""


class Process:
    """`advcomp` in the contest's folder, its standard error line by line."""

    def __init__(self, contest: Contest, *arguments: str) -> None:
        self.child = subprocess.Popen(
            [sys.executable, "-m", "advcomp.cli", *arguments],
            cwd=contest.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.said: list[str] = []

    def wait_for(self, pattern: str) -> str:
        """Read standard error until a line matches; that line."""
        assert self.child.stderr is not None
        for line in self.child.stderr:
            self.said.append(line)
            if re.search(pattern, line):
                return line
        pytest.fail(f"never said {pattern!r}: {self.said}")

    def end(self) -> int:
        out, err = self.child.communicate(timeout=PATIENCE_S)
        self.said.append(err)
        self.out, self.err = out, "".join(self.said)
        return self.child.returncode


@pytest.fixture
def quick(contest: Contest) -> Path:
    """Two attacks and a defense that take no time; five jobs of attacks and defenses."""
    attacks = [contest.entry("one", COPY), contest.entry("two", COPY)]
    return contest.file(
        attacks, [contest.entry("three", CONSTANT, "defense")], max_epsilons=[8], view="pooled"
    )


def until(condition: bool, deadline: float) -> bool:
    assert time.monotonic() < deadline, "waited in vain"
    return condition


def wait_until_running(command: str, *, running: bool = True) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not until((command in command_lines()) == running, deadline):
        select.select([], [], [], 0.05)


def resume_line(text: str) -> list[str]:
    (line,) = re.findall("to go on: advcomp (.*)", text)
    return shlex.split(line)


def test_without_a_terminal_there_is_a_line_for_every_job(contest: Contest, quick: Path) -> None:
    process = Process(contest, "run", quick.name)
    assert process.end() == 0
    lines = process.err.splitlines()
    assert lines[0] == "attacks: 2 jobs to run, 0 stored"
    assert lines[3] == "defenses: 1 job to run, 0 stored"
    for line, pattern in zip(
        (*lines[1:3], lines[4]),
        (r"\[1/2\] (one|two)-eps8-0", r"\[2/2\] (one|two)-eps8-0", r"\[1/1\] three-wave1-0"),
        strict=True,
    ):
        assert re.fullmatch(rf"{pattern} OK \d+\.\d+ s", line)
    assert "results: runs/contest/results\n" in process.out
    assert "unofficial (pooled view" in process.out
    assert "\x1b" not in process.out + process.err


def test_failures_are_summed_up_with_the_command_that_shows_why(contest: Contest) -> None:
    file = contest.file(
        [contest.entry("copy", COPY), contest.entry("crash", "exit 7")],
        [contest.entry("three", CONSTANT, "defense")],
        max_epsilons=[8],
    )
    process = Process(contest, "run", file.name)
    assert process.end() == 0
    assert re.search(r"crash-eps8-0 CRASHED \d.* s: exit code 7; .*missing 6 of 6", process.err)
    assert "1 entry not OK:\n  crash: CRASHED\n" in process.out
    assert "advcomp logs runs/contest NAME\n" in process.out


def test_a_terminal_gets_a_bar_with_the_time_left(contest: Contest, quick: Path) -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "advcomp.cli", "run", quick.name],
        cwd=contest.folder,
        stdout=subprocess.DEVNULL,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
    ) as child:
        os.close(theirs)
        shown = b""
        while select.select([ours], [], [], PATIENCE_S)[0]:
            try:
                shown += os.read(ours, 65536)
            except OSError:  # how a terminal says that its other end is closed
                break
        assert child.wait() == 0
    os.close(ours)
    text = shown.decode()
    for expected in ("time left: unknown yet", "attacks", "2/2", "defenses", "1/1", "took "):
        assert expected in text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_finishes_the_jobs_that_run_and_prints_the_line_that_resumes(
    contest: Contest, number: signal.Signals
) -> None:
    """Jobs take a second each, one at a time; the signal comes while the second one runs."""
    attacks = [contest.entry(name, f"{SECOND}; {COPY}") for name in ("one", "two", "three")]
    file = contest.file(
        attacks, [contest.entry("four", CONSTANT, "defense")], max_epsilons=[8], view="pooled"
    )
    process = Process(contest, "run", file.name, "--jobs", "1")
    process.wait_for(r"^\[1/3\]")
    wait_until_running(SECOND)
    process.child.send_signal(number)
    assert process.end() == 130
    assert "advcomp: stopping: the jobs that run are being finished" in process.err
    assert "[2/3]" in process.err
    assert "[3/3]" not in process.err
    arguments = resume_line(process.err)
    assert arguments == ["run", "contest.toml", "--out", "runs/contest", "--jobs", "1"]
    again = Process(contest, *arguments)
    assert again.end() == 0
    assert "attacks: 1 job to run, 2 stored" in again.err


def test_a_second_signal_leaves_at_once_and_nothing_goes_on(contest: Contest) -> None:
    file = contest.file(
        [contest.entry("long", LONG)],
        [contest.entry("three", CONSTANT, "defense")],
        max_epsilons=[8],
    )
    process = Process(contest, "run", file.name)
    wait_until_running(LONG)
    process.child.send_signal(signal.SIGINT)
    process.wait_for("advcomp: stopping")
    process.child.send_signal(signal.SIGINT)
    assert process.end() == 130
    assert resume_line(process.err) == ["run", "contest.toml", "--out", "runs/contest"]
    wait_until_running(LONG, running=False)


def test_failures_of_the_sandbox_exit_3_and_the_next_run_repairs_them(
    contest: Contest, quick: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """bubblewrap fails at its last start, that of the defense's job."""
    programs = tmp_path / "programs"
    programs.mkdir()
    bwrap = shutil.which("bwrap")
    assert bwrap is not None

    def run(limit: int, out: str) -> Process:
        (programs / "count").write_text("0")
        (programs / "bwrap").write_text(COUNTING_BWRAP.format(limit=limit, bwrap=bwrap))
        (programs / "bwrap").chmod(0o755)
        process = Process(contest, "run", quick.name, "--jobs", "1", "--out", out)
        process.end()
        return process

    before = os.environ["PATH"]
    monkeypatch.setenv("PATH", f"{programs}:{before}")
    whole = run(10**6, "runs/whole")
    assert whole.child.returncode == 0
    broken = run(int((programs / "count").read_text()), "runs/broken")
    assert broken.child.returncode == 3
    assert "three-wave1-0 INFRA" in broken.err
    assert "advcomp: the results are provisional" in broken.err
    assert "three: INFRA" in broken.out
    monkeypatch.setenv("PATH", before)
    repaired = Process(contest, *resume_again(broken.err))
    assert repaired.end() == 0
    assert "defenses: 1 job to run, 0 stored" in repaired.err


def resume_again(text: str) -> list[str]:
    (line,) = re.findall("to try them again: advcomp (.*)", text)
    return shlex.split(line)


def test_no_room_for_results_is_told_with_the_line_that_resumes(contest: Contest) -> None:
    """In a file system of 64 KiB."""
    big = 'for i in 1 2 3 4 5 6 7 8; do head -c 60000 /dev/urandom | base64; done; cp "$1"/* "$2"'
    file = contest.file(
        [contest.entry("big", big)],
        [contest.entry("three", CONSTANT, "defense")],
        max_epsilons=[8],
    )
    run = contest.folder / "small"
    run.mkdir()
    walls = ["bwrap", "--dev-bind", "/", "/", "--cap-add", "ALL"]
    done = subprocess.run(
        [
            *(*walls, "--size", str(1 << 16), "--tmpfs", str(run)),
            *(sys.executable, "-m", "advcomp.cli", "run", str(file), "--out", str(run)),
        ],
        cwd=contest.folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith(
        f"advcomp: {run}: expected room for the entries and results; got: No space left"
    )
    assert last.endswith("advcomp run contest.toml --out small")
    assert "Traceback" not in done.stderr


def test_rerun_runs_one_submission_again(contest: Contest, quick: Path) -> None:
    first = Process(contest, "run", quick.name)
    assert first.end() == 0
    again = Process(contest, "rerun", "runs/contest", "--submission", "two")
    assert again.end() == 0
    lines = again.err.splitlines()
    assert lines[:2] == ["two: took out 1 result", "attacks: 1 job to run, 1 stored"]
    assert re.match(r"\[1/1\] two-eps8-0 OK", lines[2])
    assert lines[3] == "defenses: 0 jobs to run, 1 stored"
