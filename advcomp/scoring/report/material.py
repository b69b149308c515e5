"""What a report is made from, for the organiser and for one competitor."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from advcomp.scoring.audit.finding import Audit
from advcomp.scoring.results import JobRecord
from advcomp.scoring.standings import Standings


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a reader must know about how the results came about.

    Args:
        tournament: Its name.
        view: What one run of a defense saw.
        schedule: Which image met which budget.
        sandbox: The backend that ran the submissions.
        limit_tier: How strictly it kept their limits.
        weak_limits: Whether that is too weak to rely on.
        official: Whether view and limits are sound enough to call the results official.
        cpus: Processors that the limits allow to a run.
        began: The day of its first start, as 2026-01-31; empty where it is not known.
    """

    tournament: str
    view: str
    schedule: str
    sandbox: str
    limit_tier: str
    weak_limits: bool
    official: bool
    cpus: float
    began: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GalleryImage:
    """One adversarial image of the gallery beside the clean one, uint8 (H, W, 3) both.

    Args:
        attack: Index of the attack in the results.
        pair: Index of the (image, budget) pair in the results.
    """

    attack: int
    pair: int
    clean: NDArray[np.uint8]
    adversarial: NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """Everything that a report shows.

    Args:
        jobs: All runs, in the order in which they are listed.
        reasons: Why outputs are not valid, in words that carry nothing, by the job's name.
        logs: What runs printed, raw, by the job's name; only of the jobs whose log is shown.
        manifest: What made the results, of JSON's types only.
        samples: The gallery's images, in the order in which they are shown.
        without_samples: Why there are none, where there could have been.
        class_names: Label -> what it is, for people.
        audit: What an audit of the run found; for the organiser's eyes.
    """

    facts: Facts
    standings: Standings
    jobs: Sequence[JobRecord]
    manifest: Mapping[str, object]
    logs: Mapping[str, bytes] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)
    samples: Sequence[GalleryImage] = ()
    without_samples: str = ""
    class_names: Mapping[int, str] = field(default_factory=dict)
    audit: Audit | None = None
