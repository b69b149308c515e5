"""Who may see a run's page.

Without a token the server listens on the loopback interface alone. A web page elsewhere could
still have its visitor's browser ask there, under a name of its own that it lets point to 127.0.0.1
(DNS rebinding): such a request says that name in its `Host`, and is refused. Where other machines
may ask, or other users of this one shall not, a token is needed: in `Authorization: Bearer`, in
the address (`?token=`), and then in a cookie that scripts cannot read.
"""

import hmac
import ipaddress
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie

from advcomp.errors import InvalidConfig

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Who may see the page that is served at an address.

    Args:
        address: What the server listens on.
        token: What who asks must know; None: nothing.
    """

    address: str = LOOPBACK
    token: str | None = None

    def admits_host(self, host: str) -> bool:
        """Whether a request's `Host` is a name of this server's, whatever its port."""
        name = _name_of(host)
        if name in {"localhost", self.address.lower()}:
            return True
        here = _number(name)
        if here is None:
            return is_any(self.address) and name in _own_names()
        return here.is_loopback or is_any(self.address)

    def knows_token(self, given: str | None) -> bool:
        """Whether a token is the one; takes as long whatever is given."""
        if self.token is None:
            return True
        return hmac.compare_digest((given or "").encode(), self.token.encode())

    def knows_cookie(self, header: str, name: str) -> bool:
        """Whether a `Cookie` header has the pass of who knew the token."""
        try:
            held = SimpleCookie(header).get(name)
        except CookieError:
            return False
        return held is not None and hmac.compare_digest(held.value.encode(), self.cookie.encode())

    @property
    def cookie(self) -> str:
        """The pass of who knew the token, and not the token; good for the next server of it."""
        return hmac.new((self.token or "").encode(), b"advcomp watch", "sha256").hexdigest()


def access_to(address: str | None, token: str | None) -> Access:
    """Who may see a page, by what the command line says.

    Raises:
        InvalidConfig: Other machines could see it, and no token is set; or the token is none.
    """
    if token is not None and not (token.isascii() and token.isprintable() and token.split()):
        raise InvalidConfig(
            "--token: expected letters, digits and signs of ASCII; got "
            f"{'nothing' if not token.strip() else 'others'}; "
            'one is made by: python3 -c "import secrets; print(secrets.token_urlsafe())"'
        )
    if address is not None and token is None:
        raise InvalidConfig(
            f"--bind {address}: expected a token with it (--token, or ADVCOMP_TOKEN in the "
            "environment), since others could see the page; got none; without --bind the page "
            "is for this machine alone"
        )
    return Access(address=address or LOOPBACK, token=token)


def given_token(headers: Mapping[str, str], query: Mapping[str, str]) -> str | None:
    """The token that a request brings."""
    kind, _, value = headers.get("authorization", "").partition(" ")
    return value.strip() if kind.lower() == "bearer" else query.get("token")


def _name_of(host: str) -> str:
    """`Host` without its port and brackets, in lower case."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower() if host.count(":") < 2 else host.lower()


def _number(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


def is_any(address: str) -> bool:
    """Whether it stands for every address of this machine."""
    number = _number(address)
    return number is not None and number.is_unspecified


def _own_names() -> set[str]:
    return {socket.gethostname().lower(), socket.getfqdn().lower()}
