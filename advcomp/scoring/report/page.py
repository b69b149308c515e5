"""The report as HTML: one page for the organiser, one for each competitor.

Everything is escaped by the template engine, the page forbids itself any outside resource, and its
own style and script are allowed by their digests, so that nothing that slipped through could act.
The same material gives the same bytes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import groupby

from jinja2 import Environment, PackageLoader, StrictUndefined

from advcomp.rules.printable import printable
from advcomp.rules.submission_type import SubmissionType
from advcomp.rules.verdict import Verdict
from advcomp.scoring.audit.finding_wording import measured, p_value, rates
from advcomp.scoring.processors import scarcity
from advcomp.scoring.report import axes
from advcomp.scoring.report.boards import Board, boards, percent, seconds
from advcomp.scoring.report.competitor import for_competitor
from advcomp.scoring.report.gallery import Figure, figures
from advcomp.scoring.report.heatmap import LEVELS, heatmaps
from advcomp.scoring.report.lines import lines
from advcomp.scoring.report.material import Material
from advcomp.scoring.report.policy import content_policy
from advcomp.scoring.report.public import for_public
from advcomp.scoring.report.scatter import scatter
from advcomp.scoring.report.wording import (
    NOTHING,
    amount,
    breakable,
    common,
    content,
    gap,
    labelled,
    rate,
    setting,
)
from advcomp.scoring.results import JobRecord
from advcomp.scoring.scores import Absence, EntryScore, Scores
from advcomp.scoring.standings import Standings

FAILURES_SHOWN = 3
"""Failed runs that are shown of one entry; the rest is counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failures:
    """The failed runs of one entry: the first ones, with what they printed, and how many more."""

    submission: str
    jobs: tuple[tuple[JobRecord, str | None], ...]
    more: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Expelled:
    """An entry that scores nobody, why, and whose ranks that changed."""

    score: EntryScore
    why: str
    changed: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exhibition:
    """The gallery of one attack."""

    name: str
    targeted: bool
    figures: tuple[Figure, ...]


def organiser_report(material: Material) -> str:
    """The whole tournament, with every name, label, log and image, as HTML."""
    shown = boards(material.standings)
    return _render(
        "organiser.html",
        material,
        shown,
        heatmaps=heatmaps(material.standings),
        exhibitions=_exhibitions(material, shown),
        expelled=_expelled(material.standings),
        failures=list(_failures(material, FAILURES_SHOWN)),
    )


def public_report(material: Material) -> str:
    """What may be published, as HTML: no image, no true label, no log; see `public.py`."""
    shown = for_public(material)
    return _render(
        "public.html",
        shown,
        boards(shown.standings),
        heatmaps=heatmaps(shown.standings),
        expelled=_expelled(shown.standings),
        failures=list(_failures(shown, FAILURES_SHOWN)),
    )


def competitor_report(material: Material, name: str) -> str:
    """What one competitor may see, as HTML.

    Args:
        material: Of everybody; its logs must already be what the competitor may read.
        name: The competitor's entry.

    Raises:
        InvalidConfig: There is no entry of this name.
    """
    own = for_competitor(material, name)
    shown = boards(own.standings, name)
    (score,) = (s for s in own.standings.scores.entries if s.entry.name == name)
    return _render(
        "competitor.html",
        own,
        [board for board in shown if board.track is score.entry.type],
        name=name,
        score=score,
        expelled=[item for item in _expelled(own.standings) if item.score is score],
        left_out=[item for item in _expelled(own.standings) if item.changed],
        heatmaps=heatmaps(own.standings, name),
        failures=list(_failures(own, len(own.jobs))),
    )


@cache
def page_templates() -> Environment:
    """The template engine, with what the pages say in common."""
    environment = Environment(
        loader=PackageLoader("advcomp.scoring.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "rate": rate,
        "percent": percent,
        "seconds": seconds,
        "gibibytes": _gibibytes,
        "amount": amount,
        "breakable": breakable,
        "content": content,
        "common": common,
        "gap": gap,
        "labelled": labelled,
        "setting": setting,
        "measured": measured,
        "p_value": p_value,
        "audit_rates": rates,
        "printable": printable,
    }
    environment.globals |= {
        "axes": axes,
        "LEVELS": LEVELS,
        "Verdict": Verdict,
        "is_table": lambda value: isinstance(value, Mapping),
        "is_list": lambda value: isinstance(value, list | tuple),
    }
    return environment


def page_parts() -> dict[str, object]:
    """What every page needs: its policy."""
    return {"policy": content_policy(page_templates())}


def _render(template: str, material: Material, shown: Sequence[Board], **more: object) -> str:
    return (
        page_templates()
        .get_template(template)
        .render(
            material=material,
            facts=material.facts,
            standings=material.standings,
            all_score=material.standings.options.absence is Absence.DEV_TOOLKIT,
            results=material.standings.results,
            boards=shown,
            scatters=[scatter(board) for board in shown],
            lines=[lines(material.standings, board) for board in shown],
            scarce=scarcity(material.jobs, material.facts.cpus),
            **page_parts(),
            **more,
        )
    )


def _exhibitions(material: Material, shown: Sequence[Board]) -> list[Exhibition]:
    results = material.standings.results
    index = {entry.name: i for i, entry in enumerate(results.defenses)}
    order = [
        index[row.row.submission]
        for board in shown
        if board.track is SubmissionType.DEFENSE
        for row in board.rows
        if row.row.verdict != Verdict.REJECTED
    ]
    return [
        Exhibition(
            name=results.attacks[attack].name,
            targeted=results.attacks[attack].type is SubmissionType.TARGETED_ATTACK,
            figures=tuple(figures(material, sample, order) for sample in samples),
        )
        for attack, samples in groupby(material.samples, key=lambda sample: sample.attack)
    ]


def _expelled(standings: Standings) -> list[Expelled]:
    scores = standings.scores
    changed = {left_out.entry: left_out.changed for left_out in standings.left_out}
    found = [
        replace(_why(score), changed=_changed(scores, changed[place]))
        if place in changed
        else _why(score)
        for place, score in enumerate(scores.entries)
        if score.entry.verdict is Verdict.REJECTED or place in changed
    ]
    tracks = list(SubmissionType)
    # By the names that are shown: an order by others would tell of them.
    return sorted(found, key=lambda e: (tracks.index(e.score.entry.type), e.score.entry.name))


def _changed(scores: Scores, ranks: Mapping[int, tuple[int | None, int | None]]) -> str:
    """What leaving an entry out changed, in words."""
    if not ranks:
        return "Leaving it out changed no rank."
    names = [score.entry.name for score in scores.entries]
    moved = sorted(
        f"{names[place]} has rank {rank or 'none'} (with it: {other or 'none'})"
        for place, (rank, other) in ranks.items()
    )
    return f"It is left out for everybody; so {', '.join(moved)}."


def _why(score: EntryScore) -> Expelled:
    if score.entry.verdict is Verdict.REJECTED:
        broken = "It breaks the contract and never ran."
        refused = "The audit flagged it, and the organiser leaves out what is flagged for that."
        return Expelled(score=score, why=refused if score.entry.refused else broken)
    what = "labels" if score.entry.type is SubmissionType.DEFENSE else "adversarial images"
    missing = score.images - score.valid
    return Expelled(score=score, why=f"It lacks {missing:,} of {score.images:,} {what}.")


def _failures(material: Material, most: int) -> Iterator[Failures]:
    failed = [job for job in material.jobs if job.verdict is not Verdict.OK]
    failed.sort(key=lambda job: job.submission)
    for submission, group in groupby(failed, key=lambda job: job.submission):
        jobs = list(group)
        yield Failures(
            submission=submission,
            jobs=tuple((job, _log(material, job)) for job in jobs[:most]),
            more=max(0, len(jobs) - most),
        )


def _log(material: Material, job: JobRecord) -> str | None:
    log = material.logs.get(job.job)
    return None if log is None else printable(log)


def _gibibytes(value: float | None) -> str:
    return NOTHING if value is None else f"{value / 2**30:.2g} GiB"
