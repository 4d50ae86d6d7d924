"""The pictures inside a recorded session: PNG without loss, or JPEG."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def encode(image: NDArray[np.uint8], quality: int | None) -> bytes | None:
    """Return a picture as PNG, or as JPEG of a quality; None where it cannot be, such as one too wide.

    Of what OpenCV offers without loss, PNG of row differences and runs takes the least time, at half the size
    of the pixels; its usual settings take twice as long for a tenth less.

    Args:
        image: (H, W, 3) uint8 BGR.
        quality: 1 to 100; None: PNG.
    """
    import cv2

    if quality is not None:
        suffix, options = ".jpg", [cv2.IMWRITE_JPEG_QUALITY, quality]
    else:
        suffix = ".png"
        options = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE]
        # Older releases do not know the filter; theirs, differences to the left, is nearly as good.
        if hasattr(cv2, "IMWRITE_PNG_FILTER"):
            options += [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP]
    try:
        ok, data = cv2.imencode(suffix, image, options)
    except cv2.error:
        return None
    return data.tobytes() if ok else None


def decode(picture: bytes, width: int, height: int) -> NDArray[np.uint8] | None:
    """Return (height, width, 3) uint8 BGR; None where the picture is damaged, or of another size."""
    import cv2

    try:
        image = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        return None
    # The stubs promise an array; the function returns None for what it cannot decode.
    if not isinstance(image, np.ndarray) or image.shape != (height, width, 3):
        return None
    return image.astype(np.uint8, copy=False)
