"""Controls of a V4L2 device by name: brightness, exposure, focus."""

from __future__ import annotations

import difflib
import errno
import re
from collections.abc import Mapping, Sequence

from camera import v4l2_abi as abi
from camera.errors import CameraError, UnsupportedSourceError
from camera.v4l2_device import ControlInfo, V4l2Device, plain_name

# The kernel renamed these; both names are in use on boards that run today.
_OTHER_NAMES = {
    "auto_exposure": "exposure_auto",
    "exposure_time_absolute": "exposure_absolute",
    "exposure_dynamic_framerate": "exposure_auto_priority",
    "white_balance_automatic": "white_balance_temperature_auto",
    "focus_automatic_continuous": "focus_auto",
}
_SYNONYMS = {**_OTHER_NAMES, **{old: new for new, old in _OTHER_NAMES.items()}}
_SWITCHES = {abi.CTRL_TYPE_BOOLEAN, abi.CTRL_TYPE_MENU, abi.CTRL_TYPE_INTEGER_MENU}
_FLAGS = {"on": 1, "true": 1, "yes": 1, "off": 0, "false": 0, "no": 0}
_MOST_NAMES = 30


def set_controls(device: V4l2Device, shown: str, wanted: Mapping[str, str]) -> None:
    """Set controls, switches before numbers: a manual exposure needs the automatic one off.

    Args:
        device: Open.
        shown: What to call it in messages.
        wanted: Values by control name; of a menu, the number of an item or its name.

    Raises:
        UnsupportedSourceError: It has no such control, or not this value.
        CameraError: The driver refuses it.
    """
    if not wanted:
        return
    known = device.controls()
    settings = []
    for name, text in wanted.items():
        control = _find(known, name, shown)
        settings.append((control, _value(control, text, shown)))
    for control, value in sorted(settings, key=lambda setting: setting[0].kind not in _SWITCHES):
        try:
            device.set_control(control.number, value)
        except OSError as error:
            if error.errno == errno.ENODEV:
                raise
            raise CameraError(f"{shown}: {control.name}={value} was refused: {_reason(error)}.") from error


def _reason(error: OSError) -> str:
    if error.errno in {errno.EACCES, errno.EBUSY, errno.EIO}:
        return f"{error.strerror}; an automatic setting may hold it: switch that off too"
    return str(error.strerror)


def _find(known: Sequence[ControlInfo], name: str, shown: str) -> ControlInfo:
    plain = plain_name(name)
    by_name = {control.name: control for control in known}
    found = by_name.get(plain) or by_name.get(_SYNONYMS.get(plain, ""))
    if found is not None:
        return found
    near = difflib.get_close_matches(plain, [*by_name, "size", "fps", "format"], n=1)
    if near:
        raise UnsupportedSourceError(f"{shown} has no option or control {name}; did you mean {near[0]}?")
    names = ", ".join(list(by_name)[:_MOST_NAMES]) or "none"
    more = f" and {len(by_name) - _MOST_NAMES} more" if len(by_name) > _MOST_NAMES else ""
    raise UnsupportedSourceError(
        f"{shown} has no option or control {name}. Options: size, fps, format. Controls: {names}{more}."
    )


def _value(control: ControlInfo, text: str, shown: str) -> int:
    """Return the number that a text means for this control."""
    items = {plain_name(item): number for item, number in control.menu}
    number = int(text) if re.fullmatch(r"-?\d{1,10}", text) else None
    if control.kind == abi.CTRL_TYPE_INTEGER_MENU and number not in items.values():
        number = None  # the text is the item, not its number
    if number is None and control.menu:
        number = items.get(plain_name(text))
    if number is None and control.kind == abi.CTRL_TYPE_BOOLEAN:
        number = _FLAGS.get(text.lower())
    if control.kind == abi.CTRL_TYPE_BUTTON:
        return number or 0
    fits = number is not None and control.minimum <= number <= control.maximum
    if control.kind == abi.CTRL_TYPE_BITMASK:
        fits = number is not None and 0 <= number <= control.maximum & 0xFFFF_FFFF
    if number is None or not fits or (control.menu and number not in items.values()):
        raise UnsupportedSourceError(
            f"{shown}: {control.name}={text} is not possible; it can be {_can(control)}."
        )
    return number


def _can(control: ControlInfo) -> str:
    if control.menu:
        return ", ".join(f"{number} ({item})" for item, number in control.menu)
    if control.kind == abi.CTRL_TYPE_BOOLEAN:
        return "0 (off) or 1 (on)"
    step = f" in steps of {control.step}" if control.step > 1 else ""
    return f"{control.minimum} to {control.maximum}{step} (usually {control.default})"
