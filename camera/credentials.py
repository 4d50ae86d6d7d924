"""Takes passwords, users and tokens out of URIs, and out of messages that quote URIs.

It hides rather too much than too little: an `@` further back in a path may as well be part of a password that
was not percent-encoded, so everything up to the last one goes. Where there is none, the host may have been
forgotten (`rtsp://user:password`): what follows a colon there, and is no port, goes to the end. Up to five
digits are shown: a port, if maybe a mistaken one, which has to be seen. Six are as likely a password.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

_HIDDEN = "***"
# What user info follows: a scheme, or nothing where the scheme was forgotten (`user:password@host`).
_BEFORE_USER_INFO = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,30}:/{1,3}|(?=[^\s:/'\"=<>(]{1,80}:)")
_WHOLE_USER_INFO = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*:/+)?(.*)@", re.DOTALL)
# An authority with a colon behind which no port comes. A port ends at a part of the URI or, in a message, at
# punctuation before white space. In front there may be user info, which is hidden by now.
_NO_PORT = (
    r"((?:rtsp[stu]?|https?|rtmps?|ftps?|srt):/{1,3}(?:\*{3}@)?(?:\[[^\s\]]*\]|[^\s:/?#@\[]*):)"
    r"(?!\d{0,5}(?:[/?#]|[\]\)>}'\",.:;!]*(?:\s|$)))"
)
_PASSWORD_ALONE = re.compile(_NO_PORT + r"\S+", re.IGNORECASE)
_WHOLE_PASSWORD_ALONE = re.compile(_NO_PORT + r".+", re.IGNORECASE | re.DOTALL)
# In queries, in paths (`/user=admin_password=..._channel=1`), and as properties of GStreamer elements, which
# have blanks around `=`, a type, quotes, or backslashes: `user-pw = (string) "a b"`, `user-pw=a\ b`.
# `code` and `session` mean something else where they are no part of a query.
_SECRET_VALUE = re.compile(
    r"((?:[\w.-]{0,40}"
    r"(?:token|passw|passphrase|secret|credential|signature|pwd|psw|user-?pw|loginpas|sess(?:ion)?_?id)"
    r"[\w.-]{0,40}"
    r"|(?<![A-Za-z0-9])(?:[\w.-]{1,40}[_.-])?(?:api|access)?"
    r"(?:key|auth|pass|pas|pw|psd|sig|jwt|sid|cookies?)"
    r"|(?<=[?&;])(?:code|session))[ \t]*=[ \t]*)"
    r"(?:\(\w+\)[ \t]*)?(?:\"(?:\\[\s\S]|[^\"])*\"?|'(?:\\[\s\S]|[^'])*'?|(?:\\\s|[^\s&#])+)",
    re.IGNORECASE,
)
# Where a word begins with the key it is a property, of which `&` and `#` are no end.
_REST_OF_PROPERTY = re.compile(r"(?<!\S)([\w.-]+[ \t]*=[ \t]*\*{3})[&#](?:\\\s|\S)*")
_QUERY_VALUE = re.compile(r"(?<=[?&;])([^\s=&#;?]{1,120})=[^\s&#]+")
_PIPELINE = re.compile(r"(?:--?[\w-]+=)?gst:", re.IGNORECASE)
_HEADER = re.compile(r"(authorization\s*[:=]\s*|cookie:\s*)[^\r\n]+", re.IGNORECASE)


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
    if _PIPELINE.match(uri):
        uri = _without_values(uri)  # an `@` in a property's value is no end of user info
    found = _WHOLE_USER_INFO.match(uri)
    if found is not None:
        uri = f"{found[1] or ''}{_HIDDEN}@{uri[found.end() :]}"
    return _without_values(_WHOLE_PASSWORD_ALONE.sub(rf"\1{_HIDDEN}", uri))


def _without_user_info(word: str) -> str:
    head, at, rest = word.rpartition("@")
    found = _BEFORE_USER_INFO.search(head) if at else None
    return word if found is None else f"{head[: found.end()]}{_HIDDEN}@{rest}"


def _without_values(text: str) -> str:
    text = _REST_OF_PROPERTY.sub(r"\1", _SECRET_VALUE.sub(rf"\1{_HIDDEN}", text))
    return _HEADER.sub(rf"\1{_HIDDEN}", _QUERY_VALUE.sub(_hide_if_encoded, text))


def _hide_if_encoded(found: re.Match[str]) -> str:
    """Hide the value of a key that is a secret's once its %-forms are read: `pass%77ord`."""
    is_secret = "%" in found[1] and _SECRET_VALUE.search(f"?{unquote(found[1])}=x")
    return f"{found[1]}={_HIDDEN}" if is_secret else found[0]
