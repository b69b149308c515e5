"""What a competitor's report says, and above all what it does not."""

import re
from dataclasses import replace

import pytest

from advcomp.errors import InvalidConfig
from advcomp.scoring.report.competitor import for_competitor
from advcomp.scoring.report.material import Material
from advcomp.scoring.report.page import competitor_report
from advcomp.scoring.report.wording import without_host_paths
from advcomp.scoring.results import Results


@pytest.fixture(params=["fgsm", "targeted_iterative", "slow_and_unfinished", "jpeg", "leaky"])
def name(request: pytest.FixtureRequest) -> str:
    chosen: str = request.param
    return chosen


def own_text(page: str) -> str:
    """The page without its own style and script, and without soft breaks within names."""
    return re.sub(r"<wbr>|<(style|script)>.*?</\1>", "", page, flags=re.DOTALL)


def test_it_shows_the_own_place(material: Material) -> None:
    page = own_text(competitor_report(material, "fgsm"))
    assert "Rank 4 of 7 in attacks." in page
    assert "attack 3" in page
    assert "attack 4" not in page


def test_it_has_no_name_digest_or_team_of_another(material: Material, name: str) -> None:
    page = own_text(competitor_report(material, name))
    results = material.standings.results
    for entry in (*results.attacks, *results.defenses):
        if entry.name == name:
            continue
        # `ensemble` and the like are no words of the page itself
        assert not re.search(rf"(?<![\w-]){re.escape(entry.name)}(?![\w-])", page), entry.name
        assert not entry.digest or entry.digest[:12] not in page
        assert entry.team is None or "Blue" not in page
        assert all(note not in page for note in entry.notes)


def test_it_has_no_image_and_no_image_id(material: Material, name: str) -> None:
    page = own_text(competitor_report(material, name))
    assert "<img" not in page
    assert "data:image" not in page
    assert "digits-0" not in page


def test_true_labels_do_not_matter_to_it(material: Material, name: str) -> None:
    """Swapping the names of two classes everywhere leaves every score, and so every byte."""
    results = material.standings.results
    assert results.target_classes is not None
    swapped = replace(
        results,
        labels=9 - results.labels,
        target_classes=9 - results.target_classes,
        predictions=(9 - results.predictions) * (results.predictions >= 0)
        - (results.predictions < 0),
        clean_predictions=(9 - results.clean_predictions) * (results.clean_predictions >= 0)
        - (results.clean_predictions < 0),
    )
    other = replace(material, standings=replace(material.standings, results=swapped))
    assert competitor_report(other, name) == competitor_report(material, name)


def test_it_has_no_host_path_seed_key_or_machine(material: Material, name: str) -> None:
    page = own_text(competitor_report(material, name))
    for secret in (
        "/srv",
        "/organiser",
        "secret",
        "77123",
        "key_digest",
        "d1d1d1",
        "torch",
        ">cores<",
    ):
        assert secret not in page


def test_numbers_follow_the_rank_and_not_the_name(material: Material, results: Results) -> None:
    """Entries of one score are numbered by what nobody but the organiser knows."""
    standings = material.standings
    tied = replace(
        standings,
        scores=replace(
            standings.scores,
            attacks=tuple(replace(score, rank=1) for score in standings.scores.attacks),
        ),
    )
    seen = for_competitor(replace(material, standings=tied), "jpeg").standings.results.attacks
    numbers = [entry.name for entry in seen if entry.name.startswith("attack ")]
    assert sorted(numbers) == [f"attack {i}" for i in range(1, 8)]
    assert numbers != sorted(numbers)


def test_numbers_and_ranks_agree(material: Material) -> None:
    scores = for_competitor(material, "leaky").standings.scores
    for score in scores.entries:
        if score.rank is not None:
            assert score.entry.name.endswith(f" {score.rank}")


def test_only_own_failures_are_shown_and_no_note_on_them(material: Material) -> None:
    page = own_text(competitor_report(material, "forgetful"))
    assert page.count("forgetful-wave1-") >= 9
    assert "slow_and_unfinished-eps48-0" not in page
    assert "missing 1 of" not in page
    assert "None of its 1 runs failed" in competitor_report(material, "fgsm")


def test_a_log_is_shown_only_as_given_and_without_host_paths(material: Material) -> None:
    job = "slow_and_unfinished-eps48-0"
    silent = competitor_report(replace(material, logs={}), "slow_and_unfinished")
    assert "step 1 of 500" not in silent
    assert "printed nothing" not in silent
    log = b'File "/srv/organiser/venv/lib/x.py", line 3\ncannot open /input_images/a.png'
    told = competitor_report(replace(material, logs={job: log}), "slow_and_unfinished")
    assert "…/x.py&#34;, line 3" in told
    assert "cannot open /input_images/a.png" in told
    assert "step 1 of 500" not in competitor_report(material, "fgsm")


def test_a_rejected_competitor_learns_why_without_our_paths(material: Material) -> None:
    page = own_text(competitor_report(material, "leaky"))
    assert "…/leaky.zip: a link leads out of the folder; take it out" in page


def test_an_unknown_name_is_refused_with_those_there_are(material: Material) -> None:
    with pytest.raises(InvalidConfig, match='got "nobody"; there are attack_network, fgsm, '):
        competitor_report(material, "nobody")


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        ("/home/o/entries/x.zip: bad", "…/x.zip: bad"),
        ('in "/a/b/c d.png"', 'in "…/c d.png"'),
        ("file:///srv/x/y", "file://…/y"),
        ("/code/run.py and /tmp/a/b and /output_data/result.csv", None),
        ("attacks/fgsm/metadata.json: 3/4 of it", None),
        ("/codes/of/me", "…/me"),
    ],
)
def test_folders_of_the_host_are_left_out(told: str, kept: str | None) -> None:
    assert without_host_paths(told) == (told if kept is None else kept)


def test_even_what_no_page_shows_is_taken_out(material: Material) -> None:
    own = for_competitor(material, "jpeg")
    results = own.standings.results
    for entry in (*results.attacks, *results.defenses):
        if entry.name != "jpeg":
            assert (entry.digest, entry.team, entry.notes) == ("", None, ())
    assert not own.samples
    assert not own.logs
    assert not own.jobs
