"""What the organiser's report says."""

import base64
import hashlib
import html
import re
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from urllib.parse import unquote

import pytest
from support.large_report import material_of

from advcomp.rules.verdict import Verdict
from advcomp.scoring.leaderboard import COLUMNS, as_csv
from advcomp.scoring.report.axes import FLOOR
from advcomp.scoring.report.boards import boards, percent
from advcomp.scoring.report.heatmap import heatmaps
from advcomp.scoring.report.lines import SERIES, lines
from advcomp.scoring.report.material import Material
from advcomp.scoring.report.page import competitor_report, organiser_report
from advcomp.scoring.report.scatter import scatter
from advcomp.scoring.report.wording import rate, signed
from advcomp.scoring.results import Entry, Results
from advcomp.scoring.scores import Absence
from advcomp.scoring.standings import ScoringOptions, Standings, judge
from advcomp.scoring.tables import leaderboard_rows


@pytest.fixture(scope="module")
def page(material: Material) -> str:
    return organiser_report(material)


def text_of(page: str) -> str:
    """What a reader sees, in one line."""
    without_code = re.sub(r"<(style|script)>.*?</\1>", "", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<wbr>|<[^>]*>", "", without_code)).split())


def test_amounts_of_one_are_told_as_one() -> None:
    one, more = (text_of(organiser_report(material_of(n, n, images=n, side=8))) for n in (1, 2))
    assert "1 attack against 1 defense on 1 image, at budgets" in one
    assert "2 attacks against 2 defenses on 2 images, at budgets" in more


def test_the_policy_allows_the_pages_own_style_and_script_only(page: str) -> None:
    found = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    assert found is not None
    policy = dict(part.split(" ", 1) for part in html.unescape(found[1]).split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["img-src"] == "data:"
    for kind in ("style", "script"):
        (source,) = re.findall(rf"<{kind}>(.*?)</{kind}>", page, flags=re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
        assert policy[f"{kind}-src"] == f"'sha256-{digest}'"
    assert page.index("Content-Security-Policy") < page.index("<style>")


def test_it_names_nothing_outside_itself(page: str) -> None:
    assert re.findall(r"https?:|url\(|@import", page) == []
    assert set(re.findall(r'(?:src|href)="([a-z]*:|#)', page)) == {"data:", "#"}


def test_the_same_material_gives_the_same_bytes(material: Material, page: str) -> None:
    assert organiser_report(material) == page


def test_every_column_of_the_leaderboard_is_shown(standings: Standings) -> None:
    shown = {column.field for board in boards(standings) for column in board.columns}
    by_themselves = {
        *("track", "rank", "submission", "verdict"),
        *("score", "score_low", "score_high", "rank_low", "rank_high"),
    }
    assert shown | by_themselves == set(COLUMNS)


def test_the_leaderboards_have_the_files_figures_in_the_files_order(
    standings: Standings, page: str
) -> None:
    rows = leaderboard_rows(standings)
    assert [row.row for board in boards(standings) for row in board.rows] == list(rows)
    text = text_of(page)
    for row in rows:
        if row.rank is not None:
            assert f"{rate(row.score)} {rate(row.score_low)}–{rate(row.score_high)}" in text  # noqa: RUF001


def test_baselines_and_verdicts_are_marked(page: str) -> None:
    text = text_of(page)
    assert "noop baseline" in text
    assert "slow_and_unfinished incomplete" in text
    assert "✕ TIMED_OUT" in text
    assert "▲ PARTIAL" in text


def test_a_bar_ends_at_the_score_and_its_whisker_at_the_interval(standings: Standings) -> None:
    for board in boards(standings):
        for row in board.rows:
            if row.bar is not None and row.row.score is not None:
                assert row.bar.score == pytest.approx(100 * row.row.score)
                assert row.bar.low == pytest.approx(100 * (row.row.score_low or 0))
                assert row.bar.high == pytest.approx(100 * (row.row.score_high or 0))


def test_bars_of_counts_are_parts_of_the_largest(results: Results) -> None:
    options = ScoringOptions(absence=Absence.EVAL_INFRA, bootstrap=100)
    (board, *_) = boards(judge(results, options))
    bars = [row.bar for row in board.rows if row.bar is not None]
    assert max(max(bar.score, bar.high or 0) for bar in bars) == 100
    assert board.rows[0].score == f"{board.rows[0].row.score:,}"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(1.0, "100 %"), (0.99999, "99.9 %"), (0.0, "0 %"), (0.727, "72.7 %"), (None, "–")],  # noqa: RUF001
)
def test_only_all_is_100_percent(value: float | None, shown: str) -> None:
    assert percent(value) == shown


def test_there_is_no_minus_zero() -> None:
    assert [rate(-0.0001), signed(-0.0001)] == ["0.000", "+0.000"]


def test_the_heat_map_is_counted_as_by_hand(results: Results, standings: Standings) -> None:
    in_all, *each = heatmaps(standings)
    assert [heat.max_epsilon for heat in each] == [16, 32, 48]
    attacks = [entry.name for entry in results.attacks]
    defenses = [entry.name for entry in results.defenses]
    assert "leaky" not in [row.defense.name for row in in_all.rows]
    for heat in (in_all, *each):
        budgets = {16, 32, 48} if heat.max_epsilon is None else {heat.max_epsilon}
        for row in heat.rows:
            for heading, cell in zip(heat.attacks, row.cells, strict=True):
                wins = answers = 0
                for pair, max_epsilon in enumerate(results.pair_max_epsilon):
                    image = results.pair_image[pair]
                    answer = results.predictions[
                        defenses.index(row.defense.name), attacks.index(heading.name), pair
                    ]
                    if max_epsilon not in budgets or answer < 0:
                        continue
                    answers += 1
                    assert results.target_classes is not None
                    aim = answer == results.target_classes[image]
                    wins += aim if heading.targeted else answer != results.labels[image]
                expected = round(100 * wins / answers) if answers else None
                assert cell.percent == expected
    assert {a.name for a in in_all.attacks if not a.complete} == {"slow_and_unfinished"}


def test_the_pareto_front_is_who_beats_all_that_are_as_fast(standings: Standings) -> None:
    chart = scatter(boards(standings)[0])
    assert [point.name for point in chart.front] == ["attack_network", "momentum_ensemble"]
    able = [row for row in boards(standings)[0].rows if row.complete]
    rows = [row.row for row in able if (row.row.gain_over_clean or 0) > 0]
    assert {"noop", "slow_and_unfinished"}.isdisjoint(row.submission for row in rows)
    for row in rows:
        beaten = any(
            other.median_seconds_per_100_images <= row.median_seconds_per_100_images  # type: ignore[operator]
            and (other.score or 0) >= (row.score or 0)
            for other in rows
            if other is not row
        )
        assert (row.submission in {point.name for point in chart.front}) == (not beaten)


def test_who_is_as_good_but_slower_is_not_on_the_front(standings: Standings) -> None:
    board = boards(standings)[0]
    tied = replace(
        board, rows=tuple(replace(r, row=replace(r.row, score=0.5)) for r in board.rows)
    )
    assert [point.name for point in scatter(tied).front] == ["attack_network"]


def test_run_times_ascend_to_the_right_and_scores_upwards(standings: Standings) -> None:
    board = boards(standings)[0]
    points = {point.name: point for point in scatter(board).points}
    rows = [row.row for row in board.rows]
    by_time = sorted(rows, key=lambda row: row.median_seconds_per_100_images or 0)
    across = [points[row.submission].x for row in by_time]
    assert across == sorted(across)
    up = [points[row.submission].y for row in rows]
    assert up == sorted(up)


def test_an_entry_without_a_run_is_named_beside_the_chart(standings: Standings) -> None:
    assert scatter(boards(standings)[-1]).left_out == ("leaky",)


def test_lines_follow_the_scores_of_each_budget(standings: Standings) -> None:
    for board in boards(standings):
        chart = lines(standings, board)
        scores = {score.entry.name: score for score in standings.scores.entries}
        drawn = {line.name: line for line in chart.lines}
        for name, line in drawn.items():
            heights = [-float(epsilon.score or 0) for epsilon in scores[name].epsilons]
            order = sorted(range(len(heights)), key=lambda i: heights[i])
            assert order == sorted(range(len(heights)), key=lambda i: line.points[i][1])
        labels = sorted(line.label.y for line in chart.lines if line.label)
        assert all(below - above >= 12 for above, below in pairwise(labels))
        assert len(labels) <= SERIES


def test_names_of_lines_that_end_together_stay_apart_and_above_the_axis(
    standings: Standings,
) -> None:
    attacks = tuple(
        replace(score, epsilons=tuple(replace(e, score=Fraction(0)) for e in score.epsilons))
        for score in standings.scores.attacks
    )
    flat = replace(standings, scores=replace(standings.scores, attacks=attacks))
    chart = lines(flat, boards(standings)[0])
    labels = sorted(line.label.y for line in chart.lines if line.label)
    assert len(labels) == 7
    assert labels[-1] <= FLOOR
    assert all(below - above >= 12 for above, below in pairwise(labels))


def test_who_was_expelled_and_why(page: str) -> None:
    text = text_of(page)
    assert "leaky ✕ REJECTED It breaks the contract and never ran." in text
    assert "a link leads out of the folder; take it out" in text
    assert "slow_and_unfinished ✕ TIMED_OUT It lacks 49 of 180 adversarial images." in text
    assert "forgetful ▲ PARTIAL It lacks 9 of 1,571 labels. " in text


def test_where_incomplete_entries_score_the_others_nothing_else_is_said(
    material: Material, results: Results
) -> None:
    all_score = judge(results, ScoringOptions(absence=Absence.DEV_TOOLKIT, bootstrap=10))
    for page in (
        organiser_report(replace(material, standings=all_score)),
        competitor_report(replace(material, standings=all_score), "forgetful"),
    ):
        text = text_of(page)
        assert "▲ incomplete entries score the others all the same, and have no rank" in text
        assert "incomplete entries score nobody" not in text
    text = text_of(organiser_report(replace(material, standings=all_score)))
    assert "score nobody else; incomplete ones do, under this absence rule. leaky" in text
    playing = replace(results, defenses=tuple(map(allowed, results.defenses)))
    nobody = judge(playing, all_score.options)
    text = text_of(organiser_report(replace(material, standings=nobody)))
    assert "Nobody: under this absence rule incomplete entries score the others, too." in text
    assert "every entry is complete" not in text


def allowed(entry: Entry) -> Entry:
    """The entry, not rejected."""
    return replace(entry, verdict=Verdict.OK)


def test_what_leaving_an_incomplete_entry_out_changed(material: Material, page: str) -> None:
    text = text_of(page)
    standings = material.standings
    places = {s.entry.name: i for i, s in enumerate(standings.scores.entries)}
    assert [standings.scores.entries[item.entry].entry.name for item in standings.left_out] == [
        "slow_and_unfinished",
        "forgetful",
    ]
    forgetful = replace(standings.left_out[1], changed={places["fgsm"]: (4, 3)})
    moved = replace(material, standings=replace(standings, left_out=(forgetful,)))
    assert "It is left out for everybody; so fgsm has rank 4 (with it: 3)." in text_of(
        organiser_report(moved)
    )
    assert "As opponents the entries of a team weigh one together" in text
    own = text_of(competitor_report(moved, "fgsm"))
    assert "so fgsm has rank 4 (with it: 3)." in own
    assert "forgetful" not in own


def test_failures_come_with_verdict_and_log(page: str) -> None:
    text = text_of(page)
    assert "✕ TIMED_OUT slow_and_unfinished-eps48-0 11 of 60 images · 360 s · signal 9" in text
    assert "step 1 of 500" in text
    assert r"\x1b[31mred\u202e\xff" in text
    assert "It printed nothing." in text
    assert "And 6 more of its runs; verdicts.csv lists them all." in text
    assert "fgsm-eps16-0" not in text


def test_all_who_tie_lead_and_no_baseline_does(material: Material, standings: Standings) -> None:
    text = text_of(organiser_report(material)).split("Leaderboards")[0]
    assert "Best attack momentum_ensemble" in text
    attacks = tuple(
        replace(s, rank=1) if s.entry.name in ("fgsm", "iterative_fgsm", "attack_network") else s
        for s in standings.scores.attacks
    )  # `fgsm` is a baseline
    tied = replace(standings, scores=replace(standings.scores, attacks=attacks))
    text = text_of(organiser_report(replace(material, standings=tied))).split("Leaderboards")[0]
    assert "Best attacks, 3 tied attack_network, iterative_fgsm, momentum_ensemble" in text


def test_counts_are_not_called_shares(material: Material, results: Results) -> None:
    counted = judge(results, ScoringOptions(absence=Absence.EVAL_INFRA, bootstrap=10))
    assert "Score: number of answers that are wrong" in text_of(
        organiser_report(replace(material, standings=counted))
    )
    assert "Score: share of answers that are wrong" in text_of(organiser_report(material))


def test_the_page_tells_its_day_its_columns_classes_and_links(
    material: Material, standings: Standings
) -> None:
    attacks = tuple(
        replace(s, entry=replace(s.entry, url="https://example.org/paper"))
        if s.entry.name == "iterative_fgsm"
        else s
        for s in standings.scores.attacks
    )
    page = organiser_report(
        replace(
            material,
            facts=replace(material.facts, began="2026-01-31"),
            standings=replace(standings, scores=replace(standings.scores, attacks=attacks)),
            class_names={label: f"digit<{label}>" for label in range(10)},
        )
    )
    text = text_of(page)
    assert "begun on 2026-01-31" in text
    assert "NashNash averaging" in text
    assert re.search(r"label (\d) digit<\1>", text)
    assert page.count('href="https://example.org/paper" rel="noopener noreferrer nofollow"') == 1
    (data,) = re.findall(r'download="attack.csv" href="data:text/csv;charset=utf-8,([^"]*)"', page)
    rows = [row for row in leaderboard_rows(standings) if row.track == "attack"]
    assert unquote(data) == as_csv(rows)


def test_the_manifest_has_sizes_and_no_empty_card(material: Material) -> None:
    more = {"images": {}, "note": "one\ntwo"}
    page = organiser_report(replace(material, manifest={**material.manifest, **more}))
    text = text_of(page)
    assert "memory4 GiB" in text
    assert "note one two" in text
    assert "<h3>dataset</h3>" in page
    assert "<h3>images</h3>" not in page


def test_strangers_markup_is_escaped(page: str) -> None:
    assert "<script>document" not in page
    assert "<img src=x" not in page
    assert "Red &amp; &lt;b&gt;Blue&lt;/b&gt;" in page
    assert page.count("<script>") == 1


def test_the_manifest_is_whole(page: str) -> None:
    text = text_of(page)
    for said in ("d1" * 32, "77123", "0.8.0", "../secret/place", "500.0", "key_digest"):
        assert said in text


def test_reservations_are_said_at_the_top(material: Material, results: Results) -> None:
    assert "unofficial" not in text_of(organiser_report(material)).split("Leaderboards")[0]
    facts = replace(material.facts, official=False, weak_limits=True, view="pooled")
    unsure = judge(
        replace(
            results,
            attacks=(replace(results.attacks[0], verdict=Verdict.INFRA), *results.attacks[1:]),
        ),
        ScoringOptions(bootstrap=10),
    )
    page = organiser_report(replace(material, facts=facts, standings=unsure))
    top = text_of(page).split("Leaderboards")[0]
    for reservation in ("unofficial", "limits: weak", "provisional"):
        assert reservation in top
