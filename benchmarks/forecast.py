"""How well `advcomp plan` foresees a run on the nodes of a cluster.

    python -m benchmarks.forecast [--cpus 0.2] [--workers N]... [--images N]

A tournament on the digits, 54 jobs, is played here. Then, for so many workers of Dask as each
`--workers` says, results of defenses are taken out but for the first one of each, `advcomp
plan`'s forecast for those workers is asked for, and `advcomp run` goes on with them. Every box is
held to so much of a core, and every worker declares it. Printed are the forecast, of boxes alone
and with what comes around them, the wall time of the command, and the ratio of the two.
"""

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import click

from advcomp.tournament.job.plan import AttackJob
from advcomp.tournament.outcome.forecast import Forecast, forecast
from advcomp.tournament.runner import all_jobs
from advcomp.tournament.store.job_results import Store
from advcomp.tournament.store.state import load_state
from benchmarks.spread import scheduler, seconds, tournament


def take_out_all_but_one(run: Path) -> int:
    """Leave one result of each defense; how many were taken out."""
    state, store = load_state(run), Store(run)
    kept, taken = set[str](), 0
    for job in all_jobs(run, state, store):
        if isinstance(job, AttackJob):
            continue
        if job.entry.name in kept:
            store.delete(job.id)
            taken += 1
        kept.add(job.entry.name)
    return taken


def foreseen(file: Path, run: Path, address: str, folder: Path) -> Forecast:
    """What `advcomp plan --cluster` says of a run on the workers of a scheduler."""
    cluster = folder / "cluster.toml"
    cluster.write_text(f'kind = "scheduler"\naddress = "{address}"\n')
    return forecast(file, run, None, str(cluster))


@click.command(help=__doc__.splitlines()[0])
@click.option("--cpus", default=0.2, show_default=True)
@click.option("--workers", type=int, multiple=True, default=[1, 2, 4], show_default=True)
@click.option("--images", default=60, show_default=True)
def main(cpus: float, workers: Sequence[int], images: int) -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        file = tournament(folder, cpus=cpus, images=images, view="per-attack")
        run = folder / "run"
        print(f"local: {seconds(file, run, '--jobs', '1'):.1f} s")
        for number in workers:
            taken = take_out_all_but_one(run)
            with scheduler(folder, number, cpus) as address:
                told = foreseen(file, run, address, folder)
                took = seconds(file, run, "--scheduler", address)
            assert told.expected_s is not None
            assert told.around_s is not None
            whole = told.expected_s + told.around_s
            print(
                f"{number} workers, {taken} jobs: boxes {told.expected_s:.1f} s, in all "
                f"{whole:.1f} s foreseen; took {took:.1f} s; {whole / took:.2f} of it",
                flush=True,
            )
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
