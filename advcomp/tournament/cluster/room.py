"""How many boxes run at once on the nodes that a cluster file names, before they are started."""

from collections.abc import Sequence

from advcomp.errors import ClusterError, InvalidConfig
from advcomp.sandbox.base import Limits
from advcomp.tournament.cluster.cluster_file import ClusterFile, ClusterKind, load_cluster_file
from advcomp.tournament.cluster.connection import node_of_this_machine, opened_client
from advcomp.tournament.cluster.roster import boxes_of, needs_of, workers_of


def boxes_on(cluster: str, limits: Limits) -> int:
    """Boxes at once on all nodes together, once all are there.

    Args:
        cluster: A cluster file, or `local`; a scheduler that it names is asked for its workers.
        limits: Of a box.

    Raises:
        InvalidConfig: The cluster file is wrong, says no number of nodes, or no box fits.
        ClusterError: The scheduler cannot be reached, or has too few workers.
    """
    file = load_cluster_file(cluster)
    needs = needs_of(limits)
    boxes = sum(boxes_of(resources, threads, needs) for resources, threads in _nodes(file))
    if not boxes:
        wanted = ", ".join(f"{name}={amount:g}" for name, amount in needs.items() if amount)
        raise InvalidConfig(
            f"{cluster}: expected a node on which a box fits; one takes {wanted}; no node has so "
            "much: change [node], or [limits] of the tournament"
        )
    return boxes


def _nodes(file: ClusterFile) -> Sequence[tuple[dict[str, float], int]]:
    """What each node declares, and the threads of its worker."""
    match file.kind:
        case ClusterKind.SCHEDULER:
            return _workers(file)
        case ClusterKind.MPI:
            raise InvalidConfig(
                'kind = "mpi": how many nodes there will be, mpiexec alone says; give '
                "`advcomp plan` the sandboxes at once as --jobs"
            )
        case ClusterKind.SSH:
            assert file.ssh is not None
            node, number = file.node, len(file.ssh.hosts)
        case ClusterKind.LOCAL:
            node, number = node_of_this_machine(file), file.nodes.most
        case _:
            node, number = file.node, file.nodes.most
    assert node.cpus is not None
    return [(node.resources, node.cpus)] * number


def _workers(file: ClusterFile) -> Sequence[tuple[dict[str, float], int]]:
    """Those of a scheduler, once the least is there.

    Raises:
        ClusterError: It cannot be reached, or they do not come in time.
    """
    with opened_client(file) as client:
        try:
            client.wait_for_workers(file.nodes.least, timeout=60 * file.nodes.wait_minutes)
        except TimeoutError as error:
            raise ClusterError(
                f"{file.address}: expected [nodes] least ({file.nodes.least}) workers within "
                f"{file.nodes.wait_minutes:g} min, to plan for them; start them"
            ) from error
        workers = workers_of(client).values()
        return [(dict(each["resources"]), each["nthreads"]) for each in workers]
