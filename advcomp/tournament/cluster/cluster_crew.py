"""The nodes of a cluster as the crew of a run."""

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from distributed import Client

from advcomp.sandbox.base import Limits, Sandbox
from advcomp.sandbox.cache.steady import CacheState
from advcomp.tournament.cluster.cluster_file import ClusterFile, StoreKind
from advcomp.tournament.cluster.errands import Remote
from advcomp.tournament.cluster.executor import ClusterExecutor, UnderWay
from advcomp.tournament.cluster.fingerprint import (
    Fingerprint,
    fingerprint_differences,
    fingerprint_of,
)
from advcomp.tournament.cluster.roster import needs_of
from advcomp.tournament.cluster.station import (
    OFF,
    SPILLING,
    CarryOut,
    Greet,
    Greeting,
    Leave,
    Site,
    StoreIsFull,
    Take,
    Touch,
    tar_of_folder,
)
from advcomp.tournament.job.executors import Stop
from advcomp.tournament.job.orders import Orders
from advcomp.tournament.job.plan import AttackJob, DefenseJob, Job
from advcomp.tournament.job.work import failed
from advcomp.tournament.outcome.under_way import forget_under_way, write_under_way
from advcomp.tournament.store.job_results import Draft, JobResult
from advcomp.tournament.store.state import EntryState


class RunErrands:
    """The jobs of a run, for nodes; see `Errands`.

    Args:
        site: What a node must know.
        expected: The fingerprint that a node must have.
        needs: What a box takes.
    """

    def __init__(self, site: Site, expected: Fingerprint, needs: Mapping[str, float]) -> None:
        self.needs = needs
        self._site = site
        self._expected = {**expected, SPILLING: OFF}
        self._orders: Orders | None = None
        self._met: Callable[[CacheState], None] = lambda met: None

    def begin_stage(self, orders: Orders, met: Callable[[CacheState], None]) -> None:
        """What orders are made with from now on; none is under way."""
        self._orders, self._met = orders, met

    def greet(self, boxes: int) -> Remote:
        """Opens a sandbox there."""
        return Greet(site=self._site, boxes=boxes)

    def judge(self, greeting: object) -> Sequence[str]:
        """Every difference of its fingerprint."""
        assert isinstance(greeting, Greeting)
        refusals = fingerprint_differences(self._expected, greeting.fingerprint)
        if not refusals:
            self._met(greeting.page_cache)
        return refusals

    def bundle(self, job: Job) -> tuple[str, Callable[[], Remote]] | None:
        """The entry's copy, where the folder of copies is not shared."""
        digest = job.entry.digest
        if self._site.run is not None:
            return None
        return digest, lambda: Take(
            session=self._site.session,
            digest=digest,
            packed=tar_of_folder(self._made_with.entries / digest),
        )

    def order(self, job: Job) -> Remote:
        """The job with its names; and its images, where no folder is shared."""
        order = self._made_with.of(job)
        return CarryOut(
            session=self._site.session,
            stage=type(job).__name__,
            order=order.packed() if self._site.run is None else order,
        )

    def keep(self, job: Job, done: object) -> JobResult:
        """Store the result, or adopt what the node has drafted.

        Raises:
            OSError: The shared folder has no room.
            RunConflict: What the node wrote there is not to be seen here.
        """
        assert isinstance(done, tuple)
        result, what = done
        assert isinstance(result, JobResult)
        store = self._made_with.store
        match what:
            case Draft():
                store.adopt(job.id, what)
            case StoreIsFull():
                raise OSError(what.errno, "No space left on device", what.path)
            case _:
                store.save(job.id, result, what)
        return result

    def lost(self, job: Job, why: Sequence[str]) -> JobResult:
        """INFRA: it is not the entry's fault."""
        result, files = failed(job, why)
        self._made_with.store.save(job.id, result, files)
        return result

    def touch(self) -> Remote:
        """For the station's lease."""
        return Touch(session=self._site.session)

    def leave(self) -> Remote:
        """Closes the station."""
        return Leave(session=self._site.session)

    @property
    def _made_with(self) -> Orders:
        assert self._orders is not None
        return self._orders


class Told:
    """Tells what is under way: whoever reads the run's folder, and who waits for jobs to begin.

    Args:
        run: The run's folder.
    """

    def __init__(self, run: Path) -> None:
        self.began: Callable[[str], None] = lambda job: None
        self._run = run
        self._known: set[str] = set()

    def __call__(self, jobs: Sequence[UnderWay]) -> None:
        """So much is under way now."""
        told = [
            (each.job.name, each.node, each.seconds)
            for each in jobs
            if isinstance(each.job, AttackJob | DefenseJob)
        ]
        names = {name for name, _, _ in told}
        for name in names - self._known:
            self.began(name)
        self._known = names
        write_under_way(self._run, told)


class ClusterCrew:
    """Nodes do the jobs; see `Crew`."""

    def __init__(
        self, executor: ClusterExecutor, errands: RunErrands, boxes: int, told: "Told"
    ) -> None:
        self._executor, self._errands, self._boxes, self._told = executor, errands, boxes, told

    def get_ready(self) -> None:
        """Have the nodes that are there open their sandboxes."""
        self._executor.greet(self._errands)

    def do(
        self,
        orders: Orders,
        jobs: Sequence[Job],
        *,
        cost: Callable[[Job], float],
        stop: Stop,
        met: Callable[[CacheState], None],
        began: Callable[[str], None],
    ) -> Iterator[JobResult]:
        """Do jobs on the nodes; see `Crew`."""
        self._errands.begin_stage(orders, met)
        self._told.began = began
        yield from self._executor(jobs, self._errands, cost=cost, workers=self._boxes, stop=stop)


@contextmanager
def opened_crew(
    client: Client,
    file: ClusterFile,
    sandbox: Sandbox,
    run: Path,
    *,
    entries: tuple[EntryState, ...],
    limits: Limits,
    trusting: bool,
    places: Mapping[str, Path],
    boxes: int,
    note: Callable[[str], None],
) -> Iterator[ClusterCrew]:
    """The nodes of a cluster, at the service of a run.

    Args:
        client: Connected.
        entries: Whose images boxes are made of; they may be left out where there are none.
        limits: Of a box.
        places: What must not lie in sight of boxes -> where it is.
        boxes: How many at once, at most, on all nodes together.
        note: Told what the organiser should know.
    """
    is_shared = file.store is StoreKind.SHARED
    site = Site(
        session=secrets.token_hex(8),
        backend=sandbox.name,
        trusting=trusting,
        run=run if is_shared else None,
        places=places if is_shared else {},
        entries=entries,
        limits=limits,
        scratch=file.node.scratch,
    )
    images = sorted({entry.image for entry in entries if entry.image is not None})
    errands = RunErrands(site, fingerprint_of(sandbox, images), needs_of(limits))
    told = Told(run)
    try:
        with ClusterExecutor(
            client,
            note=note,
            allowed_failures=file.allowed_failures,
            wait_s=60 * file.nodes.wait_minutes,
            least=file.nodes.least,
            by_message=not is_shared,
            changed=told,
        ) as executor:
            yield ClusterCrew(executor, errands, boxes, told)
    finally:
        forget_under_way(run)
