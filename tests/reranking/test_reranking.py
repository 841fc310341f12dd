"""Cross-encoders against transformers with random weights; the API against a local server."""

import numpy as np
import pytest
from api_server import KEY, ApiServer
from tiny_encoders import TEXTS, WORDS, make_encoder, reference_logits

from doyen.config import RerankSettings
from doyen.errors import EndpointError, ModelError
from doyen.models.catalogue import EndpointSource
from doyen.models.endpoint import Endpoint
from doyen.reranking import best_first, load_reranker
from doyen.reranking.api import ApiReranker

QUESTION = "is the invoice paid"


def sigmoid(logits):
    return 1 / (1 + np.exp(-logits))


@pytest.mark.parametrize("family", ["bert", "xlm-roberta", "roberta", "distilbert", "modernbert"])
def test_scores_equal_transformers(tmp_path, family):
    model = make_encoder(tmp_path, family, head="ForSequenceClassification")
    reranker = load_reranker(str(tmp_path), precision="f32")
    assert reranker.fingerprint.endswith("/torch-f32" if family == "modernbert" else "/openvino-f32")
    passages = [*TEXTS, *(" ".join(WORDS[i : i + 7]) for i in range(12))]
    scores = reranker.score(QUESTION, passages)
    assert scores.shape == (16,) and scores.dtype == np.float32
    np.testing.assert_allclose(scores, sigmoid(reference_logits(tmp_path, model, QUESTION, passages)), atol=1e-4)
    assert len(set(scores.round(4).tolist())) > 8
    np.testing.assert_allclose(reranker.score(QUESTION, passages[3:4]), scores[3:4], atol=1e-5)


def test_nothing_and_odd_texts(tmp_path):
    make_encoder(tmp_path, "bert", head="ForSequenceClassification")
    reranker = load_reranker(str(tmp_path))
    assert reranker.score(QUESTION, []).shape == (0,)
    assert np.isfinite(reranker.score("", ["", "\ud800", "pump " * 10_000])).all()
    assert np.isfinite(reranker.score("pump " * 10_000, ["valve", "late " * 500])).all()


def test_an_embedder_is_no_reranker(tmp_path):
    make_encoder(tmp_path, "bert")
    with pytest.raises(ModelError, match="is no cross-encoder: its architecture is BertModel"):
        load_reranker(str(tmp_path))


def test_several_labels_are_refused(tmp_path):
    make_encoder(tmp_path, "bert", head="ForSequenceClassification", num_labels=3)
    with pytest.raises(ModelError, match="has 3 labels"):
        load_reranker(str(tmp_path))


def test_missing_tensor_is_named(tmp_path):
    from safetensors.numpy import load_file, save_file

    make_encoder(tmp_path, "bert", head="ForSequenceClassification")
    weights = load_file(tmp_path / "model.safetensors")
    save_file({k: v for k, v in weights.items() if k != "bert.pooler.dense.weight"}, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match=r"lacks the tensor 'pooler\.dense\.weight'"):
        load_reranker(str(tmp_path))


def test_a_name_within_the_expert(tmp_path):
    make_encoder(tmp_path / "rerankers" / "ours", "bert", head="ForSequenceClassification")
    assert load_reranker("./rerankers/ours", expert=tmp_path).name == "ours"


def test_best_first_reads_only_the_first_ones():
    class Lengths:
        name = fingerprint = "lengths"
        weight = None

        def score(self, question, passages):
            return np.array([len(p) for p in passages], dtype=np.float32)

    order, scores = best_first(Lengths(), "q", ["a", "bbb", "cc", "ddd", "eeeeee"], 4)
    assert order == [1, 3, 2, 0, 4] and scores.tolist() == [1, 3, 2, 3]


# --- API


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("TEST_API_KEY", KEY)
    server = ApiServer()
    yield server
    server.close()


def api(server, vendor="jina"):
    endpoint = Endpoint(vendor, url=server.url, key_variable="TEST_API_KEY", attempts=3, first_pause_s=0.01)
    return ApiReranker(RerankSettings(name=f"{vendor}:m"), EndpointSource(vendor, "m"), endpoint)


@pytest.mark.parametrize("vendor", ["jina", "cohere"])
def test_api_protocol(server, vendor):
    settings = RerankSettings(name=f"{vendor}:org/m", endpoint=server.url, key_variable="TEST_API_KEY")
    reranker = load_reranker(settings)
    scores = reranker.score("late pump", ["an invoice", "the late pump", "a pump", ""])
    assert scores.argsort()[::-1][:2].tolist() == [1, 2] and reranker.fingerprint == f"{vendor}:org--m/api"
    (path, body, _), *more = server.requests
    assert path == "/v1/rerank" and not more
    documents = ["an invoice", "the late pump", "a pump", "."]
    assert body == {"model": "org/m", "query": "late pump", "documents": documents, "top_n": 4}


def test_api_with_no_passages_sends_nothing(server):
    assert api(server).score("q", []).shape == (0,) and not server.requests


@pytest.mark.parametrize(
    "fault",
    [
        (429, {"Retry-After": "0"}, "{}"),
        (502, {}, "oops"),
        (200, {}, '{"results": [{"index": 0}]}'),
        (200, {}, "{}"),
        lambda good: {"results": good["results"][1:]},
        lambda good: {"results": [row | {"index": 0} for row in good["results"]]},
        lambda good: {"results": [row | {"relevance_score": None} for row in good["results"]]},
    ],
)
def test_api_faults_are_tried_again_and_given_up(server, fault):
    server.faults = [fault]
    assert api(server).score("late pump", ["pump", "late"]).shape == (2,)
    server.faults = [fault] * 9
    with pytest.raises(EndpointError, match="given up after 3 tries"):
        api(server).score("late pump", ["pump", "late"])


def test_openai_has_no_reranking():
    with pytest.raises(ModelError, match="no reranking"):
        load_reranker("openai:m")
