"""A run on the nodes of a cluster comes to the same as on one machine: with Dask's real engine."""

import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

import numpy as np
import pytest
from distributed import Client, LocalCluster
from distributed.security import Security
from support.command import advcomp
from support.contest import COPY, SMALL, Contest
from support.dask_cluster import DaskCluster, dask_cluster, outcome, referee, wait_until

import advcomp as package
from advcomp.errors import ClusterError
from advcomp.rules.submission_type import SubmissionType
from advcomp.tournament.cluster.cluster_crew import Told
from advcomp.tournament.cluster.cluster_file import TlsTable
from advcomp.tournament.cluster.dask_settings import HTTP, security_by
from advcomp.tournament.cluster.errands import Plain, Remote
from advcomp.tournament.cluster.executor import ClusterExecutor, Ticket, UnderWay, matched
from advcomp.tournament.cluster.roster import Node, boxes_of, workers_of
from advcomp.tournament.job.executors import Executor, Stop, run_local
from advcomp.tournament.job.plan import AttackJob
from advcomp.tournament.outcome.under_way import FILE_NAME, load_under_way
from advcomp.tournament.store.state import EntryState

pytestmark = pytest.mark.slow

SLOW = "sleep 4; " + COPY


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskCluster]:
    with dask_cluster(tmp_path_factory.mktemp("dask") / "cluster", "one", "two") as started:
        yield started


@pytest.fixture(params=["local", "cluster"])
def executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    """Every executor of ours."""
    if request.param == "local":
        yield run_local
        return
    cluster: DaskCluster = request.getfixturevalue("cluster")
    with (
        Client(cluster.address, set_as_default=False) as client,
        ClusterExecutor(client, wait_s=60) as elsewhere,
    ):
        yield elsewhere


def test_every_job_is_done_once(executor: Executor) -> None:
    done = executor(range(-5, 0), abs, cost=float, workers=2, stop=Stop())
    assert sorted(done) == [1, 2, 3, 4, 5]


def test_the_costliest_begins_first(executor: Executor) -> None:
    assert next(executor([3, 1, 2], abs, cost=float, workers=1, stop=Stop())) == 3


def test_what_the_work_raises_ends_the_run(executor: Executor) -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        list(executor(["no number"], int, cost=len, workers=1, stop=Stop()))


def test_no_job_begins_after_a_stop(executor: Executor) -> None:
    stop = Stop()
    done = []
    for result in executor(range(20), abs, cost=float, workers=1, stop=stop):
        done.append(result)
        stop.set()
    assert len(done) == 1


class Beginning(Plain):
    """Nodes that get ready leave a file."""

    def __init__(self, file: Path) -> None:
        super().__init__(str)
        self._file = file

    def greet(self, boxes: int) -> Remote:
        return self._file.touch


def test_nodes_get_ready_while_the_referee_has_no_job_yet(
    cluster: DaskCluster, tmp_path: Path
) -> None:
    with Client(cluster.address, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=60)
        with ClusterExecutor(client, wait_s=60) as executor:
            errands = Beginning(tmp_path / "ready")
            executor.greet(errands)
            wait_until((tmp_path / "ready").exists, "a node")
            done = executor([1], errands, cost=float, workers=1, stop=Stop())
            assert list(done) == ["1"]


class Departing(Plain):
    """The only node goes when its job is ready to be sent, and another has come."""

    needs: Mapping[str, float] = {}

    def __init__(self, cluster: LocalCluster, client: Client) -> None:
        super().__init__(str)
        self.orders = 0
        self._cluster, self._client = cluster, client

    def order(self, job: object) -> Remote:
        self.orders += 1
        if self.orders == 1:
            (node,) = workers_of(self._client)
            self._cluster.scale(2)
            self._client.wait_for_workers(2, timeout=60)
            self._client.retire_workers([node])
        return super().order(job)


def test_a_job_goes_elsewhere_whose_node_is_lost_just_before_it_is_sent(tmp_path: Path) -> None:
    """It counts as one loss: nothing is sent again to a node that is known to be gone."""
    with (
        LocalCluster(
            n_workers=1,
            threads_per_worker=1,
            processes=False,
            memory_limit=0,
            dashboard_address=HTTP,
            worker_dashboard_address=HTTP,
            local_directory=str(tmp_path),
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
        ClusterExecutor(client, wait_s=60, allowed_failures=2, by_message=True) as executor,
    ):
        errands = Departing(cluster, client)
        assert list(executor([1], errands, cost=float, workers=2, stop=Stop())) == ["1"]
    assert errands.orders == 2


def test_a_job_waits_for_a_node_that_it_has_not_failed_at() -> None:
    one, two = (
        Node(address=name, name=name, resources={}, boxes=1, welcome=True)
        for name in ("one", "two")
    )
    lost, fresh = Ticket(job=1, failed_on={"one"}), Ticket(job=2)
    assert matched([lost, fresh], [one], [one, two]) == (fresh, one)
    assert matched([lost], [one], [one, two]) is None
    assert matched([lost], [one, two], [one, two]) == (lost, two)
    assert matched([lost], [one], [one]) == (lost, one)
    assert matched([lost], [], []) is None


def test_who_has_no_certificate_of_a_cluster_cannot_join_it(
    tls: dict[str, Path], tmp_path: Path
) -> None:
    """Neither by another authority's certificate, while it trusts ours, nor without any."""
    ca, cert, key = (str(tls[name]) for name in ("ca", "cert", "key"))
    own = security_by(TlsTable.model_construct(ca=ca, cert=cert, key=key))
    other = Security.temporary()
    trusting = Security(
        require_encryption=True,
        tls_ca_file=ca,
        tls_client_cert=other.tls_client_cert,
        tls_client_key=other.tls_client_key,
    )
    with LocalCluster(
        n_workers=0,
        processes=False,
        protocol="tls",
        security=own,
        dashboard_address=HTTP,
        local_directory=str(tmp_path),
    ) as cluster:
        address = cluster.scheduler_address
        with Client(address, security=own, set_as_default=False) as welcome:
            assert workers_of(welcome) == {}
        plain = address.replace("tls://", "tcp://")
        for where, stranger in ((address, trusting), (plain, None)):
            with pytest.raises(OSError, match=r"closed|Timed out"):
                Client(where, security=stranger, set_as_default=False, timeout="1s")


@pytest.mark.parametrize(
    ("resources", "threads", "boxes"),
    [
        ({"cpus": 8, "memory": 9e9, "gpus": 0}, 8, 4),
        ({"cpus": 3, "memory": 9e9}, 8, 1),
        ({"cpus": 8, "memory": 3e9}, 8, 1),
        ({"cpus": 8}, 8, 4),
        ({"cpus": 8}, 3, 3),
        ({}, 8, 0),
        ({"cpus": 1}, 8, 0),
    ],
)
def test_a_node_gets_no_more_boxes_than_it_declares(
    resources: dict[str, float], threads: int, boxes: int
) -> None:
    needs = {"cpus": 2.0, "memory": 2e9, "gpus": 0.0}
    assert boxes_of(resources, threads, needs) == boxes
    assert boxes_of({**resources, "gpus": 2}, threads, {**needs, "gpus": 1}) == min(boxes, 2)
    assert boxes_of({**resources, "gpus": 0}, threads, {**needs, "gpus": 1}) == 0


@pytest.mark.parametrize("store", ["shared", "wire"])
def test_a_run_on_nodes_comes_to_the_same(
    cluster: DaskCluster, played: tuple[Path, Path], tmp_path: Path, store: str
) -> None:
    """By message no clean image, label or key touches a disk of nodes with scratch in memory."""
    file, here = played
    spread = tmp_path / "cluster.toml"
    with memory_folder() as scratch, Search(cluster, file.parent / "data", here / "key") as search:
        lines = ['kind = "scheduler"', f'address = "{cluster.address}"', f'store = "{store}"']
        if store == "wire":
            lines += ["[node]", f'scratch = "{scratch}"']
            search.begin()
        spread.write_text("\n".join(lines))
        ran = advcomp(
            "run", file, "--out", tmp_path / "run", "--cluster", spread, "--key", here / "key"
        )
        assert list(scratch.iterdir()) == []
    assert ran.exit_code == 0, ran.output
    assert outcome(tmp_path / "run") == outcome(here)
    assert search.found == set()
    assert search.looks >= (5 if store == "wire" else 1)
    for node in cluster.nodes:
        assert b"advcomp.tournament" not in (node.folder / "node.log").read_bytes()
        assert list((node.folder / "tmp").iterdir()) == [], "a node cleans up"


@contextmanager
def memory_folder() -> Iterator[Path]:
    with TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


class Search:
    """Looks for clean images, labels and the key on the disks of nodes, Dask's folders included.

    Once in the end, and all the time from `begin` on. `found` are the files that had one.
    """

    def __init__(self, cluster: DaskCluster, data: Path, key: Path) -> None:
        self.found: set[Path] = set()
        self.looks = 0
        self._cluster = cluster
        self._secrets = [path.read_bytes() for path in (data / "images").iterdir()]
        self._secrets += [key.read_text().strip().encode(), bytes.fromhex(key.read_text())]
        self._secrets += [b"img-0001"]
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        return self

    def begin(self) -> None:
        """Look as often as can be, until the end."""
        self._thread.start()

    def _watch(self) -> None:
        while not self._over.wait(0.02):
            self._look()

    def _look(self) -> None:
        for node in self._cluster.nodes:
            with suppress(FileNotFoundError):  # it was there a moment ago; the next look finds it
                for file in node.files():
                    content = file.read_bytes()
                    if any(secret in content for secret in self._secrets):
                        self.found.add(file)
        self.looks += 1

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._look()


@pytest.fixture
def lone(tmp_path: Path) -> Iterator[DaskCluster]:
    """A scheduler without workers."""
    with dask_cluster(tmp_path / "cluster") as started:
        yield started


def test_a_node_that_differs_is_named_and_gets_nothing(
    lone: DaskCluster, contest: Contest, tmp_path: Path
) -> None:
    """Other versions of advcomp and numpy; and one that may write what it is sent to its disk."""
    copied = Path(package.__file__).parent
    other = tmp_path / "other"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(copied, other / "advcomp", ignore=ignored)
    front = other / "advcomp" / "__init__.py"
    text = front.read_text()
    assert f'"{package.__version__}"' in text
    front.write_text(text.replace(f'"{package.__version__}"', '"0.0.9"'))
    packages = other / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
    (packages / "numpy-0.1.dist-info").mkdir(parents=True)
    metadata = "Metadata-Version: 2.1\nName: numpy\nVersion: 0.1\n"
    (packages / "numpy-0.1.dist-info" / "METADATA").write_text(metadata)
    # As if the interpreter had been installed there, too.
    (other / "sitecustomize.py").write_text(f"import site; site.PREFIXES.append({str(other)!r})")
    lone.add("older", environment={"PYTHONPATH": str(other)})
    lone.add("spilling", memory_limit="1 GiB")
    lone.add("undeclared", resources="gpus=0")
    with Client(lone.address, set_as_default=False) as client:
        client.wait_for_workers(3, timeout=60)
    file = contest.file([contest.entry("noop", COPY)], [], more=SMALL)
    ran = advcomp("run", file, "--out", tmp_path / "run", "--scheduler", lone.address)
    assert ran.exit_code == ClusterError.exit_code
    said = ran.output
    assert "none of its 3 nodes can take jobs" in said
    assert f"older (127.0.0.1): advcomp: expected {package.__version__}, got 0.0.9" in said
    assert "; advcomp's files: expected" in said
    assert f"; version of numpy: expected {np.__version__}, got 0.1" in said
    assert "spilling (127.0.0.1): Dask's spilling to disk: expected off, got on" in said
    assert "undeclared (127.0.0.1): no box fits: one takes cpus=1" in said
    assert not list((tmp_path / "run" / "jobs").iterdir())
    asked = advcomp("doctor", "--cluster", cluster_file(lone, tmp_path, "[nodes]\nleast = 4"))
    assert asked.exit_code == ClusterError.exit_code
    told = asked.output
    assert "NO  older (127.0.0.1): 1 box of one processor at once; declares cpus=1, gpus=0" in told
    assert f"    advcomp: expected {package.__version__}, got 0.0.9" in told
    assert f"    version of numpy: expected {np.__version__}, got 0.1" in told
    assert "    Dask's spilling to disk: expected off, got on" in told
    assert "NO  undeclared (127.0.0.1): 0 boxes of one processor at once" in told
    assert told.endswith("0 of 4 nodes can take jobs; 1 did not come in time\n")


def test_the_nodes_of_a_cluster_show_what_they_are(cluster: DaskCluster, tmp_path: Path) -> None:
    file = cluster_file(cluster, tmp_path)
    asked = advcomp("doctor", "--cluster", file)
    assert asked.exit_code == 0, asked.output
    facts, one, two, last = asked.output.splitlines()
    assert facts.startswith(
        f"this machine, as every node must be: advcomp {package.__version__}, "
    )
    assert {one, two} == {
        f"ok  {name} (127.0.0.1): 1 box of one processor at once; declares cpus=1, gpus=0"
        for name in ("one", "two")
    }
    assert last == "2 of 2 nodes can take jobs"
    told = json.loads(advcomp("doctor", "--cluster", file, "--format", "json").output)
    assert [node["fingerprint"] for node in told["nodes"]] == [told["here"]] * 2
    assert told["here"]["version of numpy"] == np.__version__


def test_a_plan_counts_the_boxes_of_a_scheduler(
    cluster: DaskCluster, played: tuple[Path, Path], tmp_path: Path
) -> None:
    file, _ = played
    where = ("--out", tmp_path / "run", "--cluster", cluster_file(cluster, tmp_path))
    planned = advcomp("plan", file, *where)
    assert planned.exit_code == 0, planned.output
    assert "time, with 2 sandboxes at once: unknown until" in planned.output


def test_no_worker_seems_gone_while_the_client_asks_for_itself(cluster: DaskCluster) -> None:
    """It asks every few seconds, and for no workers; as often as can be, here."""
    with Client(cluster.address, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=60)
        over = threading.Event()

        def ask() -> None:
            while not over.is_set():
                client.scheduler_info(n_workers=0)

        asking = threading.Thread(target=ask)
        asking.start()
        try:
            assert [len(workers_of(client)) for _ in range(50)] == [2] * 50
        finally:
            over.set()
            asking.join()


def cluster_file(cluster: DaskCluster, folder: Path, more: str = "[nodes]\nleast = 2") -> Path:
    file = folder / "nodes.toml"
    wait = "wait_minutes = 0.1"
    file.write_text(f'kind = "scheduler"\naddress = "{cluster.address}"\n{more}\n{wait}\n')
    return file


def test_how_long_a_job_runs_is_told_by_the_clock_of_its_file(tmp_path: Path) -> None:
    told = [{"job": "a-eps8-0", "node": "n", "seconds": 100.0}]
    (tmp_path / FILE_NAME).write_text(json.dumps(told))
    os.utime(tmp_path / FILE_NAME, (0, 5000))
    (found,) = load_under_way(tmp_path)
    assert (found.node, found.since) == ("n", 4900)
    (tmp_path / FILE_NAME).write_text('[{"job": "a"}]')
    assert load_under_way(tmp_path) == []


def test_a_job_that_begins_on_a_node_is_told_once_by_its_name(tmp_path: Path) -> None:
    entry = EntryState(name="a", type=SubmissionType.ATTACK, source="a")
    one, two = (
        UnderWay(
            job=AttackJob(id=n, name=n, entry=entry, max_epsilon=8, shard=0, images=(0,)),
            node=f"node-{n}",
            seconds=1.0,
        )
        for n in ("one", "two")
    )
    begun: list[str] = []
    told = Told(tmp_path)
    told.began = begun.append
    for jobs in ([one], [one, two], [two], []):
        told(jobs)
        assert [job.node for job in load_under_way(tmp_path)] == [each.node for each in jobs]
    assert begun == ["one", "two"]


def test_a_job_of_a_killed_worker_goes_elsewhere(
    lone: DaskCluster, contest: Contest, tmp_path: Path
) -> None:
    file = contest.file([contest.entry("slow", SLOW)], [], max_epsilons=(8,), more=SMALL)
    run = tmp_path / "run"
    first = lone.add("first")
    running = referee(file, run, "--scheduler", lone.address)
    wait_until(lambda: load_under_way(run), "a job on a node")
    (job,) = load_under_way(run)
    assert job.node == "first (127.0.0.1)"
    assert 0 <= time.time() - job.since < 60
    assert "slow-eps8-0 runs on first (127.0.0.1) for " in advcomp("status", run).output
    lone.add("second")
    first.stop()
    assert running.ends() == 0, running.said
    verdict = (run / "results" / "verdicts.csv").read_text().splitlines()[1]
    assert verdict.startswith("slow-eps8-0,slow,attack,8,0,6,6,OK,0,")
    assert "was lost while the job ran" in (run / "referee.log").read_text()
