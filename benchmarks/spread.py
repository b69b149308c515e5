"""What Dask costs, and what a second worker brings: one small digits tournament, spread and not.

    python benchmarks/spread.py [--cpus 0.4] [--workers N]... [--rounds N] [--images N]
        [--file TOURNAMENT.toml]

Another tournament's file states the limit of its boxes itself, `[limits] cpus`; `--cpus` says the
same. Every box is held to so much of a core, and every worker declares it, so that it runs one box
at a time and the scheduler and the referee have a share of their own. In each round the same
tournament is played by `advcomp run --jobs 1` on this machine, then by as many workers of Dask as
each `--workers` says, which are there before it begins. Printed are wall times of the whole
command and their median ratio; labels that are not the same end it.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import click
from distributed import Client

ROOT = Path(__file__).resolve().parents[1]
WEIGHTS = ROOT / "tournament" / "digits" / "weights"
ATTACKS: dict[str, dict[str, str]] = {
    "noop": {},
    "fgsm": {"surrogate": "conv_net_a"},
    "iterative_fgsm": {"surrogate": "conv_net_a"},
    "momentum_iterative_fgsm": {"surrogate": "conv_net_a"},
    "random_noise": {},
}
DEFENSES = {
    "plain": {"classifier": "residual_net_b"},
    "jpeg": {"classifier": "residual_net_b"},
    "random_resize_pad": {"classifier": "conv_net_b"},
    "adversarially_trained": {"classifier": "conv_net_adversarial"},
}
WAIT_S = 60


def tournament(
    folder: Path,
    *,
    cpus: float,
    images: int,
    defenses: Mapping[str, Mapping[str, str]] = DEFENSES,
    view: str = "pooled",
) -> Path:
    """Write the tournament file: ten jobs of attacks; if pooled, one of each defense."""
    file = folder / "digits.toml"
    entries = "".join(
        f'[[entries.{kind}]]\npath = "{ROOT / kind / name}"\n'
        + "".join(
            f'files."{role}.safetensors" = "{WEIGHTS / network}.safetensors"\n'
            for role, network in files.items()
        )
        for kind, named in (("attacks", ATTACKS), ("defenses", defenses))
        for name, files in named.items()
    )
    file.write_text(
        f'name = "digits"\n[dataset]\nsource = "digits"\nimages = {images}\nseed = 0\n'
        f'[threat]\nmax_epsilons = [16, 48]\n[defense]\nview = "{view}"\n'
        f"[limits]\ncpus = {cpus}\nseconds_per_100_images = 600\n{entries}"
    )
    return file


@contextmanager
def scheduler(folder: Path, workers: int, cpus: float) -> Iterator[str]:
    """A scheduler and workers of one box each, all of them there."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{probe.getsockname()[1]}"
    quiet = ("--no-dashboard", "--dashboard-address", "127.0.0.1:0")
    host, port = ("--host", "127.0.0.1"), ("--port", address.rpartition(":")[2])
    commands: list[tuple[str, ...]] = [("dask_scheduler", *host, *port, *quiet)]
    for number in range(workers):
        own = ("--name", f"worker{number}", "--local-directory", str(folder))
        room = ("--nthreads", "1", "--memory-limit", "0", "--resources", f"cpus={cpus},gpus=0")
        commands.append(("dask_worker", address, "--no-nanny", *own, *room, *quiet))
    with (folder / "dask.log").open("ab") as log:
        started = [
            subprocess.Popen(
                [sys.executable, "-m", f"distributed.cli.{command[0]}", *command[1:]],
                stdout=log,
                stderr=log,
                cwd=folder,
            )
            for command in commands
        ]
    try:
        with Client(address, set_as_default=False, timeout=WAIT_S) as client:
            client.wait_for_workers(workers, timeout=WAIT_S)
        yield address
    finally:
        for process in reversed(started):
            process.terminate()
            process.wait(timeout=WAIT_S)


def seconds(file: Path, run: Path, *options: str) -> float:
    """How long a whole run takes."""
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "advcomp", "run", str(file), "--out", str(run), *options],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(done.stderr[-2000:])
    return time.monotonic() - began


def table(run: Path) -> Sequence[bytes]:
    """What must be the same: every label, in the order of the store."""
    return [path.read_bytes() for path in sorted((run / "jobs").glob("*/labels.npy"))]


@click.command(help=__doc__.splitlines()[0])
@click.option("--cpus", default=0.4, show_default=True)
@click.option("--workers", type=int, multiple=True, default=[1, 2], show_default=True)
@click.option("--rounds", default=3, show_default=True)
@click.option("--images", default=60, show_default=True)
@click.option("--file", type=click.Path(exists=True, path_type=Path))
def main(cpus: float, workers: Sequence[int], rounds: int, images: int, file: Path | None) -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        file = file or tournament(folder, cpus=cpus, images=images)
        found = [_round(folder / str(n), file, workers, cpus) for n in range(rounds)]
    finally:
        shutil.rmtree(folder)
    for name in found[0]:
        times = " ".join(f"{each[name]:7.1f}" for each in found)
        ratios = [each[name] / each["local"] for each in found]
        print(f"{name:10} {times} s; {median(ratios):.3f} of local (median)")
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    print(f"load of the machine in the end: {load}")


def _round(folder: Path, file: Path, numbers: Sequence[int], cpus: float) -> dict[str, float]:
    folder.mkdir()
    local = folder / "local"
    found = {"local": seconds(file, local, "--jobs", "1")}
    key = str(local / "key")
    for workers in numbers:
        run = folder / str(workers)
        with scheduler(folder, workers, cpus) as address:
            where = ("--scheduler", address, "--key", key)
            found[f"{workers} workers"] = seconds(file, run, *where)
        if table(run) != table(local):
            sys.exit(f"{workers} workers: other labels than on this machine")
    print({name: round(each, 1) for name, each in found.items()}, flush=True)
    return found


if __name__ == "__main__":
    main()
