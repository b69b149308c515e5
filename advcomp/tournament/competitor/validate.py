"""Take an entry as a tournament would, and try it on images that give nothing away.

The sandbox, the limits, the workers and the judge are the tournament's own; only the images are
drawn here, from a fixed seed: noise and gradients of the dataset's size.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from advcomp.errors import InvalidConfig, SandboxError
from advcomp.rules.dataset import LabelledImage, write_dataset
from advcomp.rules.submission import default_name
from advcomp.rules.threat import Schedule
from advcomp.rules.verdict import Verdict
from advcomp.sandbox.base import Limits, Sandbox
from advcomp.sandbox.box.traces import mark
from advcomp.tournament.config import DefenseTable, Tournament, check_machine, load_tournament
from advcomp.tournament.entry.entries import EntrySource, load_entries
from advcomp.tournament.entry.intake import take_entry
from advcomp.tournament.job.defense_views import DefenseView
from advcomp.tournament.job.opaque import open_key
from advcomp.tournament.job.orders import Orders
from advcomp.tournament.job.plan import Job, attack_jobs, defense_jobs
from advcomp.tournament.job.staging import staging_for
from advcomp.tournament.job.waves import Wave, WaveImages
from advcomp.tournament.job.work import Bench, Worker
from advcomp.tournament.machine import cores
from advcomp.tournament.opening import containers_of, opened_sandbox
from advcomp.tournament.source import open_dataset
from advcomp.tournament.store.job_results import JobResult, Store
from advcomp.tournament.store.state import ENTRIES, KEY_FILE, EntryState, SandboxState, state_of
from advcomp.tournament.surroundings import settled

SMOKE_IMAGES = 10
SEED = 2017
HEIGHT, WIDTH, MAX_EPSILON = 299, 299, 16
"""What is tried without a tournament file: 2017's size, and the middle of its budgets."""
SUFFIX = ".toml"
ONE_IMAGE = "one-image"


@dataclass(frozen=True, slots=True, kw_only=True)
class Smoke:
    """One run of an entry on drawn images.

    Args:
        limits: Of this run.
        per_100_images_s: The time limit of a run over 100 images.
        log: What it printed, raw bytes: escape before showing.
    """

    result: JobResult
    limits: Limits
    per_100_images_s: float
    log: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What is to be validated, and how.

    Args:
        tournament: The file that sets limits and budgets.
        any_local: Whether the entry is one's own, and may use every container image that is here.
        height, width: Of the images to draw.
        images: How many to draw.
    """

    tournament: Tournament
    sources: tuple[EntrySource, ...]
    height: int
    width: int
    images: int = SMOKE_IMAGES
    any_local: bool = False


class Validator:
    """A sandbox and a temporary folder in which entries are tried; see `opened_validator`."""

    def __init__(self, run: Path, target: Target, sandbox: Sandbox) -> None:
        self.sources = target.sources
        self._run, self._tournament, self._sandbox = run, _for_smoke(target.tournament), sandbox
        images = drawn_images(target.height, target.width, target.images)
        self._dataset = write_dataset(run / "dataset", images)
        (run / ENTRIES).mkdir()
        (run / ONE_IMAGE).mkdir()
        self._containers = containers_of(target.tournament, sandbox, any_local=target.any_local)

    def take(self, source: EntrySource) -> EntryState:
        """Take an entry in; one that breaks the contract comes back rejected, with its problems.

        Raises:
            SandboxError: The sandbox failed, not the entry.
        """
        return take_entry(source, self._sandbox, self._run / ENTRIES, self._containers)

    def copy_of(self, entry: EntryState) -> Path:
        """The folder that an entry was taken to, healed; there until the validator is closed."""
        return self._run / ENTRIES / entry.digest

    def smoke(self, entry: EntryState, *, one_image: bool = False) -> Iterator[Smoke]:
        """Run an entry that was taken in: an attack once at each budget, a defense once.

        Args:
            one_image: On the first image alone, to tell start-up from work.

        Raises:
            SandboxError: The sandbox failed, not the entry.
        """
        key = open_key(self._run / KEY_FILE)
        box = SandboxState.of(self._sandbox)
        dataset = self._dataset.subset(1, SEED) if one_image else self._dataset
        state = state_of(self._tournament, dataset, [entry], box, key_digest=key.digest)
        store = Store(self._run / ONE_IMAGE if one_image else self._run)
        store.sweep()
        clean_only = Wave(columns=())
        wave = clean_only, WaveImages(state, store, clean_only)
        with staging_for(self._run) as staging:
            orders = Orders(
                state=state,
                dataset=dataset,
                store=store,
                key=key,
                entries=self._run / ENTRIES,
                waves=(wave[1],),
            )
            worker = Worker(orders=orders, bench=Bench(sandbox=self._sandbox, staging=staging))
            jobs: tuple[Job, ...] = (*attack_jobs(state), *defense_jobs(state, key, [wave]))
            for job in jobs:
                result = worker.work(job)
                if result.verdict is Verdict.INFRA:
                    raise SandboxError(*result.notes)
                yield Smoke(
                    result=result,
                    limits=state.limits.for_images(result.images),
                    per_100_images_s=state.limits.for_images(100).wall_s,
                    log=store.log(job.id),
                )


@contextmanager
def opened_validator(
    text: str,
    backend: str | None,
    images: int = SMOKE_IMAGES,
    *,
    size: tuple[int, int] | None = None,
    trusting: bool = False,
) -> Iterator[Validator]:
    """Make ready to validate what `text` names.

    Args:
        text: `PATH` of a folder or archive, `FILE` of a tournament (all its entries), or
            `FILE:NAME` (one of them).
        backend: A sandbox instead of the tournament file's.
        images: How many are drawn for each run.
        size: Their height and width, see `find_target`.
        trusting: The submissions are one's own: the sandbox may be `none`.

    Raises:
        InvalidConfig: There is no such thing, or the tournament file is wrong.
        InvalidDataset: The tournament's dataset is wrong.
        SandboxUnavailable: The sandbox does not work here.
    """
    target = replace(find_target(text, size), images=images)
    with validator_of(target, backend, trusting=trusting) as validator:
        yield validator


@contextmanager
def validator_of(
    target: Target, backend: str | None = None, *, trusting: bool = False
) -> Iterator[Validator]:
    """Make ready to validate `target`.

    Raises:
        InvalidConfig: A run may use more than this machine has.
        SandboxUnavailable: The sandbox does not work here.
    """
    check_machine(target.tournament, cores())
    with (
        settled(target.tournament, 1),
        opened_sandbox(target.tournament, backend, trusting=trusting) as sandbox,
        tempfile.TemporaryDirectory() as folder,
    ):
        mark(Path(folder))
        yield Validator(Path(folder), target, sandbox)


def find_target(text: str, size: tuple[int, int] | None = None) -> Target:
    """What `PATH`, `FILE` or `FILE:NAME` means.

    Args:
        size: Height and width of the drawn images, of a PATH alone; 2017's where not given.

    Raises:
        InvalidConfig: It means nothing, or the tournament file is wrong.
        InvalidDataset: The tournament's dataset is wrong.
    """
    path = Path(text)
    file, colon, name = text.rpartition(":")
    of_tournament = path.suffix == SUFFIX or (colon and file.endswith(SUFFIX))
    if size is not None and of_tournament and not path.is_dir():
        raise InvalidConfig(
            f"{text}: the images of a tournament have the size of its dataset; leave --size out"
        )
    if path.suffix == SUFFIX:
        return _of_tournament(path, None)
    if colon and file.endswith(SUFFIX) and not path.exists():
        return _of_tournament(Path(file), name)
    return _of_path(path, size or (HEIGHT, WIDTH))


def drawn_images(height: int, width: int, images: int) -> Iterator[LabelledImage]:
    """The images of a smoke run, in turn noise and a gradient; always the same."""
    draw = np.random.Generator(np.random.PCG64(SEED))
    for number in range(images):
        if number % 2:
            levels = draw.integers(0, 256, (height, width, 3))
        else:
            corners = draw.integers(0, 256, (2, 1, 1, 3))
            ramp = np.linspace(0, 1, height * width).reshape(height, width, 1)
            levels = np.rint(corners[0] + (corners[1] - corners[0]) * ramp)
        yield LabelledImage(
            image_id=f"drawn-{number:04d}",
            image=levels.astype(np.uint8),
            label=number,
            target_class=number + 1,
        )


def _for_smoke(tournament: Tournament) -> Tournament:
    """Every image at every budget, and all images in one run of a defense."""
    threat = tournament.threat.model_copy(update={"schedule": Schedule.GRID})
    return tournament.model_copy(
        update={"threat": threat, "defense": DefenseTable(view=DefenseView.POOLED)}
    )


def _of_tournament(file: Path, name: str | None) -> Target:
    tournament = load_tournament(file)
    sources = load_entries(tournament).sources
    if name is not None:
        names = ", ".join(sorted(source.name for source in sources))
        sources = tuple(source for source in sources if source.name == name)
        if not sources:
            raise InvalidConfig(f'{file}: there is no entry "{name}"; there are {names}')
    dataset = open_dataset(tournament)
    return Target(
        tournament=tournament, sources=sources, height=dataset.height, width=dataset.width
    )


def _of_path(path: Path, size: tuple[int, int]) -> Target:
    absolute = path.resolve()
    if not absolute.is_dir() and not absolute.is_file():
        raise InvalidConfig(
            f"{path}: expected a submission (a folder, .zip, .tar or .tar.gz) or a tournament "
            f"file ({SUFFIX}); there is nothing"
        )
    defaults = {"name": "validate", "dataset": {"source": "digits"}}
    tournament = Tournament.model_validate(
        {**defaults, "threat": {"max_epsilons": [MAX_EPSILON]}}, context=absolute
    )
    source = EntrySource(path=absolute, name=default_name(absolute), role=None)
    return Target(
        tournament=tournament, sources=(source,), height=size[0], width=size[1], any_local=True
    )
