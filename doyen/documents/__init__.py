"""Files → Documents: text, page map, headings and rows. Knows no chunks and no store."""

from doyen.documents.folder import list_files
from doyen.documents.reading import SUFFIXES, read_document

__all__ = ["SUFFIXES", "list_files", "read_document"]
