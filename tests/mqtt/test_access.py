"""Passwords and certificates against a real broker: what lets us in, and what is said where it does not."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edge_mnv2.errors import RequestError
from edge_mnv2.mqtt.connection import Retry
from edge_mnv2.mqtt.service import MqttConnection
from edge_mnv2.settings_mqtt import MqttSettings
from tests.metrics.snapshots import FULL
from tests.mqtt.broker import PASSWORD, USER, WAIT_S, Broker, make_certificates, make_password_file

QUICK = Retry(0.05, 0.2, 0.05)
ATTEMPT = "onnection from"
TOPIC = "edge-mnv2/bench/availability"


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    make_certificates(folder)
    return folder


@contextmanager
def running(folder: Path, *lines: str, options: tuple[str, ...] = ()) -> Iterator[Broker]:
    broker = Broker(folder, list(lines), client_options=list(options))
    broker.start()
    try:
        yield broker
    finally:
        broker.close()


def tls_lines(certificates: Path) -> list[str]:
    return [f"{what}file {certificates}/{name}" for what, name in FILES.items()]


FILES = {"ca": "ca.crt", "cert": "server.crt", "key": "server.key"}


def start(broker: Broker, **changes: object) -> MqttConnection:
    values = {"host": "127.0.0.1", "port": broker.port, "device": "bench", **changes}
    return MqttConnection.start(MqttSettings.model_validate(values), lambda: FULL, QUICK)


def comes_online(broker: Broker, **changes: object) -> bool:
    heard = broker.listen(TOPIC)
    connection = start(broker, **changes)
    try:
        return heard.wait_for(lambda message: message.payload == "online").topic == TOPIC
    finally:
        connection.close()


def what_is_said(caplog: pytest.LogCaptureFixture, broker: Broker, **changes: object) -> str:
    """Return the only line about a connection that several attempts do not bring."""
    log = broker.folder / "log"
    known = log.read_text().count(ATTEMPT)
    with caplog.at_level(logging.INFO, "edge_mnv2.mqtt"):
        connection = start(broker, **changes)
        try:
            deadline_s = time.monotonic() + WAIT_S
            while log.read_text().count(ATTEMPT) < known + 4:
                assert time.monotonic() < deadline_s, log.read_text()
                time.sleep(0.02)
        finally:
            connection.close()
    assert len(caplog.messages) == 1
    return caplog.messages[0]


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[Broker]:
    passwords = make_password_file(tmp_path)
    options = ("-u", USER, "-P", PASSWORD)
    with running(tmp_path, "allow_anonymous false", f"password_file {passwords}", options=options) as broker:
        yield broker


def test_a_password_file_lets_us_in(locked: Broker, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(f"{PASSWORD}\n")
    assert comes_online(locked, username=USER, password_file=tmp_path / "secret")


def test_a_password_in_the_settings_lets_us_in(locked: Broker) -> None:
    assert comes_online(locked, username=USER, password=PASSWORD)


def test_a_wrong_password_is_one_line_without_it(locked: Broker, caplog: pytest.LogCaptureFixture) -> None:
    line = what_is_said(caplog, locked, username=USER, password="falsch-geraten")  # noqa: S106
    assert "user or password is wrong" in line or "may not connect" in line
    assert "falsch" not in caplog.text


def test_a_password_that_is_put_right_lets_us_in_without_a_restart(locked: Broker, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("falsch")
    heard = locked.listen(TOPIC)
    connection = start(locked, username=USER, password_file=secret)
    try:
        deadline_s = time.monotonic() + WAIT_S
        while "not authorised" not in (tmp_path / "log").read_text():
            assert time.monotonic() < deadline_s
            time.sleep(0.02)
        secret.write_text(PASSWORD)
        heard.wait_for(lambda message: message.payload == "online")
    finally:
        connection.close()


def test_tls_with_our_own_certificate(tmp_path: Path, certificates: Path) -> None:
    own = ("--cafile", f"{certificates}/ca.crt")
    with running(tmp_path, "allow_anonymous true", *tls_lines(certificates), options=own) as broker:
        assert comes_online(broker, tls={"ca": certificates / "ca.crt"})


def test_a_certificate_of_ours_is_shown_where_it_is_wanted(
    tmp_path: Path, certificates: Path, caplog: pytest.LogCaptureFixture
) -> None:
    client = {"cert": certificates / "client.crt", "key": certificates / "client.key"}
    own = ("--cafile", f"{certificates}/ca.crt")
    shown = (*own, "--cert", str(client["cert"]), "--key", str(client["key"]))
    lines = ("allow_anonymous true", *tls_lines(certificates), "require_certificate true")
    with running(tmp_path, *lines, options=shown) as broker:
        assert comes_online(broker, tls={"ca": certificates / "ca.crt", **client})
        assert "certificate" in what_is_said(caplog, broker, tls={"ca": certificates / "ca.crt"})


def test_a_certificate_that_nobody_trusts_is_refused(
    tmp_path: Path, certificates: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own = ("--cafile", f"{certificates}/ca.crt")
    with running(tmp_path, "allow_anonymous true", *tls_lines(certificates), options=own) as broker:
        assert "its certificate is not trusted" in what_is_said(caplog, broker, tls=True)
        caplog.clear()
        # The certificate is for 127.0.0.1.
        line = what_is_said(caplog, broker, host="localhost", tls={"ca": certificates / "ca.crt"})
        assert "its certificate is not trusted: Hostname mismatch" in line
        caplog.clear()
        assert comes_online(broker, tls={"insecure": True})
        assert "is not checked" in caplog.text


def test_tls_and_plain_text_do_not_mix(
    tmp_path: Path, certificates: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own = ("--cafile", f"{certificates}/ca.crt")
    with running(tmp_path, "allow_anonymous true", *tls_lines(certificates), options=own) as broker:
        assert "does it want TLS" in what_is_said(caplog, broker)
    caplog.clear()
    plain = tmp_path / "plain"
    plain.mkdir()
    with running(plain, "allow_anonymous true") as broker:
        assert "TLS" in what_is_said(caplog, broker, tls=True)


def test_another_client_of_our_name_is_suspected(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with running(tmp_path, "allow_anonymous true") as broker, caplog.at_level(logging.WARNING):
        rivals = [start(broker), start(broker)]
        deadline_s = time.monotonic() + WAIT_S
        while "is another client called edge-mnv2-bench?" not in caplog.text:
            assert time.monotonic() < deadline_s
            time.sleep(0.02)
        for rival in rivals:
            rival.close()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"username": "u", "password_file": "nowhere"},
            "mqtt.password_file: nowhere cannot be read: No such",
        ),
        ({"username": "u", "password_file": "."}, "mqtt.password_file: . is no file"),
        ({"tls": {"cert": "client.crt", "key": "locked.key"}}, "mqtt.tls: client.crt cannot be used: "),
        ({"username": "u", "password_file": "empty"}, "mqtt.password_file: empty is empty"),
        ({"tls": {"ca": "nowhere"}}, "mqtt.tls: nowhere or its key cannot be read: No such file"),
        ({"tls": {"ca": "empty"}}, "mqtt.tls: empty cannot be used: "),
        (
            {"tls": {"cert": "ca.crt", "key": "client.key"}},
            "mqtt.tls: ca.crt cannot be used: key values mismatch",
        ),
    ],
)
def test_files_that_cannot_be_used_are_refused_at_once(
    changes: dict[str, object],
    expected: str,
    certificates: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(certificates)
    Path("empty").touch()
    settings = MqttSettings.model_validate({"host": "127.0.0.1", **changes})
    with pytest.raises(RequestError) as refusal:
        MqttConnection.start(settings, lambda: FULL)
    assert str(refusal.value).startswith(expected)
