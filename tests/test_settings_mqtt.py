"""Settings of MQTT: addresses, defaults, and messages without the password."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from edge_mnv2.settings_mqtt import MqttSettings

SECRET = "geheim-12345"  # noqa: S105 - of the tests alone


def parse(value: object) -> MqttSettings:
    return MqttSettings.model_validate(value)


@pytest.mark.parametrize(
    ("text", "host", "port", "is_encrypted"),
    [
        ("broker", "broker", 1883, False),
        ("broker.local:1884", "broker.local", 1884, False),
        ("mqtt://10.0.0.1", "10.0.0.1", 1883, False),
        ("mqtts://broker", "broker", 8883, True),
        ("mqtts://[::1]:99", "::1", 99, True),
    ],
)
def test_an_address_alone_will_do(text: str, host: str, port: int, is_encrypted: bool) -> None:
    settings = parse(text)
    assert (settings.host, settings.broker_port, settings.tls is not None) == (host, port, is_encrypted)


@pytest.mark.parametrize("value", [True, {}, {"ca": "ca.crt"}])
def test_tls_is_a_switch_or_settings(value: object) -> None:
    assert parse({"host": "broker", "tls": value}).broker_port == 8883
    assert parse({"host": "broker", "tls": False}).tls is None


def test_defaults_are_of_this_device() -> None:
    settings = parse("broker")
    assert settings.topic_prefix == f"edge-mnv2/{settings.device_id}"
    assert settings.classes == ["person"]
    assert parse({"host": "b", "device": "bench"}).topic_prefix == "edge-mnv2/bench"
    assert parse({"host": "b", "prefix": "home/cams"}).topic_prefix == "home/cams"
    assert parse({"host": "b", "discovery": False}).discovery is None
    assert parse({"host": "b", "classes": "person, dog"}).classes == ["person", "dog"]


@pytest.mark.parametrize(
    ("host", "device"), [("raspi.local", "raspi"), ("büro pi", "b-ro-pi"), ("..", "device")]
)
def test_a_host_name_becomes_an_identifier(host: str, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: host)
    assert parse("broker").device_id == device


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (f"user:{SECRET}@broker", "username and password_file are settings of their own"),
        (f"mqtt://user:{SECRET}@broker:1883", "username and password_file are settings of their own"),
        ("http://broker", "it must be HOST"),
        ("broker:99999", "a number from 1 to 65535"),
        ("broker:0", "greater than or equal to 1"),
        ("", "host name or an IP address"),
        ("[::1", "a number from 1 to 65535"),
        ([{"password": SECRET}], "it must be HOST:PORT, or settings"),
        ({"host": "b", "username": "u", "password": [SECRET]}, "it must be a text"),
        ({"host": "b", "username": "u", "password": {"a": SECRET}}, "it must be a text"),
        ({"host": "b", "password": SECRET}, "a password needs one"),
        ({"host": "b", "username": "u", "password": SECRET, "password_file": "x"}, "give one of them"),
        ({"host": f"u:{SECRET}@b"}, "given apart"),
        ({"host": "b", "prefix": "a/+/b"}, "without + and #"),
        ({"host": "b", "prefix": "/a"}, "levels between slashes"),
        ({"host": "b", "discovery": "$SYS"}, "levels between slashes"),
        ({"host": "b", "tls": {"key": "k"}}, "it needs cert"),
        ({"host": "b", "tls": "yes"}, "valid dictionary"),
        ({"host": "b", "password_file": "a\0b", "username": "u"}, "null character"),
        ({"host": "b", "device": "a/b"}, "should match pattern"),
        ({"host": "b", "qos": 3}, "0, 1 or 2"),
        ({"host": "b", "max_per_s": 0}, "greater than 0"),
        ({"host": "b", "nonsense": 1}, "not permitted"),
        ({"port": 1}, "required"),
    ],
)
def test_what_cannot_be_is_refused_without_the_password(value: object, expected: str) -> None:
    with pytest.raises(ValidationError) as refusal:
        parse(value)
    messages = [str(error["msg"]) for error in refusal.value.errors()]
    assert any(expected in message for message in messages), messages
    assert SECRET not in " ".join(messages)


def test_the_password_shows_nowhere() -> None:
    for password in (SECRET, 12345):
        settings = parse({"host": "b", "username": "u", "password": password})
        assert settings.password is not None
        assert settings.password.get_secret_value() == str(password)
        shown = f"{settings!r} {settings} {settings.model_dump()} {settings.model_dump_json()}"
        assert str(password) not in shown


def test_there_is_a_schema() -> None:
    properties = MqttSettings.model_json_schema()["properties"]
    assert properties["password"]["description"]
    assert {option["type"] for option in properties["tls"]["anyOf"]} == {"object", "boolean", "null"}
