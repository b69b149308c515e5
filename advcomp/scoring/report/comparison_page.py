"""What differs between runs as one HTML file, in the report's dress."""

from advcomp.scoring.comparison import Comparison
from advcomp.scoring.report.page import environment, parts


def comparison_page(comparison: Comparison) -> str:
    """Settings, entries and scores that differ, as HTML; the same comparison, the same bytes."""
    return environment().get_template("comparison.html").render(comparison=comparison, **parts())
