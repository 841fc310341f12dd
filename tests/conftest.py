"""Fixtures of several test folders; what they are made of is in small_stores.py."""

import signal

import pytest
from hypothesis import settings
from kept_workers import KeptPool, end_workers
from postgresql_server import running_server, store_uri
from small_stores import HashEmbedder, make_expert, manifest_of

from doyen.config import Settings, StoreSettings
from doyen.index.places import place_of
from doyen.index.postgresql.connecting import close_databases

settings.register_profile("doyen", deadline=None)  # a busy machine is no fault of an example
settings.load_profile("doyen")

LANCE = "index"


def pytest_generate_tests(metafunc):
    """Run the tests of a module with `STORES = "both"` on both stores, but for those marked `lance_only`."""
    both = getattr(metafunc.module, "STORES", "") == "both"
    if both and "store" in metafunc.fixturenames and not metafunc.definition.get_closest_marker("lance_only"):
        stores = [pytest.param(LANCE, id="lance"), pytest.param("postgresql", marks=pytest.mark.slow)]
        metafunc.parametrize("store", stores, indirect=True)


@pytest.fixture(scope="session", autouse=True)
def kept_workers():
    """Let the ingests of this process share worker processes (kept_workers.py)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("doyen.ingesting.hands.WorkerPool", KeptPool)
        yield
    end_workers()


@pytest.fixture
def embedder():
    return HashEmbedder()


@pytest.fixture(scope="session")
def postgresql():
    """A PostgreSQL server with pgvector: the folder of its socket."""
    pytest.importorskip("pgserver", reason="no PostgreSQL for this Python")
    with running_server() as socket:
        yield socket


@pytest.fixture
def store(request):
    """`[store] uri`: a folder, or a schema of its own in a PostgreSQL server (see `pytest_generate_tests`)."""
    if getattr(request, "param", LANCE) == LANCE:
        yield LANCE
    else:
        yield store_uri(request.getfixturevalue("postgresql"))
        close_databases()


@pytest.fixture
def expert(tmp_path, store):
    """An expert with default settings and no index."""
    return make_expert(tmp_path / "expert", Settings(store=StoreSettings(store)))


@pytest.fixture
def index(tmp_path, embedder, store):
    """An empty index for `embedder`."""
    return place_of(store, tmp_path).open_or_create(manifest_of(embedder))


def pytest_configure():
    """Let Ctrl-C reach what tests start: a run in the background (`make test &`) hands on that it is to be ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
