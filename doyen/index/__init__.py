"""Chunks and vectors ↔ store. Knows no files and no model."""
