"""How we get in at a broker: password, certificates, encryption."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path
from typing import Any

from edge_mnv2.errors import RequestError
from edge_mnv2.settings_mqtt import MqttSettings, TlsSettings


def read_password(settings: MqttSettings) -> str | None:
    """Return the password, None without.

    Raises:
        RequestError: Its file cannot be read, or is empty.
    """
    if settings.password is not None:
        return settings.password.get_secret_value()
    path: Path | None = settings.password_file
    if path is None:
        return None
    try:
        if path.exists() and not path.is_file():
            raise RequestError(f"mqtt.password_file: {path} is no file, and is to be read more than once.")
        password = path.read_text(encoding="utf-8").rstrip("\r\n")
    except RequestError:
        raise
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise RequestError(f"mqtt.password_file: {path} cannot be read: {reason}.") from None
    if not password:
        raise RequestError(f"mqtt.password_file: {path} is empty.")
    return password


def make_tls_context(tls: TlsSettings) -> ssl.SSLContext:
    """Return how to encrypt.

    Raises:
        RequestError: A certificate or key cannot be read, or they do not belong together.
    """
    path = tls.ca
    try:
        context = ssl.create_default_context(cafile=None if tls.ca is None else str(tls.ca))
        path = tls.cert
        if tls.cert is not None:
            # An empty passphrase: a key that has one is refused, rather than asked about at the terminal.
            context.load_cert_chain(tls.cert, tls.key, password="")
    except ssl.SSLError as error:
        raise RequestError(f"mqtt.tls: {path} cannot be used: {tls_reason(error)}.") from error
    except OSError as error:
        raise RequestError(f"mqtt.tls: {path} or its key cannot be read: {error.strerror}.") from error
    if tls.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class ClosingTls:
    """Encrypts as a context does, and closes a socket whose handshake fails, which paho-mqtt forgets.

    Attributes:
        check_hostname: paho-mqtt leaves the check to the context where it is set, and does without where not.
    """

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        self.check_hostname = context.check_hostname

    def wrap_socket(self, plain: socket.socket, **options: Any) -> ssl.SSLSocket:  # noqa: ANN401 - the context's
        """Return the socket after its handshake."""
        encrypted = self._context.wrap_socket(plain, **options)
        try:
            encrypted.do_handshake()
        except BaseException:
            encrypted.close()
            raise
        return encrypted


def tls_reason(error: ssl.SSLError) -> str:
    """Return what TLS complains of, in plain words."""
    return (error.reason or error.strerror or "it is no certificate").lower().replace("_", " ")
