"""Where documents come from: folders, remote file systems, web sites, databases → items, each read when it is needed.

Leaves: items with stable ids. Knows no format and no store.
"""

from doyen.sources.item import Item, Source
from doyen.sources.opening import open_source, open_sources, options_of
from doyen.sources.options import SourceOptions

__all__ = ["Item", "Source", "SourceOptions", "open_source", "open_sources", "options_of"]
