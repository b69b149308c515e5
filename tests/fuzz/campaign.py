"""Fuzz the readers of what strangers write: `make fuzz MINUTES=10`, or with more to choose

    PYTHONPATH=tests python -P -m fuzz.campaign --help

Every reader gets the same time, one after another, from its seeds, its committed corpus and what
earlier campaigns found in build/fuzz. What breaks a reader ends its turn and is kept in
build/fuzz/READER/broken; it belongs into `tests/fuzz/found` as soon as the reader is mended.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
from fuzz.readers import LIMIT_S, READERS, SCRATCH, in_memory
from fuzz.seeds import seeds

HERE = Path(__file__).parent
BUILD = HERE.parents[1] / "build" / "fuzz"
WAIT_S, MEMORY_MB = 20, {"weights": 3072}
LONGEST, LONGEST_TEXT = 32 << 10, 4 << 10
TEXTS = {"predictions", "tournament", "images_csv"}
"""What costs time by its length, and shows all that it does in a few lines; `--longest` asks for
more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of fuzzing one reader.

    Args:
        coverage: Places of the instrumented code that were reached.
        slowest_s: Processor time of the slowest input.
        memory_mb: The most that the whole process took.
        broken: What broke it; None where nothing did.
    """

    name: str
    inputs: int
    seconds: float
    coverage: int
    slowest_s: float
    slowest_bytes: int
    memory_mb: int
    broken: Path | None

    def row(self) -> str:
        return (
            f"| {self.name} | {self.inputs:,} | {self.seconds:,.0f} | {self.coverage:,} "
            f"| {1000 * self.slowest_s:,.0f} ms ({self.slowest_bytes:,} bytes) "
            f"| {self.memory_mb:,} MB | {'none' if self.broken is None else self.broken.name} |"
        )


def fuzzed(name: str, seconds: float, inputs: int, seed: int, longest: int) -> Outcome:
    """Fuzz one reader until its time or its number of inputs is spent, or it breaks."""
    place = BUILD / name
    begun, grown, broken = place / "seeds", place / "corpus", place / "broken"
    for folder in (begun, grown, broken):
        folder.mkdir(parents=True, exist_ok=True)
    for number, example in enumerate(seeds(name)):
        (begun / f"{number:03}").write_bytes(example)
    statistics = place / "statistics.json"
    statistics.unlink(missing_ok=True)
    before = set(broken.iterdir())
    began = time.monotonic()
    dictionary = HERE / "dictionaries" / f"{name}.dict"
    options = {
        "max_total_time": max(1, round(seconds)),
        "runs": inputs if inputs else -1,
        "seed": seed,
        "max_len": longest or (LONGEST_TEXT if name in TEXTS else LONGEST),
        "timeout": WAIT_S,
        "rss_limit_mb": MEMORY_MB.get(name, 1024),
        "artifact_prefix": f"{broken}/",
        "print_final_stats": 1,
        "verbosity": 1,
        **({"dict": dictionary} if dictionary.exists() else {}),
    }
    folders = [grown, begun, HERE / "corpus" / name, HERE / "found" / name]
    told = _one(name, statistics, options, [each for each in folders if each.is_dir()])
    (place / "log.txt").write_text(told)
    new = sorted(set(broken.iterdir()) - before)
    state = json.loads(statistics.read_text()) if statistics.exists() else {}
    return Outcome(
        name=name,
        inputs=_last(told, r"number_of_executed_units: (\d+)", r"^#(\d+)\s"),
        seconds=time.monotonic() - began,
        coverage=_last(told, r"\bcov: (\d+)"),
        slowest_s=state.get("slowest_s", 0.0),
        slowest_bytes=state.get("slowest_bytes", 0),
        memory_mb=state.get("memory_mb", 0),
        broken=new[0] if new else None,
    )


def _one(
    name: str, statistics: Path, options: Mapping[str, object], folders: Sequence[Path]
) -> str:
    """Run libFuzzer on one reader; returns what it printed."""
    command = [sys.executable, "-P", "-m", "fuzz.one", name, str(statistics)]
    command += [f"-{key}={value}" for key, value in options.items()]
    with in_memory() as folder:
        ended = subprocess.run(
            [*command, *map(str, folders)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env={**os.environ, SCRATCH: folder},
            check=False,
        )
    return ended.stdout


def _last(text: str, *patterns: str) -> int:
    """The last number that the first pattern finds, which finds one."""
    for pattern in patterns:
        if found := re.findall(pattern, text, re.MULTILINE):
            return int(found[-1])
    return 0


def keep_least(name: str, most: int, largest: int) -> None:
    """Commit to the corpus the smallest inputs that reach all that the grown one reaches."""
    place, corpus = BUILD / name, HERE / "corpus" / name
    least = place / "least"
    shutil.rmtree(least, ignore_errors=True)
    least.mkdir()
    options = {"merge": 1, "max_len": LONGEST, "rss_limit_mb": 4096}
    _one(name, place / "merge.json", options, [least, place / "corpus", place / "seeds"])
    corpus.mkdir(parents=True, exist_ok=True)
    for old in corpus.iterdir():
        old.unlink()
    found = sorted(least.iterdir(), key=lambda path: (path.stat().st_size, path.name))
    kept = [path for path in found if path.stat().st_size <= largest][:most]
    for number, path in enumerate(kept):
        (corpus / f"{number:03}").write_bytes(path.read_bytes())


@click.command(help=f"Fuzz the readers; more than {LIMIT_S} s of a processor is a bug, too.")
@click.option("--minutes", default=13.0, show_default=True, help="For all of them together.")
@click.option("--inputs", default=0, help="End a reader after so many. [default: by time alone]")
@click.option("--reader", "names", multiple=True, type=click.Choice([*READERS]))
@click.option("--seed", default=1, show_default=True)
@click.option("--keep", default=0, help="Put that many minimised inputs a reader into the corpus.")
@click.option("--longest", default=0, help="Bytes of an input. [default: by the reader]")
def main(
    minutes: float, inputs: int, names: tuple[str, ...], seed: int, keep: int, longest: int
) -> None:
    chosen = names or tuple(READERS)
    print("| reader | inputs | seconds | places reached | slowest | memory | broken by |")
    print("|---|---|---|---|---|---|---|")
    failed = False
    for name in chosen:
        outcome = fuzzed(name, 60 * minutes / len(chosen), inputs, seed, longest)
        failed = failed or outcome.broken is not None
        print(outcome.row(), flush=True)
        if keep:
            keep_least(name, keep, 4096)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
