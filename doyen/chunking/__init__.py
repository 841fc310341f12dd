"""Document → Chunks. Knows the embedder's tokens, but no vectors and no store."""

from doyen.chunking.cutting import SECTION_SEPARATOR, chunk_document
from doyen.chunking.dividing import sentence_spans

__all__ = ["SECTION_SEPARATOR", "chunk_document", "sentence_spans"]
