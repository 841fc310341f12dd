"""schemathesis against a running server: nothing that it makes of the OpenAPI document ends in a fault, or in what the document does not say."""

import shutil

import pytest
from small_server import Served, write_adapter

from doyen.serving.keys import add_key

pytestmark = pytest.mark.slow
EACH = 12
"""Requests made for each endpoint."""


def test_the_document_names_the_errors(served):
    document = served.client.get("/openapi.json").json()
    for path, ways in document["paths"].items():
        for way, operation in ways.items():
            if path in ("/healthz", "/readyz"):
                continue
            said = operation["responses"]
            assert {"400", "401", "403", "413", "429", "503"} <= set(said), (way, path)
            assert all("ErrorForm" in str(said[s]) for s in said if s >= "400"), (way, path)


@pytest.fixture(scope="module")
def keyed(template, tmp_path_factory, phi):
    """A server with keys, for one with all rights."""
    expert = shutil.copytree(template, tmp_path_factory.mktemp("keyed") / "expert")
    write_adapter(expert, phi, "first", 1)
    _, secret = add_key(expert, "root", role="admin")
    one = Served(expert, time_limit_s=20.0)
    one.client.headers["X-API-Key"] = secret
    yield one, secret
    one.close()


def test_no_request_ends_in_a_fault_or_in_what_the_document_does_not_say(keyed):
    served, secret = keyed
    schemathesis = pytest.importorskip("schemathesis", reason="pip install schemathesis")
    import hypothesis
    from schemathesis.specs.openapi import checks

    kept = (
        schemathesis.checks.not_a_server_error,
        checks.status_code_conformance,
        checks.content_type_conformance,
        checks.response_headers_conformance,
        checks.response_schema_conformance,
    )
    schema = schemathesis.openapi.from_dict(served.client.get("/openapi.json").json())
    schema.config.update(base_url=served.url)
    faults = []
    for found in schema.get_all_operations():
        operation = found.ok()

        @hypothesis.settings(
            max_examples=EACH,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        @hypothesis.given(case=operation.as_strategy())
        def every(case):
            case.call_and_validate(headers={"X-API-Key": secret}, checks=kept, timeout=60)

        try:
            every()
        except BaseExceptionGroup as group:
            faults.append((operation.label, [str(e)[:600] for e in group.exceptions]))
        except AssertionError as error:
            faults.append((operation.label, str(error)[:600]))
    assert not faults, faults
    assert served.client.get("/readyz").status_code == 200
