"""What other packages add to advcomp: objects that they name as entry points.

A package adds one in its pyproject.toml:

    [project.entry-points."advcomp.sandboxes"]
    firecracker = "advcomp_firecracker:open_sandbox"

| group | the object |
|---|---|
| `advcomp.sandboxes` | `(hidden: Sequence[Path]) -> Sandbox`, see `sandbox.probe.OpenBackend` |
| `advcomp.executors` | an `Executor`, see `tournament.job.executors` |
| `advcomp.attacks` | an attack, as `players.attack_catalogue.ATTACKS` holds them |
| `advcomp.defenses` | a defense, as `players.defense_catalogue.DEFENSES` holds them |

Nothing of another package is imported before its name is asked for, and no name of ours can be
taken: what advcomp has itself comes first.
"""

from collections.abc import Iterable
from enum import StrEnum
from importlib.metadata import EntryPoint, entry_points

from advcomp.errors import InvalidConfig

__all__ = ["ExtensionGroup", "load", "names"]


class ExtensionGroup(StrEnum):
    """The groups of entry points that advcomp reads."""

    SANDBOXES = "advcomp.sandboxes"
    EXECUTORS = "advcomp.executors"
    ATTACKS = "advcomp.attacks"
    DEFENSES = "advcomp.defenses"


def names(group: ExtensionGroup, own: Iterable[str] = ()) -> tuple[str, ...]:
    """The names that other packages add to a group, sorted, without those of ours."""
    return tuple(sorted({point.name for point in entry_points(group=group)} - set(own)))


def load(group: ExtensionGroup, name: str) -> object | None:
    """What another package adds to a group under a name; None where no package does.

    Raises:
        InvalidConfig: Two packages add the name, or the object cannot be imported.
    """
    points = [*entry_points(group=group, name=name)]
    if not points:
        return None
    if len(points) > 1:
        raise InvalidConfig(
            f'{group} "{name}": expected one package that adds it; got '
            f"{' and '.join(sorted(map(_package, points)))}; uninstall all but one"
        )
    try:
        added: object = points[0].load()
    except (ImportError, AttributeError) as error:
        raise InvalidConfig(
            f'{group} "{name}": expected {points[0].value} of the package {_package(points[0])}; '
            f"got {type(error).__name__}: {error}; install that package again"
        ) from error
    return added


def _package(point: EntryPoint) -> str:
    return "an unknown package" if point.dist is None else point.dist.name
