"""What the referee itself costs as a tournament grows: per job, per image, on disk, to go on.

    python benchmarks/scale.py [--jobs N]... [--images N]... [--boxes-up-to N] [--folder DIR]

For each size a tournament of as many attacks as defenses is made (20 of each at most, then more
budgets; view `latin`, drawn images of 32x32, entries that only copy). Up to `--boxes-up-to` jobs
are run, in boxes; beyond, the results are drawn and written by the real store. Then the real
commands go on with it, once with one job of a defense missing and once with none, score it and
report on it, each in a process of its own, whose processor time and memory are read from the
kernel; those of boxes are not among them. Printed are a table, and the lines that fit processor
time best, each with the largest distance of a size from it.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import click
import numpy as np

from advcomp.rules.dataset import LabelledImage, write_dataset
from advcomp.rules.images import encode_png
from advcomp.rules.verdict import Verdict
from advcomp.tournament.job.executors import Stop
from advcomp.tournament.job.opaque import open_key
from advcomp.tournament.job.plan import AttackJob, Job, attack_jobs, defense_jobs, images_of
from advcomp.tournament.job.waves import WaveImages, plan_waves, save_waves
from advcomp.tournament.outcome.collect import current_columns
from advcomp.tournament.runner import RunOptions, run_tournament
from advcomp.tournament.store.job_results import (
    IMAGES,
    LABELS,
    LOG,
    JobResult,
    Store,
    dump_labels,
    zip_images,
)
from advcomp.tournament.store.state import KEY_FILE, load_state

SIDE, CLASSES, EPSILON = 32, 10, 1
MOST_ENTRIES = 20
ATTACK = 'cp "$1"/*.png "$2"'
DEFENSE = 'for f in "$1"/*.png; do echo "${f##*/},3"; done > "$2"'
CHILD = """
import atexit, json, os, resource, sys
def tell():
    own = resource.getrusage(resource.RUSAGE_SELF)
    with open(os.environ["USAGE"], "w") as file:
        json.dump([own.ru_utime + own.ru_stime, own.ru_maxrss << 10], file)
atexit.register(tell)
from advcomp.cli import main
main(sys.argv[1:])
"""


@dataclass(frozen=True, kw_only=True)
class Usage:
    """Of one command: wall time, processor time of its own process, its peak of memory."""

    wall_s: float
    cpu_s: float
    rss_bytes: int


@dataclass(frozen=True, kw_only=True)
class Size:
    """A tournament; `played` is None where its results were drawn."""

    jobs: int
    images: int
    adversarial: int
    overhead_bytes: float
    played: Usage | None
    commands: dict[str, Usage]


class Silent:
    """An observer that says nothing."""

    def note(self, text: str) -> None: ...

    def reading(self, entries: int) -> None: ...

    def read(self, entry: str) -> None: ...

    def stage(self, title: str, jobs: int, stored: int, cost: float, later: float) -> None: ...

    def started(self, job: str) -> None: ...

    def finished(self, result: JobResult, cost: float) -> None: ...


def command(folder: Path, *arguments: str) -> Usage:
    """Run a command of advcomp."""
    usage = folder / "usage.json"
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", CHILD, *arguments],
        env={**os.environ, "USAGE": str(usage), "ADVCOMP_PAGE_CACHE": "open"},
        capture_output=True,
        text=True,
        check=False,
    )
    wall_s = time.monotonic() - began
    if done.returncode:
        sys.exit(f"advcomp {' '.join(arguments)}: {done.stderr[-2000:]}")
    cpu_s, rss_bytes = json.loads(usage.read_text())
    return Usage(wall_s=wall_s, cpu_s=cpu_s, rss_bytes=rss_bytes)


def tournament(
    folder: Path, entries: int, budgets: int, images: int, rng: np.random.Generator
) -> Path:
    """Write a tournament file, its dataset and its entries: so many attacks, and defenses."""
    write_dataset(
        folder / "data",
        (
            LabelledImage(
                image_id=f"img-{k:06d}",
                image=rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8),
                label=k % CLASSES,
                target_class=None,
            )
            for k in range(images)
        ),
    )
    for number in range(entries):
        for kind, program in (("attack", ATTACK), ("defense", DEFENSE)):
            path = folder / f"{kind}s" / f"{kind}{number:03d}"
            path.mkdir(parents=True)
            (path / "run.sh").write_text(f"#!/bin/sh\n{program}\n")
            (path / "run.sh").chmod(0o755)
            metadata = {"type": kind, "container": "none", "entry_point": "run.sh"}
            (path / "metadata.json").write_text(json.dumps(metadata))
    file = folder / "scale.toml"
    max_epsilons = list(range(EPSILON, EPSILON + budgets))
    file.write_text(
        f'name = "scale"\n[dataset]\nsource = "folder"\nimages_dir = "data/images"\n'
        f'csv = "data/images.csv"\n[threat]\nmax_epsilons = {max_epsilons}\n[entries]\n'
        f'attacks = ["attacks/*"]\ndefenses = ["defenses/*"]\n[sandbox]\nbackend = "bubblewrap"\n'
        '[limits]\nmemory = "256 MiB"\n'
    )
    return file


def draw_results(file: Path, run: Path, rng: np.random.Generator) -> None:
    """Begin a run, and write every result of it by its own store."""
    stop = Stop()
    stop.set()
    run_tournament(RunOptions(file=file, out=run), Silent(), stop)
    state, store = load_state(run), Store(run)
    key = open_key(run / KEY_FILE)
    for job in attack_jobs(state):
        shape = len(job.images), SIDE, SIDE, 3
        pngs = [encode_png(image) for image in rng.integers(0, 256, shape, np.uint8)]
        ids = (state.dataset.image_ids[image] for image in job.images)
        archive = zip_images(zip(ids, pngs, strict=True))
        digests = tuple(sha256(png).hexdigest() for png in pngs)
        store.save(job.id, _result(job, digests), {LOG: b"", IMAGES: archive})
    waves = plan_waves((), current_columns(state, store))
    save_waves(run, waves)
    planned = [(wave, WaveImages(state, store, wave)) for wave in waves]
    for defense_job in defense_jobs(state, key, planned):
        labels = rng.integers(0, CLASSES, len(defense_job.items)).astype(np.int16)
        files = {LOG: b"", LABELS: dump_labels(labels)}
        store.save(defense_job.id, _result(defense_job, ()), files)


def _result(job: Job, digests: tuple[str, ...]) -> JobResult:
    is_attack, images = isinstance(job, AttackJob), images_of(job)
    return JobResult(
        job=job.name,
        submission=job.entry.name,
        stage="attack" if is_attack else "defense",
        max_epsilon=job.max_epsilon if isinstance(job, AttackJob) else None,
        shard=job.shard,
        images=images,
        valid=images,
        verdict=Verdict.OK,
        exit_code=0,
        wall_seconds=1.0,
        cpu_seconds=1.0,
        max_rss_bytes=64 << 20,
        png_digests=digests,
    )


def store_bytes(run: Path) -> tuple[int, float]:
    """Adversarial images, and the bytes that the store takes for one beyond its PNG."""
    store, images, beyond = Store(run), 0, 0
    for folder in (run / "jobs").iterdir():
        if (folder / IMAGES).exists():
            with store.images(folder.name) as archive:
                sizes = [info.file_size for info in archive.infolist()]
            images += len(sizes)
            beyond += sum(path.stat().st_size for path in folder.iterdir()) - sum(sizes)
    if not images:
        sys.exit(f"{run}: no attack has written an image; advcomp status says why")
    return images, beyond / images


def measured(folder: Path, entries: int, budgets: int, images: int, *, boxes_up_to: int) -> Size:
    """One size, from its files to its report."""
    rng = np.random.default_rng(entries * 1_000_003 + images)
    file, run = tournament(folder, entries, budgets, images, rng), folder / "run"
    go_on = ("run", str(file), "--out", str(run))
    columns = entries * budgets
    is_played = columns + entries * (columns + 1) <= boxes_up_to
    played = command(folder, *go_on) if is_played else None
    if not is_played:
        draw_results(file, run, rng)
        command(folder, *go_on)  # the results, for the first time
    adversarial, overhead = store_bytes(run)
    lost = sorted((run / "jobs").glob("*/labels.npy"))[0].parent
    shutil.rmtree(lost)
    return Size(
        jobs=1 + sum(1 for _ in (run / "jobs").glob("[!.]*")),
        images=images,
        adversarial=adversarial,
        overhead_bytes=overhead,
        played=played,
        commands={
            "one job": command(folder, *go_on),
            "no job": command(folder, *go_on),
            "score": command(folder, "score", str(run)),
            "status": command(folder, "status", str(run)),
            "report": command(folder, "report", str(run)),
        },
    )


def line(size: Size) -> str:
    """A row of the table."""
    played = "drawn"
    if size.played is not None:
        played = f"{1000 * size.played.cpu_s / size.jobs:.1f}"
    commands = "  ".join(
        f"{size.commands[name].wall_s:6.1f} ({size.commands[name].cpu_s:5.1f})"
        for name in COMMANDS
    )
    peak = max(usage.rss_bytes for usage in size.commands.values()) >> 20
    return (
        f"{size.jobs:7,}  {size.images:6,}  {size.adversarial:9,}  {played:>6}  {commands}  "
        f"{peak:8,}  {size.overhead_bytes:7.0f}"
    )


COMMANDS = ("one job", "no job", "score", "status", "report")
HEADING = (
    f"{'jobs':>7}  {'images':>6}  {'adv.':>9}  {'ms/job':>6}  "
    + "  ".join(f"{name:>14}" for name in COMMANDS)
    + f"  {'peak MiB':>8}  {'B/image':>7}"
)


def fits(sizes: Sequence[Size], amount: Callable[[Size], int], what: str) -> Iterator[str]:
    """The line that fits best, by command."""
    amounts = np.array([amount(size) for size in sizes], float)
    for name in COMMANDS:
        seconds = np.array([size.commands[name].cpu_s for size in sizes])
        # Weighted, so that a small size counts for as much as a large one.
        slope, base = np.polyfit(amounts, seconds, 1, w=1 / seconds)
        off = np.abs((base + slope * amounts) / seconds - 1).max()
        yield (
            f"{name}: {base:.2f} s and {1000 * slope:.3f} ms for each {what}; "
            f"at most {100 * off:.0f} % off"
        )


def _shape(jobs: int) -> tuple[int, int]:
    """How many attacks, and defenses, and how many budgets make about so many jobs."""
    entries = min(MOST_ENTRIES, round(jobs**0.5))
    return entries, max(1, round(jobs / entries**2))


@click.command(help=__doc__.splitlines()[0])
@click.option(
    "--jobs",
    type=click.IntRange(min=0),
    multiple=True,
    default=[10, 100, 1_000, 10_000, 100_000],
    show_default=True,
    help="0: none.",
)
@click.option(
    "--images",
    type=click.IntRange(min=0),
    multiple=True,
    default=[100, 1_000, 10_000],
    show_default=True,
    help="0: none.",
)
@click.option("--boxes-up-to", default=1_200, show_default=True)
@click.option(
    "--folder",
    "place",
    type=click.Path(path_type=Path),
    help="Where the runs are made; must hold them all.",
)
def main(jobs: Sequence[int], images: Sequence[int], boxes_up_to: int, place: Path | None) -> None:
    print("seconds of wall time (of the referee's processor); B/image beyond the image's PNG")
    print(HEADING)
    grown: dict[str, list[Size]] = {"job": [], "image": []}
    wanted = [("job", *_shape(number), 100) for number in jobs if number]
    wanted += [("image", 9, 1, number) for number in images if number]
    for what, entries, budgets, number in wanted:
        folder = Path(tempfile.mkdtemp(dir=place))
        try:
            size = measured(folder, entries, budgets, number, boxes_up_to=boxes_up_to)
        finally:
            shutil.rmtree(folder)
        grown[what].append(size)
        print(line(size), flush=True)
    for what, sizes in grown.items():
        if len(sizes) > 2:
            counted = (lambda size: size.jobs) if what == "job" else (lambda size: size.images)
            print("\n".join(fits(sizes, counted, what)))


if __name__ == "__main__":
    main()
