"""Write a starter: a small submission that is valid as it stands, for somebody to change.

Its files are templates, `starters/<role>/<path>.jinja` and `starters/common/<path>.jinja`; an
attack's know of the variable `targeted`.
"""

from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from advcomp.errors import InvalidConfig
from advcomp.rules.submission_type import SubmissionType

SUFFIX = ".jinja"
SCRIPT = ".sh"


class Starter(StrEnum):
    """What a starter is for, as the command line says it."""

    ATTACK = "attack"
    TARGETED_ATTACK = "targeted-attack"
    DEFENSE = "defense"

    @property
    def type(self) -> SubmissionType:
        """What its metadata.json says."""
        return SubmissionType[self.name]


def write_starter(starter: Starter, folder: Path) -> None:
    """Write a starter into `folder`, which is made where it is missing.

    Raises:
        InvalidConfig: The folder is not empty, or is a file.
    """
    _refuse_occupied(folder)
    for path, content in starter_files(starter):
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content, encoding="utf-8", newline="\n")
        file.chmod(0o755 if path.endswith(SCRIPT) else 0o644)


def starter_files(starter: Starter) -> Iterator[tuple[str, str]]:
    """The path and the content of every file of a starter."""
    templates = Environment(  # noqa: S701 - these are programs and text, not HTML
        loader=PackageLoader("advcomp.tournament", "starters"),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    role = "defense" if starter is Starter.DEFENSE else "attack"
    for name in templates.list_templates(extensions=[SUFFIX.removeprefix(".")]):
        group, _, path = name.partition("/")
        if group in (role, "common"):
            content = templates.get_template(name).render(
                type=starter.type.value,
                role=role,
                targeted=starter is Starter.TARGETED_ATTACK,
            )
            yield path.removesuffix(SUFFIX), content


def _refuse_occupied(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        return
    if folder.exists() or folder.is_symlink():
        got = "a folder with something in it" if folder.is_dir() else "something else"
        raise InvalidConfig(
            f"{folder}: expected a new or an empty folder; got {got}; name another one"
        )
