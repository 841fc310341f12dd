"""An index in a PostgreSQL database with pgvector: one schema an expert. The same hits as in LanceDB; see store.py beside."""
