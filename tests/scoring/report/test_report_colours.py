"""The colours of the page: readable by everybody, in light and in dark."""

import re
from importlib import resources
from itertools import pairwise

import pytest

CSS = (resources.files("advcomp.scoring.report") / "templates" / "style.css").read_text()
LIGHT, DARK = re.findall(r":root \{(.*?)\}", CSS, flags=re.DOTALL)[:2]
WRITTEN = ("ink", "soft", "accent", "best", "good", "bad", "warn", *(f"s{i}" for i in range(7)))
WHITE, BLACK = "#ffffff", "#000000"


@pytest.fixture(params=[LIGHT, DARK], ids=["light", "dark"])
def colours(request: pytest.FixtureRequest) -> dict[str, str]:
    """The custom properties of one scheme that are colours."""
    return dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6});", request.param))


def test_all_that_is_written_contrasts_with_the_page(colours: dict[str, str]) -> None:
    """WCAG 2.2, 1.4.3: at least 4.5 to 1."""
    for name in WRITTEN:
        for ground in ("page", "card"):
            assert contrast(colours[name], colours[ground]) >= 4.5, (name, ground)


def test_the_heat_map_is_read_by_lightness_alone(colours: dict[str, str]) -> None:
    """Its levels go steadily away from the page, so that they need no sense of colour."""
    levels = [luminance(colours[f"h{i}"]) for i in range(21)]
    ascending = levels[-1] > levels[0]
    assert all((below < above) == ascending for below, above in pairwise(levels))
    assert contrast(colours["h0"], colours["page"]) < contrast(colours["h20"], colours["page"])


@pytest.mark.parametrize("scheme", [LIGHT, DARK], ids=["light", "dark"])
def test_figures_in_the_heat_map_contrast_with_their_cell(scheme: str) -> None:
    colours = dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{3,6});", scheme))
    inks = dict(re.findall(r"\.h(\d+) \{ --heat: .*?; --level-ink: (.*?); \}", CSS))
    for level in range(21):
        ink = re.sub(r"var\(--(.*)\)", lambda found: colours[found[1]], inks[str(level)])
        full = {"#fff": WHITE, "#000": BLACK}[ink]
        assert contrast(full, colours[f"h{level}"]) >= 4.5, level


def contrast(one: str, other: str) -> float:
    """WCAG's contrast ratio."""
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    """WCAG's relative luminance."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
