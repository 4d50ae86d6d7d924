"""Takes passwords out of the command line that `ps` shows of this process."""

from __future__ import annotations

import os
from pathlib import Path

_PROC = Path("/proc/self")
# Counted from the state, which follows the name of the program: arg_start and arg_end of proc_pid_stat(5).
_ARG_START, _ARG_END = 45, 46
# An argument without any of these holds no secret, and `camera` need not be imported for it.
_SIGNS = (b"@", b"=", b"://")


def hide_credentials() -> None:
    """Overwrite the secrets among the arguments of this process, where other users can read them.

    Linux shows the memory that the arguments came in (proc_pid_cmdline(5)), which is the process's own to
    write to. Each argument keeps its length; `sys.argv` was copied from there and stays whole. Where this
    cannot be done, on other systems or in odd sandboxes, nothing happens: no start may fail for it.
    """
    try:
        _hide()
    except Exception:  # noqa: BLE001 - whatever it is, the program runs without this
        return


def _hide() -> None:
    shown = (_PROC / "cmdline").read_bytes()
    if not any(sign in shown for sign in _SIGNS):
        return
    fields = (_PROC / "stat").read_bytes().rpartition(b")")[2].split()
    start, end = int(fields[_ARG_START]), int(fields[_ARG_END])
    with (_PROC / "mem").open("r+b", buffering=0) as memory:
        memory.seek(start)
        if memory.read(end - start) != shown:
            return
        for argument in shown.split(b"\0"):
            hidden = without_secrets(argument)
            if hidden != argument:
                memory.seek(start)
                memory.write(hidden)
            start += len(argument) + 1


def without_secrets(argument: bytes) -> bytes:
    """Return an argument with `***` for its secrets, cut or filled up with spaces to the same length."""
    if not any(sign in argument for sign in _SIGNS):
        return argument
    from camera.credentials import uri_without_credentials, without_credentials

    text = os.fsdecode(argument)
    hidden = uri_without_credentials(text) if "://" in text else without_credentials(text)
    if hidden == text:
        return argument
    return os.fsencode(hidden)[: len(argument)].ljust(len(argument))
