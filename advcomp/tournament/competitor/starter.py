"""Write a starter: a small submission that is valid as it stands, for somebody to change.

A starter is made of groups of files, folders in `starters`; a later group replaces files of an
earlier one. `<path>.jinja` is a template of `<path>`, an attack's know of the variable `targeted`;
any other file is copied.
"""

from collections.abc import Mapping
from enum import StrEnum
from importlib import resources
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from advcomp.errors import InvalidConfig
from advcomp.rules.durable import naming
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

    @property
    def role(self) -> str:
        """What its program is called, and the group of its files."""
        return "defense" if self is Starter.DEFENSE else "attack"


class Template(StrEnum):
    """How a starter begins, as the command line says it.

    `onnx` runs a model with onnxruntime; its model.onnx is made by our own recipe,
    tests/support/brightness_model.py.
    """

    NUMPY = "numpy"
    ONNX = "onnx"

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups of files besides those of every starter and those of its role."""
        return () if self is Template.NUMPY else (self.value,)

    @property
    def container(self) -> str:
        """The image that its metadata.json names."""
        return "advcomp/runtime" if self is Template.NUMPY else "advcomp/onnx"

    @property
    def packages(self) -> str:
        """What its Dockerfile installs."""
        return "numpy pillow" if self is Template.NUMPY else "numpy pillow onnxruntime"


def write_starter(starter: Starter, folder: Path, template: Template = Template.NUMPY) -> None:
    """Write a starter into `folder`, which is made where it is missing.

    Raises:
        InvalidConfig: The folder is not empty, or is a file; or there is no such starter.
    """
    if template is Template.ONNX and starter is not Starter.DEFENSE:
        raise InvalidConfig(
            f'expected a defense for the template "{template}"; got {starter}: onnxruntime gives '
            f'no gradients; take the template "{Template.NUMPY}"'
        )
    _refuse_occupied(folder)
    for path, content in starter_files(starter, template).items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        with naming(file):
            file.write_bytes(content)
        file.chmod(0o755 if path.endswith(SCRIPT) else 0o644)


def starter_files(starter: Starter, template: Template) -> Mapping[str, bytes]:
    """The path and the content of every file of a starter."""
    templates = Environment(  # noqa: S701 - these are programs and text, not HTML
        loader=PackageLoader("advcomp.tournament.competitor", "starters"),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    variables = {
        "type": starter.type.value,
        "role": starter.role,
        "targeted": starter is Starter.TARGETED_ATTACK,
        "container": template.container,
        "packages": template.packages,
    }
    names = templates.list_templates()
    files = {}
    for group in ("common", starter.role, *template.groups):
        for name in (name for name in names if name.startswith(f"{group}/")):
            path = name.removeprefix(f"{group}/")
            if path.endswith(SUFFIX):
                text = templates.get_template(name).render(variables)
                files[path.removesuffix(SUFFIX)] = text.encode()
            else:
                files[path] = _packaged(name)
    return files


def _packaged(name: str) -> bytes:
    return resources.files("advcomp.tournament.competitor").joinpath("starters", name).read_bytes()


def _refuse_occupied(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        return
    if folder.exists() or folder.is_symlink():
        got = "a folder with something in it" if folder.is_dir() else "something else"
        raise InvalidConfig(
            f"{folder}: expected a new or an empty folder; got {got}; name another one"
        )
