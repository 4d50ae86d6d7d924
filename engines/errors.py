"""Everything that an engine can raise.

EngineError
 +- BackendUnavailableError   the backend asked for is unknown or not installed
 +- ModelFileError            the model file cannot be read or run by this backend
 +- TensorMismatchError       (also ValueError) a tensor is missing, unknown, or of the wrong shape or dtype
"""


class EngineError(Exception):
    """Base class of every error raised by `engines`."""


class BackendUnavailableError(EngineError):
    """The backend asked for does not exist or cannot run here; the message says what to do."""


class ModelFileError(EngineError):
    """The model file is missing, damaged, or not for this backend."""


class TensorMismatchError(EngineError, ValueError):
    """A tensor handed to an engine is not what the model expects."""
