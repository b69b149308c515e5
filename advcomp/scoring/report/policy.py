"""What a page forbids itself: everything that is not in it."""

from base64 import b64encode
from hashlib import sha256

from jinja2 import Environment

_OWN = {"style": "style.css", "script": "script.js"}


def content_policy(environment: Environment, *more: str) -> str:
    """A Content-Security-Policy of a page's own style and script, pictures in it, and no more.

    Args:
        environment: Has the page's style.css and script.js.
        more: Further directives.
    """
    own = (
        f"{kind}-src 'sha256-{_digest(environment.get_template(name).render())}'"
        for kind, name in _OWN.items()
    )
    directives = ("default-src 'none'", "img-src data:", *own, *more)
    return "; ".join((*directives, "base-uri 'none'", "form-action 'none'"))


def _digest(source: str) -> str:
    return b64encode(sha256(source.encode()).digest()).decode()
