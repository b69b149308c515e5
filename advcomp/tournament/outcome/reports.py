"""The reports of a run: takes from the run folder what the scoring layer turns into a page."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from advcomp.errors import InvalidImage
from advcomp.rules.durable import write_named_file
from advcomp.rules.images import Pixels, decode_png
from advcomp.rules.verdict import Verdict
from advcomp.sandbox.base import LimitTier
from advcomp.scoring.report.gallery import choose_samples
from advcomp.scoring.report.material import Facts, GalleryImage, Material
from advcomp.scoring.report.page import competitor_report, organiser_report, public_report
from advcomp.scoring.standings import Standings, judge
from advcomp.tournament.audit.record import load_audit
from advcomp.tournament.job.plan import AttackJob, Job, attack_jobs
from advcomp.tournament.job.waves import load_waves
from advcomp.tournament.outcome.collect import Collected, collect_finished
from advcomp.tournament.outcome.disclosure import (
    log_for_competitor,
    reasons_for_competitor,
    tail,
)
from advcomp.tournament.store.job_results import Store, locked
from advcomp.tournament.store.manifest import manifest_of
from advcomp.tournament.store.state import RESULTS, RunState, load_state

REPORT, REPORTS, PUBLIC = "report.html", "reports", "public.html"


@contextmanager
def _held(run: Path) -> Iterator[None]:
    """Hold the folder of a run; nothing is left in one that is none."""
    load_state(run)
    with locked(run):
        yield


def write_report(run: Path, out: Path | None = None) -> Path:
    """Write the organiser's report of a finished run, by default among its results.

    Raises:
        RunConflict: The folder is no run, is in use, or its run is not finished.
    """
    with _held(run):
        state, collected = collect_finished(run)
        standings = judge(collected.results, state.scoring_options)
        path = out or run / RESULTS / REPORT
        publish_report(path, run, state, collected, standings)
    return path


def publish_report(
    path: Path, run: Path, state: RunState, collected: Collected, standings: Standings
) -> None:
    """Write the organiser's report, with the gallery's images and the ends of failures' logs."""
    store = Store(run)
    samples, without_samples = _samples(state, store, standings)
    material = Material(
        facts=_facts(state),
        standings=standings,
        jobs=collected.jobs,
        manifest=manifest_of(state, load_waves(run)),
        logs={job.name: tail(store.log(job.id)) for job in _failed(collected)},
        samples=samples,
        without_samples=without_samples,
        class_names=state.class_names,
        audit=load_audit(run, state),
    )
    _write(path, organiser_report(material))


def write_public_report(run: Path, out: Path | None = None) -> Path:
    """Write what may be published of a finished run, by default among its results.

    Raises:
        RunConflict: The folder is no run, is in use, or its run is not finished.
    """
    with _held(run):
        html = public_report(_material(run))
    path = out or run / RESULTS / PUBLIC
    _write(path, html)
    return path


def write_competitor_report(run: Path, name: str, out: Path | None = None) -> Path:
    """Write what one competitor may see of a finished run, by default apart from its results.

    Raises:
        RunConflict: The folder is no run, is in use, or its run is not finished.
        InvalidConfig: It has no entry of this name.
    """
    with _held(run):
        html = competitor_report(_material(run), name)
    path = out or run / REPORTS / f"{name}.html"
    _write(path, html)
    return path


def write_all_competitor_reports(run: Path, folder: Path) -> tuple[Path, ...]:
    """Write what each competitor may see of a finished run, as `NAME.html` in a folder.

    Raises:
        RunConflict: The folder is no run, is in use, or its run is not finished.
    """
    with _held(run):
        material = _material(run)
        names = [score.entry.name for score in material.standings.scores.entries]
        for name in names:
            _write(folder / f"{name}.html", competitor_report(material, name))
    return tuple(folder / f"{name}.html" for name in names)


def _material(run: Path) -> Material:
    """What others than the organiser are told from: logs and notes are what each may read."""
    state, collected = collect_finished(run)
    store = Store(run)
    logs = {
        job.name: log_for_competitor(store.log(job.id), state.logs.show)
        for job in _failed(collected)
    }
    return Material(
        facts=_facts(state),
        standings=judge(collected.results, state.scoring_options),
        jobs=collected.jobs,
        manifest=manifest_of(state, load_waves(run)),
        logs={job: log for job, log in logs.items() if log is not None},
        reasons={result.job: reasons_for_competitor(result) for _, result in collected.done},
    )


def _facts(state: RunState) -> Facts:
    return Facts(
        tournament=state.name,
        view=state.view,
        schedule=state.schedule,
        sandbox=state.sandbox.name,
        limit_tier=state.sandbox.limit_tier,
        weak_limits=state.sandbox.limit_tier is LimitTier.WEAK,
        official=state.official,
        cpus=state.limits.cpus,
        began=state.began,
    )


def _failed(collected: Collected) -> list[Job]:
    return [job for job, result in collected.done if result.verdict is not Verdict.OK]


def _samples(
    state: RunState, store: Store, standings: Standings
) -> tuple[Sequence[GalleryImage], str]:
    """The gallery's images; without the tournament's clean images, why there are none."""
    jobs = {
        (job.entry.name, job.max_epsilon, image): job
        for job in attack_jobs(state)
        for image in job.images
    }
    height, width = state.dataset.height, state.dataset.width
    chosen = choose_samples(standings.results, standings.scores, height, width)
    try:
        return [_sample(state, store, jobs, attack, pair) for attack, pair in chosen], ""
    except (OSError, InvalidImage) as error:
        return (), f"The gallery needs the tournament's clean images: {error}"


def _sample(
    state: RunState,
    store: Store,
    jobs: Mapping[tuple[str, int, int], AttackJob],
    attack: int,
    pair: int,
) -> GalleryImage:
    image, max_epsilon = state.pairs[pair].image, state.pairs[pair].max_epsilon
    name = f"{state.dataset.image_ids[image]}.png"
    clean = _decode(state, (Path(state.dataset.images_dir) / name).read_bytes())
    job = jobs[state.attacks[attack].name, max_epsilon, image]
    (png,) = store.read_images([(job.id, state.dataset.image_ids[image])])
    adversarial = _decode(state, png)
    distance = np.abs(adversarial.astype(np.int16) - clean.astype(np.int16)).max()
    if distance > max_epsilon:
        raise InvalidImage(f"{name} in {state.dataset.images_dir} has changed since the run")
    return GalleryImage(attack=attack, pair=pair, clean=clean, adversarial=adversarial)


def _decode(state: RunState, png: bytes) -> Pixels:
    return decode_png(png, state.dataset.height, state.dataset.width)


def _write(path: Path, html: str) -> None:
    write_named_file(path, html.encode())
