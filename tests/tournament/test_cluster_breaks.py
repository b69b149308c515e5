"""What may break on a cluster: nothing finished is lost, and no entry is blamed."""

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Require
from support.contest import BRIGHTNESS, COPY, DARKER, SMALL, Contest
from support.dask_cluster import (
    DaskCluster,
    dask_cluster,
    outcome,
    referee,
    wait_until,
)
from support.namespaces import Network, network

from advcomp.errors import ClusterError
from advcomp.tournament.outcome.under_way import load_under_way

pytestmark = [pytest.mark.slow, pytest.mark.long]

ENDS_WITHIN_S = 60
"""How soon a box ends whose referee is dead."""


def slowly(seconds: int) -> str:
    return f"sleep {seconds}; {COPY}"


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[DaskCluster]:
    with dask_cluster(tmp_path / "cluster", "one", "two") as started:
        yield started


@pytest.fixture
def file(contest: Contest) -> Path:
    """Four jobs of a second or more, then the defense's."""
    attacks = [contest.entry("slow", slowly(2)), contest.entry("darker", DARKER)]
    return contest.file(attacks, [contest.entry("brightness", BRIGHTNESS, "defense")], more=SMALL)


def sleepers() -> list[str]:
    """Processes of boxes that sleep for as long as none else does."""
    asked = subprocess.run(["pgrep", "-f", "^sleep 1234$"], capture_output=True, text=True)
    return asked.stdout.split()


def finished(run: Path) -> int:
    return len(list((run / "jobs").glob("[!.]*/result.json")))


def test_the_scheduler_is_killed(
    cluster: DaskCluster, contest: Contest, file: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    options = ("--scheduler", cluster.address)
    running = referee(file, run, *options)
    wait_until(lambda: finished(run) >= 1, "the first result")
    cluster.scheduler.kill()
    assert running.ends() == ClusterError.exit_code, running.said
    assert "the scheduler is gone, or cannot be reached; what was finished is kept" in running.said
    kept = finished(run)
    assert 1 <= kept < 9
    for node in cluster.nodes:
        node.stop()
    cluster.scheduler.wait()
    cluster.start()
    cluster.add("three")
    again = referee(file, run, *options)
    assert again.ends() == 0, again.said
    assert f"attacks: {4 - min(kept, 4)} jobs to run, {min(kept, 4)} stored" in again.said
    here = contest.run(file, key=run / "key").run
    assert outcome(run) == outcome(here)


def test_the_referee_is_killed(cluster: DaskCluster, contest: Contest, tmp_path: Path) -> None:
    """Its boxes end with it; the same command goes on."""
    run = tmp_path / "run"
    attacks = [contest.entry("noop", COPY), contest.entry("asleep", f"sleep 1234; {COPY}")]
    file = contest.file(attacks, [], max_epsilons=(8,), more=SMALL)
    running = referee(file, run, "--scheduler", cluster.address)
    wait_until(lambda: sleepers() and finished(run) == 1, "a box that sleeps")
    running.process.kill()
    running.process.wait()
    wait_until(lambda: not sleepers(), "the box to end", ENDS_WITHIN_S)
    wait_until(
        lambda: (
            not [*cluster.nodes[0].folder.glob("tmp/*"), *cluster.nodes[1].folder.glob("tmp/*")]
        ),
        "the nodes to clean up",
        20,
    )
    short = '[limits]\nmemory = "512 MiB"\nstart_seconds = 3\nseconds_per_100_images = 1\n'
    file = contest.file(attacks, [], max_epsilons=(8,), more=short)
    again = referee(file, run, "--scheduler", cluster.address)
    assert again.ends() == 0, again.said
    assert "asleep-eps8-0 TIMED_OUT" in again.said


def test_a_node_that_never_answers_is_named(
    cluster: DaskCluster, contest: Contest, tmp_path: Path
) -> None:
    """As one whose address the scheduler cannot reach."""
    wait_until(lambda: _workers(cluster) == 2, "both workers")
    for node in cluster.nodes:
        node.process.send_signal(signal.SIGSTOP)
    file = contest.file([contest.entry("noop", COPY)], [], more=SMALL)
    spread = tmp_path / "cluster.toml"
    spread.write_text(
        f'kind = "scheduler"\naddress = "{cluster.address}"\n[nodes]\nwait_minutes = 0.02\n'
    )
    running = referee(file, tmp_path / "run", "--cluster", spread)
    assert running.ends() == ClusterError.exit_code
    assert "node one (127.0.0.1): it has not answered for 1 s; look whether" in running.said


@pytest.fixture
def small_disk(tmp_path: Path, require: Require) -> Iterator[Path]:
    """A file system of 64 KiB."""
    require("root")
    folder = tmp_path / "small"
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", "size=64k,mode=755", "advcomp-test"]
    subprocess.run(["mount", *options, str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_node_without_room_gets_no_more_jobs(
    tmp_path: Path, contest: Contest, file: Path, small_disk: Path
) -> None:
    (small_disk / "filler").write_bytes(bytes(40 << 10))
    run = tmp_path / "run"
    with dask_cluster(tmp_path / "cluster", "roomy") as cluster:
        cluster.add("full", scratch=small_disk)
        wait_until(lambda: _workers(cluster) == 2, "both workers")
        running = referee(file, run, "--scheduler", cluster.address)
        assert running.ends() == 0, running.said
    assert "node full (127.0.0.1) gets no more jobs: " in running.said
    assert "No space left on device" in running.said
    assert outcome(run) == outcome(contest.run(file, key=run / "key").run)


def test_a_store_without_room_stops_the_run(
    tmp_path: Path, contest: Contest, file: Path, small_disk: Path
) -> None:
    subprocess.run(["mount", "-o", "remount,size=88k", str(small_disk)], check=True)
    run = small_disk / "run"
    with dask_cluster(tmp_path / "cluster", "one") as cluster:
        options = ("--scheduler", cluster.address)
        running = referee(file, run, *options)
        assert running.ends() == 1, running.said
        assert "expected room for the entries and results" in running.said
        assert "go on with: advcomp run" in running.said
        subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
        again = referee(file, run, *options)
        assert again.ends() == 0, again.said
    assert outcome(run) == outcome(contest.run(file, key=run / "key").run)


def _workers(cluster: DaskCluster) -> int:
    return (cluster.folder / "scheduler.log").read_bytes().count(b"Register worker")


@pytest.fixture
def far(require: Require) -> Iterator[Network]:
    """A scheduler and two workers on machines of their own, as far as the network can tell."""
    require("namespaces")
    with network("scheduler", "one", "two") as made:
        yield made


@pytest.mark.parametrize("store", ["shared", "wire"])
def test_machines_over_tls_one_of_which_is_cut_off(
    far: Network, tls: dict[str, Path], tmp_path: Path, contest: Contest, store: str
) -> None:
    """The results are those of one machine; its box ends, too, on the one that is cut off."""
    attacks = [contest.entry("darker", DARKER), contest.entry("slow", slowly(8))]
    file = contest.file(attacks, [contest.entry("brightness", BRIGHTNESS, "defense")], more=SMALL)
    (tmp_path / "cluster").mkdir()
    options = ("--tls-ca-file", tls["ca"], "--tls-cert", tls["cert"], "--tls-key", tls["key"])
    cluster = DaskCluster(
        tmp_path / "cluster",
        protocol="tls",
        host=far.address["scheduler"],
        enter=far.enter,
        options=[str(option) for option in options],
        port=8786,
    )
    cluster.start()
    try:
        for name in ("one", "two"):
            cluster.add(name)
        wait_until(lambda: _workers(cluster) == 2, "both workers")
        spread = tmp_path / "cluster.toml"
        lines = ['kind = "scheduler"', f'address = "{cluster.address}"', f'store = "{store}"']
        lines += ["[tls]", *(f'{name} = "{path}"' for name, path in tls.items())]
        spread.write_text("\n".join(lines))
        run = tmp_path / "run"
        running = referee(file, run, "--cluster", spread)
        wait_until(
            lambda: any("one" in each.node and "slow" in each.job for each in load_under_way(run)),
            "a slow job on the node",
        )
        far.cut("one")
        assert running.ends() == 0, running.said
    finally:
        cluster.close()
    assert "was lost while the job ran" in (run / "referee.log").read_text()
    assert outcome(run) == outcome(contest.run(file, key=run / "key").run)


def test_plain_tcp_to_another_machine_is_refused(
    far: Network, tmp_path: Path, contest: Contest, file: Path
) -> None:
    (tmp_path / "cluster").mkdir()
    host = far.address["scheduler"]
    cluster = DaskCluster(tmp_path / "cluster", host=host, enter=far.enter, port=8786)
    cluster.start()
    try:
        cluster.add("one")
        running = referee(file, tmp_path / "run", "--scheduler", cluster.address)
        assert running.ends() == 1
        assert f"tcp://{host}:8786: expected tls:// for an address" in running.said
        spread = tmp_path / "cluster.toml"
        spread.write_text(f'kind = "scheduler"\naddress = "{cluster.address}"\ninsecure = true\n')
        again = referee(file, tmp_path / "run", "--cluster", spread)
        assert again.ends() == 0, again.said
        assert "network: insecure" in again.said
    finally:
        cluster.close()
