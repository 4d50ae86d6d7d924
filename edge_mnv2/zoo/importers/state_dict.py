"""PyTorch checkpoints (`.pth`, `.pt`), of the old format and of the new one."""

from __future__ import annotations

import pickle
import struct
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_mnv2.errors import RequestError, WeightsError

# Under which training scripts put the state dict when they save more than that.
_WRAPPERS = ("state_dict", "model_state_dict", "model")
# What torch raises over a damaged file, depending on which byte it is, and over one that holds code.
_DAMAGE = (
    pickle.UnpicklingError,
    EOFError,
    RuntimeError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    OverflowError,
    MemoryError,
    struct.error,
)


def read_state_dict(path: Path) -> dict[str, NDArray[np.float32]]:
    """Read every floating-point tensor of a PyTorch state dict, by its name there.

    Nothing in the file is executed: a pickle with more in it than tensors and plain containers is refused.

    Args:
        path: What `torch.save(model.state_dict(), path)` wrote, or a dictionary that holds it under
            `state_dict`, `model_state_dict` or `model`.

    Raises:
        RequestError: PyTorch is not installed.
        WeightsError: The file is damaged, holds code, or no tensors.
    """
    torch = _import_torch()
    try:
        with warnings.catch_warnings():
            # About pickle's protocol, which matters only where reading fails.
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
        found = _tensors(content, torch)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error}.") from error
    except _DAMAGE as error:
        # Not torch's own words: some of them recommend to read the file without this protection.
        raise WeightsError(
            f"{path} is damaged, or holds more than weights; as that could run any program, it is not read. "
            "Download it again, or save the weights alone with torch.save(model.state_dict(), path)."
        ) from error
    if not found:
        raise WeightsError(
            f"{path} holds no floating-point tensors: save them with torch.save(model.state_dict(), path)."
        )
    return found


def _tensors(
    content: object,
    torch: Any,  # noqa: ANN401 - the module
) -> dict[str, NDArray[np.float32]]:
    if not isinstance(content, Mapping):
        return {}
    for wrapper in _WRAPPERS:
        if isinstance(content.get(wrapper), Mapping):
            return _tensors(content[wrapper], torch)
    return {
        # Training on several devices puts a prefix in front of every name.
        str(name).removeprefix("module."): tensor.detach().float().numpy()
        for name, tensor in content.items()
        if isinstance(tensor, torch.Tensor) and tensor.is_floating_point()
    }


def _import_torch() -> Any:  # noqa: ANN401 - what is used of it has no types to speak of
    try:
        import torch
    except ImportError as error:
        command = f"{sys.executable} -m pip install torch"
        raise RequestError(f"Reading PyTorch files needs PyTorch: {command}") from error
    return torch
