"""Takes passwords, users and tokens out of URIs, and out of messages that quote URIs.

It hides rather too much than too little: an `@` further back in a path may as well be part of a password that
was not percent-encoded, so everything up to the last one goes. Where there is none, the host may have been
forgotten (`rtsp://user:password`): what follows a colon there, and is no port, goes to the end.
"""

from __future__ import annotations

import re

_HIDDEN = "***"
# What user info follows: a scheme, or nothing where the scheme was forgotten (`user:password@host`).
_BEFORE_USER_INFO = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,30}:/{1,3}|(?=[^\s:/'\"=<>(]{1,80}:)")
_WHOLE_USER_INFO = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*:/+)?(.*)@", re.DOTALL)
# An authority with a colon behind which no port comes. A port ends at a part of the URI or, in a message, at
# punctuation before white space. In front there may be user info, which is hidden by now.
_NO_PORT = (
    r"((?:rtsp[stu]?|https?|rtmps?|ftps?|srt):/{1,3}(?:\*{3}@)?(?:\[[^\s\]]*\]|[^\s:/?#@\[]*):)"
    r"(?!(?:[0-5]?\d{1,4}|6[0-4]\d{3}|65[0-4]\d\d|655[0-2]\d|6553[0-5])?"
    r"(?:[/?#]|[\]\)>}'\",.:;!]*(?:\s|$)))"
)
_PASSWORD_ALONE = re.compile(_NO_PORT + r"\S+", re.IGNORECASE)
_WHOLE_PASSWORD_ALONE = re.compile(_NO_PORT + r".+", re.IGNORECASE | re.DOTALL)
# In queries, in paths (`/user=admin_password=..._channel=1`), and as properties of GStreamer's elements.
_SECRET_VALUE = re.compile(
    r"((?:[\w.-]{0,40}(?:token|passw|passphrase|secret|credential|signature|pwd|psw|user-?pw|loginpas)"
    r"[\w.-]{0,40}"
    r"|(?<![A-Za-z0-9])(?:[\w.-]{1,40}[_.-])?(?:api|access)?(?:key|auth|pass|pas|pw|sig))=(?:\(string\))?)"
    r"(?:\"[^\"]*\"?|'[^']*'?|[^\s&#]+)",
    re.IGNORECASE,
)
_HEADER = re.compile(r"(authorization\s*[:=]\s*)[^\r\n]+", re.IGNORECASE)


def without_credentials(text: str) -> str:
    """Return a text with `***` in the place of every secret: user info, secret values, authorization headers.

    Args:
        text: A URI, or a message of any library that quotes URIs. A URI ends at white space; one in which a
            password holds white space is hidden wholly only by `uri_without_credentials`.
    """
    text = re.sub(r"\S+", lambda found: _without_user_info(found[0]), text)
    return _without_values(_PASSWORD_ALONE.sub(rf"\1{_HIDDEN}", text))


def uri_without_credentials(uri: str) -> str:
    """Return a URI with `***` in the place of every secret, whatever its password contains."""
    found = _WHOLE_USER_INFO.match(uri)
    if found is not None:
        uri = f"{found[1] or ''}{_HIDDEN}@{uri[found.end() :]}"
    return _without_values(_WHOLE_PASSWORD_ALONE.sub(rf"\1{_HIDDEN}", uri))


def _without_user_info(word: str) -> str:
    head, at, rest = word.rpartition("@")
    found = _BEFORE_USER_INFO.search(head) if at else None
    return word if found is None else f"{head[: found.end()]}{_HIDDEN}@{rest}"


def _without_values(text: str) -> str:
    return _HEADER.sub(rf"\1{_HIDDEN}", _SECRET_VALUE.sub(rf"\1{_HIDDEN}", text))
