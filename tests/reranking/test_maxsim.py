"""Late interaction with the token vectors of an embedder: against transformers, and with the real small embedder."""

import numpy as np
import pytest
from small_stores import HashEmbedder
from tiny_encoders import TEXTS, WORDS, make_encoder

from doyen.embedding import load_embedder
from doyen.errors import ModelError
from doyen.models.catalogue import find_entry
from doyen.models.fetching import is_fetched
from doyen.reranking import best_first, load_reranker
from doyen.reranking.maxsim import MaxSim

QUESTION = "is the invoice paid"


def reference_states(folder, model, text):
    """Unit states of a text's own tokens, as transformers computes them."""
    import torch
    from tokenizers import Tokenizer

    row = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text)
    ids = torch.tensor([row.ids[:62]])
    with torch.inference_mode():
        states = model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state[0].numpy()
    own = [i for i, special in enumerate(row.special_tokens_mask[:62]) if not special]
    return states[own] / np.linalg.norm(states[own], axis=1, keepdims=True)


@pytest.mark.parametrize("family", ["bert", "xlm-roberta", "distilbert", "mpnet", "modernbert"])
def test_token_vectors_equal_transformers(tmp_path, family):
    model = make_encoder(tmp_path, family)
    embedder = load_embedder(str(tmp_path), precision="f32")
    texts = [QUESTION, *(text for text in TEXTS if len(text) < 60), "pump"]
    for found, text in zip(embedder.token_states(texts), texts, strict=True):
        np.testing.assert_allclose(found, reference_states(tmp_path, model, text), atol=1e-4)
    assert [s.shape for s in embedder.token_states(["", "pump valve"])] == [(0, 32), (2, 32)]
    assert embedder.embed(["pump"]).shape == (1, 32)  # beside the vectors of whole texts


def test_tokens_of_a_prefix_are_left_out(tmp_path):
    from doyen.config import EmbedderSettings

    make_encoder(tmp_path, "bert")
    embedder = load_embedder(EmbedderSettings(name=str(tmp_path), query_prefix="query: "), precision="f32")
    (asked,) = embedder.token_states(["pump valve"], kind="query")
    (plain,) = embedder.token_states(["pump valve"])
    assert asked.shape == plain.shape and not np.allclose(asked, plain)  # the prefix is read all the same


def test_the_score_is_the_mean_of_the_nearest_weighed_by_variance(tmp_path):
    make_encoder(tmp_path, "bert")
    embedder = load_embedder(str(tmp_path), precision="f32")
    passages = [*TEXTS, *(" ".join(WORDS[i : i + 5]) for i in range(10))]
    scores = load_reranker("maxsim", embedder=embedder).score(QUESTION, passages)
    (asked,) = embedder.token_states([QUESTION], kind="query")
    nearest = np.array(
        [[max(float(q @ t) for t in tokens) for q in asked] for tokens in embedder.token_states(passages)]
    )
    weights = ((nearest - nearest.mean(axis=0)) ** 2).sum(axis=0)
    np.testing.assert_allclose(scores, (nearest @ weights / weights.sum()).clip(0, 1), atol=1e-5)
    assert scores.dtype == np.float32 and scores.shape == (14,)


def test_nothing_and_odd_texts(tmp_path):
    make_encoder(tmp_path, "bert")
    reranker = load_reranker("maxsim", embedder=load_embedder(str(tmp_path)))
    assert reranker.score(QUESTION, []).shape == (0,)
    assert reranker.score("", ["pump", "valve"]).tolist() == [0.0, 0.0]
    assert np.isfinite(reranker.score(QUESTION, ["", "\ud800", "pump " * 10_000])).all()
    assert np.isfinite(reranker.score(QUESTION, ["pump"])).all()


def test_without_an_embedder_that_knows_tokens_it_is_refused():
    with pytest.raises(ModelError, match="none was given"):
        load_reranker("maxsim")
    with pytest.raises(ModelError, match="hashing gives none"):
        load_reranker("maxsim", embedder=HashEmbedder())


def test_its_scores_are_added_to_those_of_the_search():
    class Fixed:
        name = fingerprint = "fixed"
        weight = 0.5

        def score(self, question, passages):
            return np.array([0.1, 0.2, 0.9], dtype=np.float32)[: len(passages)]

    found = [1.0, 0.9, 0.85, 0.1]
    order, scores = best_first(Fixed(), "q", ["a", "b", "c", "d"], 3, found)
    own = np.array([0.1, 0.2, 0.9])
    expected = np.array(found[:3]) + 0.5 * np.std(found[:3]) * (own - own.mean()) / own.std()
    np.testing.assert_allclose(scores, expected, rtol=1e-5)
    assert order == [0, 2, 1, 3]
    assert best_first(Fixed(), "q", ["a", "b"], 1, found)[0] == [0, 1]  # one passage cannot be measured against others


@pytest.mark.skipif(not is_fetched(find_entry("all-minilm-l6-v2")), reason="doyen models pull all-minilm-l6-v2")
def test_the_real_embedder_tells_which_passage_is_meant():
    reranker = MaxSim(load_embedder("all-minilm-l6-v2"))
    passages = [
        "Port charges are due within thirty days of the invoice.",
        "The harbour master inspects cranes every spring.",
        "A port number is set with the option --port, 8080 unless named.",
    ]
    assert int(np.argmax(reranker.score("On which port does the server listen, and how is it set?", passages))) == 2
    assert int(np.argmax(reranker.score("When do port charges have to be paid?", passages))) == 0
