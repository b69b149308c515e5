"""What the nodes of a cluster are like, before a tournament runs there."""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from distributed import Client

from advcomp.sandbox.probe import open_sandbox
from advcomp.tournament.cluster.cluster_file import ClusterFile, ClusterKind, load_cluster_file
from advcomp.tournament.cluster.connection import opened_client
from advcomp.tournament.cluster.errands import Plain, Remote
from advcomp.tournament.cluster.fingerprint import (
    Fingerprint,
    fingerprint_differences,
    fingerprint_of,
)
from advcomp.tournament.cluster.roster import Node, Roster
from advcomp.tournament.cluster.station import OFF, SPILLING, with_spilling
from advcomp.tournament.exposure import labelled_folders
from advcomp.tournament.surroundings import UMASK

LOOK_S = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeReport:
    """One node.

    Args:
        resources: What it declares.
        boxes: Of one processor, at once.
        fingerprint: None where it gave none.
        problems: Why it would get no jobs; every difference of its fingerprint.
    """

    name: str
    resources: Mapping[str, float]
    boxes: int
    fingerprint: Fingerprint | None
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """This machine's fingerprint, and the nodes; so many were expected."""

    here: Fingerprint
    nodes: tuple[NodeReport, ...]
    expected: int


def survey(cluster: str, backend: str) -> Survey:
    """Start or reach a cluster, and have every node show its fingerprint.

    Args:
        cluster: A cluster file, or `local`.
        backend: The sandbox that boxes will be of.

    Raises:
        InvalidConfig: The cluster file is wrong, or its address is not safe.
        ClusterError: The cluster cannot be had.
        SandboxUnavailable: The sandbox does not work on this machine.
    """
    file = load_cluster_file(cluster)
    here = {**_fingerprint(backend), SPILLING: OFF}
    with opened_client(file) as client:
        expected = _expected_nodes(file)
        nodes = _answers(client, _Look(backend, here), expected, 60 * file.nodes.wait_minutes)
    return Survey(here=here, nodes=tuple(map(_report, nodes)), expected=expected)


def _expected_nodes(file: ClusterFile) -> int:
    match file.kind:
        case ClusterKind.SLURM | ClusterKind.LOCAL:
            return file.nodes.most
        case ClusterKind.SSH:
            assert file.ssh is not None
            return len(file.ssh.hosts)
    return file.nodes.least


def _answers(client: Client, look: "_Look", expected: int, wait_s: float) -> Sequence[Node]:
    """The nodes that came in time, once each has answered or been given up."""
    roster = Roster(client, look, note=lambda text: None, wait_s=wait_s, least=expected)
    give_up = time.monotonic() + wait_s
    while True:
        roster.look()
        nodes = list(roster.nodes.values())
        if all(node.greeting is None for node in nodes) and (
            len(nodes) >= expected or time.monotonic() > give_up
        ):
            return nodes
        time.sleep(LOOK_S)


def _report(node: Node) -> NodeReport:
    return NodeReport(
        name=node.name,
        resources=dict(node.resources),
        boxes=node.boxes,
        fingerprint=node.answer if isinstance(node.answer, dict) else None,
        problems=tuple(node.problems),
    )


def _fingerprint(backend: str) -> dict[str, str]:
    sandbox = open_sandbox(backend, hidden=labelled_folders())
    try:
        return fingerprint_of(sandbox)
    finally:
        sandbox.close()


class _Look(Plain):
    """Nodes are asked for their fingerprint, and for nothing else."""

    def __init__(self, backend: str, expected: Fingerprint) -> None:
        super().__init__(str)
        self._backend, self._expected = backend, expected

    def greet(self, boxes: int) -> Remote:
        """Opens a sandbox there."""
        return _Show(self._backend)

    def judge(self, greeting: object) -> Sequence[str]:
        """Every difference of its fingerprint."""
        assert isinstance(greeting, dict)
        return fingerprint_differences(self._expected, greeting)


@dataclass(frozen=True, slots=True)
class _Show:
    backend: str

    def __call__(self) -> dict[str, str]:
        os.umask(UMASK)
        return with_spilling(_fingerprint(self.backend))
