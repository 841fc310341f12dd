"""Business flows: a declared sequence of steps over the rows of a table (docs/guides/workflows.md)."""
