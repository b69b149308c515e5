"""Work that can be done elsewhere: made ready here, done on a node, and kept here.

What goes to a node and what comes back are bytes to Dask: its scheduler never opens them, and
whoever opens them is the referee or a node, which trust each other.
"""

import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

from advcomp.errors import AdvcompError, ClusterError

Job = TypeVar("Job", contravariant=True)
Result = TypeVar("Result", covariant=True)

Remote = Callable[[], object]
"""What a node calls; it can be pickled, and so can what it returns."""


class NodeFailure(AdvcompError):
    """A node could not do a job, for no fault of the job's: another node may.

    Args:
        problem: Why.
        for_good: No other job would fare better there.
    """

    def __init__(self, problem: str, for_good: bool = False) -> None:
        super().__init__(problem)
        self.for_good = for_good

    def __reduce__(self) -> tuple[type["NodeFailure"], tuple[str, bool]]:
        return NodeFailure, (str(self), self.for_good)


@runtime_checkable
class Errands(Protocol[Job, Result]):
    """Jobs of one kind, for nodes."""

    @property
    def needs(self) -> Mapping[str, float]:
        """What a job takes of a node: cpus, memory, gpus."""
        ...

    def greet(self, boxes: int) -> Remote:
        """What a node does before it gets jobs, so many at once at most."""
        ...

    def judge(self, greeting: object) -> Sequence[str]:
        """Why a node that answered so gets no jobs; empty where it is welcome."""
        ...

    def bundle(self, job: Job) -> tuple[str, Callable[[], Remote]] | None:
        """What a node must have been given before a job, by a name; it is given once."""
        ...

    def order(self, job: Job) -> Remote:
        """A job, made ready."""
        ...

    def keep(self, job: Job, done: object) -> Result:
        """What a node made of it."""
        ...

    def lost(self, job: Job, why: Sequence[str]) -> Result:
        """The result of a job that no node could do."""
        ...

    def touch(self) -> Remote | None:
        """Tells a node that somebody still waits for it."""
        ...

    def leave(self) -> Remote | None:
        """What a node does when it gets no more jobs."""
        ...


class Plain:
    """Any function, done on a node as it is.

    Args:
        work: Can be pickled.
    """

    needs: Mapping[str, float] = {"cpus": 1.0}

    def __init__(self, work: Callable[[object], object]) -> None:
        self._work = work

    def greet(self, boxes: int) -> Remote:
        """Nothing is asked of a node."""
        return _Call(bool, ())

    def judge(self, greeting: object) -> Sequence[str]:
        """Every node is welcome."""
        return ()

    def bundle(self, job: object) -> None:
        """Nothing is given beforehand."""

    def order(self, job: object) -> Remote:
        """The function, and what it is called with."""
        return _Call(self._work, (job,))

    def keep(self, job: object, done: object) -> object:
        """What the function returned."""
        return done

    def lost(self, job: object, why: Sequence[str]) -> object:
        """There is nothing to return.

        Raises:
            ClusterError: Always.
        """
        raise ClusterError(f"{job}: no node could do it", *why)

    def touch(self) -> None:
        """Nobody need know."""

    def leave(self) -> None:
        """Nothing is left."""


@dataclass(frozen=True, slots=True)
class _Call:
    function: Callable[..., object]
    arguments: tuple[object, ...]

    def __call__(self) -> object:
        return self.function(*self.arguments)


def call(packed: bytes) -> bytes:
    """On a node: do what was sent, and pack what comes of it."""
    remote: Remote = pickle.loads(packed)  # noqa: S301 - from the referee
    return pickle.dumps(remote())


def pack(remote: Remote) -> bytes:
    """What `call` takes."""
    return pickle.dumps(remote)


def unpack_answer(answer: bytes) -> object:
    """What a node returned."""
    return pickle.loads(answer)  # noqa: S301 - from a node, which is the organiser's
