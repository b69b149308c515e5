"""An executor on Dask distributed: jobs go to the nodes of a cluster, each to a node with room.

Theory of operation. The referee keeps the queue, and gives a node a job when a box is free there.
So a node that comes late gets jobs, one that is lost loses only those that ran on it, and nothing
ever waits for a node that is gone. Each job has a thread here that makes it ready, waits for it
and keeps its result. A job that is lost with its node goes elsewhere, `allowed_failures` times at
most; then it is given up, and that is never booked on an entry. A thread tells the nodes every few
seconds that somebody waits for them (`errands.touch`): who hears nothing stops by itself.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, ThreadPoolExecutor, wait
from concurrent.futures import Future as Thread
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Generic, Self, TypeVar, cast

from distributed import Client, Future
from distributed.client import FutureCancelledError
from distributed.scheduler import KilledWorker

from advcomp.tournament.cluster.errands import (
    Errands,
    NodeFailure,
    Plain,
    Remote,
    call,
    pack,
    unpack_answer,
)
from advcomp.tournament.cluster.roster import Node, Roster, lost, submit
from advcomp.tournament.job.executors import Stop

Job = TypeVar("Job")
Result = TypeVar("Result")

logger = logging.getLogger(__name__)

TICK_S = 0.25
TOUCH_S = 10.0
PARTING_S = 30.0
"""How long nodes are waited for at the end."""
MOST_AT_ONCE = 4096
"""Threads of the referee: jobs of one run under way at once."""


LOSSES = FutureCancelledError, CancelledError, KilledWorker, TimeoutError, OSError
"""What Dask raises for a job whose node, or whose scheduler, is gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnderWay:
    """A job that runs now: what, where, and for how long (seconds)."""

    job: object
    node: str
    seconds: float


@dataclass(eq=False)
class Ticket(Generic[Job]):
    """A job that is not done yet, and what became of it so far."""

    job: Job
    failures: list[str] = field(default_factory=list)
    failed_on: set[str] = field(default_factory=set)
    future: "Future[bytes] | None" = None


class _Lost(Exception):
    """The node of a job is lost, or could not do it."""

    def __init__(self, why: str) -> None:
        super().__init__(why)


class ClusterExecutor:
    """Carries jobs to the nodes of a cluster; see `Executor`.

    Args:
        client: Connected.
        note: Told what the organiser should know.
        allowed_failures: How often a job may be lost with its node.
        wait_s: How long no node may be there.
        least: How many nodes must be there before the first job.
        by_message: Whether what jobs need is large: it then goes to their node as Dask's data.
        changed: Told what is under way whenever that changes.
    """

    def __init__(
        self,
        client: Client,
        *,
        note: Callable[[str], None] = logger.warning,
        allowed_failures: int = 3,
        wait_s: float = 600.0,
        least: int = 1,
        by_message: bool = False,
        changed: Callable[[Sequence[UnderWay]], None] = lambda under_way: None,
    ) -> None:
        self._client, self._note, self._changed = client, note, changed
        self._allowed, self._wait_s, self._least = allowed_failures, wait_s, least
        self._by_message = by_message
        self._roster: Roster | None = None
        self._errands: Errands[Any, Any] | None = None
        self._giving = threading.Lock()
        self._over = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Let the nodes go."""
        self._over.set()
        remote = self._errands.leave() if self._errands is not None else None
        nodes = self._roster.met if self._roster else []
        if remote is None or self._client.status != "running":
            return
        leaving = [submit(self._client, node, pack(remote)) for node in nodes]
        for future in leaving:
            with suppress(Exception):  # it is gone, or dies with its worker: it cleans up itself
                future.result(timeout=PARTING_S)

    def __call__(
        self,
        jobs: Iterable[Job],
        work: Callable[[Job], Result] | Errands[Job, Result],
        *,
        cost: Callable[[Job], float],
        workers: int,
        stop: Stop,
    ) -> Iterator[Result]:
        """Run jobs on the cluster; see `Executor`."""
        given = work if isinstance(work, Errands) else Plain(cast(Any, work))
        errands = cast(Errands[Job, Result], given)
        queue = [Ticket(job) for job in sorted(jobs, key=cost, reverse=True)]
        roster = self._met_by(errands)
        running: dict[Thread[Result], tuple[Ticket[Job], Node, float]] = {}
        with ThreadPoolExecutor(min(workers, MOST_AT_ONCE), "job") as pool:
            try:
                while running or (queue and not stop):
                    gone = roster.muster()
                    for ticket, node, _ in running.values():
                        if node in gone and ticket.future is not None:
                            ticket.future.cancel()
                    while queue and not stop and len(running) < min(workers, MOST_AT_ONCE):
                        pair = matched(queue, roster.free(), roster.welcome)
                        if pair is None:
                            break
                        ticket, node = pair
                        queue.remove(ticket)
                        node.busy += 1
                        thread = pool.submit(self._carry, errands, ticket, node)
                        running[thread] = ticket, node, time.monotonic()
                        self._tell(running)
                    # A time-out lets the main thread take signals while it waits.
                    if running:
                        done, _ = wait(running, timeout=TICK_S, return_when=FIRST_COMPLETED)
                    else:
                        done = set()
                        time.sleep(TICK_S)
                    for thread in done:
                        ticket, node, _ = running.pop(thread)
                        node.busy -= 1
                        self._tell(running)
                        try:
                            result = thread.result()
                        except _Lost as error:
                            logger.warning("%s", error)
                            ticket.failures.append(str(error))
                            ticket.failed_on.add(node.address)
                            roster.look_at_once()
                            if len(ticket.failures) < self._allowed:
                                queue.insert(0, ticket)
                                continue
                            result = errands.lost(ticket.job, ticket.failures)
                        yield result
            finally:
                if self._client.status != "running":
                    for ticket, _, _ in running.values():
                        ticket.future = None
                wait(running)
                self._changed(())

    def greet(self, errands: Errands[Any, Any]) -> None:
        """Have the nodes that are there get ready for errands of this kind; nobody waits.

        Raises:
            ClusterError: The scheduler does not answer.
        """
        self._met_by(errands).look()

    def _met_by(self, errands: Errands[Any, Any]) -> Roster:
        """The nodes, greeted for errands of this kind."""
        if self._roster is None or self._errands is not errands:
            self._errands = errands
            self._roster = Roster(
                self._client, errands, note=self._note, wait_s=self._wait_s, least=self._least
            )
            if errands.touch() is not None:
                threading.Thread(
                    target=self._touch, args=(errands, self._roster), daemon=True
                ).start()
        return self._roster

    def _touch(self, errands: Errands[Any, Any], roster: Roster) -> None:
        """Tell nodes, as long as this lasts, that somebody waits for them."""
        while not self._over.wait(TOUCH_S) and self._errands is errands:
            nodes = [node.address for node in roster.met]
            remote = errands.touch()
            if nodes and remote is not None:
                # Not waited for: one that is cut off keeps it for most of the others' lease.
                threading.Thread(target=self._send, args=(remote, nodes), daemon=True).start()

    def _send(self, remote: Remote, nodes: Sequence[str]) -> None:
        with suppress(Exception):  # the main thread finds out what is wrong
            self._client.run(call, pack(remote), workers=list(nodes), on_error="ignore")

    def _tell(self, running: Mapping[Thread[Any], tuple[Ticket[Any], Node, float]]) -> None:
        now = time.monotonic()
        self._changed(
            [
                UnderWay(job=ticket.job, node=node.name, seconds=now - began)
                for ticket, node, began in running.values()
            ]
        )

    def _carry(self, errands: Errands[Job, Result], ticket: Ticket[Job], node: Node) -> Result:
        """Have a node do a job, and keep the result."""
        try:
            self._give(errands, ticket, node)
            done = self._done_by(node, ticket, errands.order(ticket.job), errands.needs)
        except NodeFailure as error:
            node.failed(str(error), for_good=error.for_good)
            if not node.welcome:
                self._note(f"node {node.name} gets no more jobs: {error}")
            raise _Lost(f"node {node.name}: {error}") from error
        node.failures = 0
        return errands.keep(ticket.job, done)

    def _give(self, errands: Errands[Job, Result], ticket: Ticket[Job], node: Node) -> None:
        """Give a node what it must have before a job; others wait meanwhile."""
        bundle = errands.bundle(ticket.job)
        if bundle is None or bundle[0] in node.given:
            return
        with self._giving:
            if bundle[0] not in node.given:
                self._done_by(node, ticket, bundle[1](), {})
                node.given.add(bundle[0])

    def _done_by(
        self, node: Node, ticket: Ticket[Job], remote: Remote, needs: Mapping[str, float]
    ) -> object:
        """What a node makes of something.

        Raises:
            _Lost: The node is.
            ClusterError: The scheduler is.
        """
        declared = {name: needs[name] for name in needs if name in node.resources}
        try:
            packed: object = pack(remote)
            if self._by_message:
                packed = self._sent(packed, node)
            ticket.future = submit(self._client, node, packed, declared)
            if node.is_gone:
                ticket.future.cancel()
            return unpack_answer(ticket.future.result())
        except (
            FutureCancelledError,
            CancelledError,
            KilledWorker,
            TimeoutError,
            OSError,
        ) as error:
            if isinstance(error, OSError) and error.filename is not None:
                raise  # the store's
            if self._client.status != "running":
                raise lost(self._client) from error
            raise _Lost(f"node {node.name} was lost while the job ran") from error
        finally:
            ticket.future = None

    def _sent(self, packed: object, node: Node) -> object:
        """What a node gets as Dask's data.

        Raises:
            _Lost: The scheduler knows the node no more.
        """
        try:
            return self._client.scatter(packed, workers=[node.address], hash=False)
        except KeyError as error:
            raise _Lost(f"node {node.name} was lost while the job ran") from error


def matched(
    queue: Sequence[Ticket[Job]], free: Sequence[Node], welcome: Sequence[Node]
) -> tuple[Ticket[Job], Node] | None:
    """The first job for which a node is free that it has not failed at, and that node.

    A job waits while such a node is busy; one that all nodes failed at may go to any.
    """
    for ticket in queue if free else ():
        untried = [node for node in welcome if node.address not in ticket.failed_on]
        for node in free:
            if node in untried or not untried:
                return ticket, node
    return None
