"""Plays a Jetson in every Python process that has this folder on PYTHONPATH and the variable set.

`EDGE_MNV2_FAKE_JETSON` holds a specification as `FakeJetson.to_json` writes it. Child processes inherit both.
"""

from __future__ import annotations

import os
import sys
import traceback


def _play() -> None:
    text = os.environ.get("EDGE_MNV2_FAKE_JETSON")
    if not text:
        return
    try:
        from engines.fake_jetson.jetson import FakeJetson, install

        install(FakeJetson.from_json(text))
    except Exception:  # noqa: BLE001 - the interpreter would print it and go on without the fakes
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(70)


_play()
