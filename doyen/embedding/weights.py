"""An encoder's safetensors file → float32 arrays, without torch. Knows no architecture."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from doyen.models.stored_weights import as_float32, mapped_tensors

_HEAD_PREFIX = re.compile(r"^(bert|roberta|mpnet|distilbert)\.")


def read_weights(path: Path) -> dict[str, NDArray[np.float32]]:
    """Read a safetensors file as float32, by name without the `bert.` of models with a head; float32 stays mapped.

    Raises:
        ModelError: the file is missing or broken.
    """
    return {_HEAD_PREFIX.sub("", name): as_float32(stored) for name, stored in mapped_tensors(path).items()}
