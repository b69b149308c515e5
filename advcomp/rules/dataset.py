"""Datasets: a folder of PNGs and images.csv, checked whole before anything runs.

A dataset is the organiser's own, so it is read here and not in a sandbox, but just as strictly.
Pixels are read again when they are asked for and compared with what was checked: a file that
changes during a tournament stops it instead of changing its meaning.
"""

import hashlib
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from advcomp.errors import InvalidConfig, InvalidDataset, InvalidImage
from advcomp.rules.durable import naming
from advcomp.rules.images import Pixels, decode_png, encode_png
from advcomp.rules.images_csv import ImageRow, check_image_id, images_csv_text, read_image_rows
from advcomp.rules.paths import is_dropping
from advcomp.rules.png import max_png_bytes, read_size

IMAGES_FOLDER, IMAGES_CSV = "images", "images.csv"

_PNG = ".png"
_IMAGE_EXTENSIONS = (_PNG, ".jpg", ".jpeg")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dataset:
    """A checked dataset; image i has the i-th ImageId in ascending order. Equal by `digest`.

    Args:
        folder: Where the images are.
        image_ids: Sorted.
        labels: int16 (N,), 0..32766.
        target_classes: int16 (N,), none equal to its label; None where images.csv has none.
        height, width: Of every image.
        image_digests: SHA-256 of the pixels of each image.
    """

    folder: Path
    image_ids: tuple[str, ...]
    labels: NDArray[np.int16]
    target_classes: NDArray[np.int16] | None
    height: int
    width: int
    image_digests: tuple[bytes, ...]

    def __len__(self) -> int:
        return len(self.image_ids)

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of sizes, ImageIds, pixels, labels and target classes."""
        digest = hashlib.sha256(f"{self.height} {self.width} {len(self)}\n".encode())
        digest.update("".join(f"{image_id}\n" for image_id in self.image_ids).encode())
        digest.update(b"".join(self.image_digests))
        digest.update(self.labels.astype("<i2").tobytes())
        if self.target_classes is not None:
            digest.update(self.target_classes.astype("<i2").tobytes())
        return digest.hexdigest()

    def image(self, i: int) -> Pixels:
        """Image i, uint8 (H, W, 3), read from its file.

        Raises:
            InvalidDataset: The file is gone, or no longer what it was when it was checked.
        """
        path = self.folder / f"{self.image_ids[i]}{_PNG}"
        try:
            pixels = _read_image(path, self.height, self.width)
        except (OSError, InvalidImage) as error:
            raise InvalidDataset(f"{path}: has changed since it was checked: {error}") from error
        if _digest_of(pixels) != self.image_digests[i]:
            raise InvalidDataset(
                f"{path}: has changed since it was checked; restore it, or start a new tournament"
            )
        return pixels

    def png(self, i: int) -> bytes:
        """Image i as a canonical PNG, as submissions get it."""
        return encode_png(self.image(i))

    def subset(self, count: int, seed: int) -> "Dataset":
        """`count` of the images, drawn with `seed` without replacement, again in order.

        Raises:
            InvalidConfig: There are fewer, or `count` is not positive.
        """
        if not 1 <= count <= len(self):
            raise InvalidConfig(
                f'dataset: "images" must be 1 to {len(self)}, the images that there are; '
                f"got {count}"
            )
        drawn = np.random.Generator(np.random.PCG64(seed)).permutation(len(self))[:count]
        return self.part(np.sort(drawn).tolist())

    def part(self, chosen: Sequence[int]) -> "Dataset":
        """Some of the images, by ascending index."""
        return replace(
            self,
            image_ids=tuple(self.image_ids[i] for i in chosen),
            labels=_frozen(self.labels[list(chosen)]),
            target_classes=None
            if self.target_classes is None
            else _frozen(self.target_classes[list(chosen)]),
            image_digests=tuple(self.image_digests[i] for i in chosen),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledImage:
    """One image to write.

    Args:
        image_id: Matches `IMAGE_ID_PATTERN`.
        image: uint8 (H, W, 3).
        label: 0..32766.
        target_class: Another label; None for all images or for none.
    """

    image_id: str
    image: Pixels
    label: int
    target_class: int | None = None


def load_dataset(images_dir: Path, csv_file: Path) -> Dataset:
    """Read and check a dataset: every line, every image, and that they belong together.

    Raises:
        InvalidDataset: All that is wrong, each with its file and line.
    """
    problems: list[str] = []
    rows = sorted(read_image_rows(csv_file, problems), key=lambda row: row.image_id)
    names = _image_names(images_dir, problems)
    _match(rows, names, images_dir, csv_file, problems)
    present = [row for row in rows if f"{row.image_id}{_PNG}" in names]
    paths = [images_dir / f"{row.image_id}{_PNG}" for row in present]
    size, digests = _check_images(paths, problems)
    if problems:
        raise InvalidDataset(*problems)
    targets = [row.target_class for row in rows if row.target_class is not None]
    return Dataset(
        folder=images_dir.resolve(),
        image_ids=tuple(row.image_id for row in rows),
        labels=_frozen(np.array([row.label for row in rows], np.int16)),
        target_classes=_frozen(np.array(targets, np.int16)) if targets else None,
        height=size[0],
        width=size[1],
        image_digests=digests,
    )


def write_dataset(folder: Path, images: Iterable[LabelledImage]) -> Dataset:
    """Write `folder`/images/*.png and `folder`/images.csv, check them, and return the dataset.

    Until all is written and checked, `folder` does not exist.

    Raises:
        InvalidDataset: What was to be written breaks the contract.
        InvalidConfig: `folder` exists and is not an empty folder.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        draft.chmod(0o755)
        (draft / IMAGES_FOLDER).mkdir()
        _write_rows(draft, images)
        dataset = load_dataset(draft / IMAGES_FOLDER, draft / IMAGES_CSV)
        _put(draft, folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return replace(dataset, folder=(folder / IMAGES_FOLDER).resolve())


def target_class_csv(names: Sequence[str], target_classes: Sequence[int]) -> str:
    """The target_class.csv of a targeted attack: `<name>.png,<int>` lines, without a header."""
    return "".join(
        f"{name}{_PNG},{target_class}\n"
        for name, target_class in zip(names, target_classes, strict=True)
    )


def _image_names(images_dir: Path, problems: list[str]) -> frozenset[str]:
    try:
        paths = [
            path
            for path in images_dir.iterdir()
            if path.suffix.lower() in _IMAGE_EXTENSIONS and not is_dropping(path.name)
        ]
    except OSError as error:
        problems.append(f"{images_dir}: cannot be read: {error.strerror}")
        return frozenset()
    if not paths:
        problems.append(f"{images_dir}: must hold the images, <ImageId>.png each; got none")
    return frozenset(path.name for path in paths)


def _match(
    rows: list[ImageRow],
    names: frozenset[str],
    images_dir: Path,
    csv_file: Path,
    problems: list[str],
) -> None:
    if not rows or not names:
        return  # a problem of its own, already told
    expected = {f"{row.image_id}{_PNG}" for row in rows}
    missing = [row for row in rows if f"{row.image_id}{_PNG}" not in names]
    missing.sort(key=lambda row: row.line)
    unclaimed = sorted(names - expected)
    with_extension = []
    for row in missing:
        # The file that was meant, if it is called otherwise: one mistake gets one message.
        if row.image_id in names:
            with_extension.append(row)
            unclaimed = [name for name in unclaimed if name != row.image_id]
            continue
        close = {f"{row.image_id}{end}".lower() for end in _IMAGE_EXTENSIONS}
        other = next((name for name in unclaimed if name.lower() in close), None)
        unclaimed = [name for name in unclaimed if name != other]
        problems.append(
            f"{csv_file}:{row.line}: the image {images_dir}/{row.image_id}{_PNG} does not exist"
            + (f"; {other} does: {_how_to_mend(other, row.image_id)}" if other else "")
        )
    if with_extension:
        first, *more = with_extension
        others = f", and {len(more):,} more," if more else ""
        problems.append(
            f'{csv_file}:{first.line}: ImageId "{first.image_id}"{others} must be a file name '
            f'without extension; write "{first.image_id.rpartition(".")[0]}"'
        )
    problems.extend(
        f"{images_dir / name}: has no line in {csv_file}; add it or take the file away"
        for name in unclaimed
    )


def _how_to_mend(name: str, image_id: str) -> str:
    if name.lower() == f"{image_id}{_PNG}".lower():
        return f"rename it to {image_id}{_PNG}"
    return "save it as an 8-bit RGB PNG"


def _check_images(
    paths: list[Path], problems: list[str]
) -> tuple[tuple[int, int], tuple[bytes, ...]]:
    """The size of the first image that has one, to which all others are held; their digests."""
    size: tuple[int, int] | None = None
    digests = []
    for path in paths:
        try:
            if size is None:
                size = read_size(_read_file(path, 1 << 30))
            digests.append(_digest_of(_read_image(path, *size)))
        except (OSError, InvalidImage) as error:
            problems.append(f"{path}: {error}")
    return size or (0, 0), tuple(digests)


def _read_image(path: Path, height: int, width: int) -> Pixels:
    return decode_png(_read_file(path, max_png_bytes(height, width)), height, width)


def _read_file(path: Path, at_most: int) -> bytes:
    if not path.is_file():
        raise InvalidImage("must be a file")
    if path.stat().st_size > at_most:
        raise InvalidImage(f"expected at most {at_most:,} bytes, got {path.stat().st_size:,}")
    return path.read_bytes()


def _digest_of(pixels: Pixels) -> bytes:
    return hashlib.sha256(pixels.tobytes()).digest()


def _frozen(labels: NDArray[np.int16]) -> NDArray[np.int16]:
    labels.setflags(write=False)
    return labels


def _write_rows(folder: Path, images: Iterable[LabelledImage]) -> None:
    rows = []
    for row in images:
        problem = check_image_id(row.image_id)
        if problem is not None:
            raise InvalidDataset(problem)
        image = folder / IMAGES_FOLDER / f"{row.image_id}{_PNG}"
        with naming(image):
            image.write_bytes(encode_png(row.image))
        rows.append((row.image_id, row.label, row.target_class))
    with naming(folder / IMAGES_CSV):
        (folder / IMAGES_CSV).write_text(images_csv_text(rows), encoding="utf-8", newline="")


def _put(draft: Path, folder: Path) -> None:
    try:
        draft.rename(folder)
    except OSError as error:
        raise InvalidConfig(
            f"{folder}: must not exist, or be an empty folder; take it away or name another"
        ) from error
