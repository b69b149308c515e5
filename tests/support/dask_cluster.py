"""A scheduler and workers of Dask, as processes of their own, each with its own folders."""

import csv
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

PATIENCE_S = 90.0
MEASURED = {"wall_seconds", "cpu_seconds", "max_rss_bytes", "median_seconds_per_100_images"}


def wait_until(holds: Callable[[], object], what: str, patience_s: float = PATIENCE_S) -> None:
    """Wait for something that other processes do."""
    give_up = time.monotonic() + patience_s
    while not holds():
        assert time.monotonic() < give_up, f"waited {patience_s:.0f} s for {what}"
        time.sleep(0.05)


def free_port(host: str = "127.0.0.1") -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class DaskNode:
    """One worker."""

    name: str
    folder: Path
    process: "subprocess.Popen[bytes]"

    def files(self) -> Iterator[Path]:
        """Whatever lies on its disk, its log aside."""
        return (
            path for path in self.folder.rglob("*") if path.is_file() and path.name != "node.log"
        )

    def stop(self, number: int = signal.SIGKILL) -> None:
        self.process.send_signal(number)
        self.process.wait(timeout=60)


@dataclass
class DaskCluster:
    """A scheduler on this machine, and its workers.

    Args:
        enter: What a process of (name) is started through, such as `nsenter --net=...`.
        options: For scheduler and workers alike, such as TLS files.
    """

    folder: Path
    protocol: str = "tcp"
    host: str = "127.0.0.1"
    enter: Callable[[str], Sequence[str]] = lambda name: ()
    options: Sequence[str] = ()
    nodes: list[DaskNode] = field(default_factory=list)
    port: int = 0

    @property
    def address(self) -> str:
        return f"{self.protocol}://{self.host}:{self.port}"

    def start(self) -> None:
        """Start the scheduler; again on its old port, if it had one."""
        self.port = self.port or free_port()
        command = ["distributed.cli.dask_scheduler", "--host", self.host, "--port", str(self.port)]
        command += ["--protocol", self.protocol, "--no-dashboard", "--no-show"]
        self.scheduler = self._process("scheduler", command, self.folder / "scheduler.log", {})
        log = self.folder / "scheduler.log"
        wait_until(lambda: b"Scheduler at:" in log.read_bytes(), "the scheduler")

    def add(
        self,
        name: str,
        resources: str = "cpus=1,gpus=0",
        *,
        memory_limit: str = "0",
        environment: dict[str, str] | None = None,
        scratch: Path | None = None,
    ) -> DaskNode:
        """Start a worker."""
        folder = self.folder / name
        (folder / "tmp").mkdir(parents=True, exist_ok=True)
        command = ["distributed.cli.dask_worker", self.address, "--name", name, "--no-nanny"]
        command += ["--nthreads", "2", "--memory-limit", memory_limit, "--no-dashboard"]
        command += ["--resources", resources, "--local-directory", str(folder / "dask")]
        command += ["--death-timeout", "30", "--protocol", self.protocol]
        own = {"TMPDIR": str(scratch or folder / "tmp"), **(environment or {})}
        process = self._process(name, command, folder / "node.log", own)
        node = DaskNode(name=name, folder=folder, process=process)
        self.nodes.append(node)
        return node

    def _process(
        self, name: str, command: Sequence[str], log: Path, environment: dict[str, str]
    ) -> "subprocess.Popen[bytes]":
        with log.open("wb") as output:
            return subprocess.Popen(
                [*self.enter(name), sys.executable, "-m", *command, *self.options],
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment},
            )

    def close(self) -> None:
        for process in (*(node.process for node in self.nodes), self.scheduler):
            with suppress(ProcessLookupError):
                process.kill()
            process.wait(timeout=60)


@contextmanager
def dask_cluster(folder: Path, *names: str) -> Iterator[DaskCluster]:
    """A scheduler on loopback, and workers of one box each."""
    folder.mkdir(parents=True)
    cluster = DaskCluster(folder)
    cluster.start()
    try:
        for name in names:
            cluster.add(name)
        yield cluster
    finally:
        cluster.close()


@dataclass
class Referee:
    """`advcomp run` as a process of its own."""

    process: "subprocess.Popen[bytes]"
    log: Path

    def ends(self, patience_s: float = 240.0) -> int:
        """Its exit code."""
        return self.process.wait(timeout=patience_s)

    @property
    def said(self) -> str:
        return self.log.read_text()


def referee(file: Path, run: Path, *options: str | Path, enter: Sequence[str] = ()) -> Referee:
    """Start `advcomp run`."""
    log = run.with_suffix(".log")
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "advcomp", "run", str(file), "--out", str(run)]
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*enter, *command, *map(str, options)],
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    return Referee(process, log)


def outcome(run: Path) -> dict[str, object]:
    """All that a run came to, measured times and machine facts aside: what must be the same."""
    found: dict[str, object] = {}
    for path in sorted((run / "jobs").glob("*/*")):
        if path.suffix in (".zip", ".npy"):
            found[str(path.relative_to(run))] = path.read_bytes()
    for path in sorted((run / "results").rglob("*.csv")):
        if path.name in ("leaderboard.csv", "verdicts.csv"):
            rows = [
                {name: value for name, value in row.items() if name not in MEASURED}
                for row in csv.DictReader(path.read_text().splitlines())
            ]
            found[str(path.relative_to(run))] = rows
        else:
            found[str(path.relative_to(run))] = path.read_bytes()
    assert len(found) > 5
    return found
