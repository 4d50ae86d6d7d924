"""The protocol that every backend follows, and the checks that none of them writes again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from engines.errors import TensorMismatchError

Tensors = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Name, static shape and dtype of one input or output."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __str__(self) -> str:
        """Return `name float32 (1, 300, 300, 3)`, as error messages show it."""
        return f"{self.name} {self.dtype} {self.shape}"


class Engine(Protocol):
    """Runs one model on one device. One thread at a time, unless a backend says otherwise."""

    @property
    def backend(self) -> str:
        """Name of the backend, as in `--engine` (`onnxruntime`, `tensorrt`, `fake`)."""
        ...

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What `run` expects."""
        ...

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """What `run` returns."""
        ...

    @property
    def input_buffers(self) -> Mapping[str, NDArray[Any]]:
        """The engine's own arrays, one per input: filled in place and handed to `run`, nothing is copied."""
        ...

    def run(self, feeds: Tensors) -> Tensors:
        """Run the model.

        Args:
            feeds: One C-contiguous array per input.

        Returns:
            One array per output, valid until the next `run` or `close`.

        Raises:
            TensorMismatchError: `feeds` does not fit `inputs`.
            EngineError: The backend failed; the message says what to do.
        """
        ...

    def close(self) -> None:
        """Free what the engine holds. Calling it again does nothing."""
        ...


def allocate_inputs(specs: tuple[TensorSpec, ...]) -> dict[str, NDArray[Any]]:
    """Allocate one zeroed, C-contiguous array per input, to be filled in place for every frame."""
    return {spec.name: np.zeros(spec.shape, spec.dtype) for spec in specs}


def check_feeds(specs: tuple[TensorSpec, ...], feeds: Tensors) -> None:
    """Compare `feeds` with what a model expects.

    Raises:
        TensorMismatchError: Naming what was expected and what was received.
    """
    expected = {spec.name: spec for spec in specs}
    if feeds.keys() != expected.keys():
        raise TensorMismatchError(
            f"The model expects the inputs {sorted(expected)}, received {sorted(feeds)}."
        )
    for name, spec in expected.items():
        array = feeds[name]
        if array.shape != spec.shape or array.dtype != spec.dtype:
            received = TensorSpec(name, array.shape, array.dtype)
            raise TensorMismatchError(f"Expected input {spec}, received {received}.")
        if not array.flags.c_contiguous:
            raise TensorMismatchError(
                f"Input {name} is not C-contiguous: pass a contiguous array instead of a view."
            )
