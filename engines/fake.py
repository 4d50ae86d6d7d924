"""A deterministic engine without a model: for tests of pipelines, sinks and cameras, here and elsewhere."""

from __future__ import annotations

from collections.abc import Callable

from engines.base import Tensors, TensorSpec, allocate_inputs, check_feeds
from engines.errors import EngineError


class FakeEngine:
    """Answers every run with given arrays, or with arrays computed from the inputs.

    Args:
        inputs: What `run` expects; checked as by a real backend.
        outputs: Fixed answer by output name. Left out when `compute` is given.
        compute: Called with the feeds; returns the outputs. It may raise `EngineError` to play a failing
            device, or wait on an event to play a slow one.
        output_specs: What `compute` returns; required with `compute`.

    Raises:
        ValueError: Neither or both of `outputs` and `compute` were given.
    """

    backend = "fake"

    def __init__(
        self,
        inputs: tuple[TensorSpec, ...],
        outputs: Tensors | None = None,
        *,
        compute: Callable[[Tensors], Tensors] | None = None,
        output_specs: tuple[TensorSpec, ...] | None = None,
    ) -> None:
        if (outputs is None) == (compute is None) or (compute is None) != (output_specs is None):
            raise ValueError("Pass either outputs, or compute together with output_specs.")
        self.inputs = inputs
        self.outputs = output_specs or tuple(
            TensorSpec(name, array.shape, array.dtype) for name, array in (outputs or {}).items()
        )
        self.input_buffers = allocate_inputs(inputs)
        self.runs = 0
        self.closed = False
        self._answer = outputs
        self._compute = compute

    def run(self, feeds: Tensors) -> Tensors:
        """Count the run and return the answer; the arrays belong to the engine, as with a real backend."""
        if self.closed:
            raise EngineError("The engine is closed: open it again before running it.")
        check_feeds(self.inputs, feeds)
        self.runs += 1
        if self._compute is not None:
            return self._compute(feeds)
        assert self._answer is not None  # noqa: S101 - the constructor made sure
        return self._answer

    def close(self) -> None:
        """Refuse further runs."""
        self.closed = True
