"""Where fetched weights, built graphs and the demo clip are kept between runs."""

from __future__ import annotations

import os
from pathlib import Path

from edge_mnv2.files import expand_user


def cache_dir() -> Path:
    """Return the cache directory, by the XDG base directory specification; it may not exist yet."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The specification: a relative path is to be ignored.
    root = Path(base) if Path(base).is_absolute() else expand_user("~/.cache")
    return root / "edge-mnv2"


def fetched_weights(model_name: str) -> Path:
    """Return where `models fetch` puts the weights of a catalogue model."""
    return cache_dir() / "weights" / f"{model_name}.npz"


def demo_clip_path() -> Path:
    """Return where the demo clip is kept."""
    return cache_dir() / "clips" / "bikes.mp4"


def graph_path(revision: str, stem: str) -> Path:
    """Return where the graph called `stem`, built by this revision of the code, is kept."""
    return cache_dir() / "graphs" / revision / f"{stem}.onnx"


def plans_dir() -> Path:
    """Return where the TensorRT plans of this device are kept."""
    return cache_dir() / "plans"


def calibrated_ranges(model_name: str, weights_digest: str) -> Path:
    """Return where `models calibrate` keeps the activation ranges of these weights."""
    return cache_dir() / "ranges" / f"{model_name}-{weights_digest[:12]}.ranges.npz"


def accuracy_record(key: str) -> Path:
    """Return where `models check` keeps what it found about the int8 build with this key."""
    return cache_dir() / "checks" / f"{key[:32]}.json"
