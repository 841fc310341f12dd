"""Fixtures of several test folders; what they are made of is in small_stores.py."""

import signal

import pytest
from hypothesis import settings
from small_stores import HashEmbedder, make_expert, manifest_of

from doyen.index.lance import LanceIndex

settings.register_profile("doyen", deadline=None)  # a busy machine is no fault of an example
settings.load_profile("doyen")


@pytest.fixture
def embedder():
    return HashEmbedder()


@pytest.fixture
def expert(tmp_path):
    """An expert with default settings and no index."""
    return make_expert(tmp_path / "expert")


@pytest.fixture
def index(tmp_path, embedder):
    """An empty index for `embedder`."""
    return LanceIndex.open_or_create(tmp_path / "index", manifest_of(embedder))


def pytest_configure():
    """Let Ctrl-C reach what tests start: a run in the background (`make test &`) hands on that it is to be ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
