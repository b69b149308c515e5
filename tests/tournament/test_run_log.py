"""`referee.log` and `advcomp -v`: what was done, without a secret."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.added_package import adding
from support.contest import BRIGHTNESS, COPY, Contest

from advcomp.tournament.job.opaque import open_key
from advcomp.tournament.job.plan import attack_jobs
from advcomp.tournament.store.run_log import FILE_BYTES, FILE_NAME, OLD_FILES, referee_log
from advcomp.tournament.store.state import KEY_FILE, load_state

logger = logging.getLogger("advcomp.of_a_test")


def test_it_tells_what_was_run_and_nothing_secret(contest: Contest) -> None:
    attack, defense = contest.entry("copy", COPY), contest.entry("bright", BRIGHTNESS, "defense")
    run = contest.run(contest.file([attack], [defense])).run
    log = (run / FILE_NAME).read_text(encoding="utf-8")
    assert "INFO MainThread advcomp.tournament.runner: attacks: " in log
    assert " advcomp.tournament.runner: results written" in log
    state, key = load_state(run), open_key(run / KEY_FILE)
    for job in attack_jobs(state):
        assert f"{job.name}: OK in " in log
        assert not any(key.name(job.id, image) in log for image in job.images)
    assert (run / KEY_FILE).read_bytes().hex() not in log
    assert (run / FILE_NAME).stat().st_mode & 0o777 == 0o600


BROKEN = """
from advcomp.errors import SandboxError
from advcomp.sandbox.probe import open_backend

class Broken:
    def __init__(self, inner):
        self.inner = inner
    def __getattr__(self, name):
        return getattr(self.inner, name)
    def run(self, spec):
        if spec.code is not None:
            raise SandboxError("the wall fell down")
        return self.inner.run(spec)

def open_it(hidden):
    return Broken(open_backend("bubblewrap", hidden))
"""


def test_a_failure_of_the_sandbox_leaves_where_it_happened(
    contest: Contest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adding(tmp_path, monkeypatch)("[advcomp.sandboxes]\nbroken = added1:open_it\n", BROKEN)
    attack, defense = contest.entry("copy", COPY), contest.entry("bright", BRIGHTNESS, "defense")
    file = contest.file([attack], [defense], max_epsilons=[8])
    finished = contest.run(file, backend="broken")
    assert finished.provisional
    log = (finished.run / FILE_NAME).read_text(encoding="utf-8")
    assert ": try 3 of 3: the sandbox failed\nTraceback (most recent call last):" in log
    assert "added1.py" in log
    assert "SandboxError: the wall fell down" in log


def test_it_is_rotated_and_stays_private(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        with referee_log(tmp_path):
            for _ in range((OLD_FILES + 2) * FILE_BYTES // 1000):
                logger.info("x" * 1000)
    finally:
        os.umask(old)
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == [FILE_NAME, *(f"{FILE_NAME}.{n}" for n in (1, 2, 3))]
    assert all(file.stat().st_size <= FILE_BYTES for file in files)
    assert all(file.stat().st_mode & 0o777 == 0o600 for file in files)


def test_a_record_is_one_line_whatever_a_stranger_wrote(tmp_path: Path) -> None:
    with referee_log(tmp_path):
        logger.info("entry %s", "a\n2017 INFO all is well\x1b[2J")
    (line,) = (tmp_path / FILE_NAME).read_text().splitlines()
    assert line.endswith(r"entry a\n2017 INFO all is well\x1b[2J")


def test_nothing_is_written_after_the_run(tmp_path: Path) -> None:
    with referee_log(tmp_path):
        logger.info("during")
    logger.warning("after")
    assert "after" not in (tmp_path / FILE_NAME).read_text()


def test_verbose_shows_it_on_standard_error(contest: Contest) -> None:
    attack, defense = contest.entry("copy", COPY), contest.entry("bright", BRIGHTNESS, "defense")
    file = contest.file([attack], [defense])
    out = contest.run(file).run
    words = [sys.executable, "-m", "advcomp", "-v", "run", str(file), "--out", str(out)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True)
    assert "INFO advcomp.tournament.runner: attacks: 0 jobs to run, 2 stored\n" in done.stderr
    assert "INFO" not in done.stdout
