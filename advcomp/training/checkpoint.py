"""Checkpoints: all that a run needs to go on as if nothing had happened.

A checkpoint is one file, written beside its place and renamed, so that whatever happens while it
is written the one before is whole. It holds no state of a random generator: every draw has an
address (`draws.py`). It names no number of ranks: a run may go on with another one.
"""

import errno
import hashlib
import io
import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from advcomp.errors import AdvcompError, InvalidConfig
from advcomp.rules.durable import write_durably
from advcomp.rules.toml_file import Table
from advcomp.training.file_kind import FileKind, kind_of
from advcomp.training.torch_file import read_torch_file

CHECKPOINTS = "checkpoints"

_FORMAT = 2
_SHOWN = 5
_STATES = ("module", "average", "optimizer", "scaler")
_WANTED = "a checkpoint of `advcomp train`"
_REMEDY = (
    f"name another one in the {CHECKPOINTS} of a run; to go on training from the one before it, "
    "remove it"
)

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

Free = Mapping[str, "bool | Free"]
"""What of a recipe may differ when a run goes on, since it does not change what is computed."""


class About(Table):
    """What a checkpoint says of itself.

    Args:
        step: How many steps are done.
        skipped, in_a_row: How many of them gave no finite loss, in all and as the last ones.
        spent_s: Seconds that all of them took, and what was done between them.
        identity: Of the recipe: what may not differ when the run goes on, by key.
        recipe: The recipe's text.
        trained: What else whoever trained it wants to know, such as the module's specification.
    """

    step: int
    skipped: int
    in_a_row: int
    spent_s: float = 0.0
    identity: dict[str, str]
    recipe: str
    trained: dict[str, Any]


class Checkpoint:
    """What is in a file.

    Args:
        about: What it says of itself.
        states: State dictionaries by name: module, average, optimizer, scaler.
    """

    def __init__(self, about: About, states: Mapping[str, Mapping[str, Any]]) -> None:
        self.about = about
        self.states = states


def identity_of(recipe: Table, free: Free) -> dict[str, str]:
    """What may not differ when a run goes on: `training.steps` to its value, files by content."""
    tables = recipe.model_dump(mode="json", exclude=dict(free))
    return {key: content_of(value) for key, value in _flat("", tables)}


def unsaid_in(recipe: Table, free: Free) -> frozenset[str]:
    """The keys of its identity that a recipe leaves at their defaults.

    A checkpoint may lack them: it was made before there were such keys.
    """
    said = recipe.model_dump(mode="json", exclude=dict(free), exclude_unset=True)
    return frozenset(identity_of(recipe, free)) - {key for key, _ in _flat("", said)}


@contextmanager
def room_in(folder: Path) -> Iterator[None]:
    """Within it, a full disk is told as a user's problem, with what to go on from.

    Raises:
        AdvcompError: There is no room; the last checkpoint is intact.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        for partial in folder.rglob(".*.partial"):
            partial.unlink()
        last = latest_checkpoint(folder)
        raise AdvcompError(
            f"{folder}: expected room for checkpoints, losses and pictures; got: "
            f"{error.strerror}; make room, then the same command goes on: "
            + (f"{last} is intact" if last else "there is no checkpoint yet")
        ) from error


def save_checkpoint(folder: Path, checkpoint: Checkpoint, keep: int) -> None:
    """Write `checkpoints/step-NNNNNNNN.pt` in a run's folder; delete all but the newest `keep`."""
    checkpoints = folder / CHECKPOINTS
    checkpoints.mkdir(parents=True, exist_ok=True)
    content = io.BytesIO()
    torch.save(
        {"format": _FORMAT, "about": checkpoint.about.model_dump_json(), **checkpoint.states},
        content,
    )
    write_durably(path_of_step(folder, checkpoint.about.step), content.getvalue())
    for old in sorted(checkpoints.glob("step-*.pt"))[:-keep]:
        old.unlink()


def path_of_step(folder: Path, step: int) -> Path:
    """Where a run's folder keeps the checkpoint of a step."""
    return folder / CHECKPOINTS / f"step-{step:08d}.pt"


def latest_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint in a run's folder."""
    return max((folder / CHECKPOINTS).glob("step-*.pt"), default=None)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint; nothing in the file is executed.

    Raises:
        InvalidConfig: The file is missing or no checkpoint of this version.
    """
    if kind_of(path, _WANTED, _REMEDY) is FileKind.SAFETENSORS:
        raise _no_checkpoint(path, "a safetensors file, of weights alone")
    content = read_torch_file(path, _WANTED, _REMEDY)
    try:
        return _parsed(content)
    except (ValueError, LookupError, TypeError) as error:
        said = str(error).partition("\n")[0]
        raise _no_checkpoint(path, f"a PyTorch file of something else: {said}") from error


def _no_checkpoint(path: Path, got: str) -> InvalidConfig:
    return InvalidConfig(f"{path}: expected {_WANTED}; got {got}; {_REMEDY}")


def _parsed(content: object) -> Checkpoint:
    """What a file holds, if it is a checkpoint of this version; else an error of some kind."""
    if isinstance(content, dict) and content.get("format") == 1:
        content = _of_format_1(content)
    if not isinstance(content, dict) or content.keys() != {"format", "about", *_STATES}:
        keys = ", ".join(map(str, [*content][:_SHOWN])) if isinstance(content, dict) else ""
        raise ValueError(f"{type(content).__name__} {keys}".rstrip())
    if content["format"] != _FORMAT:
        raise ValueError(f"its format is {content['format']}, not {_FORMAT}")
    about = About.model_validate_json(content["about"])
    return Checkpoint(about, {name: content[name] for name in _STATES})


def _of_format_1(content: dict[str, Any]) -> dict[str, Any]:
    """Attack networks had a format of their own, which kept what was trained flat."""
    about = json.loads(content["about"])
    shared = About.model_fields.keys() - {"trained"}
    trained = {key: about.pop(key) for key in about.keys() - shared}
    states = {name: content[name] for name in ("average", "optimizer", "scaler")}
    about = json.dumps({**about, "trained": trained})
    return {"format": _FORMAT, "about": about, "module": content["network"], **states}


def refuse_other_recipe(
    path: Path,
    found: Mapping[str, str],
    own: Mapping[str, str],
    unsaid: Collection[str] = (),
) -> None:
    """Check that a checkpoint belongs to a recipe, by the identities of both.

    Args:
        unsaid: See `unsaid_in`.

    Raises:
        InvalidConfig: It does not: names the keys that differ.
    """
    later = {key for key in unsaid if key not in found}
    keys = (found.keys() | own.keys()) - later
    different = sorted(key for key in keys if found.get(key) != own.get(key))
    if different:
        raise InvalidConfig(
            f"{path}: expected a checkpoint of this recipe; other values of "
            f"{', '.join(different)}; undo the change, or train into another folder with --out"
        )


def _flat(prefix: str, value: object) -> list[tuple[str, object]]:
    if isinstance(value, Mapping):
        pairs = [(f"{prefix}.{key}" if prefix else str(key), each) for key, each in value.items()]
    elif isinstance(value, list):
        pairs = [(f"{prefix}[{i}]", each) for i, each in enumerate(value)]
    else:
        return [(prefix, value)]
    return [item for key, each in pairs for item in _flat(key, each)]


def content_of(value: object) -> str:
    """A value as text; of a file the digest of what is in it, of a folder the name."""
    path = Path(value) if isinstance(value, str) else None
    if path is None or not path.is_absolute():
        return str(value)
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else path.name
