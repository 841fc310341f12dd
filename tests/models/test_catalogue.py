import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from doyen.errors import ModelError
from doyen.models.catalogue import (
    CATALOGUE,
    EmbedderSource,
    EndpointSource,
    FolderSource,
    HubSource,
    PyPISource,
    find_entry,
    in_expert,
)
from doyen.models.fetching import is_fetched, require_model


@pytest.mark.parametrize("name", CATALOGUE)
def test_catalogue_entries_are_whole(name):
    entry = find_entry(name)
    assert entry.name == name
    if isinstance(entry.source, EmbedderSource):
        assert entry.role == "reranker" and is_fetched(entry)
        return
    assert entry.parameters > 0 and entry.size_mib > 0 and entry.context_tokens > 0 and entry.licence
    assert (entry.dim is not None) == (entry.role == "embedder")
    assert bool(entry.stop_tokens) == (entry.role == "chat")
    if isinstance(entry.source, PyPISource):
        assert all(len(digest) == 64 for _, digest in entry.source.files.values())


def test_unknown_name_gives_the_nearest():
    with pytest.raises(ModelError, match="phi-4-mini-instruct") as error:
        find_entry("phi4-mini")
    assert error.value.hint == "doyen models"


def test_name_like_nothing_gives_all():
    with pytest.raises(ModelError, match="known: smollm2-135m-instruct, all-minilm-l6-v2"):
        find_entry("!!!")


def test_repository_with_and_without_revision():
    assert find_entry("org/model-1.5").source == HubSource("org/model-1.5", "main")
    assert find_entry("org/model-1.5@v2.0").source == HubSource("org/model-1.5", "v2.0")


def test_folder(tmp_path):
    config = {"architectures": ["LlamaForCausalLM"], "max_position_embeddings": 64, "hidden_size": 8}
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file({"a": np.zeros((3, 4), dtype=np.float32), "b": np.zeros(5, dtype=np.float16)}, tmp_path / "m.safetensors")
    entry = find_entry(str(tmp_path))
    assert entry.source == FolderSource(tmp_path.resolve())
    assert (entry.role, entry.parameters, entry.context_tokens, entry.dim) == ("chat", 17, 64, None)


def test_folder_of_an_embedder(tmp_path):
    config = {"architectures": ["BertModel"], "max_position_embeddings": 512, "hidden_size": 8}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "sentence_bert_config.json").write_text('{"max_seq_length": 256}')
    entry = find_entry(str(tmp_path))
    assert (entry.role, entry.context_tokens, entry.dim) == ("embedder", 256, 8)


def test_folder_of_a_reranker(tmp_path):
    config = {"architectures": ["XLMRobertaForSequenceClassification"], "max_position_embeddings": 514}
    (tmp_path / "config.json").write_text(json.dumps(config))
    entry = find_entry(str(tmp_path))
    assert (entry.role, entry.dim) == ("reranker", None)


@pytest.mark.parametrize(
    ("name", "source", "role"),
    [
        ("openai:text-embedding-3-small", EndpointSource("openai", "text-embedding-3-small"), "embedder"),
        ("openai:BAAI/bge-m3", EndpointSource("openai", "BAAI/bge-m3"), "embedder"),
        ("jina:jina-reranker-v2", EndpointSource("jina", "jina-reranker-v2"), "reranker"),
        ("cohere:rerank-v3.5", EndpointSource("cohere", "rerank-v3.5"), "reranker"),
    ],
)
def test_models_behind_an_api(name, source, role):
    entry = find_entry(name)
    assert (entry.source, entry.role) == (source, role) and is_fetched(entry)
    with pytest.raises(ModelError, match="behind an API"):
        require_model(name)


def test_names_within_an_expert(tmp_path):
    assert in_expert("./embedders/a", tmp_path) == str(tmp_path / "embedders/a")
    assert in_expert("./embedders/a", None) == "./embedders/a" and in_expert("org/model", tmp_path) == "org/model"


def test_folder_without_config(tmp_path):
    with pytest.raises(ModelError, match=r"no config\.json"):
        find_entry(str(tmp_path))


@pytest.mark.parametrize("content", ["{", "[]"])
def test_folder_with_a_broken_config(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ModelError, match=r"config\.json"):
        find_entry(str(tmp_path))


def test_a_name_without_weights_has_nothing_to_fetch():
    assert "maxsim" in CATALOGUE
    with pytest.raises(ModelError, match="reads with the expert's embedder"):
        require_model("maxsim")
