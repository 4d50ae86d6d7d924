"""Where the live view listens: reading the address, and binding it with errors that say what to do."""

from __future__ import annotations

import errno
import socket
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address

from edge_mnv2.errors import RequestError

_DEFAULT_HOST, _DEFAULT_PORT = "127.0.0.1", 8080
_BACKLOG = 64
_MAX_TEXT = 300


@dataclass(frozen=True, slots=True)
class WebAddress:
    """An address to listen at.

    Attributes:
        host: IP address without brackets, or host name.
        port: 0 lets the system choose.
    """

    host: str = _DEFAULT_HOST
    port: int = _DEFAULT_PORT

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return self.host.lower() == "localhost" or is_loopback_ip(self.host)

    @property
    def url(self) -> str:
        """What to open in a browser, as far as the address says it."""
        return f"http://{_bracketed(self.host)}:{self.port}/"

    def __str__(self) -> str:
        return f"{_bracketed(self.host)}:{self.port}"


DEFAULT_ADDRESS = WebAddress()


def parse_web_address(text: str, default: WebAddress = DEFAULT_ADDRESS) -> WebAddress:
    """Return the address of `HOST:PORT`, `HOST`, `PORT`, `:PORT` or `[IPV6]:PORT`.

    Args:
        text: What was given.
        default: What is left out is as here.

    Raises:
        RequestError: It is no address.
    """
    given, text = text, text.strip()
    if len(text) > _MAX_TEXT:
        raise _no_address(given)
    if text.isdecimal():
        host, port = "", text
    elif is_ip(text):
        host, port = text, ""
    elif text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or not is_ip(host) or (rest and not rest.startswith(":")) or rest == ":":
            raise _no_address(given)
        port = rest[1:]
    else:
        host, colon, port = text.partition(":")
        if colon and not port:
            raise _no_address(given)
    if host and not is_ip(host) and not _is_host_name(host):
        raise _no_address(given)
    if port and not (port.isascii() and port.isdecimal() and len(port) <= 5 and int(port) < 65536):
        raise RequestError(f"A port is a number from 0 to 65535, not {port[:40]!r}.")
    return WebAddress(host or default.host, int(port) if port else default.port)


def bind(address: WebAddress) -> tuple[list[socket.socket], WebAddress]:
    """Return listening sockets for every IP address of the host, and the address with its real port.

    Raises:
        RequestError: The port is in use (by whom, where that can be known), or the address is not this
            machine's.
    """
    try:
        targets = _targets(address)
    except (OSError, UnicodeError) as error:
        raise RequestError(f"There is no host {address.host!r} to serve the page at: {error}.") from error
    sockets: list[socket.socket] = []
    port, failure = address.port, None
    for family, host in targets:
        try:
            listener = _listener(family, host, port)
        except OSError as error:
            failure = failure or error
            if error.errno == errno.EADDRINUSE:
                break
            continue  # localhost without IPv6, say: one address is enough
        sockets.append(listener)
        port = port or listener.getsockname()[1]
    if failure is not None and (not sockets or failure.errno == errno.EADDRINUSE):
        for listener in sockets:
            listener.close()
        raise _refusal(address, failure) from failure
    return sockets, WebAddress(address.host, port)


def is_ip(text: str) -> bool:
    """Return whether this is an IP address."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def is_loopback_ip(text: str) -> bool:
    """Return whether this is an IP address of the loopback device."""
    return is_ip(text) and ip_address(text).is_loopback


def own_names() -> frozenset[str]:
    """Return the names that this machine has by itself: its host name, also under `.local`, in lower case."""
    whole = socket.gethostname().lower()
    short = whole.partition(".")[0]
    return frozenset({"localhost", whole, short, f"{short}.local"} - {"", ".local"})


def _listener(family: socket.AddressFamily, host: str, port: int) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        # A restart must not wait for connections of the run before to be forgotten.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            only_v6 = host != "::"  # "all addresses" means those of IPv4, too
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(only_v6))
        listener.bind((host, port))
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def _targets(address: WebAddress) -> list[tuple[socket.AddressFamily, str]]:
    if address.host.lower() == "localhost":  # never what a name server makes of it
        return [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]
    found = socket.getaddrinfo(address.host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys((family, str(where[0])) for family, _, _, _, where in found))


def _refusal(address: WebAddress, error: OSError) -> RequestError:
    match error.errno:
        case errno.EADDRINUSE:
            holder = _holder(address.port)
            by = f" by {holder}" if holder else ""
            return RequestError(
                f"Port {address.port} is in use{by}: choose another one with --web HOST:PORT."
            )
        case errno.EACCES:
            return RequestError(f"Port {address.port} needs root: choose one from 1024 on, such as 8080.")
        case errno.EADDRNOTAVAIL:
            return RequestError(
                f"{address.host} is no address of this machine: 0.0.0.0 stands for all that it has, "
                "127.0.0.1 for this machine alone."
            )
        case _:
            return RequestError(f"The page cannot be served at {address}: {error.strerror}.")


def _holder(port: int) -> str:
    """Return who listens at a port, empty where that cannot be known."""
    import psutil

    with suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp"):
            listens = connection.status == psutil.CONN_LISTEN and bool(connection.laddr)
            if listens and connection.pid and connection.laddr.port == port:  # type: ignore[union-attr]
                return f"{psutil.Process(connection.pid).name()} (process {connection.pid})"
    return ""


def _is_host_name(text: str) -> bool:
    labels = text.rstrip(".").split(".")
    allowed = all(character.isalnum() or character in "-_." for character in text)
    # Numbers alone are a mistyped IP address, such as 192.168.1.
    return allowed and all(labels) and not labels[-1].isdecimal()


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _no_address(text: str) -> RequestError:
    return RequestError(f"An address is HOST:PORT, such as {DEFAULT_ADDRESS}, not {text[:60]!r}.")
