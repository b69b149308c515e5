"""What the public report says, and above all what it does not."""

import html
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import pytest

from advcomp.scoring.report.material import Material
from advcomp.scoring.report.page import public_report
from advcomp.scoring.scores import EntryScore
from advcomp.scoring.standings import Standings


@pytest.fixture
def anonymous(material: Material, standings: Standings) -> Material:
    """The organiser's material, with one attack that has another name for the public."""
    results = tuple(
        replace(e, display="Mystery & Co", url="https://example.org/who")
        if e.name == "momentum_ensemble"
        else e
        for e in standings.results.attacks
    )
    scores = tuple(
        replace(s, entry=entry) for s, entry in zip(standings.scores.attacks, results, strict=True)
    )
    return replace(
        material,
        standings=replace(
            standings,
            results=replace(standings.results, attacks=results),
            scores=replace(standings.scores, attacks=scores),
        ),
        class_names={0: "zero-class"},
    )


def page_of(material: Material) -> str:
    page = re.sub(r"<wbr>|<(style|script)>.*?</\1>", "", public_report(material), flags=re.DOTALL)
    return html.unescape(page)


def test_every_name_is_shown_or_what_stands_in_its_place(anonymous: Material) -> None:
    page = page_of(anonymous)
    assert "Mystery & Co" in page
    for secret in ("momentum_ensemble", "Blue", "example.org"):
        assert secret not in page
    for score in anonymous.standings.scores.entries:
        if score.entry.display is None:
            assert score.entry.name in page


def test_it_has_no_image_label_log_note_digest_or_machine(anonymous: Material) -> None:
    page = page_of(anonymous)
    for secret in (
        *("<img", "data:image", "digits-0", "zero-class", "step 1 of 500", "missing 49"),
        *("/srv", "secret/place", "77123", "key_digest", "0.8.0", "d1" * 6, "a0" * 6, "Gallery"),
    ):
        assert secret not in page
    assert "✕ TIMED_OUT" in page
    assert "memory</dt><dd>4 GiB" in page


def test_true_labels_do_not_matter_to_it(material: Material) -> None:
    """Swapping the names of two classes everywhere leaves every score, and so every byte."""
    results = material.standings.results
    assert results.target_classes is not None
    answered, clean = results.predictions >= 0, results.clean_predictions >= 0
    swapped = replace(
        results,
        labels=9 - results.labels,
        target_classes=9 - results.target_classes,
        predictions=(9 - results.predictions) * answered - ~answered,
        clean_predictions=(9 - results.clean_predictions) * clean - ~clean,
    )
    other = replace(material, standings=replace(material.standings, results=swapped))
    assert public_report(other) == public_report(material)


def test_no_order_tells_of_the_names_that_are_not_shown(material: Material) -> None:
    """Of those expelled, and of those whose rank that changed, in every place but a ranking."""
    standings = material.standings
    shown = {"forgetful": "Z", "leaky": "A", "fgsm": "Y", "iterative_fgsm": "B"}
    scores = standings.scores
    places = {score.entry.name: place for place, score in enumerate(scores.entries)}
    changed = {places["fgsm"]: (4, 3), places["iterative_fgsm"]: (3, 4)}
    hidden = replace(
        standings,
        scores=replace(
            scores,
            attacks=tuple(map(partial(shown_as, shown), scores.attacks)),
            defenses=tuple(map(partial(shown_as, shown), scores.defenses)),
        ),
        left_out=(replace(standings.left_out[1], changed=changed),),
    )
    page = page_of(replace(material, standings=hidden))
    expelled = page.split('id="expelled-title"')[1].split("</section>")[0]
    assert re.findall(r'<span class="entry">(\w)</span>', expelled) == ["A", "Z"]
    assert "so B has rank 3 (with it: 4), Y has rank 4 (with it: 3)." in expelled


def shown_as(names: Mapping[str, str], score: EntryScore) -> EntryScore:
    return replace(score, entry=replace(score.entry, display=names.get(score.entry.name)))
