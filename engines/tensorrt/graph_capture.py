"""A CUDA graph of one run: everything that a stream is given, recorded once and launched as a whole.

pycuda has no call for this, so the driver is asked by ctypes (CUDA driver API, "Stream Management" and "Graph
Management"). It saves the launch of each kernel from the CPU: a MobileNetV2 is some sixty of them, all short.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable

from engines.tensorrt.driver import DriverError, call

# CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: what other threads do meanwhile does not break the capture.
_THREAD_LOCAL = 1


class CudaGraph:
    """What was recorded, ready to be launched on a stream again and again.

    Args:
        library: The driver.
        stream: Handle of a stream that is not the default one.
        enqueue: Gives the stream its work, all at fixed addresses; it was run once before, so that what is
            set up lazily is set up.

    Raises:
        DriverError: The work cannot be recorded.
    """

    def __init__(self, library: ctypes.CDLL, stream: int, enqueue: Callable[[], None]) -> None:
        self._library = library
        self._stream = ctypes.c_void_p(stream)
        self._executable = ctypes.c_void_p()
        graph = _record(library, self._stream, enqueue)
        try:
            call(
                library,
                "cuGraphInstantiateWithFlags",
                ctypes.byref(self._executable),
                graph,
                ctypes.c_ulonglong(0),
            )
        finally:
            call(library, "cuGraphDestroy", graph)

    def launch(self) -> None:
        """Put the whole graph onto its stream.

        Raises:
            DriverError: The driver refuses.
        """
        call(self._library, "cuGraphLaunch", self._executable, self._stream)

    def close(self) -> None:
        """Free the graph; the context must be current, the stream idle. Calling it again does nothing."""
        if self._executable.value is not None:
            executable, self._executable = self._executable, ctypes.c_void_p()
            call(self._library, "cuGraphExecDestroy", executable)


def _record(library: ctypes.CDLL, stream: ctypes.c_void_p, enqueue: Callable[[], None]) -> ctypes.c_void_p:
    graph = ctypes.c_void_p()
    call(library, "cuStreamBeginCapture_v2", stream, ctypes.c_int(_THREAD_LOCAL))
    try:
        enqueue()
    except BaseException:
        # A stream left capturing refuses all work.
        library.cuStreamEndCapture(stream, ctypes.byref(graph))
        if graph.value is not None:
            library.cuGraphDestroy(graph)
        raise
    call(library, "cuStreamEndCapture", stream, ctypes.byref(graph))
    if graph.value is None:
        raise DriverError("cuStreamEndCapture gave no graph: the capture was invalidated")
    return graph
