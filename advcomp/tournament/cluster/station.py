"""What runs on a node: one station for each run that it serves.

A station opens the sandbox once, stages on the node's own disk, and cleans up when it is told to
leave, or when nobody has asked for it for `LEASE_S` seconds: its referee is dead then, or cut off,
and its boxes end with it. Submissions never run in the worker's process, only in boxes.
"""

import logging
import os
import shutil
import signal
import tarfile
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

from distributed import Worker, get_worker
from distributed.core import Status

from advcomp.rules.receive import DISK_IS_FULL
from advcomp.rules.verdict import Verdict
from advcomp.sandbox.base import Limits, Sandbox
from advcomp.sandbox.box.traces import abandoned, mark
from advcomp.sandbox.cache.steady import CacheState
from advcomp.sandbox.limits.harness_limits import fit_for_boxes
from advcomp.sandbox.probe import open_sandbox
from advcomp.tournament.cluster.errands import NodeFailure
from advcomp.tournament.cluster.fingerprint import fingerprint_of
from advcomp.tournament.exposure import labelled_folders, refuse_exposed
from advcomp.tournament.job.orders import Order
from advcomp.tournament.job.staging import Staging
from advcomp.tournament.job.steadiness import opened_gate
from advcomp.tournament.job.work import Bench
from advcomp.tournament.store.job_results import Draft, JobResult, Store
from advcomp.tournament.store.state import EntryState
from advcomp.tournament.surroundings import UMASK

logger = logging.getLogger(__name__)

LEASE_S = 50.0
LOOK_S = 2.0
ENDING_S = 2.0
"""How long a worker may take to learn that it is being ended, when its boxes are already."""
SPILLING = "Dask's spilling to disk"
OFF = "off"


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What a node must know to serve a run.

    Args:
        session: Of one start of the referee.
        run: The run's folder, where it is shared; else None.
        entries: Whose images boxes are made of; none where the sandbox uses no images.
        places: What must not lie in sight of boxes -> where it is.
        limits: Of a box.
        scratch: A folder for what is staged; by default the system's for temporary files.
    """

    session: str
    backend: str
    trusting: bool
    run: Path | None
    places: Mapping[str, Path]
    entries: tuple[EntryState, ...]
    limits: Limits
    scratch: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Greeting:
    """What a node says of itself."""

    fingerprint: Mapping[str, str]
    page_cache: CacheState


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreIsFull:
    """A result that a node could not write to the shared folder."""

    path: str
    errno: int


class _Station:
    """A node's part in one run."""

    def __init__(self, site: Site, boxes: int) -> None:
        self.site = site
        self.stage: str | None = None
        self._heard = time.monotonic()
        self._working = 0
        self._changed = threading.Condition()
        self.is_closed = False
        with ExitStack() as held:
            self.root = held.enter_context(_scratch(site.scratch))
            self._sandbox: Sandbox = open_sandbox(
                site.backend, hidden=labelled_folders(), trusting=site.trusting
            )
            held.callback(self._sandbox.close)
            refuse_exposed(site.places, self._sandbox.shown)
            gate = held.enter_context(
                opened_gate(
                    self._sandbox,
                    site.entries,
                    boxes=boxes,
                    memory_bytes=site.limits.memory_bytes,
                )
            )
            for name in ("entries", "staging"):
                (self.root / name).mkdir(mode=0o755)
            staging = Staging(self.root / "staging")
            self.bench = Bench(sandbox=self._sandbox, staging=staging, gate=gate)
            self.greeting = Greeting(
                fingerprint=fingerprint_of(self._sandbox, _images(site)), page_cache=gate.state
            )
            self._held = held.pop_all()
        threading.Thread(target=self._watch, daemon=True, name="lease").start()

    @property
    def entries(self) -> Path:
        """The folder of the entries' copies."""
        return self.root / "entries" if self.site.run is None else self.site.run / "entries"

    def touch(self) -> None:
        """Somebody waits for this station."""
        self._heard = time.monotonic()

    @contextmanager
    def at_work(self, stage: str) -> Iterator[None]:
        """While a job runs; the first of a stage finds the page cache in its one state."""
        with self._changed:
            self._require_open()
            if stage != self.stage:
                self.bench.gate.begin_stage()
                self.stage = stage
            self._working += 1
        try:
            yield
        finally:
            with self._changed:
                self._working -= 1
                self._changed.notify_all()

    def require_sound(self, result: JobResult) -> None:
        """Believe a result only if it was not this node's end that ended the job.

        Raises:
            NodeFailure: The worker is being ended: boxes may have been killed with it.
        """
        killed = result.signal in (signal.SIGTERM, signal.SIGKILL, signal.SIGINT)
        if killed and result.verdict is Verdict.CRASHED:
            time.sleep(ENDING_S)
        if get_worker().status is not Status.running:
            raise NodeFailure("its worker is being ended", for_good=True)
        self._require_open()

    def _require_open(self) -> None:
        if self.is_closed:
            raise NodeFailure("it has heard nothing of the referee and left", for_good=True)

    def _watch(self) -> None:
        while not self.is_closed:
            if time.monotonic() - self._heard > LEASE_S:
                logger.warning("nothing heard of the referee for %.0f s: leaving", LEASE_S)
                leave(self.site.session)
                return
            time.sleep(LOOK_S)

    def close(self) -> None:
        """Kill what runs, and remove everything of ours from the node."""
        self.is_closed = True
        self._sandbox.close()
        with self._changed:
            self._changed.wait_for(lambda: self._working == 0, timeout=ENDING_S * 5)
        self._held.close()


_STATIONS: dict[str, _Station] = {}
_OPENING = threading.Lock()


@dataclass(frozen=True, slots=True, kw_only=True)
class Greet:
    """Open a station; its greeting."""

    site: Site
    boxes: int

    def __call__(self) -> Greeting:
        """Open it anew."""
        os.umask(UMASK)
        fit_for_boxes(self.boxes, self.site.limits)
        with _OPENING:
            leave(self.site.session)
            station = _STATIONS[self.site.session] = _Station(self.site, self.boxes)
        return replace(station.greeting, fingerprint=with_spilling(station.greeting.fingerprint))


@dataclass(frozen=True, slots=True, kw_only=True)
class Touch:
    """Say that somebody waits for a station."""

    session: str

    def __call__(self) -> None:
        """Do it here."""
        station = _STATIONS.get(self.session)
        if station is not None:
            station.touch()


@dataclass(frozen=True, slots=True, kw_only=True)
class Leave:
    """Close a station."""

    session: str

    def __call__(self) -> None:
        """Do it here."""
        leave(self.session)


@dataclass(frozen=True, slots=True, kw_only=True)
class Take:
    """Take an entry's copy, where no folder is shared."""

    session: str
    digest: str
    packed: bytes

    def __call__(self) -> None:
        """Do it here."""
        with _full_disk_is_ours():
            _unpack(self.packed, _station(self.session).entries / self.digest)


@dataclass(frozen=True, slots=True, kw_only=True)
class CarryOut:
    """Do a job; its result, and either its files or where they were drafted."""

    session: str
    stage: str
    order: Order

    def __call__(self) -> tuple[JobResult, Draft | dict[str, bytes] | StoreIsFull]:
        """Do it here."""
        station = _station(self.session)
        order = replace(self.order, entries=station.entries)
        with station.at_work(self.stage):
            with _full_disk_is_ours():
                result, files = station.bench.carry_out(order)
            station.require_sound(result)
            if result.verdict is Verdict.INFRA:
                raise NodeFailure("; ".join(result.notes))
            if station.site.run is None:
                return result, files
            try:
                return result, Store(station.site.run).draft(order.job.id, result, files)
            except OSError as error:
                if error.errno not in DISK_IS_FULL:
                    raise NodeFailure(f"cannot write results: {error}", for_good=True) from error
                return result, StoreIsFull(path=str(station.site.run), errno=error.errno)


def leave(session: str) -> None:
    """Close the station of a session, if there is one."""
    station = _STATIONS.pop(session, None)
    if station is not None:
        station.close()


def tar_of_folder(folder: Path) -> bytes:
    """An entry's copy, as `Take` takes it."""

    def plain(info: tarfile.TarInfo) -> tarfile.TarInfo:
        info.uid = info.gid = 0
        info.uname = info.gname = ""
        return info

    buffer = BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.add(folder, arcname=".", filter=plain)
    return buffer.getvalue()


def _unpack(packed: bytes, folder: Path) -> None:
    """Write an entry's copy under another name, then rename it: it is whole, or not there."""
    if folder.exists():
        return
    partial = Path(tempfile.mkdtemp(dir=folder.parent))
    partial.chmod(0o755)
    with tarfile.open(fileobj=BytesIO(packed)) as archive:
        archive.extractall(partial, filter="data")
    partial.rename(folder)


def _station(session: str) -> _Station:
    station = _STATIONS.get(session)
    if station is None:
        raise NodeFailure("it has heard nothing of the referee and left", for_good=True)
    station.touch()
    return station


def _images(site: Site) -> list[str]:
    return sorted({entry.image for entry in site.entries if entry.image is not None})


def with_spilling(found: Mapping[str, str]) -> dict[str, str]:
    """A fingerprint, and whether this worker may write what it is sent to its disk."""
    worker: Worker = get_worker()
    return {**found, SPILLING: OFF if isinstance(worker.data, dict) else "on"}


@contextmanager
def _full_disk_is_ours() -> Iterator[None]:
    """A node without room is no fault of an entry.

    Raises:
        NodeFailure: It has none.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_IS_FULL:
            raise
        raise NodeFailure(f"{error.filename}: {error.strerror}", for_good=True) from error


@contextmanager
def _scratch(folder: str | None) -> Iterator[Path]:
    """A folder of our own; removes those that dead workers left beside it."""
    where = Path(folder or tempfile.gettempdir())
    for left in abandoned(where) if folder else ():
        shutil.rmtree(left, ignore_errors=True)
    root = Path(tempfile.mkdtemp(dir=where))
    mark(root)
    try:
        yield root
    finally:
        shutil.rmtree(root, ignore_errors=True)
