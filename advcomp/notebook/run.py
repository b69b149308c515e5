"""A run as an object: what `advcomp.run` and `advcomp.load_run` give."""

import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from advcomp.errors import InvalidConfig, InvalidDataset
from advcomp.notebook import frames
from advcomp.notebook.progress_bar import display_here
from advcomp.rules.images import decode_png
from advcomp.scoring.paired import paired_differences
from advcomp.scoring.results import Results
from advcomp.scoring.standings import Standings, judge
from advcomp.scoring.tables import leaderboard_rows
from advcomp.terminal.extras import extra_at_hand
from advcomp.tournament.config import load_tournament
from advcomp.tournament.job.executors import LOCAL, Stop
from advcomp.tournament.job.opaque import open_key
from advcomp.tournament.job.plan import attack_jobs
from advcomp.tournament.job.waves import load_waves
from advcomp.tournament.opening import folder_of
from advcomp.tournament.outcome.collect import Collected, all_planned, collect
from advcomp.tournament.runner import RunOptions, run_tournament
from advcomp.tournament.store.job_results import Store
from advcomp.tournament.store.state import KEY_FILE, RunState, load_state

if TYPE_CHECKING:
    from advcomp.notebook.plots import Plots

__all__ = ["Run", "load_run", "run"]


@dataclass(frozen=True)
class Run:
    """A tournament's run, finished or not; what it holds is read when it is first asked for.

    Args:
        folder: Where it is kept.
    """

    folder: Path

    @cached_property
    def state(self) -> RunState:
        """What the run is about: dataset, entries, limits, sandbox."""
        return load_state(self.folder)

    @property
    def is_finished(self) -> bool:
        """Whether every attack has made its images, and every defense has met them all."""
        planned = all_planned(self.state, Store(self.folder), load_waves(self.folder))
        return planned and not self._collected.unfinished

    @property
    def results(self) -> Results:
        """All labels as arrays."""
        return self._collected.results

    def leaderboard(self, track: str | None = None) -> pd.DataFrame:
        """The leaderboard, one row an entry; provisional while the run is unfinished.

        Args:
            track: `attack`, `targeted_attack` or `defense`; None: all three.

        Raises:
            InvalidConfig: There is no such track.
        """
        return frames.leaderboard(leaderboard_rows(self._standings), track)

    def matrix(
        self, quantity: str = frames.Quantity.MISCLASSIFICATION, max_epsilon: int | None = None
    ) -> pd.DataFrame:
        """Rates of every attack (columns) against every defense (rows); see `frames.matrix`."""
        return frames.matrix(self.results, quantity, max_epsilon)

    def answers(self, *, clean: bool = False) -> pd.DataFrame:
        """Every answer, one row each; see `frames.answers`."""
        return frames.answers(self.results, clean=clean)

    def budgets(self, track: str | None = None) -> pd.DataFrame:
        """The score of every entry at each budget alone; see `frames.budgets`."""
        return frames.budgets(self._standings, track)

    def cells(self) -> pd.DataFrame:
        """Counts of answers, one row for each attack, defense and budget; see `frames.cells`."""
        return frames.cells(self._standings)

    @property
    def plot(self) -> "Plots":
        """The run's figures: `plot.heatmap()`, `plot.cost()`, `plot.budget()`.

        Raises:
            MissingExtra: matplotlib is not installed.
        """
        with extra_at_hand("frames"):
            from advcomp.notebook.plots import Plots
        return Plots(self)

    def compare(self, other: "Run") -> pd.DataFrame:
        """How the scores of another run differ from this one's; see `frames.differences`."""
        return frames.differences(paired_differences(self._standings, other._standings))

    def jobs(self) -> pd.DataFrame:
        """Every run of a submission: verdicts, times, memory."""
        return frames.jobs(self._collected.jobs)

    def images(
        self, attack: str, max_epsilon: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8], tuple[str, ...]]:
        """The adversarial images of an attack at a budget, beside the clean ones.

        Returns:
            Adversarial and clean images, both uint8 (N, H, W, 3), and their N ImageIds; images
            that the attack did not write are left out.

        Raises:
            InvalidConfig: There is no such attack or budget.
            InvalidDataset: The tournament's clean images are no longer there.
        """
        state = self.state
        known = [entry.name for entry in state.attacks]
        if attack not in known or max_epsilon not in state.max_epsilons:
            budgets = ", ".join(map(str, state.max_epsilons))
            raise InvalidConfig(
                f"images: expected an attack of {', '.join(known)} and a budget of {budgets}; "
                f"got {attack!r} at {max_epsilon}"
            )
        made = dict(sorted(self._images_of(attack, max_epsilon)))
        ids = tuple(state.dataset.image_ids[image] for image in made)
        adversarial = Store(self.folder).read_images(zip(made.values(), ids, strict=True))
        return self._stack(adversarial), self._stack(map(self._clean, ids)), ids

    def _images_of(self, attack: str, max_epsilon: int) -> Iterator[tuple[int, str]]:
        """The place of each image that the attack has written, and the job that wrote it."""
        store = Store(self.folder)
        for job in attack_jobs(self.state):
            if (job.entry.name, job.max_epsilon) != (attack, max_epsilon):
                continue
            result = store.load(job.id)
            digests = () if result is None else result.png_digests
            yield from (
                (image, job.id)
                for image, digest in zip(job.images, digests, strict=False)
                if digest
            )

    def _clean(self, image_id: str) -> bytes:
        place = Path(self.state.dataset.images_dir)
        try:
            return (place / f"{image_id}.png").read_bytes()
        except OSError as error:
            raise InvalidDataset(
                f"{place}: expected the tournament's clean images, which run.images shows beside "
                f"the adversarial ones; got: {image_id}.png: {error.strerror}"
            ) from error

    def _stack(self, files: Iterable[bytes]) -> NDArray[np.uint8]:
        """PNG files as an array (N, H, W, 3)."""
        size = self.state.dataset.height, self.state.dataset.width
        images = [decode_png(content, *size) for content in files]
        return np.stack(images) if images else np.zeros((0, *size, 3), np.uint8)

    @cached_property
    def _collected(self) -> Collected:
        key = open_key(self.folder / KEY_FILE, digest=self.state.key_digest)
        return collect(self.state, Store(self.folder), key, load_waves(self.folder))

    @cached_property
    def _standings(self) -> Standings:
        return judge(self.results, self.state.scoring_options)

    def _repr_html_(self) -> str:
        unsure = "" if self.is_finished else "<p>Provisional: the run is not finished.</p>"
        return unsure + self.leaderboard().to_html(index=False)


@contextmanager
def _stopping(stop: Stop) -> Iterator[None]:
    """Let the first interrupt set `stop`, and the second be the usual exception."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)

    def handle(number: int, frame: FrameType | None) -> None:
        if stop:
            raise KeyboardInterrupt
        stop.set()

    signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def load_run(folder: str | Path) -> Run:
    """A run that was made before, finished or not.

    Raises:
        RunConflict: The folder is no run.
    """
    loaded = Run(Path(folder).resolve())
    _ = loaded.state
    return loaded


def run(
    file: str | Path,
    *,
    out: str | Path | None = None,
    sandbox: str | None = None,
    trusting: bool = False,
    jobs: int | None = None,
    key: str | Path | None = None,
    executor: str = LOCAL,
    cluster: str | None = None,
    scheduler: str | None = None,
    replan: bool = False,
) -> Run:
    """Run a tournament file, or go on where it stopped: `advcomp run` as a function.

    Progress is a bar in a notebook, else shown on standard error. An interrupt (Ctrl-C, a
    notebook's stop button) finishes the jobs that run, and returns the run as far as it is; the
    same call goes on.

    Args:
        file: The tournament file.
        out: The run's folder; by default `runs/NAME`.
        sandbox: A sandbox instead of the file's.
        trusting: The submissions are one's own: the sandbox may be `none`.
        jobs: Sandboxes at once.
        key: A key file to use for a new run.
        executor: What carries the jobs to where they run.
        cluster: Instead of this machine: a cluster file, `local` or `mpi`.
        scheduler: Instead of this machine: the address of a Dask scheduler.
        replan: Classify all attacks together, in one new wave.

    Raises:
        AdvcompError: What the command would print.
    """
    options = RunOptions(
        file=Path(file),
        out=None if out is None else Path(out),
        backend=sandbox,
        trusting=trusting,
        jobs=jobs,
        key=None if key is None else Path(key),
        executor=executor,
        cluster=cluster,
        scheduler=scheduler,
        replan=replan,
    )
    folder = folder_of(load_tournament(options.file), options.out)
    stop = Stop()
    with _stopping(stop), display_here() as display:
        run_tournament(options, display, stop)
    return Run(folder)
