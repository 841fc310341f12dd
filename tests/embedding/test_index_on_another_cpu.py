"""An index made in bf16, taken to a CPU that does not compute in it: the same hits, and further documents are taken in."""

import numpy as np
import pytest
from small_stores import make_expert, words_bert, write_files

from doyen.config import EmbedderSettings, Settings, load_settings
from doyen.embedding import load_embedder, runtime
from doyen.ingesting import ingest, open_index
from doyen.models.catalogue import find_entry
from doyen.models.fetching import pull
from doyen.retrieval.hybrid import Retriever

TEXTS = [
    "The deposit is returned within thirty days after the keys.",
    "Bicycles stand in the yard behind the mill.",
    "Smith repairs the boiler every autumn.",
    "The lift is serviced on the first Monday of a month.",
    "Dogs need the landlord's consent in writing.",
    "Rent is due on the fifth working day.",
]
QUESTIONS = [
    "When is the deposit returned?",
    "Who repairs the boiler?",
    "Where do bicycles stand?",
    "When is rent due?",
]


@pytest.fixture(params=["words", pytest.param("all-minilm-l6-v2", marks=pytest.mark.e2e)])
def name(request, tmp_path):
    """A model of no layers made here, and the true one."""
    if request.param == "words":
        return str(words_bert(tmp_path / "words", [*TEXTS, *QUESTIONS]))
    pull(find_entry(request.param))
    return request.param


def hits(expert, embedder):
    retriever = Retriever(open_index(expert, load_settings(expert)), embedder)
    return [[hit.chunk.document for hit in retriever.search(question, 3)] for question in QUESTIONS]


def test_an_index_in_bf16_goes_on_in_f32(name, tmp_path, monkeypatch):
    expert = make_expert(tmp_path / "expert", Settings(embedder=EmbedderSettings(name)))
    source = write_files(tmp_path / "source", {f"{n}.txt": text for n, text in enumerate(TEXTS)})
    before = load_embedder(name, precision="bf16")
    ingest(expert, [source], embedder=before)
    found, vectors = hits(expert, before), before.embed(TEXTS)
    monkeypatch.setattr(runtime, "native_precision", lambda: "f32")
    recorded = open_index(expert, load_settings(expert)).manifest.fingerprint
    after = load_embedder(name, recorded=recorded)
    assert recorded.endswith("bf16") and after.fingerprint == recorded
    plain = load_embedder(name)
    assert plain.fingerprint.endswith("f32")
    np.testing.assert_array_equal(after.embed(TEXTS), plain.embed(TEXTS))
    assert (after.embed(TEXTS) * vectors).sum(axis=1).min() > 0.999
    assert hits(expert, after) == found
    write_files(source, {"new.txt": "The new boiler stands in the cellar."})
    report = ingest(expert)  # loads the embedder by itself, as the index has it
    assert (report.new, len(report.unchanged)) == (["new.txt"], len(TEXTS))
    index = open_index(expert, load_settings(expert))
    assert index.manifest.fingerprint == recorded and "new.txt" in hits(expert, after)[1]
