"""What a run inherits does not change its results: it is made fit, or refused at the start.

Each case is started as a shell, a service or a batch system would start the command.
"""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.contest import BRIGHTNESS, COPY, Contest, write_greys

from advcomp.errors import SandboxUnavailable
from advcomp.sandbox.base import Sandbox
from advcomp.sandbox.box.readable import require_readable
from advcomp.sandbox.box.shown import HostView
from advcomp.sandbox.limits.harness_limits import FILES, FILES_OF_A_BOX

IGNORING = """
import os, signal, sys
for number in (signal.SIGCHLD, signal.SIGPIPE, signal.SIGHUP, signal.SIGTERM, signal.SIGXFSZ):
    signal.signal(number, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD, signal.SIGALRM, signal.SIGUSR1})
os.execv(sys.argv[1], sys.argv[1:])
"""
IGNORED = """\
#!/usr/bin/env python3
import shutil, signal, sys
status = dict(line.split(":\\t") for line in open("/proc/self/status").read().splitlines())
ignored = int(status["SigIgn"], 16), int(status["SigBlk"], 16)
assert ignored == (1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1, 0), ignored  # Python's own
shutil.copytree(sys.argv[1], sys.argv[2], dirs_exist_ok=True)
"""
"""An attack that fails where it is started with a signal ignored or blocked."""
HARMLESS = {
    "umask of a group": "umask 027; exec {run}",
    "umask of nobody else": "umask 077; exec {run}",
    "no umask": "umask 000; exec {run}",
    "no descriptors 0 to 2": "exec {run} 0<&- 1>&- 2>&-",
    "no folders": "HOME=/nonexistent TMPDIR=/nonexistent exec {run}",
    "no HOME and no locale": "unset HOME LANG; LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0 "
    "exec {run}",
    "signals ignored and blocked": "exec {python} -c '{ignoring}' {run}",
    "no core files": "ulimit -Hc 0; exec {run}",
    "soft limits": "ulimit -Sn 24; ulimit -Ss 4000; ulimit -Sf 100; ulimit -St 3; exec {run}",
    "as many files as needed": f"ulimit -n {FILES + FILES_OF_A_BOX}; exec {{run}} --jobs 1",
}
TOO_LOW = {
    "ulimit -n 16": "ulimit -n (open files): expected at least 128, got 16",
    "ulimit -n 24": "ulimit -n (open files): expected at least 128, got 24",
    "ulimit -t 1000": "ulimit -t (CPU seconds): expected no limit, got 1000",
    "ulimit -v 90000000": "ulimit -v (address space): expected no limit, got 92160000000",
    "ulimit -f 1000": "ulimit -f (file size): expected at least 8589934592, got",
    "ulimit -u 100": "ulimit -u (processes): expected at least 512, got 100",
}


def start(contest: Contest, file: Path, line: str, out: str) -> subprocess.CompletedProcess[str]:
    command = Path(sys.executable).with_name("advcomp")
    run = f"{command} run {file} --out {contest.folder / out}"
    return subprocess.run(
        ["bash", "-c", line.format(run=run, python=sys.executable, ignoring=IGNORING)],
        capture_output=True,
        text=True,
        check=False,
        cwd=contest.folder,
    )


def outcome(contest: Contest, out: str) -> list[dict[str, str]]:
    """What a run's verdicts say, but for measured things and what the key decides."""
    text = (contest.folder / out / "results" / "verdicts.csv").read_text()
    kept = ("job", "submission", "verdict", "exit_code", "signal", "note")
    rows = csv.DictReader(text.splitlines())
    return sorted(({k: row[k] for k in kept} for row in rows), key=lambda row: row["job"])


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> tuple[Contest, Path]:
    folder = tmp_path_factory.mktemp("contest")
    write_greys(folder / "data", 3)
    contest = Contest(folder)
    attacks = [contest.entry("copy", COPY), contest.entry("ignored", IGNORED)]
    defenses = [contest.entry("bright", BRIGHTNESS, "defense")]
    file = contest.file(attacks, defenses, max_epsilons=[8])
    done = start(contest, file, "umask 022; exec {run}", "expected")
    log = contest.folder / "expected" / "referee.log"
    told = done.stdout + done.stderr + (log.read_text() if log.exists() else "")
    assert done.returncode == 0, told
    assert {row["verdict"] for row in outcome(contest, "expected")} == {"OK"}, told
    return contest, file


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("name", HARMLESS)
def test_results_are_the_same(played: tuple[Contest, Path], name: str) -> None:
    contest, file = played
    out = name.replace(" ", "-")
    done = start(contest, file, HARMLESS[name], out)
    assert done.returncode == 0, done.stderr
    assert outcome(contest, out) == outcome(contest, "expected")


def test_a_run_folder_is_as_open_as_the_umask_says(tmp_path: Path, sandbox: Sandbox) -> None:
    write_greys(tmp_path / "data", 1)
    contest = Contest(tmp_path)
    file = contest.file([contest.entry("copy", COPY)], [], max_epsilons=[8])
    users = os.umask(0o027)
    try:
        contest.run(file, out=tmp_path / "made" / "run")
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(users)
    assert (tmp_path / "made" / "run").stat().st_mode & 0o777 == 0o750


@pytest.mark.long
@pytest.mark.parametrize("limit", TOO_LOW)
def test_a_limit_that_is_too_low_is_named_before_anything_runs(
    played: tuple[Contest, Path], limit: str
) -> None:
    contest, file = played
    done = start(contest, file, f"{limit}; exec {{run}} --jobs 1", "refused")
    assert TOO_LOW[limit] in done.stderr
    assert done.returncode == 4
    assert not (contest.folder / "refused").exists()


@pytest.mark.long
def test_more_boxes_need_more_files(played: tuple[Contest, Path]) -> None:
    contest, file = played
    done = start(contest, file, "ulimit -n 500; exec {run} --jobs 10", "refused")
    assert f"at least {FILES + 10 * FILES_OF_A_BOX}, got 500" in done.stderr
    assert done.returncode == 4


@pytest.mark.long
def test_a_folder_that_is_gone_is_named(played: tuple[Contest, Path]) -> None:
    contest, file = played
    done = start(contest, file, "mkdir gone; cd gone; rmdir ../gone; exec {run}", "refused")
    assert done.stderr.startswith("advcomp: the current folder was removed")
    assert done.returncode == 1


def view_of(*trees: Path) -> HostView:
    return HostView(
        links={}, trees={str(tree): tree for tree in trees}, covered=(), program_path=""
    )


def test_an_installation_for_its_owner_alone_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix = tmp_path / "venv"
    packages = prefix / "lib"
    (packages / "numpy").mkdir(parents=True)
    (packages / "numpy" / "__init__.py").touch(0o644)
    (packages / "six.py").touch(0o644)
    (packages / "__pycache__").mkdir(0o700)
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(packages))
    require_readable(view_of(prefix))
    for place, mode in ((packages / "six.py", 0o600), (packages / "numpy", 0o750)):
        before = place.stat().st_mode
        place.chmod(mode)
        with pytest.raises(SandboxUnavailable) as caught:
            require_readable(view_of(prefix))
        assert caught.value.problems[0].startswith(f"{place}: expected what everybody can read")
        assert caught.value.problems[1] == f"remedy: chmod -R go+rX {prefix}"
        assert caught.value.exit_code == 4
        place.chmod(before)
    prefix.chmod(0o700)
    with pytest.raises(SandboxUnavailable, match=f"^{prefix}: expected"):
        require_readable(view_of(prefix))
