"""Everything that an engine can raise.

EngineError
 +- BackendUnavailableError   the backend asked for is unknown or not installed
 +- ModelFileError            the model file cannot be read or run by this backend
 |   +- PlanError             a TensorRT plan is damaged, or made for another device or version
 |       +- PlanGivenUpError  and it is no use to build it again by itself
 +- BuildError                a TensorRT plan could not be built
 |   +- BuildCancelledError   because whoever wanted it no longer does
 |   +- BuildMemoryError      because memory ran out
 |   +- FailedBeforeError     at an earlier start, and it is not tried again yet
 +- PlanMissingError          there is no TensorRT plan yet, and none may be built now
 +- DeviceMemoryError         the GPU has too little free memory
 +- TensorMismatchError       (also ValueError) a tensor is missing, unknown, or of the wrong shape or dtype
"""


class EngineError(Exception):
    """Base class of every error raised by `engines`."""


class BackendUnavailableError(EngineError):
    """The backend asked for does not exist or cannot run here; the message says what to do."""


class ModelFileError(EngineError):
    """The model file is missing, damaged, or not for this backend."""


class PlanError(ModelFileError):
    """A TensorRT plan is damaged, or was made for another device or version: it must be built again."""


class PlanGivenUpError(PlanError):
    """A TensorRT plan never loaded: it is built again only when somebody asks for that."""


class BuildError(EngineError):
    """A TensorRT plan could not be built; the message says why."""


class BuildCancelledError(BuildError):
    """The build was cancelled."""


class BuildMemoryError(BuildError):
    """Memory ran out while a plan was built."""


class FailedBeforeError(BuildError):
    """The build failed at an earlier start, and is not tried again yet; the message says how to."""


class PlanMissingError(EngineError):
    """There is no plan that loads, and none may be built now."""


class DeviceMemoryError(EngineError):
    """The GPU has too little free memory."""


class TensorMismatchError(EngineError, ValueError):
    """A tensor handed to an engine is not what the model expects."""
