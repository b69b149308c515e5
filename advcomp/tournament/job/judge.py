"""The verdict of a job, from what was measured and read; never from what a submission printed."""

from advcomp.rules.verdict import Verdict
from advcomp.sandbox.base import RunResult


def verdict_on(result: RunResult, *, images: int, valid: int) -> Verdict:
    """The first verdict that applies (rulebook, "Verdicts").

    A child's death for lack of memory counts only where it did harm: where the program exited
    with 0 and everything is there, it is a note.
    """
    exited_well = result.exit_code == 0
    if result.oom_killed and not (exited_well and valid == images):
        return Verdict.OUT_OF_MEMORY
    if result.timed_out:
        return Verdict.TIMED_OUT
    if result.disk_full:
        return Verdict.DISK_LIMIT
    if result.output_full:
        return Verdict.OUTPUT_LIMIT
    if not exited_well:
        return Verdict.CRASHED
    if valid == 0:
        return Verdict.BAD_OUTPUT
    if valid < images:
        return Verdict.PARTIAL
    return Verdict.OK
