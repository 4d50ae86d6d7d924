"""Writing files that other processes see whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file beside its destination, then move it there.

    Raises:
        OSError: As from the file system; nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".partial", delete=False) as file:
        partial = Path(file.name)
        try:
            file.write(content)
            file.flush()
            partial.chmod(0o644)
            os.replace(partial, path)  # noqa: PTH105 - the atomic call, by its own name
        finally:
            partial.unlink(missing_ok=True)
