"""Camera to detections with MobileNetV2, on a Raspberry Pi or a Jetson, with numbers that can be believed.

The public names below are imported on first use, so that `import edge_mnv2` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge_mnv2.errors import EdgeMnv2Error, RequestError, RunError
    from edge_mnv2.overlay import draw_overlay
    from edge_mnv2.pipeline import RunControl, run_pipeline
    from edge_mnv2.predictor import Predictor, PredictorOptions, open_predictor
    from edge_mnv2.results import Classification, Detections, FrameResult, SegmentationMap
    from edge_mnv2.run_summary import RunSummary
    from edge_mnv2.zoo.model import DecoderOptions, Variant

__version__ = "0.1.0"

__all__ = [
    "Classification",
    "DecoderOptions",
    "Detections",
    "EdgeMnv2Error",
    "FrameResult",
    "Predictor",
    "PredictorOptions",
    "RequestError",
    "RunControl",
    "RunError",
    "RunSummary",
    "SegmentationMap",
    "Variant",
    "draw_overlay",
    "open_predictor",
    "run_pipeline",
]

_MODULES = {
    "Classification": "results",
    "DecoderOptions": "zoo.model",
    "Detections": "results",
    "EdgeMnv2Error": "errors",
    "FrameResult": "results",
    "Predictor": "predictor",
    "PredictorOptions": "predictor",
    "RequestError": "errors",
    "RunControl": "pipeline",
    "RunError": "errors",
    "RunSummary": "run_summary",
    "SegmentationMap": "results",
    "Variant": "zoo.model",
    "draw_overlay": "overlay",
    "open_predictor": "predictor",
    "run_pipeline": "pipeline",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first used (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    return value
