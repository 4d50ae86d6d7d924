"""What can be changed while a model runs: which results are reported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from edge_mnv2.zoo.model import DecoderOptions


class LiveDecoder(Protocol):
    """The decoder of a running model. Every member may be used from any thread."""

    @property
    def task(self) -> str:
        """One of `detect`, `segment`, `classify`."""
        ...

    @property
    def labels(self) -> Mapping[int, str]:
        """Label by class id."""
        ...

    @property
    def decoder(self) -> DecoderOptions:
        """What is reported now."""
        ...

    def change_decoder(self, options: DecoderOptions) -> None:
        """Report this from the next frame on.

        Raises:
            RequestError: A class is unknown, or the threshold is out of range.
        """
        ...
