"""Reports of more entries than fit beside each other, in a real browser."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from support.browser import Browser
from support.large_report import material_of

from advcomp.scoring.report.heatmap import heatmaps
from advcomp.scoring.report.material import Material
from advcomp.scoring.report.page import competitor_report, organiser_report, public_report
from advcomp.scoring.run_times import RunTimes

pytestmark = [pytest.mark.browser, pytest.mark.slow]

DESK, LAPTOP, PHONE, PAPER = 1440, 1200, 390, 718
ALL_COLUMNS = "[...document.querySelectorAll('.heat thead th:not(.clean)')]"
ALL_ROWS = "[...document.querySelectorAll('.heat tbody tr')]"
COLUMNS = f"{ALL_COLUMNS}.filter(e => !e.hidden).map(e => e.querySelector('.entry').textContent)"
SHOWN_ROWS = f"{ALL_ROWS}.filter(e => !e.hidden)"
ROWS = f"{SHOWN_ROWS}.map(e => e.querySelector('.entry').textContent)"
FIGURES = f"{ALL_ROWS}.map(e => [...e.cells].slice(2).map(c => c.textContent))"
HEADS = """(() => {
    const box = document.querySelector('.scroll.both');
    box.scrollTo(300, 60);
    const frame = box.getBoundingClientRect(), at = (s) => box.querySelector(s);
    const row = at('tbody tr:nth-child(9) th').getBoundingClientRect();
    const column = at('thead th:nth-child(30)').getBoundingClientRect();
    return [box.scrollLeft, box.scrollTop, row.left - frame.left, column.top - frame.top];
})()"""
TYPE = """((label, text) => {
    const input = [...document.querySelectorAll('.matrix label')].find(
        e => e.textContent.startsWith(label)).querySelector('input, select');
    input.value = text;
    input.dispatchEvent(new Event(input.tagName === 'SELECT' ? 'change' : 'input'));
})"""
POINT = """((selector) => {
    document.querySelector(selector).dispatchEvent(
        new PointerEvent('pointerover', { bubbles: true, clientX: 9, clientY: 9 }));
    const tip = document.querySelector('.tip');
    return tip.hidden ? null : tip.textContent;
})"""
CUT_OFF = """[...document.querySelectorAll('.board .scroll')].filter(
    e => e.scrollWidth > e.clientWidth).map(e => e.scrollWidth - e.clientWidth)"""


@pytest.fixture(scope="module")
def dense() -> Material:
    return material_of(45, 60, images=4, side=16)


@pytest.fixture(scope="module")
def file(dense: Material, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("dense") / "report.html"
    path.write_text(organiser_report(dense), encoding="utf-8")
    return path


@pytest.fixture
def page(browser: Browser, file: Path) -> Browser:
    browser.open(file, DESK)
    return browser


def chosen(label: str, text: str) -> str:
    return f"{TYPE}({json.dumps(label)}, {json.dumps(text)})"


@pytest.mark.parametrize("width", [PHONE, LAPTOP])
def test_the_heads_of_a_dense_map_stay_both_ways(browser: Browser, file: Path, width: int) -> None:
    browser.open(file, width)
    left, top, row, column = browser.evaluate(HEADS)
    assert (left > 0) == (width == PHONE)
    assert top > 0
    assert 0 <= row <= 1  # the gap between cells
    assert column == 0
    assert browser.errors == []


def test_every_budget_of_a_dense_map_can_be_chosen(page: Browser, dense: Material) -> None:
    for heat in (*heatmaps(dense.standings)[1:], heatmaps(dense.standings)[0]):
        key = "" if heat.max_epsilon is None else f"eps-{heat.max_epsilon}"
        page.evaluate(chosen("Budget", key))
        figures = [[str(cell.percent) for cell in row.cells] for row in heat.rows]
        assert page.evaluate(FIGURES) == figures
        levels = page.evaluate(f"{ALL_ROWS}.map(e => [...e.cells].slice(2).map(c => c.className))")
        assert levels == [
            [
                f"h{round((cell.percent or 0) / 5)}{'' if cell.counted else ' aside'}"
                for cell in row.cells
            ]
            for row in heat.rows
        ]


def test_filters_take_names_and_teams(page: Browser, dense: Material) -> None:
    (heat, *_) = heatmaps(dense.standings)
    every = page.evaluate(COLUMNS), page.evaluate(ROWS)
    assert every == ([a.name for a in heat.attacks], [row.defense.name for row in heat.rows])
    page.evaluate(chosen("Attacks", "JPEG"))
    assert page.evaluate(COLUMNS) == [name for name in every[0] if "jpeg" in name]
    page.evaluate(chosen("Defenses", "team 7"))
    assert page.evaluate(ROWS) == [r.defense.name for r in heat.rows if r.defense.team == "team 7"]
    cells = page.evaluate(f"{SHOWN_ROWS}[0].querySelectorAll('td:not([hidden])').length")
    assert cells == 1 + len(page.evaluate(COLUMNS))
    page.click(".matrix .tools > button")
    assert (page.evaluate(COLUMNS), page.evaluate(ROWS)) == every


def test_a_head_sorts_the_other_side_by_its_figures(page: Browser) -> None:
    usual = page.evaluate(COLUMNS), page.evaluate(ROWS)
    page.click(".heat thead th:nth-child(4) button")
    figures = [int(row[1]) for row in page.evaluate(FIGURES)]
    assert figures == sorted(figures, reverse=True)
    page.click(".heat thead th:nth-child(4) button")
    figures = [int(row[1]) for row in page.evaluate(FIGURES)]
    assert figures == sorted(figures)
    page.click(".heat tbody tr:nth-child(3) th button")
    figures = [int(figure) for figure in page.evaluate(FIGURES)[2]]
    assert figures == sorted(figures, reverse=True)
    page.click(".matrix .tools > button")
    assert (page.evaluate(COLUMNS), page.evaluate(ROWS)) == usual


def test_what_is_pointed_at_is_told(page: Browser, dense: Material) -> None:
    (heat, *_) = heatmaps(dense.standings)
    row = heat.rows[1]
    said = page.evaluate(f"{POINT}('.heat tbody tr:nth-child(2) td:nth-child(5)')")
    assert said.removesuffix(" (counts for nobody)") == (
        f"{heat.attacks[2].name} \u00d7 {row.defense.name}: {row.cells[2].percent} %"
    )
    clean = page.evaluate(f"{POINT}('.heat tbody tr:nth-child(2) td.clean')")
    assert clean == f"{row.defense.name}, clean images: {row.clean.percent} % wrong"
    assert "s per 100 images" in page.evaluate(f"{POINT}('.point')")
    assert page.evaluate(f"{POINT}('h1')") is None


def test_long_leaderboards_and_sections_fold(page: Browser) -> None:
    seen = "[...document.querySelectorAll('.board')].map(b => [...b.querySelectorAll('tbody tr')]"
    seen += ".filter(e => e.checkVisibility()).length)"
    assert page.evaluate(seen) == [25, 15, 25]
    page.click(".board .tools button")
    assert page.evaluate(seen) == [30, 15, 25]
    page.click(".board .tools button")
    board = "document.querySelector('.board input')"
    page.evaluate(f"{board}.value = 'team 1', {board}.dispatchEvent(new Event('input'))")
    shown = page.evaluate(
        "[...document.querySelectorAll('.board tbody tr')].filter(e => e.checkVisibility())"
        ".slice(0, -40).map(e => e.dataset.team)"
    )
    assert shown
    assert all(team.startswith("team 1") for team in shown)
    gallery = "document.querySelector('#gallery .exhibition').checkVisibility()"
    assert not page.evaluate(gallery)
    page.click(".contents a[href='#gallery']")
    assert page.evaluate(gallery)
    page.click("#gallery .fold")
    assert not page.evaluate(gallery)


def test_a_dense_page_fits_on_paper_whole(browser: Browser, file: Path) -> None:
    browser.open(file, PAPER, paper=True)
    assert browser.evaluate("document.documentElement.scrollWidth") == PAPER
    rows = "[...document.querySelectorAll('.board tbody tr, .exhibition')]"
    assert browser.evaluate(f"{rows}.every(e => e.checkVisibility())")
    assert not browser.evaluate("document.querySelector('.tools').checkVisibility()")


def test_no_verdict_is_cut_off_on_a_laptop(
    browser: Browser, material: Material, tmp_path: Path
) -> None:
    """Also where run times add two columns."""
    scores = material.standings.scores
    timed = replace(
        scores,
        attacks=tuple(
            replace(s, entry=replace(s.entry, run_times=RunTimes(start=12.3, per_image=0.0123)))
            for s in scores.attacks
        ),
    )
    path = tmp_path / "report.html"
    page = organiser_report(replace(material, standings=replace(material.standings, scores=timed)))
    path.write_text(page, encoding="utf-8")
    browser.open(path, LAPTOP)
    assert browser.evaluate(CUT_OFF) == []


@pytest.mark.long
@pytest.mark.parametrize("kind", ["organiser", "public", "competitor"])
def test_2017s_size_takes_two_megabytes_at_most_and_reads_everywhere(
    browser: Browser, tmp_path: Path, kind: str
) -> None:
    material = material_of(156, 107)
    name = material.standings.results.attacks[0].name
    writers: dict[str, Callable[[Material], str]] = {
        "organiser": organiser_report,
        "public": public_report,
        "competitor": lambda shown: competitor_report(shown, name),
    }
    write = writers[kind]
    text = write(material)
    assert len(text.encode()) <= 2_000_000
    assert write(material) == text
    path = tmp_path / "report.html"
    path.write_text(text, encoding="utf-8")
    for width in (PHONE, DESK):
        browser.open(path, width)
        assert browser.evaluate("document.documentElement.scrollWidth") == width
        assert browser.evaluate("document.documentElement.scrollHeight") < 12_000
        assert [url for url in browser.requests if not url.startswith("data:")] == [path.as_uri()]
        assert browser.errors == []
    browser.open(path, PAPER, paper=True)
    assert browser.evaluate("document.documentElement.scrollWidth") == PAPER
