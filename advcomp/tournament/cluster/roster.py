"""Which nodes there are, which of them may take jobs, and how many each may take at once."""

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from distributed import Client, Future

from advcomp.errors import ClusterError
from advcomp.sandbox.base import Limits
from advcomp.tournament.cluster.errands import Errands, call, pack, unpack_answer

logger = logging.getLogger(__name__)

LOOK_S = 1.0
"""How often the scheduler is asked which workers there are."""
FAILURES_IN_A_ROW = 3
"""After so many, a node gets no more jobs."""


@dataclass(eq=False, kw_only=True)
class Node:
    """One worker of the cluster.

    Args:
        address: As Dask knows it.
        name: As people know it.
        resources: What it declares.
        boxes: Jobs at once, at most.
        greeting: Its answer, while it is awaited.
        asked: When it was asked, by the monotonic clock.
        answer: What it said.
        given: What it was given beforehand.
        problems: Why it gets no jobs.
    """

    address: str
    name: str
    resources: Mapping[str, float]
    boxes: int
    greeting: "Future[bytes] | None" = None
    asked: float = field(default_factory=time.monotonic)
    answer: object = None
    welcome: bool = False
    is_gone: bool = False
    busy: int = 0
    failures: int = 0
    given: set[str] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)

    @property
    def free(self) -> int:
        """How many more jobs it may take now."""
        return self.boxes - self.busy if self.welcome and not self.is_gone else 0

    def failed(self, problem: str, *, for_good: bool) -> None:
        """A job could not be done there, for the node's fault."""
        self.failures += 1
        if for_good or self.failures >= FAILURES_IN_A_ROW:
            self.welcome = False
            self.problems = [problem]


class Roster:
    """The nodes of a cluster, as they come and go.

    Args:
        client: Connected.
        errands: Say what a job needs, and who is welcome.
        note: Told of nodes that get no jobs.
        wait_s: How long none may be there before that is an error.
        least: How many must have been welcome before a job begins.
    """

    def __init__(
        self,
        client: Client,
        errands: Errands[Any, Any],
        *,
        note: Callable[[str], None],
        wait_s: float,
        least: int = 1,
    ) -> None:
        self.nodes: dict[str, Node] = {}
        self._client, self._errands, self._note = client, errands, note
        self._wait_s, self._least = wait_s, least
        self._looked = self._hoped = time.monotonic() - LOOK_S
        self._complete = False

    @property
    def welcome(self) -> list[Node]:
        """Those that may take jobs."""
        return [node for node in self.nodes.values() if node.welcome and not node.is_gone]

    @property
    def met(self) -> list[Node]:
        """Those that may take jobs or are getting ready; asked by any thread."""
        nodes = tuple(self.nodes.values())
        return [node for node in nodes if node.welcome or node.greeting is not None]

    def free(self) -> list[Node]:
        """Those that may take a job now, the idlest first; none before there are enough."""
        self._complete = self._complete or len(self.welcome) >= self._least
        ready = [node for node in self.nodes.values() if node.free > 0] if self._complete else []
        return sorted(ready, key=lambda node: -node.free / node.boxes)

    def muster(self) -> list[Node]:
        """Look at the nodes, one of which must be there or come; those that are gone since.

        Raises:
            ClusterError: The scheduler does not answer, or no node is left and none comes.
        """
        gone = self.look()
        self._require_hope()
        return gone

    def look_at_once(self) -> None:
        """Have the next look wait for nothing: a node may be gone, and take no job any more."""
        self._looked = -math.inf

    def look(self) -> list[Node]:
        """Look who has come, who has answered, and who is gone; those that are gone since.

        Raises:
            ClusterError: The scheduler does not answer.
        """
        require_scheduler(self._client)
        gone = self._look_around() if time.monotonic() - self._looked >= LOOK_S else []
        for node in self.nodes.values():
            if node.greeting is not None:
                self._listen_to(node)
        return gone

    def _look_around(self) -> list[Node]:
        """Ask the scheduler who is there; those that are gone since."""
        self._looked = time.monotonic()
        found = self._workers()
        gone = [node for address, node in self.nodes.items() if address not in found]
        for node in gone:
            logger.warning("node %s is gone", node.name)
            node.is_gone = True
            del self.nodes[node.address]
        for address, told in found.items():
            if address not in self.nodes:
                self._meet(address, told)
        return gone

    def _workers(self) -> dict[str, Any]:
        try:
            return workers_of(self._client)
        except (OSError, RuntimeError, TimeoutError) as error:
            raise lost(self._client) from error

    def _meet(self, address: str, told: Mapping[str, Any]) -> None:
        name = str(told["name"])
        host = str(told["host"])
        resources = dict(told["resources"])
        node = Node(
            address=address,
            name=address if name == address else f"{name} ({host})",
            resources=resources,
            boxes=boxes_of(resources, told["nthreads"], self._errands.needs),
        )
        self.nodes[address] = node
        if node.boxes == 0:
            self._refuse(node, [_too_small(resources, told["nthreads"], self._errands.needs)])
            return
        node.greeting = submit(self._client, node, pack(self._errands.greet(node.boxes)))

    def _listen_to(self, node: Node) -> None:
        """Take its answer, if there is one; it is refused if it takes too long."""
        assert node.greeting is not None
        if node.greeting.done():
            self._hear(node)
        elif time.monotonic() - node.asked > self._wait_s:
            node.greeting = None
            problem = f"it has not answered for {self._wait_s:.0f} s; look whether the scheduler"
            self._refuse(node, [f"{problem} and this machine reach it at {node.address}"])

    def _hear(self, node: Node) -> None:
        assert node.greeting is not None
        greeting, node.greeting = node.greeting, None
        try:
            node.answer = unpack_answer(greeting.result())
            refusals = self._errands.judge(node.answer)
        except Exception as error:  # whatever another version raises there, the node is refused
            logger.info("node %s", node.name, exc_info=True)
            refusals = [f"it cannot answer: {type(error).__name__}: {error}"]
        if refusals:
            self._refuse(node, list(refusals))
        else:
            node.welcome = True
            logger.info("node %s: %d boxes at once", node.name, node.boxes)

    def _refuse(self, node: Node, problems: list[str]) -> None:
        node.problems = problems
        self._note(f"node {node.name} gets no jobs: {'; '.join(problems)}")

    def _require_hope(self) -> None:
        """Have a node that is welcome, or may still be; or not have waited too long for one."""
        if any(node.welcome or node.greeting is not None for node in self.nodes.values()):
            self._hoped = time.monotonic()
            return
        waited = time.monotonic() - self._hoped
        if waited < self._wait_s and len(self.nodes) < max(1, self._least):
            return
        raise ClusterError(*self._why_none(waited))

    def _why_none(self, waited: float) -> Iterator[str]:
        where = self._client.scheduler_info(n_workers=0).get("address", "the scheduler")
        if not self.nodes:
            yield (
                f"{where}: expected a node within {waited:.0f} s; none came; start workers with "
                "--resources cpus=N,gpus=0, or look why the batch jobs do not start, and run the "
                "same command again: what was finished is kept"
            )
            return
        yield (
            f"{where}: none of its {len(self.nodes)} nodes can take jobs of this run; put that "
            "right and run the same command again: what was finished is kept"
        )
        for node in self.nodes.values():
            yield from (f"  node {node.name}: {problem}" for problem in node.problems)


def needs_of(limits: Limits) -> dict[str, float]:
    """What a box takes of a node, in the terms in which a worker declares what it has."""
    return {
        "cpus": limits.cpus,
        "memory": float(limits.memory_bytes),
        "gpus": float(limits.gpus),
    }


def boxes_of(resources: Mapping[str, float], threads: int, needs: Mapping[str, float]) -> int:
    """How many boxes fit on a node at once: never more than its declared processors.

    Args:
        resources: What it declares; memory may be left out.
        threads: Of its worker.
        needs: What one box takes.
    """
    declared = {name: resources.get(name, 0.0) for name in needs}
    if "memory" not in resources:
        declared.pop("memory", None)
    fit = [int((have + 1e-9) / needs[name]) for name, have in declared.items() if needs[name] > 0]
    return min([threads, *fit])


def _too_small(resources: Mapping[str, float], threads: int, needs: Mapping[str, float]) -> str:
    wanted = ", ".join(f"{name}={amount:g}" for name, amount in needs.items() if amount)
    got = ", ".join(f"{name}={amount:g}" for name, amount in resources.items()) or "nothing"
    return (
        f"no box fits: one takes {wanted}; it declares {got}, and {threads} thread(s); start its "
        "worker with --resources cpus=N,memory=BYTES,gpus=N and --nthreads N"
    )


def workers_of(client: Client) -> dict[str, Any]:
    """What the scheduler says of each of its workers, by address.

    Not `client.scheduler_info`: the client asks for the same without workers every few seconds,
    and whoever comes in between is told that there are none.

    Raises:
        ClusterError: There is no scheduler any more.
    """
    if client.scheduler is None:
        raise lost(client)
    told: dict[str, Any] = client.sync(client.scheduler.identity, n_workers=-1)["workers"]
    return told


def submit(
    client: Client, node: Node, packed: object, resources: Mapping[str, float] | None = None
) -> "Future[bytes]":
    """Have a node call what is packed: bytes, or a future of them."""
    future: Future[bytes] = client.submit(
        call,
        packed,
        workers=[node.address],
        allow_other_workers=False,
        pure=False,
        resources=resources,
    )
    return future


def require_scheduler(client: Client) -> None:
    """Be connected.

    Raises:
        ClusterError: The scheduler is gone.
    """
    if client.status != "running":
        raise lost(client)


def lost(client: Client) -> ClusterError:
    """What is said when the scheduler is gone."""
    address = client.scheduler.addr if client.scheduler is not None else "the scheduler"
    return ClusterError(
        f"{address}: the scheduler is gone, or cannot be reached; what was finished is kept: "
        "start it again, and run the same command again"
    )
