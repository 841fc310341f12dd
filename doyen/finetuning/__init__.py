"""Base model and examples → adapter, through gates. Knows no index."""
