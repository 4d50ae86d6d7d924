"""Says why a network stream cannot be opened: OpenCV itself does not, so the camera is asked once more.

One short question by a plain socket (RTSP's DESCRIBE of RFC 2326, or HTTP's GET), with the password only
where the camera asks for it (RFC 7616, RFC 7617).
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import io
import re
import secrets
import socket
import ssl
import time
from dataclasses import dataclass
from email.message import Message
from urllib.parse import SplitResult, unquote, urlsplit

from camera.credentials import without_credentials
from camera.errors import AccessDeniedError, CameraError, SourceNotFoundError

_PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443}
_TIMEOUT_S = 2.0
_MAX_ANSWER_BYTES = 65536
_UNAUTHORISED, _FORBIDDEN, _NOT_FOUND = 401, 403, 404


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    phrase: str
    headers: Message
    body: bytes


def why_not_open(url: str, shown: str, waited_s: float | None) -> CameraError:
    """Ask the camera why a stream could not be opened; it takes a few seconds at most.

    Args:
        url: With credentials.
        shown: The same without credentials, for the message.
        waited_s: How long was waited for a picture; None where opening failed before.

    Returns:
        The error to raise: `SourceNotFoundError` for an unknown host or stream, `AccessDeniedError` where it
        wants another user or password. That was then said twice: by FFmpeg, and here, since a camera may say
        only to those it knows what else is wrong; whoever tries again has to leave it time.
    """
    parts = urlsplit(url)
    port = parts.port or _PORTS[parts.scheme]
    try:
        answer = _ask(parts, port, time.monotonic() + _TIMEOUT_S)
    except socket.gaierror as error:
        return SourceNotFoundError(f"{shown}: its host is not known ({error.strerror}): check the name.")
    except (OSError, ValueError) as error:
        return CameraError(f"{shown} {_no_answer(error, parts.scheme, port)}")
    if answer.status == _NOT_FOUND:
        return SourceNotFoundError(f"{shown}: there is no such stream ({_status(answer)}): check the path.")
    kind = AccessDeniedError if answer.status in (_UNAUTHORISED, _FORBIDDEN) else CameraError
    return kind(f"{shown} {_refusal(answer, parts) or _no_picture(answer, parts.scheme, waited_s)}")


def _no_answer(error: OSError | ValueError, scheme: str, port: int) -> str:
    match error:
        case ConnectionRefusedError():
            return f"cannot be reached: nothing listens on port {port}. Check the port, and the camera."
        case TimeoutError():
            return "does not answer: check the address, the cable, and the camera's power."
        case ssl.SSLError():
            return f"has no encrypted connection on port {port} ({error.reason}): check scheme and port."
        case OSError():
            return f"cannot be reached: {error.strerror or 'the connection broke'}."
        case _:
            return f"is something else: what listens on port {port} does not speak {scheme.upper()}."


def _refusal(answer: _Answer, parts: SplitResult) -> str | None:
    match answer.status:
        case 401 if parts.username is None:
            # No example: what shows this text takes it for credentials, and hides it.
            return "asks for a user and a password: write user, colon, password and @ before the host."
        case 401:
            return f"refuses this user or password ({_status(answer)})."
        case 403:
            return f"does not show this stream to this user ({_status(answer)})."
        case status if not 200 <= status < 400:
            return f"refuses with {_status(answer)}."
    return None


def _no_picture(answer: _Answer, scheme: str, waited_s: float | None) -> str:
    is_rtsp = scheme.startswith("rtsp")
    if is_rtsp and answer.body and b"m=video" not in answer.body:
        return "has no video."
    if not is_rtsp and answer.headers.get_content_type() == "text/html":
        return "is a page, not a stream: look for the address of its video."
    within = "" if waited_s is None else f" within {waited_s:g} s"
    hint = "try #transport=udp or #transport=tcp" if is_rtsp else "check that it is a video"
    return f"answers, but sent no picture that FFmpeg can decode{within}: {hint}."


def _status(answer: _Answer) -> str:
    """Return status and phrase; the phrase is the camera's own text."""
    return without_credentials(f"{answer.status} {answer.phrase}".strip()[:80])


def _ask(parts: SplitResult, port: int, deadline: float) -> _Answer:
    """Return the camera's answer, with credentials where it asks for them.

    Raises:
        OSError: No connection, or no answer in time.
        ValueError: It speaks another protocol.
    """
    connection = _connect(parts, port, deadline)
    try:
        answer = _exchange(connection, parts, "", deadline)
        login = _authorization(answer, parts) if answer.status == _UNAUTHORISED else ""
        if login:
            # RTSP servers may tie a nonce to its connection, HTTP servers may close one after each answer.
            if parts.scheme.startswith("http"):
                connection.close()
                connection = _connect(parts, port, deadline)
            answer = _exchange(connection, parts, login, deadline)
        return answer
    finally:
        connection.close()


def _connect(parts: SplitResult, port: int, deadline: float) -> socket.socket:
    connection = socket.create_connection((parts.hostname or "", port), _left(deadline))
    if parts.scheme not in ("rtsps", "https"):
        return connection
    # As FFmpeg does: cameras have certificates of their own making.
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        return context.wrap_socket(connection, server_hostname=parts.hostname)
    except OSError:
        connection.close()
        raise


def _exchange(connection: socket.socket, parts: SplitResult, login: str, deadline: float) -> _Answer:
    method, target, version = _request(parts)
    if method == "DESCRIBE":
        lines = [f"CSeq: {2 if login else 1}", "Accept: application/sdp"]
    else:
        lines = [f"Host: {parts.netloc.rpartition('@')[2]}", "Accept: */*", "Connection: close"]
    if login:
        lines.append(f"Authorization: {login}")
    connection.settimeout(_left(deadline))
    connection.sendall("\r\n".join([f"{method} {target} {version}", *lines, "", ""]).encode())
    data = b""
    while b"\r\n\r\n" not in data and len(data) < _MAX_ANSWER_BYTES:
        data += _receive(connection, deadline)
    first, _, rest = data.partition(b"\r\n")
    words = first.decode("latin-1").split(" ", 2)
    if len(words) < 2 or not words[0].startswith(version[:5]) or not words[1].isdecimal():
        raise ValueError("not an answer in this protocol")
    _, _, body = rest.partition(b"\r\n\r\n")
    try:
        headers = http.client.parse_headers(io.BytesIO(rest))
    except http.client.HTTPException as error:
        raise ValueError("no headers") from error
    length = headers.get("Content-Length", "")
    if method == "DESCRIBE" and length.isdecimal():
        while len(body) < min(int(length), _MAX_ANSWER_BYTES):
            body += _receive(connection, deadline)
    return _Answer(int(words[1]), words[2] if len(words) > 2 else "", headers, body)


def _receive(connection: socket.socket, deadline: float) -> bytes:
    connection.settimeout(_left(deadline))
    data = connection.recv(_MAX_ANSWER_BYTES)
    if not data:
        raise OSError("closed")
    return data


def _request(parts: SplitResult) -> tuple[str, str, str]:
    """Return method, target and version; no target holds credentials."""
    host = parts.netloc.rpartition("@")[2]
    path = parts.path or "/"
    query = f"?{parts.query}" if parts.query else ""
    if parts.scheme.startswith("rtsp"):
        # Encrypted or not, the address inside is rtsp://.
        return "DESCRIBE", f"rtsp://{host}{path}{query}", "RTSP/1.0"
    return "GET", f"{path}{query}", "HTTP/1.1"


def _authorization(answer: _Answer, parts: SplitResult) -> str:
    """Return the answer to a challenge, empty where there is none that can be answered."""
    if parts.username is None:
        return ""
    user, password = unquote(parts.username), unquote(parts.password or "")
    headers = [header.strip().partition(" ") for header in answer.headers.get_all("WWW-Authenticate", [])]
    challenges = {kind.lower(): challenge for kind, _, challenge in headers}
    if "digest" in challenges:
        return _digest(challenges["digest"], user, password, *_request(parts)[:2])
    if "basic" in challenges:
        return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
    return ""


def _digest(challenge: str, user: str, password: str, method: str, target: str) -> str:
    found = re.findall(r'(\w+)\s*=\s*(?:"([^"]*)"|([^\s,]+))', challenge)
    fields = {key.lower(): quoted or bare for key, quoted, bare in found}
    algorithm = fields.get("algorithm", "MD5")
    if algorithm.upper() not in ("MD5", "SHA-256"):
        return ""

    def digest(*texts: str) -> str:
        name = algorithm.replace("-", "").lower()
        return hashlib.new(name, ":".join(texts).encode(), usedforsecurity=False).hexdigest()

    realm, nonce = fields.get("realm", ""), fields.get("nonce", "")
    who, what = digest(user, realm, password), digest(method, target)
    given = {"username": user, "realm": realm, "nonce": nonce, "uri": target}
    more = f", algorithm={algorithm}" if "algorithm" in fields else ""
    if "auth" in [choice.strip() for choice in fields.get("qop", "").split(",")]:
        once = secrets.token_hex(8)
        given |= {"response": digest(who, nonce, "00000001", once, "auth", what), "cnonce": once}
        more += ", qop=auth, nc=00000001"
    else:
        given["response"] = digest(who, nonce, what)
    if "opaque" in fields:
        given["opaque"] = fields["opaque"]
    quoted = (f'{key}="{value}"' for key, value in given.items())
    return f"Digest {', '.join(quoted)}{more}"


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("too late")
    return left
