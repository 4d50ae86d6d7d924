"""The text of a GStreamer pipeline: it has to end in an appsink."""

from __future__ import annotations

import re

_APPSINK = re.compile(r"(?:^|[!\s])appsink(?=[\s!]|$)")


def with_appsink(pipeline: str) -> str:
    """Return a pipeline that ends in an appsink for BGR, in which the newest frame wins.

    A pipeline that has an appsink is left as it is: it must give BGR itself.
    """
    if _APPSINK.search(pipeline):
        return pipeline
    return (
        f"{pipeline.rstrip(' !')} ! videoconvert ! video/x-raw,format=BGR "
        "! appsink drop=true max-buffers=1 sync=false"
    )
