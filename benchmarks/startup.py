"""How long `advcomp --help` takes next to a bare interpreter: `python benchmarks/startup.py`.

The two are started in turn, and their medians compared, so that the ratio holds on a busy machine
too. Exits 1 where it is more than 12.
"""

import statistics
import subprocess
import sys
import sysconfig
import time
from collections.abc import Sequence
from pathlib import Path

import click

LIMIT = 12
"""How many times slower than the interpreter help may be."""

COMMANDS = {
    "bare interpreter": (sys.executable, "-c", "pass"),
    "advcomp --help": (str(Path(sysconfig.get_path("scripts"), "advcomp")), "--help"),
}


def wall_s(command: Sequence[str]) -> float:
    start = time.monotonic()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.monotonic() - start


@click.command(help=__doc__.splitlines()[0])
@click.option("--rounds", default=15, show_default=True)
def main(rounds: int) -> None:
    runs = [{name: wall_s(command) for name, command in COMMANDS.items()} for _ in range(rounds)]
    medians = {name: statistics.median(run[name] for run in runs) for name in COMMANDS}
    for name, seconds in medians.items():
        print(f"{name}: {1000 * seconds:.0f} ms")
    bare, advcomp = medians.values()
    print(f"ratio: {advcomp / bare:.1f} (at most {LIMIT})")
    sys.exit(advcomp > LIMIT * bare)


if __name__ == "__main__":
    main()
