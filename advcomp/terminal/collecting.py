"""`advcomp gc`: what can go, and what going has freed."""

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from advcomp.errors import AdvcompError, RunConflict
from advcomp.sandbox.doctor.garbage import Garbage, find_garbage, remove_all
from advcomp.terminal.run_command import near
from advcomp.terminal.text import count, one_line, size
from advcomp.tournament.entry.copies import old_copies, runs_below

RUNS = Path("runs")


def collect_garbage(folders: Sequence[Path], *, dry: bool) -> int:
    """Remove what dead harnesses left and what runs do not use; the exit code.

    Args:
        folders: Runs, or folders of runs, to look through; by default `runs` here.
        dry: Only say what would go.

    Raises:
        AdvcompError: All that is named and is no folder; nothing is removed then.
    """
    if wrong := [folder for folder in folders if not folder.is_dir()]:
        raise AdvcompError(
            *(f"{folder}: expected a run, or a folder of runs; got no folder" for folder in wrong)
        )
    found = list(find_garbage(pass_over=_tell_left_alone))
    for run in [run for folder in folders or (RUNS,) for run in runs_below(folder)]:
        try:
            found += old_copies(run)
        except RunConflict as error:
            _tell_left_alone(error.problems[0])
    for garbage in found:
        print(f"{garbage.kind}: {one_line(_shown(garbage.name))} ({size(garbage.size_bytes)})")
    if dry:
        print(f"would free {_summary(found)}")
        return 0
    gone, problems = remove_all(found)
    for problem in problems:
        print(f"advcomp: not removed: {one_line(problem)}", file=sys.stderr)
    print(f"freed {_summary(gone)}")
    return 1 if problems else 0


def _tell_left_alone(why: str) -> None:
    print(f"left alone: {one_line(why)}", file=sys.stderr)


def _summary(garbage: Sequence[Garbage]) -> str:
    """`1.5 GiB: 2 containers of docker, 1 temporary folder`."""
    kinds = Counter(one.kind for one in garbage)
    parts = [count(number, kind, _plural(kind)) for kind, number in kinds.items()]
    return f"{size(sum(g.size_bytes for g in garbage))}: {', '.join(parts) or 'nothing to remove'}"


def _plural(kind: str) -> str:
    head, of, rest = kind.partition(" of ")
    return f"{'old copies' if head == 'old copy' else f'{head}s'}{of}{rest}"


def _shown(name: str) -> str:
    return str(near(Path(name))) if name.startswith("/") else name
