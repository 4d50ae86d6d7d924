"""Names of topics and entities, and the messages on them."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any

ONLINE, OFFLINE = "online", "offline"


@dataclass(frozen=True, slots=True)
class Message:
    """One message.

    Attributes:
        topic: Where it goes.
        payload: UTF-8, mostly JSON.
        retain: Whether the broker keeps it for those who come later.
        is_result: Whether its loss is counted.
        key: It takes the place of the last one of this key, if that was not sent yet; empty: of none.
    """

    topic: str
    payload: bytes
    retain: bool = False
    is_result: bool = False
    key: str = ""


@dataclass(frozen=True, slots=True)
class Topics:
    """Where a device sends.

    Attributes:
        prefix: Of all that follows.
    """

    prefix: str

    @property
    def availability(self) -> str:
        """`online`, or `offline`, which the broker says where we cannot; retained."""
        return f"{self.prefix}/availability"

    @property
    def telemetry(self) -> str:
        """What device and loops say of themselves."""
        return f"{self.prefix}/telemetry"

    @property
    def events(self) -> str:
        """Changes that somebody should hear of."""
        return f"{self.prefix}/events"

    def result(self, camera: str) -> str:
        """Records of a camera's frames."""
        return f"{self.prefix}/{camera}/result"

    def objects(self, camera: str) -> str:
        """What a camera sees now; retained."""
        return f"{self.prefix}/{camera}/objects"

    def state(self, camera: str) -> str:
        """What a camera does; retained."""
        return f"{self.prefix}/{camera}/state"


def to_payload(values: Any) -> bytes:  # noqa: ANN401 - whatever JSON can carry
    """Return values as JSON."""
    return json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")


def identifier(text: str) -> str:
    """Return a text as Home Assistant takes it in identifiers: letters, digits, `_`, `-`; others stay apart.

    `front door` and `front_door` become two identifiers.
    """
    plain = re.sub(r"[^A-Za-z0-9_-]+", "_", text)
    if plain == text:
        return text
    return f"{plain}_{hashlib.sha256(text.encode('utf-8', 'surrogateescape')).hexdigest()[:6]}"
