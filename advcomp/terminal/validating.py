"""`advcomp validate`: what is wrong with an entry, and what a trial run of it took."""

from collections.abc import Iterator

from advcomp.rules.entry_point import first_program
from advcomp.rules.printable import printable
from advcomp.rules.verdict import Verdict
from advcomp.terminal.text import count, duration, one_line, size
from advcomp.tournament.competitor.hints import hints
from advcomp.tournament.competitor.validate import Smoke, Validator, opened_validator
from advcomp.tournament.outcome.disclosure import tail
from advcomp.tournament.outcome.ending import ending
from advcomp.tournament.store.job_results import JobResult
from advcomp.tournament.store.state import EntryState

VALID, INVALID = 0, 1


def validate_in_terminal(
    target: str,
    backend: str | None,
    images: int,
    *,
    size: tuple[int, int] | None = None,
    trusting: bool = False,
) -> int:
    """Validate what `target` names, and say all that is found; returns the exit code.

    Raises:
        AdvcompError: See `opened_validator`.
    """
    with opened_validator(target, backend, images, size=size, trusting=trusting) as validator:
        verdicts = [
            validate_entry(validator, validator.take(source)) for source in validator.sources
        ]
    return VALID if all(verdicts) else INVALID


def validate_entry(validator: Validator, entry: EntryState) -> bool:
    """Try an entry that was taken in, and say all that is found; whether it is valid.

    Raises:
        SandboxError: The sandbox failed, not the entry.
    """
    if entry.rejected:
        print_rejected(entry)
        return False
    print(f"{entry.name} ({entry.type}): {entry.source}")
    for note in entry.notes:
        print(f"  note: {one_line(note)}")
    interpreter = first_program(validator.copy_of(entry) / entry.entry_point)
    failed = 0
    many = []
    for smoke in validator.smoke(entry):
        failed += smoke.result.verdict is not Verdict.OK
        many.append(smoke)
        for line in _smoke_lines(smoke, interpreter):
            print(f"  {line}", flush=True)
    if not failed and any(_may_be_slow(smoke) for smoke in many):
        for smoke, one in zip(many, validator.smoke(entry, one_image=True), strict=True):
            print(f"  {_projected(smoke, one)}", flush=True)
    print(
        f"{entry.name}: INVALID: {count(failed, 'run')} not OK"
        if failed
        else f"{entry.name}: valid"
    )
    return not failed


def print_rejected(entry: EntryState) -> None:
    """Say all that is wrong with an entry that breaks the contract."""
    print(f"{entry.name}: {entry.source}")
    for problem in entry.notes:
        print(f"  problem: {one_line(problem)}")
    print(f"{entry.name}: INVALID: {count(len(entry.notes), 'problem')}")


def failure_lines(result: JobResult, log: bytes, interpreter: str | None) -> Iterator[str]:
    """Why a run is not OK: how it ended, the end of its log, and guesses at what it lacked.

    Args:
        log: What it printed, raw bytes.
        interpreter: The program that the entry point's first line names, if it names one.
    """
    yield from (f"  {one_line(note)}" for note in (*ending(result), *result.notes))
    lines = printable(tail(log)).splitlines()
    yield "  end of its log:" if lines else "  it printed nothing"
    yield from (f"    {line}" for line in lines)
    yield from (f"  hint: {hint}" for hint in hints(log, interpreter))


def _may_be_slow(smoke: Smoke) -> bool:
    """Whether 100 images would take too long if start-up, too, were done for each image."""
    result = smoke.result
    return result.images > 1 and (
        100 * result.wall_seconds / result.images > smoke.per_100_images_s
    )


def _projected(many: Smoke, one: Smoke) -> str:
    """What 100 images will take, by a run on several and a run on one."""
    images, wall = many.result.images, many.result.wall_seconds
    an_image = max(0.0, wall - one.result.wall_seconds) / (images - 1)
    start = max(0.0, one.result.wall_seconds - an_image)
    projected, most = start + 100 * an_image, many.per_100_images_s
    budget = many.result.max_epsilon
    told = (
        f"{'' if budget is None else f'at epsilon {budget}: '}start {duration(start)}, then "
        f"{duration(an_image)} an image: 100 images take about {duration(projected)} of at most "
        f"{duration(most)}"
    )
    return f"{told}: too long" if projected > most else told


def _smoke_lines(smoke: Smoke, interpreter: str | None) -> Iterator[str]:
    result, limits = smoke.result, smoke.limits
    budget = "" if result.max_epsilon is None else f" at epsilon {result.max_epsilon}"
    yield f"trial run{budget}, {count(result.images, 'drawn image')}: {result.verdict}"
    yield (
        f"  time {duration(result.wall_seconds)} of at most {duration(limits.wall_s)}, start "
        f"included; 100 images may take {duration(smoke.per_100_images_s)}"
    )
    if result.cpu_seconds is not None:
        yield f"  processor time {duration(result.cpu_seconds)}"
    if result.max_rss_bytes is not None:
        yield f"  memory {size(result.max_rss_bytes)} of at most {size(limits.memory_bytes)}"
    what = "images" if result.stage == "attack" else "labels"
    yield f"  {result.valid} of {result.images} {what} valid"
    if result.projected_images:
        yield f"  {result.projected_images} over the budget: the referee clips them to it"
    if result.verdict is not Verdict.OK:
        yield from failure_lines(result, smoke.log, interpreter)
