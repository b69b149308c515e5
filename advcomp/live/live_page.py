"""The page of a run: one file that draws what it holds, and what it is sent while it is served.

Nothing of the run becomes markup: the state stands in the page as JSON, and its script writes
every text of it as text.
"""

import json
from functools import cache

from jinja2 import ChoiceLoader, Environment, PackageLoader, PrefixLoader, StrictUndefined
from markupsafe import Markup

from advcomp.live.snapshot import RunSnapshot
from advcomp.scoring.report.policy import content_policy

CHANGES = "changes"
"""Where a served page is told what has happened, relative to it."""

_CONNECTS = "connect-src 'self'"


def page(snapshot: RunSnapshot, *, served: bool = False) -> str:
    """The page as HTML; as a file it needs nothing besides itself.

    Args:
        snapshot: What it shows until it is told more.
        served: Whether there is a server to tell it more.
    """
    return (
        _environment()
        .get_template("live.html")
        .render(
            tournament=snapshot.tournament,
            state=_embedded(snapshot),
            events=CHANGES if served else "",
            policy=policy(served=served),
        )
    )


@cache
def policy(*, served: bool) -> str:
    """The page's Content-Security-Policy."""
    return content_policy(_environment(), *([_CONNECTS] if served else []))


def _embedded(snapshot: RunSnapshot) -> Markup:
    """JSON that nothing in it can end."""
    text = json.dumps(snapshot.as_json())
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704 - no character of markup is left in it


@cache
def _environment() -> Environment:
    """Looks as the reports do."""
    reports = PackageLoader("advcomp.scoring.report")
    return Environment(
        loader=ChoiceLoader(
            [PackageLoader("advcomp.live"), reports, PrefixLoader({"report": reports})]
        ),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
