"""The settings of a run: from YAML, from the command line, or both; validated in one place.

Everything that `edge-mnv2 run` can do can be said here; flags override the file. Paths are relative to the
working directory.
"""

from __future__ import annotations

import difflib
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from edge_mnv2.errors import RequestError
from edge_mnv2.files import expand_user
from edge_mnv2.predictor import PredictorOptions
from edge_mnv2.zoo.catalogue import DEFAULT_MODEL
from edge_mnv2.zoo.model import DecoderOptions, Variant, parse_size

_MAX_BYTES = 1024 * 1024


def _split_list(value: object) -> object:
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


def _usable_path(path: Path) -> Path:
    if "\0" in str(path):
        raise ValueError("a path cannot hold a null character")
    return expand_user(path)


def _usable_size(text: str) -> str:
    parse_size(text)
    return text


def _number_as_text(value: object) -> object:
    # `source: 0` and `classes: [1]` are numbers in YAML.
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Text = Annotated[str, Field(min_length=1), BeforeValidator(_number_as_text)]
SizeText = Annotated[Text, AfterValidator(_usable_size)]
FilePath = Annotated[Path, AfterValidator(_usable_path)]
Texts = Annotated[list[Text], Field(min_length=1)]


class RunConfig(BaseModel):
    """Settings of `edge-mnv2 run`."""

    model_config = ConfigDict(extra="forbid", frozen=True, title="edge-mnv2 run")

    source: Annotated[
        Text,
        Field(description="Video, picture, folder, glob, /dev/videoN or its number, or test://"),
    ]
    model: Annotated[Text, Field(description="Name from `models list`, or the path of a .npz")] = (
        DEFAULT_MODEL
    )
    engine: Annotated[
        Literal["auto", "onnxruntime", "tensorrt"], Field(description="Backend that runs the network")
    ] = "auto"
    precision: Annotated[
        Literal["auto", "fp32", "fp16", "int8"],
        Field(
            description="Arithmetic of the network; auto: fp16 on a GPU that is fast in it, int8 on a CPU "
            "where its accuracy was checked and is good"
        ),
    ] = "auto"
    force: Annotated[bool, Field(description="Run a build although its accuracy check failed")] = False
    dla: Annotated[
        int | None,
        Field(strict=True, ge=0, le=7, description="DLA core of a Jetson that takes the layers it can"),
    ] = None
    threads: Annotated[
        int | None,
        Field(strict=True, ge=1, le=256, description="CPU threads; left out: as many as make sense"),
    ] = None
    input_size: Annotated[
        SizeText | None, Field(description="Another input size than the trained one, as WIDTHxHEIGHT")
    ] = None
    output_stride: Annotated[
        Literal[8, 16, 32] | None, Field(description="Of a segmentation: 8 is finer, 32 faster")
    ] = None
    threshold: Annotated[
        float | None,
        Field(gt=0, lt=1, description="Smallest score reported; left out: 0.5 in detection, else none"),
    ] = None
    classes: Annotated[
        Texts | None,
        BeforeValidator(_split_list),
        Field(description="Labels or numbers of the classes to report; left out: all"),
    ] = None
    top_k: Annotated[
        int | None,
        Field(
            strict=True, ge=1, le=1000, description="Most classes that a classification reports; left out: 5"
        ),
    ] = None
    masks: Annotated[
        bool,
        Field(description="Segmentation at the frame's own resolution, with COCO RLE masks in the records"),
    ] = False
    video: Annotated[FilePath | None, Field(description="Annotated video: .mp4 or .avi")] = None
    jsonl: Annotated[FilePath | None, Field(description="One record per frame; - for standard output")] = None
    pictures: Annotated[FilePath | None, Field(description="Folder for annotated pictures")] = None
    max_frames: Annotated[int | None, Field(strict=True, ge=1, description="Stop after so many frames")] = (
        None
    )

    def predictor_options(self) -> PredictorOptions:
        """Return how the model is to be run."""
        return PredictorOptions(
            engine=self.engine,
            precision=self.precision,
            force=self.force,
            threads=self.threads,
            dla_core=self.dla,
            serve_while_building=True,
            variant=Variant(
                None if self.input_size is None else parse_size(self.input_size), self.output_stride
            ),
            decoder=DecoderOptions(self.threshold, self.classes, self.top_k, self.masks),
        )


def read_config(path: Path | None, flags: Mapping[str, object]) -> RunConfig:
    """Read a YAML file, put the flags over it, and validate the whole.

    Args:
        path: The file, the bare name of a ready-made one (`desk.yaml`), or None for flags alone.
        flags: Value by setting; None means that the flag was not given.

    Raises:
        RequestError: All that is wrong at once, one line each.
    """
    settings = {} if path is None else _read_yaml(_ready_made(path))
    settings.update({key: value for key, value in flags.items() if value is not None})
    try:
        return RunConfig.model_validate(settings)
    except ValidationError as error:
        where = "" if path is None else f"{path}: "
        raise RequestError("\n".join(where + _explain(detail) for detail in error.errors())) from error


def _ready_made(path: Path) -> Path:
    """Return the ready-made file of this name where the user has none: in the package, or in the checkout."""
    package = Path(__file__).parent
    if path.exists() or path.name != str(path):
        return path
    found = (folder / path for folder in (package / "configs", package.parent / "configs"))
    return next((candidate for candidate in found if candidate.is_file()), path)


def _read_yaml(path: Path) -> dict[str, Any]:
    import yaml

    class UniqueKeyLoader(yaml.SafeLoader):
        """Refuses a key that is given twice: YAML forbids it, PyYAML takes the last."""

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
            keys = [self.construct_object(key, deep=True) for key, _ in node.value]
            for key in keys:
                if keys.count(key) > 1:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key!r} is given twice", node.start_mark
                    )
            return super().construct_mapping(node, deep)

    try:
        if path.exists() and not path.is_file():
            raise RequestError(f"The configuration {path} cannot be read: it is not a file.")
        if path.stat().st_size > _MAX_BYTES:
            raise RequestError(f"{path} is larger than 1 MiB: it is not a configuration.")
        settings = yaml.load(path.read_text(encoding="utf-8"), UniqueKeyLoader)  # noqa: S506 - a SafeLoader
    except RequestError:
        raise
    except OSError as error:
        raise RequestError(f"The configuration {path} cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a date like 2020-13-45
        reason = " ".join(str(error).split()) or type(error).__name__
        raise RequestError(f"{path} is not valid YAML: {reason}.") from error
    if settings is None:
        return {}
    if not isinstance(settings, dict) or not all(isinstance(key, str) for key in settings):
        raise RequestError(f"{path} must hold `setting: value` lines, such as `source: test://`.")
    return settings


def _explain(detail: Mapping[str, Any]) -> str:
    """Return one line: the setting, what was expected, what was received."""
    setting = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        near = difflib.get_close_matches(setting, RunConfig.model_fields, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        return f"{setting}: there is no such setting.{hint}"
    if detail["type"] == "missing":
        return f"{setting}: it must be given."
    if detail["type"] == "value_error":  # one of ours, which says it all
        return f"{setting}: {detail['ctx']['error']}"
    expected = str(detail["msg"])
    return f"{setting}: {expected[0].lower()}{expected[1:]}, received {repr(detail['input'])[:80]}."
