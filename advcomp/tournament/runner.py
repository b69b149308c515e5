"""Run a tournament from its file to its results; go on where an earlier run stopped.

Two stages, one after the other: every attack makes its images, then every defense classifies the
shards of every wave. So an attack and a defense never run at the same time, whatever their teams.
What the store holds already is not run again.
"""

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from advcomp.errors import InvalidConfig, InvalidDataset
from advcomp.rules.dataset import Dataset
from advcomp.rules.submission_type import SubmissionType
from advcomp.sandbox.cache.steady import CacheState
from advcomp.scoring.publish import write_results
from advcomp.tournament.cluster.extra import require_extra
from advcomp.tournament.config import Tournament, check_machine, load_tournament
from advcomp.tournament.entry.containers import pins, refuse_moved
from advcomp.tournament.entry.entries import EntryList, EntrySource, load_entries
from advcomp.tournament.entry.intake import take_entries
from advcomp.tournament.entry.known import FILE_NAME as KNOWN_ENTRIES
from advcomp.tournament.entry.renamed import recognised
from advcomp.tournament.exposure import refuse_exposed
from advcomp.tournament.job.crew import Crew, LocalCrew
from advcomp.tournament.job.executors import LOCAL, Stop, executor_named
from advcomp.tournament.job.opaque import open_key, read_key
from advcomp.tournament.job.orders import Orders
from advcomp.tournament.job.plan import (
    AttackJob,
    DefenseJob,
    Job,
    attack_jobs,
    cost_of,
    defense_jobs,
)
from advcomp.tournament.job.staging import staging_for
from advcomp.tournament.job.waves import WaveImages, load_waves, plan_waves, save_waves
from advcomp.tournament.job.work import Bench
from advcomp.tournament.machine import cores
from advcomp.tournament.opening import (
    containers_of,
    default_jobs,
    folder_of,
    opened_sandbox,
    refuse_another,
)
from advcomp.tournament.outcome.collect import (
    Collected,
    collect,
    collect_finished,
    current_columns,
)
from advcomp.tournament.outcome.outlook import Outlook
from advcomp.tournament.outcome.reports import REPORT, publish_report
from advcomp.tournament.outcome.under_way import forget_under_way
from advcomp.tournament.source import open_dataset
from advcomp.tournament.store.began import began
from advcomp.tournament.store.finished_run import found_finished, note_finished
from advcomp.tournament.store.job_results import JobResult, Store, locked
from advcomp.tournament.store.manifest import manifest_of
from advcomp.tournament.store.run_log import referee_log
from advcomp.tournament.store.state import (
    ENTRIES,
    FILE_NAME,
    INSECURE,
    KEY_FILE,
    RESULTS,
    EntryState,
    RunState,
    SandboxState,
    load_state,
    save_state,
    state_of,
)
from advcomp.tournament.surroundings import make_run_folder, settled

if TYPE_CHECKING:
    from advcomp.tournament.cluster.elsewhere import Elsewhere

logger = logging.getLogger(__name__)


class RunObserver(Protocol):
    """Whoever watches a run: the terminal."""

    def note(self, text: str) -> None:
        """Something the organiser should know."""
        ...

    def reading(self, entries: int) -> None:
        """So many entries are going to be read."""
        ...

    def read(self, entry: str) -> None:
        """An entry has been read."""
        ...

    def stage(self, title: str, jobs: int, stored: int, cost: float, later: float) -> None:
        """A stage begins: so many jobs are to run, so many are stored.

        Args:
            cost: What those to run cost in all, in seconds that they may take.
            later: What the stages after it will cost, as far as can be told.
        """
        ...

    def started(self, job: str) -> None:
        """A job has begun; told from any thread."""
        ...

    def finished(self, result: JobResult, cost: float) -> None:
        """A job has ended."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What the command line of `run` says.

    Args:
        out: The run's folder; by default `runs/NAME`.
        backend: A sandbox instead of the tournament file's.
        trusting: The submissions are one's own: the sandbox may be `none`.
        jobs: Sandboxes at once; by default as many as the limits' cpus go into the machine's.
        executor: What carries the jobs to where they run.
        cluster: Instead of this machine: a cluster file, `local` or `mpi`.
        scheduler: Instead of this machine: the address of a Dask scheduler.
        key: A key file to use for a new run.
        replan: Make one wave of everything.
    """

    file: Path
    out: Path | None = None
    backend: str | None = None
    trusting: bool = False
    jobs: int | None = None
    executor: str = LOCAL
    cluster: str | None = None
    scheduler: str | None = None
    key: Path | None = None
    replan: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A run that wrote its results, or was stopped before (`results` is None)."""

    run: Path
    results: Path | None
    provisional: bool = False


def run_tournament(options: RunOptions, observer: RunObserver, stop: Stop) -> Finished:
    """Do all that is missing of a tournament, then write its results.

    Raises:
        AdvcompError: Something is wrong with the file, the dataset, the machine or the folder.
    """
    tournament = load_tournament(options.file)
    if options.key is not None:
        read_key(options.key)  # before there is a folder for the run
    with ExitStack() as cluster:
        elsewhere = _elsewhere(options, cluster)
        finished = play(
            tournament,
            load_entries(tournament),
            options,
            observer,
            stop,
            publish,
            unchanged=lambda run: Finished(run=run, results=run / RESULTS),
            elsewhere=elsewhere,
        )
        return finished or Finished(run=folder_of(tournament, options.out), results=None)


Outcome = TypeVar("Outcome")


def play(
    tournament: Tournament,
    listed: EntryList,
    options: RunOptions,
    observer: RunObserver,
    stop: Stop,
    finish: Callable[[Path, RunState, Collected], Outcome],
    *,
    unchanged: Callable[[Path], Outcome] | None = None,
    dataset: Dataset | None = None,
    elsewhere: "Elsewhere | None" = None,
) -> Outcome | None:
    """Do all that is missing of some entries' tournament; None where it was stopped before.

    Args:
        finish: Makes something of what was found out, while the run's folder is held.
        unchanged: The same of a run of which nothing has changed since its results were written;
            where it is None, every result is looked at.
        dataset: Other images than all of the tournament's.
        elsewhere: The cluster that the jobs are spread over.

    Raises:
        AdvcompError: See `run_tournament`.
    """
    if elsewhere is None:
        check_machine(tournament, cores())
    executor = executor_named(options.executor)
    run = folder_of(tournament, options.out)
    workers = options.jobs or default_jobs(tournament)
    with (
        settled(tournament, workers) as umask,
        opened_sandbox(tournament, options.backend, trusting=options.trusting) as sandbox,
    ):
        containers = containers_of(tournament, sandbox)
        dataset = dataset or open_dataset(tournament)
        places = _places(tournament, dataset, run, listed.sources)
        refuse_exposed(places, sandbox.shown)
        for note in listed.notes:
            observer.note(note)
        make_run_folder(run, umask)
        with locked(run), referee_log(run), staging_for(run) as staging, ExitStack() as held:
            refuse_another(run, tournament.identity(sandbox.name, dataset.digest))
            forget_under_way(run)
            before = load_state(run) if (run / FILE_NAME).exists() else None
            told = None if before is None else before.key_digest
            key = open_key(run / KEY_FILE, options.key, digest=told)

            def hired(entries: tuple[EntryState, ...]) -> Crew:
                if elsewhere is None:
                    bench = Bench(sandbox=sandbox, staging=staging)
                    return LocalCrew(bench, executor, boxes=workers, held=held)
                return held.enter_context(
                    elsewhere.crew(
                        sandbox,
                        run,
                        entries=entries,
                        limits=tournament.limits.for_images(1),
                        trusting=options.trusting,
                        places=places,
                        boxes=options.jobs,
                        note=observer.note,
                    )
                )

            crew = None
            if containers is None and before is None:
                crew = hired(())  # nothing is stored: there will be something to do
                crew.get_ready()
            logger.info("%d entries to read", len(listed.sources))
            observer.reading(len(listed.sources))
            entries = take_entries(
                listed.sources,
                sandbox,
                run / ENTRIES,
                containers,
                known=run / KNOWN_ENTRIES,
                taken=observer.read,
                boxes=min(workers, cores()),
            )
            entries, first_names = recognised(entries, before)
            images = _pinned(run, entries, before)
            box = SandboxState.of(sandbox)
            state = state_of(
                tournament,
                dataset,
                entries,
                box,
                key_digest=key.digest,
                images=images,
                page_cache=() if before is None else before.page_cache,
                first_names=first_names,
                began=began(run),
            )
            _refuse_missing_targets(state, tournament.dataset.csv or dataset.folder)
            if elsewhere is not None and elsewhere.is_insecure:
                machine = {**state.machine, INSECURE: "yes"}
                state = state.model_copy(update={"machine": machine})
            save_state(run, state)
            _log_beginning(state, options)
            store = Store(run)
            store.sweep()
            orders = Orders(
                state=state, dataset=dataset, store=store, key=key, entries=run / ENTRIES
            )
            looks = unchanged is None or options.replan
            finished = None if looks else found_finished(run, state)
            if unchanged is not None and finished is not None:
                for title, jobs in zip(("attacks", "defenses"), finished, strict=True):
                    logger.info("%s: 0 jobs to run, %d stored", title, jobs)
                    observer.stage(title, 0, jobs, 0.0, 0.0)
                logger.info("nothing has changed since the results were written")
                return unchanged(run)
            crew = crew or hired(entries)
            stages = _Stages(run, orders, crew, observer=observer, stop=stop)
            collected = stages.all(replan=options.replan)
            held.close()
            store.sweep()  # what nodes that were lost have drafted
            state = stages.state
            if collected is None:
                logger.info("stopped before the end")
                return None
            outcome = finish(run, state, collected)
            logger.info("results written%s", ", provisional" if collected.provisional else "")
            return outcome


def _elsewhere(options: RunOptions, held: ExitStack) -> "Elsewhere | None":
    """The cluster that the command line names; None where the run stays on this machine.

    Raises:
        InvalidConfig: It names more than one place, or the cluster file is wrong.
        ClusterError: The cluster cannot be had.
    """
    if options.cluster is None and options.scheduler is None:
        return None
    if options.executor != LOCAL or (options.cluster and options.scheduler):
        raise InvalidConfig(
            "--executor, --cluster, --scheduler: expected one of them; each says where jobs run"
        )
    require_extra()
    from advcomp.tournament.cluster.elsewhere import open_elsewhere

    return held.enter_context(open_elsewhere(options.cluster, options.scheduler))


def rescore(run: Path) -> Finished:
    """Rebuild the results of a finished run from what is stored; runs nothing.

    Raises:
        RunConflict: The folder is no run, is in use, or its run is not finished.
    """
    load_state(run)  # a folder that is no run gets no lock
    with locked(run):
        state, collected = collect_finished(run)
        return publish(run, state, collected)


def publish(run: Path, state: RunState, collected: Collected) -> Finished:
    """Write the result files of a run, and the organiser's report."""
    results = run / RESULTS
    manifest = manifest_of(state, load_waves(run))
    standings = write_results(
        results, collected.results, collected.jobs, state.scoring_options, manifest
    )
    publish_report(results / REPORT, run, state, collected, standings)
    if not collected.provisional:
        of_attacks = sum(isinstance(job, AttackJob) for job, _ in collected.done)
        note_finished(run, state, (of_attacks, len(collected.done) - of_attacks))
    return Finished(run=run, results=results, provisional=collected.provisional)


def take_out(run: Path, submission: str) -> int:
    """Take a submission's results out of a run, so that it runs again; how many there were.

    Raises:
        RunConflict: The folder is no run, or is in use.
        InvalidConfig: The run has no such entry.
    """
    state = load_state(run)
    entry = next((entry for entry in state.entries if entry.name == submission), None)
    if entry is None:
        names = ", ".join(sorted(entry.name for entry in state.entries))
        raise InvalidConfig(f'{run}: there is no entry "{submission}"; there are {names}')
    with locked(run):
        store = Store(run)
        jobs = all_jobs(run, state, store)
        own = [job for job in jobs if job.entry == entry and store.load(job.id) is not None]
        for job in own:
            store.take_out(job.id) if entry.is_attack else store.delete(job.id)
    return len(own)


def all_jobs(run: Path, state: RunState, store: Store) -> list[Job]:
    """Every job of a run, done or not, as far as its waves are planned."""
    planned = [(wave, WaveImages(state, store, wave)) for wave in load_waves(run)]
    key = open_key(run / KEY_FILE, digest=state.key_digest)
    return [*attack_jobs(state), *defense_jobs(state, key, planned)]


def _pinned(run: Path, entries: Sequence[EntryState], before: RunState | None) -> dict[str, str]:
    """The images of a run by name; refuses to go on where a name has moved."""
    old = {} if before is None else before.images
    new = pins(entries, old)
    refuse_moved(run, old, new)
    return new


class _Stages:
    """The two stages of one run."""

    def __init__(
        self, run: Path, orders: Orders, crew: Crew, *, observer: RunObserver, stop: Stop
    ) -> None:
        self.run, self.orders, self.crew = run, orders, crew
        self.observer, self.stop = observer, stop
        self.state, self.store, self.key = orders.state, orders.store, orders.key

    def all(self, *, replan: bool) -> Collected | None:
        """Run what is missing; None where it was stopped."""
        self._do("attacks", list(attack_jobs(self.state)), later=self._cost_of_defenses())
        if self.stop:
            return None
        waves = plan_waves(
            () if replan else load_waves(self.run), current_columns(self.state, self.store)
        )
        save_waves(self.run, waves)
        planned = [(wave, WaveImages(self.state, self.store, wave)) for wave in waves]
        self.orders = replace(self.orders, waves=tuple(images for _, images in planned))
        self._do("defenses", list(defense_jobs(self.state, self.key, planned)))
        return None if self.stop else collect(self.state, self.store, self.key, waves)

    def _cost_of_defenses(self) -> float:
        """What the second stage will cost, where every attack writes every image."""
        missing = Outlook(self.run, self.state, self.store).missing
        return sum(cost_of(self.state, job) for job in missing if isinstance(job, DefenseJob))

    def _do(self, title: str, jobs: Sequence[Job], *, later: float = 0.0) -> None:
        # Waves with the same images share jobs.
        missing = list({job.id: job for job in jobs if not self.store.is_done(job.id)}.values())
        costs = {job.name: cost_of(self.state, job) for job in missing}
        stored = len(jobs) - len(missing)
        logger.info("%s: %d jobs to run, %d stored", title, len(missing), stored)
        self.observer.stage(title, len(missing), stored, sum(costs.values()), later)
        if not missing:
            return
        for result in self.crew.do(
            self.orders,
            missing,
            cost=lambda job: costs[job.name],
            stop=self.stop,
            met=self._keep_page_cache,
            began=self.observer.started,
        ):
            logger.info("%s: %s in %.1f s", result.job, result.verdict, result.wall_seconds)
            self.observer.finished(result, costs[result.job])

    def _keep_page_cache(self, met: CacheState) -> None:
        """Have the run's state say how far the page cache is kept while jobs run."""
        kept = tuple(sorted({*self.state.page_cache, met}))
        if kept != self.state.page_cache:
            self.state = self.state.model_copy(update={"page_cache": kept})
            save_state(self.run, self.state)


def _log_beginning(state: RunState, options: RunOptions) -> None:
    logger.info(
        "advcomp %s: %s on %d images, sandbox %s, limits %s, executor %s",
        state.advcomp_version,
        state.file,
        len(state.dataset.image_ids),
        state.sandbox.name,
        state.sandbox.limit_tier,
        options.executor,
    )
    for entry in state.entries:
        fate = f"REJECTED: {'; '.join(entry.notes)}" if entry.rejected else entry.digest
        logger.info("%s %s: %s", entry.type, entry.name, fate)


def _refuse_missing_targets(state: RunState, place: Path) -> None:
    targeted = [
        entry.name
        for entry in state.attacks
        if entry.type is SubmissionType.TARGETED_ATTACK and not entry.rejected
    ]
    if targeted and state.dataset.target_classes is None:
        raise InvalidDataset(
            f"{place}: the dataset needs a column TargetClass, since "
            f"{', '.join(targeted)} are targeted attacks; add it or take them out"
        )


def _places(
    tournament: Tournament, dataset: Dataset, run: Path, sources: Sequence[EntrySource]
) -> dict[str, Path]:
    places = {"the run's folder": run, "the dataset": dataset.folder}
    if tournament.dataset.csv is not None:
        places["the dataset's CSV"] = tournament.dataset.csv
    return places | {f'the entry "{source.name}"': source.path for source in sources}
