"""What a command asks for that trains what a file of recipes names."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from advcomp.errors import InvalidConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingOrder:
    """What is to be trained.

    Args:
        recipe: The file; weights are written to `weights/` beside it.
        names: Of what it names; all where empty.
        source: Where the dataset is, if it is not made here.
        device: "auto", "cpu" or a GPU such as "cuda:1".
        out: Where checkpoints and losses of each go; `checkpoints/` beside the recipe if None.
        evaluate: Train nothing, and try the weights that are there.
    """

    recipe: Path
    names: tuple[str, ...] = ()
    source: Path | None = None
    device: str = "auto"
    out: Path | None = None
    evaluate: bool = False

    @property
    def weights(self) -> Path:
        """Where trained weights are written."""
        return self.recipe.parent / "weights"

    @property
    def folder(self) -> Path:
        """Under which everything that is trained has a folder."""
        return self.recipe.parent / "checkpoints" if self.out is None else self.out


def chosen(order: TrainingOrder, known: Iterable[str]) -> list[str]:
    """The names that were given, or all.

    Raises:
        InvalidConfig: The recipe has no such name.
    """
    known = list(known)
    if unknown := sorted(set(order.names) - set(known)):
        raise InvalidConfig(
            f"{order.recipe}: expected names among {', '.join(known)}; got {', '.join(unknown)}"
        )
    return list(order.names) or known
