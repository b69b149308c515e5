"""How long programs take to start in each sandbox, next to a bare process.

    python benchmarks/boxes.py [--rounds N] [--sandbox NAME]... [--program NAME]...

What is timed is `Sandbox.run` as a whole: making the box, the program, clearing everything away.
All are started in turn, round by round, and compared by their medians, so that ratios hold on a
busy machine too. Containers use the image `advcomp/runtime`; a program that it lacks is left out.
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial

import click

from advcomp.errors import SandboxError, SandboxUnavailable
from advcomp.sandbox.base import Limits, RunSpec, Sandbox
from advcomp.sandbox.probe import BACKENDS, open_sandbox

IMAGE = "advcomp/runtime"
PROGRAMS = {
    "true": ("true",),
    "python": ("python3", "-c", "pass"),
    "numpy + PIL": ("python3", "-c", "import numpy, PIL.Image"),
    "torch": ("python3", "-c", "import torch"),
}
LIMITS = Limits(wall_s=300, memory_bytes=4 << 30, output_bytes=1 << 20)
BARE = "bare process"


def bare(program: tuple[str, ...]) -> None:
    command = [sys.executable if word == "python3" else word for word in program]
    subprocess.run(command, check=True)


def boxed(sandbox: Sandbox, image: str | None, program: tuple[str, ...]) -> None:
    with sandbox.run(RunSpec(argv=program, limits=LIMITS, image=image)) as run:
        if run.result.exit_code != 0:
            raise SandboxError(f"{sandbox.name}: {run.result.log.decode(errors='replace')}")


def starters(names: Sequence[str]) -> dict[str, Callable[[tuple[str, ...]], None]]:
    """How to start a program, by sandbox; those that do not work here are named and left out."""
    found: dict[str, Callable[[tuple[str, ...]], None]] = {BARE: bare}
    for name in names:
        try:
            sandbox = open_sandbox(name)
        except SandboxUnavailable as error:
            print(f"{name}: left out: {error.problems[0]}", file=sys.stderr)
            continue
        image = None if sandbox.images is None else sandbox.images.find(IMAGE)
        if sandbox.images is None or image is not None:
            found[name] = partial(boxed, sandbox, None if image is None else image.id)
        else:
            print(f"{name}: left out: it has no image {IMAGE}", file=sys.stderr)
    return found


def milliseconds(start: Callable[[tuple[str, ...]], None], program: tuple[str, ...]) -> float:
    began = time.monotonic()
    start(program)
    return 1000 * (time.monotonic() - began)


@click.command(help=__doc__.splitlines()[0])
@click.option("--rounds", default=7, show_default=True)
@click.option("--sandbox", "sandboxes", multiple=True, type=click.Choice([*BACKENDS]))
@click.option("--program", "programs", multiple=True, type=click.Choice([*PROGRAMS]))
def main(rounds: int, sandboxes: Sequence[str], programs: Sequence[str]) -> None:
    started = starters(sandboxes or list(BACKENDS))
    print(f"{'median ms (times the bare process)':36}", *(f"{name:>18}" for name in started))
    for name in programs or PROGRAMS:
        took = [
            {box: milliseconds(start, PROGRAMS[name]) for box, start in started.items()}
            for _ in range(rounds)
        ]
        medians = {box: statistics.median(times[box] for times in took) for box in started}
        cells = (f"{ms:.0f} ({ms / medians[BARE]:.1f})" for ms in medians.values())
        print(f"{name:36}", *(f"{cell:>18}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
