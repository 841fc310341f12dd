"""Question → hits: dense and full-text candidates, fused. Knows the index, no language model."""
