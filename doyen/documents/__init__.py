"""Files → Documents: text, page map, headings and rows. Knows no chunks and no store."""

from doyen.documents.reading import SUFFIXES, ReadResult, read_document, read_documents

__all__ = ["SUFFIXES", "ReadResult", "read_document", "read_documents"]
