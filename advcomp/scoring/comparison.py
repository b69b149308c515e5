"""What differs between runs of tournaments: settings, entries, scores."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from advcomp.rules.submission_type import SubmissionType
from advcomp.scoring.leaderboard import Cell
from advcomp.scoring.paired import Difference, common_images, paired_differences
from advcomp.scoring.results import Entry
from advcomp.scoring.standings import Standings
from advcomp.scoring.tables import Json

FORMAT = 1
"""Version of the layout of `comparison_json`."""

_FIGURES = ("images", "first", "second", "difference", "low", "high")

_FOLLOWS = ("identity", "waves", "machine.key_digest")
"""Of the manifest: what differs wherever anything does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedRun:
    """One of the runs; the first is what the others are compared with."""

    name: str
    standings: Standings
    manifest: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A setting that differs, and its value in each run; None where a run has none."""

    key: str
    values: tuple[str | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """An entry as each run has it: by its name, or under another by its digest; else None."""

    track: SubmissionType
    name: str
    entries: tuple[Entry | None, ...]

    @property
    def is_same(self) -> bool:
        """Whether every run has it, of the same content and under the same name."""
        return len({entry and (entry.name, entry.digest) for entry in self.entries}) == 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoresOf:
    """An entry's score in each run, as its leaderboard has it, and how that differs.

    Args:
        differences: One for each run but the first, on the images that both have; None where
            either has no score.
    """

    track: SubmissionType
    submission: str
    scores: tuple[Cell, ...]
    differences: tuple[Difference | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """All that differs, and the scores of every entry.

    Args:
        common_images: How many images each run but the first shares with the first.
    """

    runs: tuple[str, ...]
    common_images: tuple[int, ...]
    settings: tuple[Setting, ...]
    entries: tuple[Match, ...]
    scores: tuple[ScoresOf, ...]


def compare(runs: Sequence[ComparedRun]) -> Comparison:
    """Compare runs with the first of them."""
    first, *others = runs
    matches = list(_matches(runs))
    found = []
    for place, other in enumerate(others, start=1):
        names = {
            entry.name: there.name
            for match in matches
            if (entry := match.entries[0]) and (there := match.entries[place])
        }
        differences = paired_differences(first.standings, other.standings, names)
        found.append({(row.track, row.submission): row for row in differences})
    scores = [_scores(run.standings) for run in runs]
    return Comparison(
        runs=tuple(run.name for run in runs),
        common_images=tuple(common_images(first.standings, run.standings) for run in others),
        settings=tuple(_settings(runs)),
        entries=tuple(match for match in matches if not match.is_same),
        scores=tuple(
            ScoresOf(
                track=match.track,
                submission=match.name,
                scores=tuple(
                    own.get((match.track, entry.name)) if entry else None
                    for own, entry in zip(scores, match.entries, strict=True)
                ),
                differences=tuple(rows.get((match.track, match.name)) for rows in found),
            )
            for match in matches
        ),
    )


def comparison_json(comparison: Comparison) -> str:
    """A comparison as one JSON object; scores and differences are rates, or null."""
    content: dict[str, Json] = {
        "format": FORMAT,
        "runs": comparison.runs,
        "common_images": comparison.common_images,
        "settings": [{"key": row.key, "values": row.values} for row in comparison.settings],
        "entries": [
            {
                "track": row.track,
                "name": row.name,
                "in_runs": [_who(entry) for entry in row.entries],
            }
            for row in comparison.entries
        ],
        "scores": [
            {
                "track": row.track,
                "submission": row.submission,
                "scores": row.scores,
                "differences": [
                    None if other is None else {name: getattr(other, name) for name in _FIGURES}
                    for other in row.differences
                ],
            }
            for row in comparison.scores
        ],
    }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _who(entry: Entry | None) -> Json:
    return None if entry is None else {"name": entry.name, "digest": entry.digest}


def _matches(runs: Sequence[ComparedRun]) -> Iterator[Match]:
    """Every entry of every run, in the order of the runs."""
    have = [[score.entry for score in run.standings.scores.entries] for run in runs]
    seen: set[tuple[int, str]] = set()
    for place, entries in enumerate(have):
        for entry in entries:
            if (place, entry.name) in seen:
                continue
            known = {other.name for other in entries}
            row = [
                None if at < place else entry if at == place else _find(entry, others, known)
                for at, others in enumerate(have)
            ]
            seen |= {(at, found.name) for at, found in enumerate(row) if found}
            yield Match(track=entry.type, name=entry.name, entries=tuple(row))


def _find(entry: Entry, others: Sequence[Entry], known: set[str]) -> Entry | None:
    """The entry of that name; else one of the same content that `known` has no name for."""
    own = [other for other in others if other.type is entry.type]
    named = next((other for other in own if other.name == entry.name), None)
    return named or next(
        (
            other
            for other in own
            if entry.digest and other.digest == entry.digest and other.name not in known
        ),
        None,
    )


def _scores(standings: Standings) -> dict[tuple[SubmissionType, str], Cell]:
    plain = standings.options.absence.plain
    return {
        (score.entry.type, score.entry.name): plain(score.score)
        for score in standings.scores.entries
    }


def _settings(runs: Sequence[ComparedRun]) -> Iterator[Setting]:
    flat = [dict(_flat(run.manifest)) for run in runs]
    for key in sorted(set().union(*flat)):
        values = tuple(settings.get(key) for settings in flat)
        if len(set(values)) > 1:
            yield Setting(key=key, values=values)


def _flat(table: Mapping[str, object], path: str = "") -> Iterator[tuple[str, str]]:
    """Every value of a manifest as JSON, by its dotted key."""
    for key, value in table.items():
        if f"{path}{key}" in _FOLLOWS:
            continue
        if isinstance(value, Mapping):
            yield from _flat(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", json.dumps(value, ensure_ascii=False)
