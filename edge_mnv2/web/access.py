"""Who may see the live view: names of this server, the token, the cookie, and where a call comes from.

Nothing here knows the HTTP library: the rules take texts and return answers, so that each can be tested.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Collection, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from edge_mnv2.errors import RequestError
from edge_mnv2.web.address import WebAddress, is_ip, is_loopback_ip, own_names

_MIN_TOKEN = 16
_MAKE_ONE = "python3 -c 'import secrets; print(secrets.token_urlsafe())'"
# So many wrong guesses may be waiting for their answer; others are told to wait. Who is right never waits:
# what keeps a token from being guessed is its length.
_MAX_PENDING = 8
# A call that only reads, from a page of somebody else.
_FOREIGN_SITES = frozenset({"cross-site", "same-site"})

GUESS_DELAY_S = 0.5


def check_token(address: WebAddress, token: str | None) -> None:
    """Refuse to show the camera to a network without a token, or with one that can be guessed.

    Raises:
        RequestError: It says how to make one.
    """
    if token is None:
        if not address.is_loopback:
            raise RequestError(
                f"Whoever reaches {address} would see the camera: give a token as well, in a file, with "
                f"--web-token-file. This makes one: {_MAKE_ONE}"
            )
    elif len(token) < _MIN_TOKEN:
        raise RequestError(
            f"The token is too short to be safe: it needs {_MIN_TOKEN} characters, such as {_MAKE_ONE}"
        )
    elif not (token.isascii() and token.isprintable() and " " not in token):
        raise RequestError(f"The token must be of plain ASCII characters without blanks, such as {_MAKE_ONE}")


def read_token(path: Path) -> str:
    """Return the token that a file holds, without the end of its line.

    Raises:
        RequestError: The file cannot be read.
    """
    if path.exists() and not path.is_file():
        raise RequestError(f"The token cannot be read from {path}: it is not a file.")
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise RequestError(f"The token cannot be read from {path}: {reason}.") from error


class Access:
    """The rules of one server.

    Args:
        address: Where it listens, with its real port.
        token: Wanted from everybody; None for none.
        names: Further host names and addresses that it is reached by, such as those of a proxy.
    """

    def __init__(self, address: WebAddress, token: str | None, names: Collection[str] = ()) -> None:
        self._is_loopback = address.is_loopback
        self._names = {name.lower().strip("[]").rstrip(".") for name in names} | {address.host.lower()}
        self._names |= {"localhost"} if address.is_loopback else own_names()
        self._token = token
        # The cookie opens what the token opens, but does not give the token away, and ends with this run.
        self._session = secrets.token_urlsafe()
        self._pending = 0
        # Cookies know no ports: two servers of one device must not take each other's.
        self.cookie_name = f"edge-mnv2-{address.port}"

    @property
    def needs_token(self) -> bool:
        """Whether a token is wanted."""
        return self._token is not None

    @property
    def cookie_value(self) -> str:
        """What the cookie holds."""
        return self._session

    def is_own_name(self, host: str | None) -> bool:
        """Return whether a `Host` header names this server.

        A page of an attacker may let its own name point here (DNS rebinding) and would then be of the same
        origin; its name gives it away. An IP address cannot be made to point elsewhere. The port is not
        looked at: a tunnel may have another one at its near end.
        """
        name = host_name(host)
        if name is None:
            return False
        if name in self._names or is_loopback_ip(name):
            return True
        return not self._is_loopback and is_ip(name)

    def has_session(self, cookies: Mapping[str, str]) -> bool:
        """Return whether the cookie is there and right."""
        return _equal(cookies.get(self.cookie_name, ""), self._session)

    def is_token(self, given: str) -> bool:
        """Return whether this is the token; the time that it takes does not say how much of it is right."""
        return self._token is not None and _equal(given, self._token)

    @property
    def may_guess(self) -> bool:
        """Whether another wrong token may wait for its answer, or too many do."""
        return self._pending < _MAX_PENDING

    def note_wrong(self) -> None:
        """Count a wrong token; its answer is to wait for `GUESS_DELAY_S`, and then calls `forget_wrong`."""
        self._pending += 1

    def forget_wrong(self) -> None:
        """A wrong token has its answer."""
        self._pending -= 1


def given_tokens(query: Mapping[str, str], authorization: str | None) -> list[str]:
    """Return the tokens of `?token=` and of `Authorization: Bearer`, as far as they are there."""
    tokens = [query["token"]] if "token" in query else []
    scheme, _, value = (authorization or "").partition(" ")
    return [*tokens, value.strip()] if scheme.lower() == "bearer" else tokens


def is_foreign(site: str | None, mode: str | None) -> bool:
    """Return whether a page of somebody else embeds or reads us (`Sec-Fetch-Site`, `Sec-Fetch-Mode`).

    A link to us is no such thing. Browsers send these headers to loopback addresses, where no token is.
    """
    return site in _FOREIGN_SITES and mode != "navigate"


def is_same_origin(origin: str | None, host: str | None) -> bool:
    """Return whether a changing call comes from our own page, or from no page at all (no `Origin`)."""
    if origin is None:
        return True
    own = (host or "").lower()
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.netloc) and parts.netloc.lower() == own


def host_name(header: str | None) -> str | None:
    """Return the name or IP address of a `Host` header in lower case, without port; None if it is not one."""
    if not header or "@" in header or "/" in header:
        return None
    try:
        return (urlsplit(f"//{header}").hostname or "").rstrip(".") or None
    except ValueError:
        return None


def _equal(given: str, right: str) -> bool:
    # Whatever a header may carry can be encoded so.
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), right.encode())
