"""Serving an expert to others: so far its model, by an engine that runs as a server of its own."""
