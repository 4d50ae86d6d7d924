"""Short messages between two processes, each whole or not at all; a file descriptor may come along."""

from __future__ import annotations

import json
import os
import socket
import struct
import threading
from typing import Any

from camera.errors import CameraError

Message = dict[str, Any]

_MAX_BYTES = 1 << 16
_DESCRIPTOR = struct.Struct("i")


class ChannelClosedError(Exception):
    """The other side is gone."""


class Channel:
    """One end of a pair of sockets that keep the bounds of messages (`unix(7)`: SOCK_SEQPACKET).

    Sending is safe from several threads; one thread receives. JSON is slower than a struct by some 10 us per
    frame, and both sides can read it.

    Args:
        end: Owned from here on.
    """

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        # A number that was closed may be another file's in the next moment.
        self._sending = threading.Lock()

    @classmethod
    def pair(cls) -> tuple[Channel, Channel]:
        """Return both ends; neither is inherited by other child processes.

        Raises:
            CameraError: The system has no descriptors left.
        """
        try:
            one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        except OSError as error:
            raise CameraError(f"No process can be started for the camera: {error.strerror}.") from error
        return cls(one), cls(other)

    @classmethod
    def from_descriptor(cls, descriptor: int) -> Channel:
        """Take over a descriptor that was inherited."""
        end = socket.socket(fileno=descriptor)
        end.set_inheritable(False)  # programs that a driver starts must not keep it open
        return cls(end)

    def fileno(self) -> int:
        """Return the descriptor, for `select` and for inheriting."""
        return self._socket.fileno()

    def send(self, message: Message, descriptor: int | None = None) -> None:
        """Send a message.

        Args:
            message: What `json` can write, up to 64 KiB.
            descriptor: A copy of it arrives with the message.

        Raises:
            ChannelClosedError: The other side, or this one, is closed.
            ValueError: It is too long.
        """
        data = json.dumps(message, separators=(",", ":")).encode()
        if len(data) > _MAX_BYTES:
            raise ValueError(f"A message of {len(data)} bytes is too long.")
        try:
            with self._sending:
                socket.send_fds(self._socket, [data], [] if descriptor is None else [descriptor])
        except OSError as error:
            raise ChannelClosedError from error

    def receive(self) -> tuple[Message, int | None]:
        """Wait for a message; return it with the descriptor that came along, which the caller closes.

        Raises:
            ChannelClosedError: The other side, or this one, is closed.
            CameraError: The descriptor was lost: this process has too many.
            ValueError: It is no message of ours.
        """
        try:
            # Not socket.recv_fds: it forgets the flags; other child processes would inherit the descriptor.
            data, ancillary, flags, _ = self._socket.recvmsg(
                _MAX_BYTES, socket.CMSG_SPACE(_DESCRIPTOR.size), socket.MSG_CMSG_CLOEXEC
            )
        except OSError as error:
            raise ChannelClosedError from error
        descriptor = None
        for level, kind, passed in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                (descriptor,) = _DESCRIPTOR.unpack(passed)
        if not data:
            raise ChannelClosedError
        if flags & socket.MSG_CTRUNC:
            if descriptor is not None:
                os.close(descriptor)
            raise CameraError(
                "The camera's frames cannot be shared: too many files are open (see ulimit -n)."
            )
        try:
            message = json.loads(data)
            if not isinstance(message, dict):
                raise ValueError("A message must be an object.")
        except ValueError:
            if descriptor is not None:
                os.close(descriptor)
            raise
        return message, descriptor

    def close(self) -> None:
        """Close this end. Calling it again does nothing."""
        with self._sending:
            self._socket.close()
