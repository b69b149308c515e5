"""Images a thousand times larger than their pixels cost the referee no memory."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hostile.case import Case
from hostile.conducted import conduct
from support.contest import BRIGHTNESS, Contest, write_greys

from advcomp.rules.verdict import Verdict

pytestmark = pytest.mark.slow

IMAGES = 40
LIMITS = '[limits]\nmemory = "900 MiB"\noutput = "400 MiB"\n'
GROWTH_BYTES = 200 << 20


def test_forty_images_of_8_mib_each_are_read_a_few_at_a_time(
    tmp_path: Path, require: Callable[[str], None]
) -> None:
    require("bubblewrap")
    write_greys(tmp_path / "data", IMAGES)
    contest = Contest(tmp_path)
    padded = Case(
        name="padded",
        program="junk = chunk(b'juNk', bytes(8 << 20))\n"
        "for name in NAMES: write(name, png(samples(name), after=junk))",
        verdicts=(Verdict.OK,),
    )
    file = contest.file(
        [padded.write(contest)],
        [contest.entry("brightness", BRIGHTNESS, "defense")],
        max_epsilons=[8],
        more=LIMITS,
    )
    ran = conduct(contest, file, "bubblewrap")
    assert ran.results["padded"]["verdict"] == Verdict.OK
    assert ran.results["padded"]["valid"] == IMAGES
    assert ran.report["grown_bytes"] < GROWTH_BYTES
    results = ran.answers()
    assert np.array_equal(results.predictions[0, 0], results.labels)
