"""What a run takes while no job of it is at work, as its log tells."""

from pathlib import Path

import pytest

from advcomp.tournament.outcome.around import Around, around
from advcomp.tournament.store.run_log import FILE_NAME

RUN = (
    (0, "9 entries to read"),
    (10, "advcomp 0.1.0: /x/digits.toml on 6 images, sandbox bubblewrap"),
    (20, "attacks: 2 jobs to run, 0 stored"),
    (30, "a-eps8-0: OK in 8.0 s"),  # from 22 on
    (34, "b-eps8-0: TIMED_OUT in 10.0 s"),  # from 24 on, beside the first
    (34, "defenses: 1 jobs to run, 0 stored"),
    (46, "d-wave1-0: OK in 9.0 s"),  # from 37 on
    (50, "results written"),
)


def write(run: Path, *lines: tuple[int, str]) -> None:
    with (run / FILE_NAME).open("a", encoding="utf-8") as log:
        for second, message in lines:
            head = f"2026-11-29T10:00:{second:02}.000Z INFO MainThread advcomp.tournament.runner"
            print(f"{head}: {message}", file=log)


def test_what_comes_before_between_and_after_jobs_is_added_up(tmp_path: Path) -> None:
    write(tmp_path, *RUN)
    found = around(tmp_path)
    assert found == Around(ends_s=22 + 4, job_s=3 / 3)
    assert found.of(10) == 36
    assert found.of(0) == 0


@pytest.mark.parametrize(
    "later",
    [
        ((51, "9 entries to read"), (52, "attacks: 0 jobs to run, 3 stored")),
        ((51, "9 entries to read"), (59, "a-eps8-0: OK in 1.0 s"), (59, "stopped before the end")),
        ((51, "9 entries to read"), (59, "results written")),
        ((51, "e: OK in 0.5 s, it says"),),
    ],
)
def test_a_start_that_did_no_job_or_wrote_nothing_tells_nothing(
    tmp_path: Path, later: tuple[tuple[int, str], ...]
) -> None:
    write(tmp_path, *RUN, *later)
    assert around(tmp_path) == Around(ends_s=26, job_s=1)


def test_without_a_whole_run_nothing_is_known(tmp_path: Path) -> None:
    assert around(tmp_path) is None
    write(tmp_path, *RUN[:-1])
    assert around(tmp_path) is None
