"""Questions over ingested tables: which there are, SQL over them within limits, answers that cite their rows.

The names below are imported when they are first used: DuckDB is loaded for a statement only.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from doyen.tables.catalogue import StoredTable, list_tables
    from doyen.tables.limits import QueryLimits
    from doyen.tables.running import Rows, query

_HOME = {
    "QueryLimits": "doyen.tables.limits",
    "Rows": "doyen.tables.running",
    "StoredTable": "doyen.tables.catalogue",
    "list_tables": "doyen.tables.catalogue",
    "query": "doyen.tables.running",
}
__all__ = ["QueryLimits", "Rows", "StoredTable", "list_tables", "query"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'doyen.tables' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOME[name]), name)
