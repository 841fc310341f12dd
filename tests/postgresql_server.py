"""A real PostgreSQL server with pgvector for the tests, on a socket of its own; pgserver brings both."""

import itertools
import tempfile
import warnings
from contextlib import contextmanager
from pathlib import Path

from doyen.index.postgresql.connecting import close_databases

_SCHEMAS = itertools.count(1)


@contextmanager
def running_server():
    """Run a server; gives the folder of its socket."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of where it keeps its lock
        import pgserver

        server = pgserver.get_server(Path(folder) / "pg", cleanup_mode="delete")
        yield str(next(Path(folder).rglob(".s.PGSQL.5432")).parent)
        close_databases()
        server.cleanup()


def store_uri(socket, schema=None, user="postgres", database="postgres"):
    """Return the URI of a store in a server; of a schema that no other test has, if none is named."""
    return f"postgresql://{user}@/{database}?host={socket}&schema={schema or f'expert_{next(_SCHEMAS)}'}"
