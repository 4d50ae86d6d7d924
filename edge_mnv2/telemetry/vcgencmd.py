"""Questions to the Raspberry Pi's firmware, by its own tool `vcgencmd`."""

from __future__ import annotations

import logging
import shutil
import subprocess
from collections.abc import Callable

# Takes the words after `vcgencmd`, such as `get_throttled`; returns what it prints, None without an answer.
Vcgencmd = Callable[[str], "str | None"]

# It answers within milliseconds; a firmware that hangs must not hold the sampler.
_TIMEOUT_S = 2.0

_log = logging.getLogger(__name__)


def run_vcgencmd(arguments: str) -> str | None:
    """Run `vcgencmd`, and wait for its answer for at most two seconds.

    Args:
        arguments: Words after the tool's name, such as `get_throttled`.

    Returns:
        What it prints, without surrounding white space. None where there is no such tool, it may not open its
        device (group `video`), this model's firmware does not know the command, or it does not answer.
    """
    tool = shutil.which("vcgencmd")
    if tool is None:
        return None
    try:
        done = subprocess.run(
            [tool, *arguments.split()],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as error:
        _log.debug("vcgencmd %s: %s", arguments, error)
        return None
    answer = done.stdout.decode("utf-8", "replace").strip()
    # A command that the firmware does not know: `error=1 error_msg="Command not registered"`, exit code 0.
    if done.returncode != 0 or answer.startswith("error="):
        _log.debug("vcgencmd %s: exit code %d, %s", arguments, done.returncode, answer)
        return None
    return answer
