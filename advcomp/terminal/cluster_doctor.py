"""`advcomp doctor --cluster FILE`: what each node is, and how it differs from this machine."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

from advcomp.errors import ClusterError
from advcomp.rules.printable import printable
from advcomp.terminal.text import count
from advcomp.tournament.cluster.extra import require_extra

if TYPE_CHECKING:
    from advcomp.tournament.cluster.survey import NodeReport, Survey

PACKAGE = "version of "
"""How a fingerprint names a package."""


def examine_cluster(cluster: str, backend: str, form: str) -> int:
    """Print the fingerprint of this machine, and every node with what differs.

    Args:
        cluster: A cluster file, or `local`.
        backend: The sandbox that boxes will be of.
        form: `text`, or `json` with every node's whole fingerprint.

    Returns:
        0, or 3 where a node is missing or would get no jobs.

    Raises:
        AdvcompError: See `survey`.
    """
    require_extra()
    from advcomp.tournament.cluster.survey import survey

    found = survey(cluster, backend)
    print(json.dumps(asdict(found), indent=2) if form == "json" else "\n".join(_lines(found)))
    all_usable = len(found.nodes) >= found.expected and not any(
        node.problems for node in found.nodes
    )
    return 0 if all_usable else ClusterError.exit_code


def _lines(found: "Survey") -> Iterator[str]:
    packages = [name for name in found.here if name.startswith(PACKAGE)]
    facts = ", ".join(
        f"{name} {value}" for name, value in found.here.items() if name not in packages
    )
    yield printable(f"this machine, as every node must be: {facts}, {len(packages)} packages")
    for node in found.nodes:
        yield from map(printable, _lines_of(node))
    usable = sum(not node.problems for node in found.nodes)
    missing = max(0, found.expected - len(found.nodes))
    did_not_come = f"; {missing} did not come in time" if missing else ""
    yield f"{usable} of {count(len(found.nodes) + missing, 'node')} can take jobs{did_not_come}"


def _lines_of(node: "NodeReport") -> Iterator[str]:
    declared = ", ".join(f"{what}={amount:g}" for what, amount in node.resources.items())
    room = f"{count(node.boxes, 'box', 'boxes')} of one processor at once"
    mark = "NO" if node.problems else "ok"
    yield f"{mark:<3} {node.name}: {room}; declares {declared or 'nothing'}"
    yield from (f"    {problem}" for problem in node.problems)
