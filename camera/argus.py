"""CSI cameras of a Jetson (`argus://N`), through nvarguscamerasrc of NVIDIA's GStreamer.

Frames are NV12 in the memory of the image processor; nvvidconv brings them into ours as BGRx, and
videoconvert drops the fourth byte. nvarguscamerasrc stamps a frame when it comes out of the image processor,
some time after its exposure. On a wrong number or a dead daemon it ends the stream, and prints the reason on
standard error alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from camera import uri_options
from camera.errors import UnsupportedSourceError
from camera.gstreamer import GStreamerSource
from camera.uri import Uri

_PATIENCE_S = 10.0
_MAX_NUMBER = 255
_SIZE = (1280, 720)
_FPS = 30.0
_HINT = (
    "Is the camera's ribbon in place, is {sensor} its number, and was its driver loaded (sudo dmesg)? "
    "Often the daemon hangs: sudo systemctl restart nvargus-daemon."
)
_MISSING_HINT = (
    "this is no Jetson, or the GStreamer plug-ins of its JetPack are not installed: "
    "sudo apt install nvidia-l4t-gstreamer."
)
# nvvidconv's flip-method.
_FLIPS = {"none": 0, "left": 1, "180": 2, "right": 3, "horizontal": 4, "vertical": 6}
_OPTIONS = ("size", "fps", "mode", "exposure_us", "gain", "wbmode", "flip")


@dataclass(frozen=True, slots=True)
class ArgusOptions:
    """What is asked of an Argus camera.

    Attributes:
        sensor: Number of the camera, from 0, in the order of the device tree.
        size: (width, height) of the frames.
        fps: Frames per second.
        mode: Sensor mode; None lets Argus choose by size and rate.
        exposure_us: (shortest, longest) exposure in microseconds; None for the sensor's own.
        gain: (lowest, highest) analogue gain; None for the sensor's own.
        wbmode: White balance: 0 off, 1 automatic, up to 9; None for automatic.
        flip: nvvidconv's flip-method, 0 to 7: done by the image processor, at no cost.
    """

    sensor: int = 0
    size: tuple[int, int] = _SIZE
    fps: float = _FPS
    mode: int | None = None
    exposure_us: tuple[float, float] | None = None
    gain: tuple[float, float] | None = None
    wbmode: int | None = None
    flip: int = 0


def argus_pipeline(options: ArgusOptions, source: str | None = None, convert: str | None = None) -> str:
    """Return the pipeline for a camera, up to its appsink.

    Args:
        options: What is asked of it.
        source: Elements that stand in for nvarguscamerasrc and its memory, on a machine that is no Jetson.
        convert: What stands in for nvvidconv there.
    """
    width, height = options.size
    rate = Fraction(options.fps).limit_denominator(1001)
    caps = f"width={width},height={height},framerate={rate.numerator}/{rate.denominator}"
    if source is None:
        source = f"nvarguscamerasrc {_properties(options)} ! video/x-raw(memory:NVMM),format=NV12,{caps}"
    else:
        source = f"{source} ! video/x-raw,format=NV12,{caps}"
    convert = f"nvvidconv flip-method={options.flip}" if convert is None else convert
    return f"{source} ! {convert} ! video/x-raw,format=BGRx"


def from_uri(uri: Uri) -> GStreamerSource:
    """Return the source for `argus://N?size=1280x720&fps=30`, and the other names in `_OPTIONS`.

    Raises:
        UnsupportedSourceError: N is no number, or an option is wrong.
    """
    options = read_options(uri)
    return argus_source(argus_pipeline(options), options, uri.shown)


def read_options(uri: Uri) -> ArgusOptions:
    """Return what a URI asks for.

    Raises:
        UnsupportedSourceError: As `from_uri`.
    """
    uri_options.no_more(uri, _OPTIONS)
    sensor = uri.address or "0"
    if not sensor.isascii() or not sensor.isdecimal() or int(sensor) > _MAX_NUMBER:
        raise UnsupportedSourceError(f"{uri.shown}: give the number of the camera, as in {uri.scheme}://0.")
    flip = uri_options.choice(uri, "flip", tuple(_FLIPS))
    return ArgusOptions(
        sensor=int(sensor),
        size=uri_options.size(uri) or _SIZE,
        fps=uri_options.number(uri, "fps", 1, 240) or _FPS,
        mode=uri_options.integer(uri, "mode", 0, _MAX_NUMBER),
        exposure_us=_range(uri, "exposure_us"),
        gain=_range(uri, "gain"),
        wbmode=uri_options.integer(uri, "wbmode", 0, 9),
        flip=_FLIPS[flip or "none"],
    )


def argus_source(pipeline: str, options: ArgusOptions, origin: str) -> GStreamerSource:
    """Return the source that runs a pipeline of an Argus camera, with what is known of its failures."""
    return GStreamerSource(
        pipeline,
        origin,
        hint=_HINT.format(sensor=options.sensor),
        endless=True,
        patience_s=_PATIENCE_S,
        missing_hint=_MISSING_HINT,
    )


def _properties(options: ArgusOptions) -> str:
    parts = [f"sensor-id={options.sensor}"]
    if options.mode is not None:
        parts.append(f"sensor-mode={options.mode}")
    if options.exposure_us is not None:  # nanoseconds
        low, high = (round(edge * 1000) for edge in options.exposure_us)
        parts.append(f'exposuretimerange="{low} {high}"')
    if options.gain is not None:
        low_gain, high_gain = options.gain
        parts.append(f'gainrange="{low_gain:g} {high_gain:g}"')
    if options.wbmode is not None:
        parts.append(f"wbmode={options.wbmode}")
    return " ".join(parts)


def _range(uri: Uri, key: str) -> tuple[float, float] | None:
    """Return an option `LOW-HIGH`, or one number for both."""
    value = uri.options.get(key)
    if value is None:
        return None
    low, _, high = value.partition("-")
    try:
        edges = float(low), float(high or low)
    except ValueError:
        edges = (-1.0, -1.0)
    if not 0 < edges[0] <= edges[1] < 1e9:
        raise UnsupportedSourceError(
            f"{uri.shown}: the option {key}={value} is wrong: give LOW-HIGH, or one number."
        )
    return edges
