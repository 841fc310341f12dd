"""A prefix of its own in a bucket of a real S3 server, for each test that asks for `bucket_store`."""

import pytest
from s3_server import BUCKET, KEYS, running_s3

from doyen.index import following


@pytest.fixture(scope="session")
def s3_address():
    pytest.importorskip("moto", reason="needs moto[server]")
    with running_s3() as address:
        yield address


@pytest.fixture
def bucket_store(s3_address, request, monkeypatch, tmp_path):
    """The URI; readers look for newer states at each question."""
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DOYEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(following, "FOLLOW_S", 0.0)
    monkeypatch.setattr(following, "WAIT_S", 60.0)
    return f"s3://{BUCKET}/{abs(hash(request.node.nodeid))}?endpoint={s3_address}"
