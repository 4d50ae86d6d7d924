"""How much OpenCV writes to stderr: what is to be said, our own messages say."""

from __future__ import annotations

# Of cv::utils::logging::LogLevel, the same in every version.
SILENT, ERRORS = 0, 2


def limit_log(level: int) -> None:
    """Let OpenCV say no more than this in this process: `SILENT` or `ERRORS`."""
    import cv2

    # Some 4.x have it at the top, others and 5 in a module of its own.
    log = cv2 if hasattr(cv2, "setLogLevel") else cv2.utils.logging
    log.setLogLevel(min(log.getLogLevel(), level))
