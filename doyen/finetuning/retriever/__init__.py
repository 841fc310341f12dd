"""An index's passages (and training questions) → a retriever that has learned them: a tuned embedder, a reranker."""
