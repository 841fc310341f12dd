"""Texts → vectors `(n, dim) float32`, unit length. Knows no documents and no store."""
