"""Which container image every entry runs in (rulebook, "Where it runs").

metadata.json names an image; the tournament file says which images may be used, and as what. A
name is looked up once, before anything runs, and from then on the image is its ID. What an entry
delivers as image.tar is checked in a box and given to the engine; its ID is its content's digest.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from advcomp.errors import InvalidConfig, InvalidSubmission, RunConflict
from advcomp.rules.image_archive import IMAGE_TAR
from advcomp.rules.image_config import InspectedImage
from advcomp.rules.metadata_answer import Metadata
from advcomp.rules.paths import shown
from advcomp.rules.sizes import unpacked_limit
from advcomp.rules.submission_type import SubmissionType
from advcomp.sandbox.base import ContainerImages, Sandbox
from advcomp.tournament.config import IMAGE_PATTERN, SandboxTable, Tournament
from advcomp.tournament.entry.boxed import receive_from_box
from advcomp.tournament.entry.trial import starts
from advcomp.tournament.job.work import DATA_OUT, IMAGES_OUT, INPUT
from advcomp.tournament.store.state import EntryState

CHECK_PROGRAM = "advcomp.rules.image_archive"
ROOM_FOR_CONFIG = 4 << 20

_DEFAULT_TAG = ":latest"
_DEFAULT_REGISTRIES = ("docker.io/library/", "docker.io/")
_IDENTITY = re.compile("sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """What an entry runs in.

    Args:
        name: What the tournament file calls the image, or image.tar.
        image: Its ID.
        notes: What of it is not used.
    """

    name: str
    image: str
    notes: tuple[str, ...]


class ImageChooser:
    """The images that one tournament's entries may use, on one engine.

    Args:
        sandbox: Where image.tar is checked.
        images: What the engine holds.
        any_local: Take every image that is here, whatever the file says: for one's own entry,
            tried without a tournament.
    """

    def __init__(
        self,
        tournament: Tournament,
        sandbox: Sandbox,
        images: ContainerImages,
        *,
        any_local: bool = False,
    ) -> None:
        self._tournament, self._sandbox, self._images = tournament, sandbox, images
        self._any_local = any_local
        self._startable: dict[tuple[str, str], bool] = {}
        self._map = {canonical(k): v for k, v in tournament.sandbox.image_map.items()}

    def refuse_absent(self) -> None:
        """Refuse to begin while an image of the tournament file is not here.

        Raises:
            InvalidConfig: All that are missing.
        """
        absent = [name for name in listed(self._tournament.sandbox) if self._found[name] is None]
        if absent:
            file = self._tournament.path
            raise InvalidConfig(
                *(f'{file}: {self._images.engine} has no image "{name}"' for name in absent),
                f"fetch what is missing before the run: advcomp pull {file}; docker/build.sh "
                "makes those called advcomp/...",
            )

    def choose(
        self, name: str, metadata: Metadata, delivered: Path | None, scratch: Path
    ) -> Container:
        """Say which image an entry runs in.

        Args:
            name: The entry's.
            delivered: Its image.tar, where it brings one.
            scratch: A folder of this entry alone, which whoever calls takes away.

        Raises:
            InvalidSubmission: It may not use the image that it names, or the image is not one that
                can be used.
        """
        key, wanted = self._wanted(metadata)
        if delivered is not None:
            used, image = IMAGE_TAR, self._load(name, delivered)
            if _IDENTITY.fullmatch(wanted) and wanted != image.id:
                raise InvalidSubmission(
                    f'{name}/metadata.json: "{key}" is {wanted}, but {IMAGE_TAR} is {image.id}'
                )
        else:
            used, image = self._allowed(f'{name}/metadata.json: "{key}"', wanted)
        where = f"{name}/{IMAGE_TAR}" if delivered is not None else f"{name}: image {shown(used)}"
        if problems := [f"{where}: {problem}" for problem in image.problems()]:
            raise InvalidSubmission(*problems)
        self._refuse_unstartable(where, image.id, metadata, scratch)
        ignored = ", ".join(image.ignored())
        notes = (f"{where}: not used of it: {ignored}",) if ignored else ()
        return Container(name=used, image=image.id, notes=notes)

    def _wanted(self, metadata: Metadata) -> tuple[str, str]:
        """The key of metadata.json that counts here, and the image that it names."""
        names = {"container": metadata.container, "container_gpu": metadata.container_gpu}
        if self._tournament.limits.gpus > 0:
            names = dict(reversed(names.items()))
        return next((key, name) for key, name in names.items() if name is not None)

    def _allowed(self, what: str, wanted: str) -> tuple[str, InspectedImage]:
        """The image that a name stands for, and what it is called."""
        if not re.fullmatch(IMAGE_PATTERN, wanted):
            raise InvalidSubmission(f"{what} is {shown(wanted)}, which is no name of an image")
        if self._any_local:
            return wanted, self._own(what, wanted)
        used = self._map.get(canonical(wanted), wanted)
        for name, image in self._found.items():
            if image is not None and canonical(name) == canonical(used):
                return name, image
        raise InvalidSubmission(
            f"{what} is {shown(wanted)}, which this tournament does not use; to let it, put "
            f"one of these lines under [sandbox] in {self._tournament.path}: "
            f"{self._line(wanted)}; or to use another image for it: "
            f"image_map = {{ {json.dumps(wanted)} = {json.dumps(self._example)} }}"
        )

    def _own(self, what: str, wanted: str) -> InspectedImage:
        image = self._images.find(wanted)
        if image is None:
            engine = self._images.engine
            raise InvalidSubmission(
                f"{what} is {shown(wanted)}, which {engine} does not have; build it "
                f"({engine} build -t {wanted} .), or fetch it ({engine} pull {wanted})"
            )
        return image

    def _line(self, wanted: str) -> str:
        return f"images = {json.dumps([*self._tournament.sandbox.images, wanted])}"

    @property
    def _example(self) -> str:
        return next(iter(self._found), "advcomp/runtime")

    def _refuse_unstartable(
        self, where: str, image: str, metadata: Metadata, scratch: Path
    ) -> None:
        output = DATA_OUT if metadata.type is SubmissionType.DEFENSE else IMAGES_OUT
        key = image, output
        if key not in self._startable:
            empty = self._images.empty().id
            self._startable[key] = starts(self._sandbox, image, empty, output, scratch)
        if self._startable[key]:
            return
        raise InvalidSubmission(
            f"{where}: no container of it starts; /code, {INPUT}, {output}, /tmp, /dev, /proc and "
            "/sys must be folders of it or absent, no files and no links"
        )

    def _load(self, name: str, delivered: Path) -> InspectedImage:
        parts = delivered.with_name("image")
        receive_from_box(
            CHECK_PROGRAM,
            delivered,
            parts,
            name=f"{name}/{IMAGE_TAR}",
            sandbox=self._sandbox,
            max_bytes=unpacked_limit(delivered.stat().st_size) + ROOM_FOR_CONFIG,
        )
        try:
            return self._images.load(parts)
        except InvalidSubmission as error:
            problems = (f"{name}/{IMAGE_TAR}: {problem}" for problem in error.problems)
            raise InvalidSubmission(*problems) from error

    @cached_property
    def _found(self) -> Mapping[str, InspectedImage | None]:
        """The tournament file's images, each looked up once."""
        return {name: self._images.find(name) for name in listed(self._tournament.sandbox)}


def listed(table: SandboxTable) -> tuple[str, ...]:
    """Every image that a tournament file lets entries use."""
    return tuple(dict.fromkeys((*table.images, *table.image_map.values())))


def canonical(name: str) -> str:
    """One spelling for an image: without the default registry, with the default tag."""
    for registry in _DEFAULT_REGISTRIES:
        name = name.removeprefix(registry)
    has_tag = "@" in name or ":" in name.rpartition("/")[2]
    return name if has_tag else f"{name}{_DEFAULT_TAG}"


def pins(entries: Sequence[EntryState], known: Mapping[str, str]) -> dict[str, str]:
    """The image that every name of the tournament file has meant in a run: name -> ID.

    Args:
        known: Those of its earlier starts.
    """
    named = {
        entry.container: entry.image
        for entry in entries
        if entry.container is not None and entry.image is not None and entry.container != IMAGE_TAR
    }
    return {**known, **named}


def refuse_moved(run: Path, old: Mapping[str, str], new: Mapping[str, str]) -> None:
    """Refuse to go on where a name means another image than when the run began.

    Raises:
        RunConflict: All names that moved.
    """
    moved = [name for name, image in new.items() if old.get(name, image) != image]
    if moved:
        raise RunConflict(
            f"{run}: images are not those that this run began with; give the names back to the "
            "old ones, or choose another folder with --out",
            *(f"  {name}: was {old[name]}, is now {new[name]}" for name in moved),
        )
