"""A report's material as everybody may see it: who won, and nothing that a later round needs.

Names are shown, or what `display` says in their place; whoever has a `display` is anonymous, so
team and link go with the name. Images, true labels, logs, notes, digests, seeds and the machine
stay with the organiser.
"""

from dataclasses import replace

from advcomp.scoring.report.competitor import renamed, shown_manifest
from advcomp.scoring.report.material import Material
from advcomp.scoring.results import Entry, JobRecord


def for_public(material: Material) -> Material:
    """The material of the public report."""
    standings = material.standings
    entries = {score.entry.name: _public(score.entry) for score in standings.scores.entries}
    return replace(
        material,
        standings=renamed(standings, entries),
        jobs=[_without_names(job, entries[job.submission].name) for job in material.jobs],
        manifest=shown_manifest(material.manifest),
        logs={},
        samples=(),
        without_samples="",
        class_names={},
    )


def _public(entry: Entry) -> Entry:
    anonymous = entry.display is not None
    return replace(
        entry,
        name=entry.display or entry.name,
        digest="",
        notes=(),
        team=None if anonymous else entry.team,
        url=None if anonymous else entry.url,
    )


def _without_names(job: JobRecord, name: str) -> JobRecord:
    shown = f"{name}{job.job.removeprefix(job.submission)}"
    return replace(job, submission=name, job=shown, note="")
