"""What differs between two settings of a run, and so what must start anew."""

from __future__ import annotations

from dataclasses import dataclass, replace

from edge_mnv2.services import changed_parts
from edge_mnv2.settings import CameraSettings, PipelineSettings, RunConfig
from edge_mnv2.zoo.model import DecoderOptions

# What the loop is told without a pause.
_DECODER = frozenset({"threshold", "classes", "top_k", "masks"})
# What only adds, takes away or replaces outputs.
_OUTPUTS = frozenset({"video", "jsonl", "pictures", "masks"}) | frozenset(
    name for name in PipelineSettings.model_fields if name.startswith("jsonl_")
)


@dataclass(frozen=True, slots=True)
class Changes:
    """What new settings change.

    Attributes:
        engine: Whether the model or its engine must be opened anew, and all cameras with it.
        services: Which of `services.PARTS` must.
        added: Names of cameras that are new, or must be opened anew.
        removed: Names of cameras that are gone, or must be opened anew.
        decoders: Names of cameras that go on and report other things.
        outputs: Names of cameras that go on and write other outputs.
    """

    engine: bool
    services: tuple[str, ...]
    added: tuple[str, ...]
    removed: tuple[str, ...]
    decoders: tuple[str, ...]
    outputs: tuple[str, ...]

    def lines(self) -> list[str]:
        """Return what is done, one line each; a single camera has no name."""
        found = ["the engine and all cameras start anew"] if self.engine else []
        found += [f"{part}: starts anew, is new, or is gone" for part in self.services]
        if not self.engine:
            anew = [name for name in self.added if name in self.removed]
            found += [_line(name, "starts anew") for name in anew]
            found += [_line(name, "is new") for name in self.added if name not in anew]
            found += [_line(name, "is gone") for name in self.removed if name not in anew]
            found += [_line(name, "reports other things") for name in self.decoders]
            found += [_line(name, "writes other outputs") for name in self.outputs]
        return found


def changes_between(old: RunConfig, new: RunConfig) -> Changes:
    """Return what must be done to get from old to new settings."""
    before, after = old.each_camera(), new.each_camera()
    engine = (old.model, _engine(old)) != (new.model, _engine(new))
    anew = {
        name
        for name in before.keys() & after.keys()
        if engine or _source(before[name]) != _source(after[name])
    }
    kept = [name for name in after if name in before and name not in anew]
    return Changes(
        engine=engine,
        services=changed_parts(old, new),
        added=tuple(name for name in after if name not in before or name in anew),
        removed=tuple(name for name in before if name not in after or name in anew),
        decoders=tuple(
            name for name in kept if _some(before[name], _DECODER) != _some(after[name], _DECODER)
        ),
        outputs=tuple(name for name in kept if _some(before[name], _OUTPUTS) != _some(after[name], _OUTPUTS)),
    )


def _engine(settings: RunConfig) -> object:
    return replace(settings.predictor_options(), decoder=DecoderOptions())


def _source(camera: CameraSettings) -> dict[str, object]:
    return _some(camera, frozenset(CameraSettings.model_fields) - _DECODER - _OUTPUTS)


def _some(settings: PipelineSettings, names: frozenset[str]) -> dict[str, object]:
    return {name: getattr(settings, name) for name in names}


def _line(name: str, what: str) -> str:
    return f"camera {name} {what}" if name else f"the camera {what}"
