"""What can be said of MQTT: the broker, who we are there, and what is sent."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    WithJsonSchema,
    model_validator,
)

from edge_mnv2.setting_types import FilePath, split_list

_PORT, _TLS_PORT = 1883, 8883
_MAX_TEXT = 300


def _secret_text(value: object) -> object:
    # Its own message: that of a wrong type would quote what was given.
    if isinstance(value, bool) or not isinstance(value, str | int | SecretStr | None):
        raise ValueError("it must be a text; `password_file` keeps it out of the configuration")
    return str(value) if isinstance(value, int) else value


def _usable_host(text: str) -> str:
    if not re.fullmatch(r"[\w.:%-]{1,253}", text):
        raise ValueError("it must be a host name or an IP address; port, user and password are given apart")
    return text


def _usable_topic(text: str) -> str:
    levels = text.split("/")
    if not all(levels) or any(character in "+#\0" for character in text) or text.startswith("$"):
        raise ValueError("a topic has levels between slashes, without + and #, such as edge-mnv2/door")
    return text


def _as_tls(value: object) -> object:
    if value is True:
        return {}
    return None if value is False else value


def _off(value: object) -> object:
    # YAML reads `off` as false.
    return None if value is False else value


Topic = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_usable_topic)]
Host = Annotated[str, AfterValidator(_usable_host)]
Identifier = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]


class TlsSettings(BaseModel):
    """How the connection to the broker is encrypted."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ca: Annotated[
        FilePath | None,
        Field(description="Certificate that the broker's is signed by; left out: the system's"),
    ] = None
    cert: Annotated[FilePath | None, Field(description="Certificate of this device")] = None
    key: Annotated[FilePath | None, Field(description="Its private key, without a passphrase")] = None
    insecure: Annotated[
        bool, Field(description="Take any certificate: whoever is in between can then read all")
    ] = False

    @model_validator(mode="after")
    def _both_or_none(self) -> TlsSettings:
        if self.key is not None and self.cert is None:
            raise ValueError("key: it needs cert, too.")
        return self


class MqttSettings(BaseModel):
    """Results, telemetry and Home Assistant over MQTT; `HOST:PORT` alone will do."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: Annotated[Host, Field(description="Of the broker")]
    port: Annotated[
        int | None, Field(strict=True, ge=1, le=65535, description="Left out: 1883, with TLS 8883")
    ] = None
    username: Annotated[str | None, Field(min_length=1, max_length=1000, description="At the broker")] = None
    password: Annotated[
        SecretStr | None,
        BeforeValidator(_secret_text),
        Field(description="Better: password_file"),
    ] = None
    password_file: Annotated[
        FilePath | None, Field(description="File with the password; it is read for each connection")
    ] = None
    tls: Annotated[
        TlsSettings | None,
        BeforeValidator(_as_tls),
        WithJsonSchema({"anyOf": [TlsSettings.model_json_schema(), {"type": "boolean"}, {"type": "null"}]}),
        Field(description="true: encrypted, checked with the system's certificates"),
    ] = None
    device: Annotated[
        Identifier | None,
        Field(description="Name of this device in topics and identifiers; left out: its host name"),
    ] = None
    device_name: Annotated[
        str | None, Field(min_length=1, max_length=100, description="As people read it; left out: device")
    ] = None
    client_id: Annotated[
        str | None,
        Field(min_length=1, max_length=128, description="At the broker; left out: edge-mnv2-DEVICE"),
    ] = None
    prefix: Annotated[Topic | None, Field(description="Of all topics; left out: edge-mnv2/DEVICE")] = None
    discovery: Annotated[
        Topic | None,
        BeforeValidator(_off),
        Field(description="Where Home Assistant looks for devices; null or off: it is told nothing"),
    ] = "homeassistant"
    classes: Annotated[
        list[Annotated[str, Field(min_length=1)]],
        BeforeValidator(split_list),
        Field(max_length=100, description="Labels with a binary sensor and a place in `objects`"),
    ] = ["person"]
    hold_s: Annotated[
        float, Field(ge=0, le=3600, description="So long after it was last seen, a class counts as seen")
    ] = 10.0
    results: Annotated[bool, Field(description="Whether the record of a frame is sent")] = True
    max_per_s: Annotated[
        float, Field(gt=0, le=100, description="Most records, and changes of counts, per second and camera")
    ] = 1.0
    telemetry_s: Annotated[
        float, Field(ge=1, le=3600, description="Telemetry is sent every so many seconds")
    ] = 10.0
    qos: Annotated[
        Literal[0, 1, 2], Field(description="0: at most once, 1: at least once, 2: exactly once")
    ] = 1
    buffer: Annotated[
        int,
        Field(
            strict=True, ge=1, le=100_000, description="Messages kept while the broker is away; the oldest go"
        ),
    ] = 1000

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, settings: Any) -> Any:  # noqa: ANN401 - not validated yet
        """Take `HOST`, `HOST:PORT`, `mqtt://HOST:PORT` or `mqtts://HOST:PORT`."""
        if not isinstance(settings, str | Mapping | MqttSettings):
            raise ValueError("it must be HOST:PORT, or settings such as `host: broker`")
        return _read_address(settings) if isinstance(settings, str) else settings

    @model_validator(mode="after")
    def _fits(self) -> MqttSettings:
        if self.password is not None and self.password_file is not None:
            raise ValueError("password: there is a password_file, too; give one of them.")
        if (self.password is not None or self.password_file is not None) and self.username is None:
            raise ValueError("username: a password needs one.")
        return self

    @property
    def device_id(self) -> str:
        """What this device is called in topics and identifiers."""
        if self.device is not None:
            return self.device
        return (
            re.sub(r"[^A-Za-z0-9_-]+", "-", socket.gethostname().partition(".")[0])[:64].strip("-")
            or "device"
        )

    @property
    def broker_port(self) -> int:
        """Where the broker listens."""
        return self.port or (_TLS_PORT if self.tls is not None else _PORT)

    @property
    def topic_prefix(self) -> str:
        """What all topics but those of discovery begin with."""
        return self.prefix or f"edge-mnv2/{self.device_id}"


def _read_address(text: str) -> Mapping[str, object]:
    """Return the settings of an address.

    Raises:
        ValueError: It is none; what was given is not quoted, since there may be a password in it.
    """
    scheme, separator, rest = text.strip().rpartition("://")
    if (
        (separator and scheme not in ("mqtt", "mqtts"))
        or len(text) > _MAX_TEXT
        or re.search(r"[@/?#\s]", rest)
    ):
        raise ValueError(
            "it must be HOST, HOST:PORT, mqtt://HOST or mqtts://HOST; username and password_file are "
            "settings of their own"
        )
    try:
        parts = urlsplit(f"//{rest}")
        found: dict[str, object] = {"host": parts.hostname or "", "port": parts.port}
    except ValueError:
        raise ValueError("the port of the broker is a number from 1 to 65535") from None
    return {**found, "tls": True} if scheme == "mqtts" else found
