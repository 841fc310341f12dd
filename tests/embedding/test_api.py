"""The embeddings API against a local server that speaks the protocol, and fails as APIs fail."""

import email.utils
import time

import numpy as np
import pytest
from api_server import KEY, ApiServer
from small_stores import HashEmbedder

from doyen.config import EmbedderSettings
from doyen.embedding import load_counter, load_embedder
from doyen.embedding.api import BATCH_TEXTS, CONCURRENT, ApiEmbedder
from doyen.embedding.cost import estimate_cost
from doyen.errors import ConfigError, EndpointError, ModelError
from doyen.models.catalogue import EndpointSource
from doyen.models.endpoint import Endpoint, Pace

TEXTS = ["the pump is late", "an invoice", "valve", "thirty days"]


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("TEST_API_KEY", KEY)
    server = ApiServer()
    yield server
    server.close()


def settings_for(server, name="openai:our-model", **changes):
    return EmbedderSettings(**({"name": name, "endpoint": server.url, "key_variable": "TEST_API_KEY"} | changes))


def impatient(server, settings=None, **options):
    """An embedder whose pauses are short."""
    settings = settings or settings_for(server)
    options = {"first_pause_s": 0.01, "attempts": 3} | options
    endpoint = Endpoint("openai", url=server.url, key_variable="TEST_API_KEY", **options)
    return ApiEmbedder(endpoint, settings, EndpointSource("openai", "our-model"), server.dim)


def test_openai_protocol(server):
    embedder = load_embedder(settings_for(server))
    assert (embedder.dim, embedder.fingerprint) == (64, "openai:our-model@64/api")
    np.testing.assert_allclose(embedder.embed(TEXTS), HashEmbedder(dim=64).embed(TEXTS), atol=1e-6)
    assert server.bodies[-1] == {"model": "our-model", "input": TEXTS, "encoding_format": "float"}
    assert {path for path, _, _ in server.requests} == {"/v1/embeddings"}


def test_jina_protocol_names_the_task(server):
    embedder = load_embedder(settings_for(server, "jina:jina-embeddings-v3", dimensions=32))
    assert not server.requests and embedder.dim == 32
    embedder.embed(["passage"])
    embedder.embed(["question"], kind="query")
    assert [body["task"] for body in server.bodies] == ["retrieval.passage", "retrieval.query"]
    assert all(body["dimensions"] == 32 and "encoding_format" not in body for body in server.bodies)


def test_a_known_or_recorded_length_needs_no_request(server):
    assert load_embedder(settings_for(server, "openai:text-embedding-3-large")).dim == 3072
    assert load_embedder(settings_for(server), recorded="openai:our-model@48/api").dim == 48
    assert not server.requests
    assert load_embedder(settings_for(server), recorded="openai:other@48/api").dim == 64
    assert len(server.requests) == 1


def test_many_texts_go_in_batches_some_at_once(server):
    server.delay_s = 0.05
    embedder, done = impatient(server), []
    texts = [f"text {i}" for i in range(6 * BATCH_TEXTS + 1)]
    vectors = embedder.embed(texts, progress=done.append)
    np.testing.assert_allclose(vectors, HashEmbedder(dim=64).embed(texts), atol=1e-6)
    assert sum(done) == len(texts) and len(server.requests) == 7
    assert 1 < server.most_at_once <= CONCURRENT


def test_large_texts_make_small_batches(server):
    impatient(server).embed(["a" * 2000] * 130)
    assert len(server.requests) == 3


def test_prefixes_empty_texts_and_long_texts(server):
    embedder = impatient(server, settings_for(server, query_prefix="Q: "))
    embedder.embed(["pump", "", " \n"], kind="query")
    assert server.bodies[-1]["input"] == ["Q: pump", "Q:", "Q:"]
    embedder.embed(["", "\ud800", "é" * 20_000])
    blank, surrogate, long = server.bodies[-1]["input"]
    assert (blank, surrogate) == (".", "\ufffd") and long == "é" * (512 * 4 // 2)


def test_empty_list_sends_nothing(server):
    assert impatient(server).embed([]).shape == (0, 64) and not server.requests


# --- faults


@pytest.mark.parametrize(
    "fault",
    [
        (429, {"Retry-After": "0"}, '{"error": {"message": "slow down"}}'),
        (500, {}, "<html>oops</html>"),
        (503, {}, ""),
        (200, {}, "garbage {"),
        (200, {}, "[1, 2]"),
        (200, {}, '{"data": []}'),
        (200, {}, '{"data": [1, 2, 3, 4]}'),
        lambda good: good | {"data": good["data"][1:]},
        lambda good: good | {"data": [row | {"index": 0} for row in good["data"]]},
        lambda good: good | {"data": [row | {"embedding": "text"} for row in good["data"]]},
        lambda good: good | {"data": [row | {"embedding": [0.0] * 64} for row in good["data"]]},
        lambda good: good | {"data": [row | {"embedding": [float("nan")] * 64} for row in good["data"]]},
        lambda good: good | {"data": [r | {"embedding": r["embedding"][i:]} for i, r in enumerate(good["data"])]},
    ],
)
def test_a_passing_fault_is_tried_again(server, fault):
    server.faults = [fault, fault]
    np.testing.assert_allclose(impatient(server).embed(TEXTS), HashEmbedder(dim=64).embed(TEXTS), atol=1e-6)
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ((429, {}, '{"error": {"message": "slow down"}}'), "429: slow down"),
        ((500, {}, "<html>oops</html>"), "500"),
        ((200, {}, "garbage"), "not JSON"),
        (lambda good: good | {"data": good["data"][1:]}, "3 vectors for 4 texts"),
    ],
)
def test_a_lasting_fault_is_given_up_with_its_words(server, fault, words):
    server.faults = [fault] * 99
    with pytest.raises(EndpointError, match=f"given up after 3 tries: .*{words}") as error:
        impatient(server).embed(TEXTS)
    assert error.value.hint and len(server.requests) == 3


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 302])
def test_a_refusal_is_not_tried_again(server, status):
    server.faults = [(status, {"Location": "http://127.0.0.1:9/"}, f'{{"error": {{"message": "no: {KEY}"}}}}')]
    with pytest.raises(EndpointError, match=f"refuses: {status}: no: …") as error:
        impatient(server).embed(TEXTS)
    assert len(server.requests) == 1 and KEY not in str(error.value) + str(error.value.hint)


def test_spent_quota_is_not_tried_again(server):
    server.faults = [(429, {}, '{"error": {"message": "pay", "code": "insufficient_quota"}}')] * 9
    with pytest.raises(EndpointError, match="refuses: 429: pay") as error:
        impatient(server).embed(TEXTS)
    assert "billing" in error.value.hint and len(server.requests) == 1


def test_other_length_than_the_index(server):
    server.faults = [lambda good: good | {"data": [row | {"embedding": [1.0] * 8} for row in good["data"]]}]
    with pytest.raises(EndpointError, match="vectors of 8 numbers for openai:our-model, expected 64"):
        impatient(server).embed(TEXTS)
    assert len(server.requests) == 1


@pytest.mark.parametrize("as_date", [False, True])
def test_retry_after_is_waited_for(server, as_date):
    wait = email.utils.formatdate(time.time() + 1.9, usegmt=True) if as_date else "0.5"
    server.faults = [(429, {"Retry-After": wait}, "{}")]
    impatient(server).embed(TEXTS)
    (_, _, first), (_, _, second) = server.requests
    assert second - first >= 0.45


def test_a_slow_server_is_a_timeout(server):
    server.delay_s = 1.0
    with pytest.raises(EndpointError, match="no answer within"):
        impatient(server, timeout_s=0.05, attempts=2).embed(TEXTS)
    assert len(server.requests) <= 2


def test_nobody_listens(server):
    embedder = impatient(server)
    server.close()
    with pytest.raises(EndpointError, match="no connection"):
        embedder.embed(TEXTS)


def test_stopping_while_it_waits(server):
    server.faults = [(429, {"Retry-After": "50"}, "{}")] * 9

    def stop(_done):
        raise KeyboardInterrupt

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        impatient(server).embed(TEXTS, progress=stop)
    assert time.monotonic() - started < 20


# --- keys and URLs


def test_the_key_is_needed_and_never_shown(server, monkeypatch):
    monkeypatch.delenv("TEST_API_KEY")
    with pytest.raises(EndpointError, match="TEST_API_KEY is not set") as error:
        load_embedder(settings_for(server))
    assert error.value.hint == "export TEST_API_KEY=…"
    monkeypatch.setenv("TEST_API_KEY", "sk-wrong")
    with pytest.raises(EndpointError, match="401") as error:
        load_embedder(settings_for(server))
    assert "TEST_API_KEY" in error.value.hint and "sk-wrong" not in str(error.value)
    monkeypatch.setenv("TEST_API_KEY", "schlüssel")
    with pytest.raises(EndpointError, match="no key can hold"):
        load_embedder(settings_for(server))


def test_the_vendors_key_goes_to_no_other_host(server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with pytest.raises(EndpointError, match="401"):
        load_embedder(settings_for(server, key_variable=""))
    server.key = ""
    assert load_embedder(settings_for(server, key_variable="")).dim == 64


@pytest.mark.parametrize("url", ["ftp://host/v1", "host/v1", "https://u:secret@host/v1", "https://host/v1?key=secret"])
def test_wrong_urls(url):
    with pytest.raises(ConfigError, match="expected https://HOST/PATH") as error:
        load_embedder(EmbedderSettings(name="openai:m", endpoint=url))
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("name", ["cohere:rerank-v3.5", "jina:jina-reranker-v2-base-multilingual"])
def test_rerankers_are_refused(name):
    with pytest.raises(ModelError, match="is a reranker"):
        load_embedder(name)


# --- counting, pace, cost


def test_chunks_are_sized_without_the_api():
    counter = load_counter("openai:text-embedding-3-small")
    assert counter.limit * 4 <= 8191  # a token is at least a byte: no text of that many bytes is too long
    assert load_counter("openai:unknown").limit == 512


def test_pace_of_requests_and_tokens():
    pace = Pace(requests=2, minute_s=60)
    assert [round(pace.book(1)) for _ in range(5)] == [0, 0, 60, 60, 120]
    pace = Pace(tokens=100, minute_s=60)
    assert [round(pace.book(n)) for n in (60, 30, 20, 500, 10)] == [0, 0, 60, 120, 180]
    assert [Pace().book(10**9) for _ in range(3)] == [0.0, 0.0, 0.0]


def test_cost_estimate(server):
    embedder = load_embedder(settings_for(server, "openai:text-embedding-3-small"))
    estimate = estimate_cost(embedder, ["word " * 800] * 1000, share=0.1)
    assert estimate.tokens == 10_000_000
    assert "10,000,000 tokens are sent to 127.0.0.1" in str(estimate) and "US$ 0.20" in str(estimate)
    own = load_embedder(settings_for(server, "openai:text-embedding-3-small", price=1.0))
    assert "US$ 10.00 ([embedder] price)" in str(estimate_cost(own, ["word " * 800] * 1000, share=0.1))
    assert "price is not known" in str(estimate_cost(load_embedder(settings_for(server)), ["a"]))
    assert estimate_cost(HashEmbedder(), ["a"]) is None
