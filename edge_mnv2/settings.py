"""What `edge-mnv2 run` can be told: the settings of each camera, and of all of them together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from camera import CameraOptions, Supervision, Transform
from camera.transform import parse_crop
from edge_mnv2.predictor import PredictorOptions
from edge_mnv2.setting_types import (
    SOURCES,
    CameraName,
    CropText,
    FilePath,
    SizeText,
    Text,
    Texts,
    check_rotation,
    or_text,
    split_list,
)
from edge_mnv2.settings_mqtt import MqttSettings
from edge_mnv2.zoo.catalogue import DEFAULT_MODEL
from edge_mnv2.zoo.model import DecoderOptions, Variant, parse_size

NO_SOURCE = "source: it must be given."
# Of several cameras, each writes its own.
_OUTPUTS = ("video", "jsonl", "pictures", "record_session")


class PipelineSettings(BaseModel):
    """What can be said of one camera, or of all."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    isolation: Annotated[
        Literal["process", "thread"] | None,
        Field(
            description="Where a camera is read: in a process of its own, which is ended where its driver "
            "hangs, or in a thread of this one; left out: what suits the source"
        ),
    ] = None
    stall_s: Annotated[
        float,
        Field(gt=0, le=3600, description="A camera is opened anew after so many seconds without a frame"),
    ] = 2.0
    retry_first: Annotated[
        bool | None,
        Field(description="Wait for a camera that is not there at the start; left out: for one of several"),
    ] = None
    max_attempts: Annotated[
        int | None,
        Field(
            strict=True,
            ge=1,
            description="Give a lost camera up after so many attempts in a row; left out: never",
        ),
    ] = None
    max_pause_s: Annotated[
        float,
        Field(ge=0.1, le=3600, description="Longest pause between attempts while it is away for minutes"),
    ] = 2.0
    long_pause_s: Annotated[
        float, Field(ge=0.1, le=86400, description="Longest pause once it is away for five minutes")
    ] = 15.0
    rotate: Annotated[Literal[0, 90, 180, 270], Field(description="Turn frames clockwise, in degrees")] = 0
    flip: Annotated[Literal["horizontal", "vertical", "both"] | None, Field(description="Mirror frames")] = (
        None
    )
    crop: Annotated[
        CropText | None, Field(description="Part of the frame that is used: X,Y,WIDTHxHEIGHT in pixels")
    ] = None
    threshold: Annotated[
        float | None,
        Field(gt=0, lt=1, description="Smallest score reported; left out: 0.5 in detection, else none"),
    ] = None
    classes: Annotated[
        Texts | None,
        BeforeValidator(split_list),
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
    jsonl_append: Annotated[
        bool | None,
        Field(
            description="Go on at the end of the file of records, whose lines outlive a power loss; left "
            "out: where it rotates"
        ),
    ] = None
    jsonl_rotate_mb: Annotated[
        int | None,
        Field(strict=True, ge=1, le=1_000_000, description="Begin a new file of records at this size"),
    ] = None
    jsonl_rotate_hours: Annotated[
        float | None, Field(gt=0, le=8784, description="Begin a new file of records after this time")
    ] = None
    jsonl_keep_mb: Annotated[
        int | None,
        Field(
            strict=True,
            ge=1,
            le=100_000_000,
            description="Remove the oldest files of records beyond this sum",
        ),
    ] = None
    pictures: Annotated[FilePath | None, Field(description="Folder for annotated pictures")] = None
    max_frames: Annotated[int | None, Field(strict=True, ge=1, description="Stop after so many frames")] = (
        None
    )

    record_session: Annotated[
        FilePath | None, Field(description="Keep frames as received in this file; replay://FILE plays it")
    ] = None
    session_quality: Annotated[
        int | None,
        Field(strict=True, ge=1, le=100, description="Keep them as JPEG; left out: pixel by pixel, as PNG"),
    ] = None
    session_max_mb: Annotated[
        int | None, Field(strict=True, ge=1, description="Stop to keep frames at this size of the file")
    ] = None

    def camera_options(self, *, waits: bool = False) -> CameraOptions:
        """Return how the camera is to be driven.

        Args:
            waits: Whether to go on trying where it is not there at the start and no setting says so.
        """
        return CameraOptions(
            isolation=self.isolation,
            transform=Transform(None if self.crop is None else parse_crop(self.crop), self.rotate, self.flip),
            supervision=Supervision(
                stall_s=self.stall_s,
                max_pause_s=self.max_pause_s,
                long_pause_s=self.long_pause_s,
                max_attempts=self.max_attempts,
                retry_first=waits if self.retry_first is None else self.retry_first,
            ),
        )

    def check_records(self) -> None:
        """Refuse a rotation that could not keep what it promises; see `setting_types.check_rotation`."""
        sizes_mb = self.jsonl_rotate_mb, self.jsonl_keep_mb
        check_rotation(self.jsonl, self.jsonl_append, self.jsonl_rotate_hours, *sizes_mb)

    def decoder_options(self) -> DecoderOptions:
        """Return what of the network's answer is to be reported."""
        return DecoderOptions(self.threshold, self.classes, self.top_k, self.masks)


# What may be said outside for all cameras.
SHARED_SETTINGS = frozenset(PipelineSettings.model_fields) - {*_OUTPUTS}


class CameraSettings(PipelineSettings):
    """Settings of one camera."""

    source: Annotated[Text, Field(description=SOURCES)]

    @model_validator(mode="after")
    def _can_keep_records(self) -> CameraSettings:
        self.check_records()
        return self


class RunConfig(PipelineSettings):
    """Settings of `edge-mnv2 run`: of one camera, or of several that share an engine."""

    model_config = ConfigDict(extra="forbid", frozen=True, title="edge-mnv2 run")

    source: Annotated[Text | None, Field(description=SOURCES)] = None
    cameras: Annotated[
        dict[CameraName, CameraSettings] | None,
        Field(
            min_length=1,
            description="Instead of `source`: settings by a name of your choice; what is left out is as said "
            "outside",
        ),
    ] = None
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
    display: Annotated[bool, Field(description="Show a window: q quits, space pauses, s saves, h hides")] = (
        False
    )
    web: Annotated[
        Text | None, Field(description="Serve a live view on HOST:PORT, such as 127.0.0.1:8080")
    ] = None
    web_token_file: Annotated[
        FilePath | None,
        Field(description="File with the token that a live view on another address than loopback asks for"),
    ] = None

    web_names: Annotated[
        Texts | None,
        BeforeValidator(split_list),
        Field(description="Further host names that the live view is reached by, such as that of a proxy"),
    ] = None
    metrics: Annotated[
        Text | None,
        Field(
            description="Serve metrics for Prometheus on HOST:PORT, such as 127.0.0.1:9464; a live view "
            "serves them at /metrics anyway"
        ),
    ] = None
    mqtt: Annotated[
        MqttSettings | None,
        Field(
            description="Send results and telemetry to an MQTT broker: HOST:PORT, or settings of its own",
            json_schema_extra=or_text,
        ),
    ] = None

    @model_validator(mode="before")
    @classmethod
    def _inherit(cls, settings: Any) -> Any:  # noqa: ANN401 - not validated yet
        """Give each camera what was said for all of them."""
        if not isinstance(settings, Mapping) or not isinstance(settings.get("cameras"), Mapping):
            return settings
        common = {key: value for key, value in settings.items() if key in SHARED_SETTINGS}
        cameras = {
            name: {**common, **camera} if isinstance(camera, Mapping) else camera
            for name, camera in settings["cameras"].items()
        }
        return {**settings, "cameras": cameras}

    @model_validator(mode="after")
    def _one_or_several(self) -> RunConfig:
        if self.cameras is None and self.source is None:
            raise ValueError(NO_SOURCE)
        if self.cameras is not None:
            if self.source is not None:
                raise ValueError("source: there are cameras, each with a source of its own.")
            for output in _OUTPUTS:
                if getattr(self, output) is not None:
                    raise ValueError(f"{output}: give each of the cameras its own.")
        else:
            self.check_records()
        return self

    def each_camera(self) -> dict[str, CameraSettings]:
        """Return the settings of each camera by its name; the name is empty where there is only one."""
        if self.cameras is not None:
            return dict(self.cameras)
        one = {name: getattr(self, name) for name in CameraSettings.model_fields}
        return {"": CameraSettings.model_construct(**one)}

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
            decoder=self.decoder_options(),
        )
