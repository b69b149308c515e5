"""Both kinds of report in a real browser."""

from pathlib import Path

import pytest
from support.browser import Browser

from advcomp.scoring.report.material import Material
from advcomp.scoring.report.page import competitor_report, organiser_report

pytestmark = [pytest.mark.browser, pytest.mark.slow]

PHONE, DESK, PAPER = 360, 1440, 718
ATTACKS = "section[aria-labelledby=board-attack]"
NAMES = f"[...document.querySelectorAll('{ATTACKS} tbody .entry')].map(e => e.textContent)"
SORTED = f"""[...document.querySelectorAll('{ATTACKS} [aria-sort]')].map(
    e => [e.textContent, e.getAttribute('aria-sort')])"""
CUT_OFF = """[...document.querySelectorAll('body *')].filter(e => {
    const box = e.getBoundingClientRect();
    return (box.right > innerWidth + 1 || box.left < -1)
        && !e.closest('.scroll, .figures, .contents, pre, .skip, .unseen');
}).map(e => e.outerHTML.slice(0, 80))"""
BUDGET_TABS = (
    "[...document.querySelectorAll('[role=tab]')].map(e => e.getAttribute('aria-selected'))"
)
FOREIGN = """document.querySelectorAll(
    'img:not([src^="data:image/png;base64,"]), [onerror], iframe, object, link').length"""
UNPRINTABLE = r"/[\x00-\x08\x0b-\x1f\x7f\u202e]/.test(document.body.textContent)"
FIGURES = """(() => {
    const rows = [...document.querySelectorAll('.figures')], figures = (e) => [...e.children];
    const top = (f) => f.getBoundingClientRect().top;
    const heights = rows.map(e => new Set(figures(e).map(top)).size);
    return [Math.max(...heights), rows.some(e => e.scrollWidth > e.clientWidth),
            rows.flatMap(figures).filter(f => f.checkVisibility()).length];
})()"""
VISIBLE_MAPS = "[...document.querySelectorAll('.heat')].filter(e => e.checkVisibility()).length"


@pytest.fixture(scope="module", params=["organiser", "fgsm", "slow_and_unfinished", "leaky"])
def page(
    request: pytest.FixtureRequest, material: Material, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The organiser's report, and those of a fine, a failed and a rejected competitor."""
    path = tmp_path_factory.mktemp("page") / f"{request.param}.html"
    organiser = request.param == "organiser"
    html = organiser_report(material) if organiser else competitor_report(material, request.param)
    path.write_text(html, encoding="utf-8")
    return path


@pytest.fixture
def organiser(browser: Browser, material: Material, tmp_path: Path) -> Browser:
    """The browser with the organiser's report on a desk."""
    path = tmp_path / "report.html"
    path.write_text(organiser_report(material), encoding="utf-8")
    browser.open(path, DESK)
    return browser


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [PHONE, DESK])
def test_nothing_overflows_is_fetched_or_complains(
    browser: Browser, page: Path, width: int, dark: bool
) -> None:
    browser.open(page, width, dark=dark)
    assert browser.evaluate("document.documentElement.scrollWidth") == width
    assert browser.evaluate(CUT_OFF) == []
    assert [url for url in browser.requests if not url.startswith("data:")] == [page.as_uri()]
    assert browser.errors == []


@pytest.mark.parametrize("width", [PHONE, DESK])
def test_on_a_phone_the_figures_of_an_attack_lie_side_by_side(
    organiser: Browser, tmp_path: Path, width: int
) -> None:
    organiser.open(tmp_path / "report.html", width)
    most, cut_off, shown = organiser.evaluate(FIGURES)
    assert most == 1
    assert cut_off == (width == PHONE)
    assert shown == organiser.evaluate("document.querySelectorAll('.figures figure').length")


def test_it_fits_on_paper_with_every_budget(browser: Browser, page: Path) -> None:
    browser.open(page, PAPER, paper=True)
    assert browser.evaluate("document.documentElement.scrollWidth") == PAPER
    assert browser.evaluate(VISIBLE_MAPS) == browser.evaluate(
        "document.querySelectorAll('.heat').length"
    )
    assert not browser.evaluate("document.querySelector('nav').checkVisibility()")


def test_strangers_text_is_inert(browser: Browser, page: Path) -> None:
    browser.open(page, DESK)
    assert browser.evaluate("document.scripts.length") == 1
    assert browser.evaluate("document.title") != "owned"
    assert (
        browser.evaluate("document.querySelectorAll('img:not([src^=\"data:image/png\"])').length")
        == 0
    )
    assert browser.evaluate("document.querySelectorAll('[onerror]').length") == 0
    assert not browser.evaluate(
        r"/[\x00-\x08\x0b-\x1f\x7f\u202e]/.test(document.body.textContent)"
    )


def test_the_policy_stops_what_would_slip_through(organiser: Browser) -> None:
    """A script, a style and a picture from outside, as an attacker would add them."""
    organiser.evaluate("""
        const script = document.createElement('script');
        script.textContent = "document.title = 'owned'";
        document.body.append(script);
        document.body.insertAdjacentHTML('beforeend', '<p id=p style="color: rgb(1, 2, 3)">x</p>');
        const image = new Image();
        image.src = 'http://127.0.0.1:9/x.png';
        document.body.append(image);
    """)
    assert organiser.evaluate("document.title") != "owned"
    assert organiser.evaluate("getComputedStyle(p).color") != "rgb(1, 2, 3)"
    assert sum("Content Security Policy" in error for error in organiser.errors) == 3


def test_a_click_sorts_and_the_next_one_turns_it_round(organiser: Browser) -> None:
    by_rank = organiser.evaluate(NAMES)
    assert organiser.evaluate(SORTED) == [["#", "ascending"]]
    organiser.click(f"{ATTACKS} th.name button")
    assert organiser.evaluate(NAMES) == sorted(by_rank)
    assert organiser.evaluate(SORTED) == [["Submission", "ascending"]]
    organiser.click(f"{ATTACKS} th.name button")
    assert organiser.evaluate(NAMES) == sorted(by_rank, reverse=True)
    organiser.click(f"{ATTACKS} th.score button")
    assert organiser.evaluate(SORTED) == [["Score", "descending"]]
    assert organiser.evaluate(NAMES) == by_rank


def test_the_keyboard_sorts_and_what_is_empty_stays_last(organiser: Browser) -> None:
    nash = f"{ATTACKS} th[title='Nash averaging'] button"
    organiser.evaluate(f'document.querySelector("{nash}").focus()')
    organiser.press("Enter")
    assert organiser.evaluate(SORTED) == [["Nash", "descending"]]
    assert organiser.evaluate(NAMES)[-1] == "slow_and_unfinished"
    organiser.press("Enter")
    assert organiser.evaluate(SORTED) == [["Nash", "ascending"]]
    assert organiser.evaluate(NAMES)[0] == "noop"
    assert organiser.evaluate(NAMES)[-1] == "slow_and_unfinished"
    organiser.press("Tab")
    assert organiser.evaluate("document.activeElement.textContent") == "PageRank"


def test_the_budgets_are_tabs_for_mouse_and_keyboard(organiser: Browser) -> None:
    assert organiser.evaluate(BUDGET_TABS) == ["true", "false", "false", "false"]
    organiser.click("[role=tab]:nth-child(2)")
    assert organiser.evaluate(BUDGET_TABS) == ["false", "true", "false", "false"]
    organiser.evaluate("document.querySelector('[role=tab]:nth-child(2)').focus()")
    organiser.press("ArrowRight")
    assert organiser.evaluate("document.activeElement.textContent") == "ε 32"
    organiser.press("End")
    assert organiser.evaluate(BUDGET_TABS) == ["false", "false", "false", "true"]
    assert organiser.evaluate(VISIBLE_MAPS) == 1


def test_every_control_and_region_has_a_name_and_ids_are_unique(
    browser: Browser, page: Path
) -> None:
    browser.open(page, DESK)
    assert (
        browser.evaluate("""[...document.querySelectorAll('[aria-labelledby]')].filter(
        e => !document.getElementById(e.getAttribute('aria-labelledby'))).length""")
        == 0
    )
    assert (
        browser.evaluate("""[...document.querySelectorAll('button, a, summary')].filter(
        e => !e.textContent.trim()).length""")
        == 0
    )
    assert browser.evaluate("[...document.images].filter(e => !e.alt).length") == 0
    assert (
        browser.evaluate("""(ids => ids.length - new Set(ids).size)(
        [...document.querySelectorAll('[id]')].map(e => e.id))""")
        == 0
    )
    assert (
        browser.evaluate("""[...document.querySelectorAll('.contents a')].filter(
        e => !document.querySelector(e.getAttribute('href'))).length""")
        == 0
    )
    assert (
        browser.evaluate("""[...document.querySelectorAll('h1, h2, h3')].some(
        (e, i, all) => i > 0 && e.tagName[1] - all[i - 1].tagName[1] > 1)""")
        is False
    )
