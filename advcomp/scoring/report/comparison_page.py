"""What differs between runs as one HTML file, in the report's dress."""

from advcomp.scoring.comparison import Comparison
from advcomp.scoring.report.page import page_parts, page_templates


def comparison_page(comparison: Comparison) -> str:
    """Settings, entries and scores that differ, as HTML; the same comparison, the same bytes."""
    return (
        page_templates()
        .get_template("comparison.html")
        .render(comparison=comparison, **page_parts())
    )
