"""Imports LanceDB without what doyen does not use of it."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType
from typing import Any

_NAMESPACES = "lance_namespace_urllib3_client"


def load_lancedb() -> Any:
    """Import LanceDB without its client of REST namespaces: two thirds of the import's time are that client's.

    LanceDB uses only the client's data classes. They are imported from an empty package in the client's place, which is
    taken away afterwards: who wants the client itself still gets it.
    """
    if "lancedb" in sys.modules or _NAMESPACES in sys.modules:
        import lancedb

        return lancedb
    spec = importlib.util.find_spec(_NAMESPACES)
    stand_in = ModuleType(_NAMESPACES)
    if spec is not None and spec.submodule_search_locations is not None:
        stand_in.__path__ = list(spec.submodule_search_locations)
        stand_in.__spec__ = spec
        sys.modules[_NAMESPACES] = stand_in
    try:
        import lancedb
    finally:
        if sys.modules.get(_NAMESPACES) is stand_in:
            del sys.modules[_NAMESPACES]
    return lancedb
