"""Results on disk: one folder a job, written under a temporary name, fsynced, then renamed.

`jobs/<id>/` holds `result.json` (with its own checksum and those of the other files), `log`, and
`images.zip` (an attack's projected images, canonical PNGs, stored) or `labels.npy` (a defense's
labels, int16, in the order of the shard). A folder whose checksums fail is no result: the job runs
again. Large files are not read to find that out: each image is compared with its own digest when a
defense is given it, and `advcomp verify` compares everything. What `rerun` takes out of an attack
is kept as `<id>~<n>`, since waves may refer to it.

Several machines may write: each drafts under a name of its own, and the referee alone renames. So
nothing that a lost machine still writes can come between.
"""

import hashlib
import io
import os
import secrets
import shutil
import time
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from itertools import count
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from advcomp.errors import RunConflict
from advcomp.rules.durable import sync_folder
from advcomp.rules.faults import Fault
from advcomp.rules.lock import locked as locked
from advcomp.rules.plain_file import open_plain_file, read_plain_file, require_plain_file
from advcomp.rules.verdict import Verdict
from advcomp.tournament.store.sealed import seal, unseal

RESULT, LOG, IMAGES, LABELS = "result.json", "log", "images.zip", "labels.npy"
PARTIAL = ".partial"
LABEL_BYTES = 2
LOCAL_HEADER_BYTES = 30
"""What stands in a ZIP archive before the name of each file, whose bytes follow the name."""
LAG_S = 0.1
LARGE_BYTES = 1 << 20
"""What is larger is compared with its checksum when it is read, not when its result is."""
"""How often a shared file system is asked for what another machine wrote."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobResult:
    """How one job ended.

    Args:
        png_digests: An attack's: for each image of the job the SHA-256 of its canonical PNG, ""
            where there is no valid image.
        projected_images: An attack's: images in which the projection changed a pixel.
        cpu_seconds: Processor time of all its processes; None where it is unknown.
        faults: Why items are not valid, and how many for each reason.
    """

    job: str
    submission: str
    stage: str
    max_epsilon: int | None
    shard: int
    images: int
    valid: int
    verdict: Verdict
    exit_code: int | None = None
    signal: int | None = None
    wall_seconds: float = 0.0
    cpu_seconds: float | None = None
    max_rss_bytes: int | None = None
    notes: tuple[str, ...] = ()
    png_digests: tuple[str, ...] = ()
    projected_images: int = 0
    faults: tuple[tuple[Fault, int], ...] = ()

    @property
    def outputs(self) -> str:
        """What identifies the images of an attack's job: SHA-256 over their digests."""
        return hashlib.sha256("\n".join(self.png_digests).encode()).hexdigest()


_ADAPTER = TypeAdapter(JobResult)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A result that is written and does not count yet.

    Args:
        folder: Its name among the jobs' folders.
        digest: SHA-256 of its sealed record, which tells those of its files.
    """

    folder: str
    digest: str


class Store:
    """The job results of one run folder."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self._jobs = run / "jobs"
        self._checked: dict[str, JobResult] = {}
        self._places: dict[str, _Places] = {}

    def __reduce__(self) -> tuple[type["Store"], tuple[Path]]:
        """What was checked here is not taken elsewhere."""
        return Store, (self.run,)

    def save(self, job_id: str, result: JobResult, files: Mapping[str, bytes]) -> None:
        """Keep a result; the files are on disk before the verdict is."""
        self._put(job_id, self._jobs / self.draft(job_id, result, files).folder)

    def draft(self, job_id: str, result: JobResult, files: Mapping[str, bytes]) -> "Draft":
        """Write a result that counts once it is adopted; several machines may write at once."""
        partial = self._jobs / f".{job_id}.{secrets.token_hex(8)}{PARTIAL}"
        partial.mkdir(parents=True)
        for name, content in files.items():
            _write_synced(partial / name, content)
        digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
        record = seal({"result": asdict(result), "files": digests})
        _write_synced(partial / RESULT, record)
        sync_folder(partial)
        return Draft(folder=partial.name, digest=hashlib.sha256(record).hexdigest())

    def adopt(self, job_id: str, draft: "Draft", *, patience_s: float = 60.0) -> JobResult:
        """Keep what another machine has drafted, once all of it is to be seen here.

        Raises:
            RunConflict: It is not, after `patience_s` seconds.
        """
        give_up = time.monotonic() + patience_s
        while (result := self._drafted(draft)) is None:
            if time.monotonic() > give_up:
                raise RunConflict(
                    f"{self._jobs / draft.folder}: another machine has written it, and it is not "
                    f"to be seen here after {patience_s:.0f} s; is the run's folder the same on "
                    'all of them? If not, set store = "wire" in the cluster file'
                )
            time.sleep(LAG_S)
        self._put(job_id, self._jobs / draft.folder)
        return result

    def _drafted(self, draft: "Draft") -> JobResult | None:
        """A draft's result; None as long as anything of it is not to be seen."""
        try:
            record = read_plain_file(self._jobs / draft.folder / RESULT)
        except OSError:
            return None
        if hashlib.sha256(record).hexdigest() != draft.digest:
            return None
        return self._read(draft.folder, entirely=True)

    def _put(self, job_id: str, partial: Path) -> None:
        self.delete(job_id)
        partial.rename(self._jobs / job_id)
        sync_folder(self._jobs)

    def load(self, job_id: str) -> JobResult | None:
        """The result of a job; None where there is none, or it is torn or corrupted.

        Checksums are compared at the first call for a job.
        """
        if job_id not in self._checked:
            result = self._read(job_id)
            if result is None:
                return None
            self._checked[job_id] = result
        return self._checked[job_id]

    def is_done(self, job_id: str) -> bool:
        """Whether a job need not run: it has a result, and none that is missing for our fault."""
        result = self.load(job_id)
        return result is not None and result.verdict is not Verdict.INFRA

    def _read(self, job_id: str, *, entirely: bool = False) -> JobResult | None:
        folder = self._jobs / job_id
        try:
            record = unseal(read_plain_file(folder / RESULT))
            for name, digest in record["files"].items():
                with open_plain_file(folder / name) as file:
                    if not (entirely or name == LABELS) and _is_large(file):
                        continue
                    if hashlib.sha256(file.read()).hexdigest() != digest:
                        return None
            return _ADAPTER.validate_python(record["result"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError, ValidationError):
            return None

    def verify(self) -> Iterator[tuple[str, bool]]:
        """Compare every file of every result with its checksum.

        Yields:
            The name of a folder among the jobs', and whether it is whole.
        """
        for folder in sorted(self._jobs.glob("[!.]*")):
            yield folder.name, self._read(folder.name, entirely=True) is not None

    def drop(self, folder: str) -> None:
        """Have a folder among the jobs' be no result any more; what replaces it removes it."""
        record = self._jobs / folder / RESULT
        if not record.is_dir():  # which is no result
            record.unlink(missing_ok=True)

    def damaged(self, folder: str) -> RunConflict:
        """What is said where the images of an attack's job are not what was written."""
        return RunConflict(
            f"{self._jobs / folder / IMAGES}: expected the images that were written; it is "
            f"damaged, or was changed by hand; `advcomp verify {self.run} --drop` takes out all "
            "that is, and the same command then runs those jobs again"
        )

    def find(self, job_id: str, outputs: str) -> str | None:
        """The name of the folder with these outputs of an attack's job, taken out or not."""
        for folder in (job_id, *self._taken_out(job_id)):
            result = self.load(folder)
            if result is not None and result.outputs == outputs:
                return folder
        return None

    def _taken_out(self, job_id: str) -> Iterator[str]:
        """The folders of what `take_out` set aside."""
        for number in count(1):
            folder = f"{job_id}~{number}"
            if not (self._jobs / folder).exists():
                return
            yield folder

    def labels(self, job_id: str) -> NDArray[np.int16]:
        """The labels of a defense's job, int16, in the order of its shard."""
        content = read_plain_file(self._jobs / job_id / LABELS)
        before = _before_labels((len(content) - len(_before_labels(0))) // LABEL_BYTES)
        if not content.startswith(before):  # np.save has changed since it was written
            array: NDArray[np.int16] = np.load(io.BytesIO(content), allow_pickle=False)
            return array
        return np.frombuffer(content, np.int16, offset=len(before))

    def images(self, folder: str) -> zipfile.ZipFile:
        """The archive of an attack's job, one `<ImageId>.png` for each valid image."""
        path = self._jobs / folder / IMAGES
        require_plain_file(path)
        return zipfile.ZipFile(path)

    def read_images(self, items: Iterable[tuple[str, str]]) -> Iterator[bytes]:
        """The canonical PNG of every (folder of an attack's job, ImageId), in this order.

        No archive stays open, and none is looked through twice: a job may read one image of each.

        Raises:
            KeyError: There is no such image.
            RunConflict: An archive is damaged, or gone.
        """
        for folder, image_id in items:
            try:
                start, length = self._places_in(folder).of(image_id)
                with open_plain_file(self._jobs / folder / IMAGES) as archive:
                    archive.seek(start)
                    png = archive.read(length)
            except (zipfile.BadZipFile, FileNotFoundError) as error:
                raise self.damaged(folder) from error
            yield png

    def _places_in(self, folder: str) -> "_Places":
        if folder not in self._places:
            with self.images(folder) as archive:
                self._places[folder] = _Places(archive)
        return self._places[folder]

    def log(self, job_id: str) -> bytes:
        """What the submission printed, raw: escape before showing."""
        path = self._jobs / job_id / LOG
        return read_plain_file(path, at_most=None) if path.exists() else b""

    def ended_ns(self, job_id: str) -> int:
        """When a result was written, by its file: nanoseconds since 1970."""
        return (self._jobs / job_id / RESULT).stat().st_mtime_ns

    def delete(self, job_id: str) -> None:
        """Remove a result; a crash on the way leaves a folder without a valid checksum."""
        self._checked.pop(job_id, None)
        self._places.pop(job_id, None)
        folder = self._jobs / job_id
        if folder.is_dir() and not folder.is_symlink():
            self.drop(job_id)
            shutil.rmtree(folder)
        else:
            folder.unlink(missing_ok=True)

    def take_out(self, job_id: str) -> None:
        """Set an attack's result aside: waves that hold its images go on using them."""
        folder = self._jobs / job_id
        if not folder.exists():
            return
        self._checked.pop(job_id, None)
        self._places.pop(job_id, None)
        taken = sum(1 for _ in self._taken_out(job_id))
        folder.rename(self._jobs / f"{job_id}~{taken + 1}")
        sync_folder(self._jobs)

    def sweep(self) -> None:
        """Remove what a killed run left half written."""
        self._jobs.mkdir(parents=True, exist_ok=True)
        for partial in self._jobs.glob(f".*{PARTIAL}"):
            # A node of a run whose referee was killed may still be writing.
            shutil.rmtree(partial, ignore_errors=True)


class _Places:
    """Where the images of an archive that `zip_images` made lie; arrays, since there are many."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        entries = sorted(archive.infolist(), key=lambda entry: entry.filename.encode())
        names = [entry.filename.encode() for entry in entries]
        self._names = np.array(names, np.bytes_)
        self._starts = np.array(
            [
                entry.header_offset + LOCAL_HEADER_BYTES + len(name)
                for entry, name in zip(entries, names, strict=True)
            ],
            np.int64,
        )
        self._lengths = np.array([entry.file_size for entry in entries], np.int64)

    def of(self, image_id: str) -> tuple[int, int]:
        """Where the PNG of an image begins, and how long it is.

        Raises:
            KeyError: There is none.
        """
        name = f"{image_id}.png".encode()
        at = int(np.searchsorted(self._names, name))
        if at == len(self._names) or self._names[at] != name:
            raise KeyError(f"{image_id}.png")
        return int(self._starts[at]), int(self._lengths[at])


def zip_images(images: Iterable[tuple[str, bytes]]) -> bytes:
    """An archive of `<ImageId>.png` files, stored, the same bytes for the same images."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for image_id, png in images:
            archive.writestr(zipfile.ZipInfo(f"{image_id}.png"), png)
    return buffer.getvalue()


def dump_labels(labels: NDArray[np.int16]) -> bytes:
    """The content of `labels.npy`."""
    buffer = io.BytesIO()
    np.save(buffer, labels.astype(np.int16), allow_pickle=False)
    return buffer.getvalue()


@cache
def _before_labels(count: int) -> bytes:
    """What stands before so many labels in `labels.npy`."""
    whole = dump_labels(np.zeros(max(count, 0), np.int16))
    return whole[: len(whole) - LABEL_BYTES * max(count, 0)]


def _is_large(file: BinaryIO) -> bool:
    return os.fstat(file.fileno()).st_size > LARGE_BYTES


def _write_synced(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
