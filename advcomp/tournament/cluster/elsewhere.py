"""A cluster that the command line names, for the runner: the one door to this package."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from distributed import Client

from advcomp.sandbox.base import Limits, Sandbox
from advcomp.tournament.cluster.cluster_crew import ClusterCrew, opened_crew
from advcomp.tournament.cluster.cluster_file import ClusterFile, load_cluster_file, scheduler_at
from advcomp.tournament.cluster.connection import is_insecure, opened_client
from advcomp.tournament.store.state import EntryState


@dataclass(frozen=True, slots=True, kw_only=True)
class Elsewhere:
    """A cluster, connected."""

    file: ClusterFile
    client: Client

    @property
    def is_insecure(self) -> bool:
        """Whether anybody on the way could read and change what is sent."""
        return is_insecure(self.file)

    def crew(
        self,
        sandbox: Sandbox,
        run: Path,
        *,
        entries: tuple[EntryState, ...],
        limits: Limits,
        trusting: bool,
        places: Mapping[str, Path],
        boxes: int | None,
        note: Callable[[str], None],
    ) -> AbstractContextManager[ClusterCrew]:
        """Its nodes, at the service of a run; see `opened_crew`."""
        return opened_crew(
            self.client,
            self.file,
            sandbox,
            run,
            entries=entries,
            limits=limits,
            trusting=trusting,
            places=places,
            boxes=boxes or sys.maxsize,
            note=note,
        )


@contextmanager
def open_elsewhere(cluster: str | None, scheduler: str | None) -> Iterator[Elsewhere]:
    """Start or reach what `--cluster` or `--scheduler` names, one of which is given.

    Raises:
        InvalidConfig: The cluster file is wrong, or its address is not safe.
        ClusterError: The cluster cannot be had.
    """
    if cluster is not None:
        file = load_cluster_file(cluster)
    else:
        assert scheduler is not None
        file = scheduler_at(scheduler)
    with opened_client(file) as client:
        yield Elsewhere(file=file, client=client)
