"""What the commands that train have in common: a recipe, names out of it, and how they fail."""

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from advcomp.errors import AdvcompError, InvalidConfig


def recipe_parser(module: str, description: str | None, *, of: str) -> argparse.ArgumentParser:
    """The arguments of `python -m MODULE RECIPE [NAME ...]`, which trains `of`."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {module}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("recipe", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"only these {of}")
    parser.add_argument("--source", type=Path, help="where the dataset is, if it is not made here")
    parser.add_argument(
        "--evaluate", action="store_true", help="train nothing; try the weights that are there"
    )
    return parser


def chosen(recipe: Path, names: Sequence[str], known: Iterable[str]) -> list[str]:
    """The names that were given, or all.

    Raises:
        InvalidConfig: The recipe has no such name.
    """
    known = list(known)
    if unknown := sorted(set(names) - set(known)):
        raise InvalidConfig(
            f"{recipe}: expected names among {', '.join(known)}; got {', '.join(unknown)}"
        )
    return list(names) or known


@contextmanager
def exiting_with_problems() -> Iterator[None]:
    """A user's mistake ends the command: its problems, no traceback, its exit code."""
    try:
        yield
    except AdvcompError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
