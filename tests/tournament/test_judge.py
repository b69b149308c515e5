"""Verdicts: the first that applies, from what was measured."""

from typing import Any

import pytest

from advcomp.rules.verdict import Verdict
from advcomp.sandbox.base import RunResult
from advcomp.tournament.job.judge import verdict_on

KILLED: dict[str, Any] = {"exit_code": None, "signal": 9}


def result(**changes: Any) -> RunResult:
    values: dict[str, Any] = {"exit_code": 0, "signal": None, "wall_s": 1, "max_rss_bytes": 1}
    return RunResult(**{**values, **changes})


@pytest.mark.parametrize(
    ("changes", "valid", "verdict"),
    [
        ({}, 10, Verdict.OK),
        ({}, 9, Verdict.PARTIAL),
        ({}, 0, Verdict.BAD_OUTPUT),
        ({"exit_code": 3}, 10, Verdict.CRASHED),
        (KILLED, 10, Verdict.CRASHED),
        ({"exit_code": 3}, 0, Verdict.CRASHED),
        ({"output_full": True, "exit_code": 1}, 5, Verdict.OUTPUT_LIMIT),
        ({"disk_full": True, "output_full": True}, 5, Verdict.DISK_LIMIT),
        ({"timed_out": True, "disk_full": True, **KILLED}, 5, Verdict.TIMED_OUT),
        ({"oom_killed": True, "timed_out": True, **KILLED}, 5, Verdict.OUT_OF_MEMORY),
        ({"oom_killed": True, **KILLED}, 10, Verdict.OUT_OF_MEMORY),
        ({"oom_killed": True}, 9, Verdict.OUT_OF_MEMORY),
        ({"oom_killed": True}, 10, Verdict.OK),
        ({"log": b"OUT_OF_MEMORY TIMED_OUT"}, 10, Verdict.OK),
    ],
)
def test_the_first_verdict_that_applies(
    changes: dict[str, Any], valid: int, verdict: Verdict
) -> None:
    assert verdict_on(result(**changes), images=10, valid=valid) is verdict


def test_an_entrys_verdict_is_the_first_of_its_jobs() -> None:
    assert Verdict.first([Verdict.OK, Verdict.CRASHED, Verdict.TIMED_OUT]) is Verdict.TIMED_OUT
    assert Verdict.first([]) is Verdict.OK
