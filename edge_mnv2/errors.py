"""Everything that the application itself can raise; `camera` and `engines` have trees of their own.

EdgeMnv2Error
 +- RequestError      (also ValueError) what was asked for cannot be done: exit code 2
 |   +- UnknownModelError
 |   +- OutputPathError
 +- RunError          (also RuntimeError) it failed while running: exit code 1
     +- PlanRefusedError
     +- WeightsError
     +- FetchError
     +- CacheError
     +- SinkError
         +- SinkGoneError
"""


class EdgeMnv2Error(Exception):
    """Base class of every error raised by `edge_mnv2`."""


class RequestError(EdgeMnv2Error, ValueError):
    """The request was wrong: an option, a name, a path or a file that the user can put right."""


class UnknownModelError(RequestError):
    """No model of this name is in the catalogue, and no file either."""


class OutputPathError(RequestError):
    """An output cannot be written where it was asked for."""


class RunError(EdgeMnv2Error, RuntimeError):
    """Something failed while running."""


class PlanRefusedError(RunError):
    """A TensorRT plan runs, but what it computes is not what ONNX Runtime computes."""


class WeightsError(RunError):
    """A weights file is damaged, or belongs to another network."""


class FetchError(RunError):
    """A package could not be fetched, or is not the one that was expected."""


class CacheError(RunError):
    """The cache cannot be written."""


class SinkError(RunError):
    """An output failed: the disk is full, the encoder gave up, the directory is gone."""


class SinkGoneError(SinkError):
    """Nobody is left to read what an output writes: opening it again would not help."""
