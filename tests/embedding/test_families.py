"""Every architecture against transformers, with random weights: pooling, prefixes, dimensions, ONNX, torch."""

import json
import shutil

import numpy as np
import pytest
from tiny_encoders import TEXTS, make_encoder, reference_vectors, write_json

from doyen.config import EmbedderSettings
from doyen.embedding import computed_by_torch, load_counter, load_embedder
from doyen.embedding.prefixes import Prefixes, read_prefixes
from doyen.embedding.tokens import read_limit
from doyen.errors import ModelError

NATIVE = ["bert", "xlm-roberta", "roberta", "mpnet", "distilbert"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Models by (family, pooling), made once."""
    kept = {}

    def make(family, pooling="mean", **changes):
        key = (family, pooling, *changes.items())
        if key not in kept:
            folder = tmp_path_factory.mktemp(family)
            kept[key] = (folder, make_encoder(folder, family, pooling=_MODES[pooling], **changes))
        return kept[key]

    return make


_MODES = {"mean": "mean_tokens", "cls": "cls_token", "last": "lasttoken", "max": "max_tokens"}


def copy(folder, target):
    shutil.copytree(folder, target, dirs_exist_ok=True)
    return target


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("family", NATIVE)
def test_own_networks_equal_transformers(made, family, pooling):
    folder, model = made(family, pooling)
    embedder = load_embedder(str(folder), precision="f32")
    assert embedder.fingerprint.endswith("/openvino-f32") and (embedder.dim, embedder.max_tokens) == (32, 64)
    assert not computed_by_torch(EmbedderSettings(name=str(folder)))
    expected = reference_vectors(folder, model, TEXTS, pooling=pooling)
    np.testing.assert_allclose(embedder.embed(TEXTS), expected, atol=2e-5)
    np.testing.assert_allclose(embedder.embed(TEXTS[:1]), expected[:1], atol=2e-5)


def test_relative_positions_far_apart(made):
    folder, model = made("mpnet", max_position_embeddings=402)
    text = " ".join(["pump", "valve", "late"] * 130)
    vectors = load_embedder(str(folder), precision="f32").embed([text, "pump"])
    np.testing.assert_allclose(vectors, reference_vectors(folder, model, [text, "pump"], 400), atol=2e-5)


def test_the_tanh_form_of_gelu(made):
    folder, model = made("bert", hidden_act="gelu_new")
    vectors = load_embedder(str(folder), precision="f32").embed(TEXTS)
    np.testing.assert_allclose(vectors, reference_vectors(folder, model, TEXTS), atol=2e-5)


@pytest.mark.parametrize("pooling", ["mean", "cls", "last", "max"])
def test_torch_for_other_architectures(made, pooling):
    folder, model = made("modernbert", pooling)
    embedder = load_embedder(str(folder))
    assert embedder.fingerprint.endswith("/torch-f32") and computed_by_torch(EmbedderSettings(name=str(folder)))
    expected = reference_vectors(folder, model, TEXTS, pooling=pooling)
    np.testing.assert_allclose(embedder.embed(TEXTS), expected, atol=2e-5)


def test_torch_refuses_weights_that_are_not_whole(made, tmp_path):
    from safetensors.numpy import load_file, save_file

    folder = copy(made("modernbert")[0], tmp_path)
    weights = load_file(folder / "model.safetensors")
    gone = next(name for name in weights if "layers.1" in name)
    save_file({k: v for k, v in weights.items() if k != gone}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match="lacks 1 tensors of its modernbert"):
        load_embedder(str(folder))


def test_dense_layer_after_pooling(made, tmp_path):
    from safetensors.numpy import save_file

    folder = copy(made("bert", "cls")[0], tmp_path)
    write_json(
        folder / "modules.json",
        [
            {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for i, (path, kind) in enumerate(
                [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Dense", "Dense"), ("3_Normalize", "Normalize")]
            )
        ],
    )
    write_json(folder / "2_Dense" / "config.json", {"activation_function": "torch.nn.modules.activation.Tanh"})
    rng = np.random.default_rng(0)
    weight, bias = rng.standard_normal((8, 32)).astype(np.float32) / 8, rng.standard_normal(8).astype(np.float32)
    save_file({"linear.weight": weight, "linear.bias": bias}, folder / "2_Dense" / "model.safetensors")
    with_dense, without = (load_embedder(str(f), precision="f32") for f in (folder, made("bert", "cls")[0]))
    assert with_dense.dim == 8 and with_dense.fingerprint.split("@")[1] != without.fingerprint.split("@")[1]
    import torch

    model = made("bert", "cls")[1]
    from tiny_encoders import tokenized

    for text, vector in zip(TEXTS, with_dense.embed(TEXTS), strict=True):
        with torch.no_grad():
            state = model(torch.tensor([tokenized(folder, [text], 64)[0].ids])).last_hidden_state[0, 0].numpy()
        expected = np.tanh(weight @ state + bias)
        np.testing.assert_allclose(vector, expected / np.linalg.norm(expected), atol=2e-5)


def test_unknown_module_is_refused(made, tmp_path):
    folder = copy(made("bert")[0], tmp_path)
    write_json(folder / "modules.json", [{"path": "", "type": "sentence_transformers.models.StaticEmbedding"}])
    with pytest.raises(ModelError, match="StaticEmbedding"):
        load_embedder(str(folder))


# --- dimensions and prefixes


def test_dimensions_cut_and_normalise(made):
    folder, model = made("bert")
    short = load_embedder(EmbedderSettings(name=str(folder), dimensions=8), precision="f32")
    full = load_embedder(str(folder), precision="f32")
    assert short.dim == 8 and short.fingerprint.split("/")[0] == full.fingerprint.split("/")[0] + "+8d"
    np.testing.assert_allclose(short.embed(TEXTS), reference_vectors(folder, model, TEXTS, dim=8), atol=2e-5)
    with pytest.raises(ModelError, match=r"dimensions = 99: the vectors of .* have 32"):
        load_embedder(EmbedderSettings(name=str(folder), dimensions=99))


def test_prefixes_stand_before_texts(made):
    folder, _ = made("bert")
    plain = load_embedder(str(folder), precision="f32")
    settings = EmbedderSettings(name=str(folder), query_prefix="query: ", passage_prefix="passage: ")
    prefixed = load_embedder(settings, precision="f32")
    np.testing.assert_array_equal(
        prefixed.embed(["pump valve"], kind="query"), plain.embed(["query: pump valve"], kind="query")
    )
    np.testing.assert_array_equal(prefixed.embed(["pump valve"]), plain.embed(["passage: pump valve"]))
    np.testing.assert_array_equal(plain.embed(["pump valve"], kind="query"), plain.embed(["pump valve"]))


def test_a_passage_prefix_is_in_the_fingerprints_and_a_query_prefix_is_not(made):
    folder = str(made("bert")[0])
    plain = load_embedder(folder, precision="f32")
    asked = load_embedder(EmbedderSettings(name=folder, query_prefix="query: "), precision="f32")
    passage = EmbedderSettings(name=folder, passage_prefix="passage: ")
    prefixed = load_embedder(passage, precision="f32")
    assert asked.fingerprint == plain.fingerprint and asked.counter.fingerprint == plain.counter.fingerprint
    assert prefixed.fingerprint.split("/")[0] != plain.fingerprint.split("/")[0]
    assert prefixed.counter.special == plain.counter.special + 2
    assert load_counter(passage).fingerprint == prefixed.counter.fingerprint != plain.counter.fingerprint


@pytest.mark.parametrize(
    ("name", "query", "passage"),
    [
        ("intfloat/e5-small-v2", "query: ", "passage: "),
        ("multilingual-e5-small", "query: ", "passage: "),
        ("/models/e5-base-v2", "query: ", "passage: "),
        ("BAAI/bge-small-en-v1.5@main", "Represent this sentence for searching relevant passages: ", ""),
        ("nomic-ai/nomic-embed-text-v1.5", "search_query: ", "search_document: "),
        ("intfloat/e5-mistral-7b-instruct", "", ""),
        ("all-minilm-l6-v2", "", ""),
        ("BAAI/bge-m3", "", ""),
    ],
)
def test_prefixes_of_known_families(tmp_path, name, query, passage):
    assert read_prefixes(tmp_path, name) == Prefixes(query, passage)
    assert read_prefixes(tmp_path, name, query="", passage="P ") == Prefixes("", "P ")


def test_a_models_own_prompts_win(tmp_path):
    write_json(tmp_path / "config_sentence_transformers.json", {"prompts": {"query": "Q: ", "document": "D: "}})
    assert read_prefixes(tmp_path, "e5-small") == Prefixes("Q: ", "D: ")
    write_json(tmp_path / "config_sentence_transformers.json", {"prompts": {"query": "", "document": ""}})
    assert read_prefixes(tmp_path, "e5-small") == Prefixes("query: ", "passage: ")


def test_a_folder_of_another_name_is_known_by_its_origin(tmp_path):
    write_json(tmp_path / "config.json", {"_name_or_path": "intfloat/e5-small-v2"})
    assert read_prefixes(tmp_path, "ours") == Prefixes("query: ", "passage: ")


@pytest.mark.parametrize(
    ("config", "sentence", "limit"),
    [
        ({"model_type": "xlm-roberta", "max_position_embeddings": 514, "pad_token_id": 1}, {}, 512),
        ({"model_type": "xlm-roberta", "max_position_embeddings": 514}, {"max_seq_length": 128}, 128),
        ({"model_type": "bert", "max_position_embeddings": 512}, {"max_seq_length": None}, 512),
        ({"model_type": "t5"}, {}, 512),
        ({"model_type": "qwen3", "max_position_embeddings": 32768}, {}, 8192),
    ],
)
def test_limits(tmp_path, config, sentence, limit):
    write_json(tmp_path / "config.json", config)
    write_json(tmp_path / "sentence_bert_config.json", sentence)
    assert read_limit(tmp_path) == limit


# --- folders


def test_a_name_within_the_expert(made, tmp_path):
    copy(made("bert")[0], tmp_path / "embedders" / "ours")
    embedder = load_embedder("./embedders/ours", expert=tmp_path, precision="f32")
    assert embedder.fingerprint.startswith("ours@") and load_counter("./embedders/ours", expert=tmp_path).limit == 64


def test_a_reranker_is_no_embedder(tmp_path):
    make_encoder(tmp_path, "bert", head="ForSequenceClassification")
    with pytest.raises(ModelError, match="is a reranker") as error:
        load_embedder(str(tmp_path))
    assert "[rerank] name" in error.value.hint


@pytest.mark.parametrize("name", ["tokenizer.json", "model.safetensors"])
def test_missing_files_are_named(made, tmp_path, name):
    folder = copy(made("bert")[0], tmp_path)
    (folder / name).unlink()
    with pytest.raises(ModelError, match=name.replace(".", r"\.")):
        load_embedder(str(folder))


@pytest.mark.parametrize(
    "changes",
    [
        {"position_embedding_type": "alibi", "auto_map": {"AutoModel": "jinaai/jina-bert-implementation--modeling"}},
        {"model_type": "new", "auto_map": {"AutoModel": "modeling.NewModel"}},
    ],
)
def test_remote_code_is_never_run(made, tmp_path, changes):
    folder = copy(made("bert")[0], tmp_path)
    write_json(folder / "config.json", json.loads((folder / "config.json").read_text()) | changes)
    with pytest.raises(ModelError, match="needs Python code from its repository, which doyen never runs") as error:
        load_embedder(str(folder))
    assert "onnx/model.onnx" in error.value.hint and "multilingual-e5-small" in error.value.hint


# --- ONNX


def _field(number, value):
    """Write a field of a protocol buffer: an int as varint, text, bytes or a message with its length."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(value):
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def _tensor_info(name, element, sizes):
    """A ValueInfoProto (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto); a name is a dynamic size."""
    dims = b"".join(_field(1, _field(2, d) if isinstance(d, str) else _field(1, d)) for d in sizes)
    return _field(1, name) + _field(2, _field(1, _field(1, element) + _field(2, dims)))


def onnx_of_word_vectors(table, output="last_hidden_state"):
    """An ONNX file by hand: the state of a token is its row of `table`; the mask goes through to a second output."""
    shape = ["batch", "width"]
    node = _field(1, "table") + _field(1, "input_ids") + _field(2, output) + _field(4, "Gather")
    same = _field(1, "attention_mask") + _field(2, "seen") + _field(4, "Identity")
    stored = b"".join(_field(1, n) for n in table.shape) + _field(2, 1) + _field(8, "table")
    graph = _field(1, node) + _field(1, same) + _field(2, "g") + _field(5, stored + _field(9, table.tobytes()))
    graph += _field(11, _tensor_info("input_ids", 7, shape)) + _field(11, _tensor_info("attention_mask", 7, shape))
    graph += _field(12, _tensor_info(output, 1, [*shape, table.shape[1]])) + _field(12, _tensor_info("seen", 7, shape))
    return _field(1, 8) + _field(7, graph) + _field(8, _field(1, "") + _field(2, 13))


@pytest.fixture
def onnx_folder(made, tmp_path):
    """A folder whose model type doyen does not know, with code of its own, and an ONNX file."""
    folder = copy(made("bert")[0], tmp_path)
    (folder / "model.safetensors").unlink()
    config = {"model_type": "new", "auto_map": {"AutoModel": "modeling.NewModel"}, "max_position_embeddings": 64}
    write_json(folder / "config.json", config)
    return folder


@pytest.mark.parametrize(("place", "pooling"), [("onnx/model.onnx", "mean_tokens"), ("model.onnx", "cls_token")])
def test_an_onnx_file_needs_no_code(onnx_folder, place, pooling):
    from tiny_encoders import tokenized

    table = np.random.default_rng(0).standard_normal((40, 16)).astype(np.float32)
    (onnx_folder / place).parent.mkdir(exist_ok=True)
    (onnx_folder / place).write_bytes(onnx_of_word_vectors(table))
    write_json(onnx_folder / "1_Pooling" / "config.json", {f"pooling_mode_{pooling}": True})
    embedder = load_embedder(str(onnx_folder), precision="f32")
    assert embedder.dim == 16 and embedder.fingerprint.endswith("/openvino-f32")
    states = [table[row.ids] for row in tokenized(onnx_folder, TEXTS, 64)]
    pooled = np.stack([s.mean(0) if pooling == "mean_tokens" else s[0] for s in states])
    expected = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
    np.testing.assert_allclose(embedder.embed(TEXTS), expected, atol=1e-5)


def test_an_onnx_file_gives_vectors_of_tokens_where_it_has_them(onnx_folder):
    from tiny_encoders import tokenized

    table = np.random.default_rng(0).standard_normal((40, 16)).astype(np.float32)
    (onnx_folder / "model.onnx").write_bytes(onnx_of_word_vectors(table))
    rows = [row.ids[1:-1] for row in tokenized(onnx_folder, TEXTS[:2], 64)]
    unit = table / np.linalg.norm(table, axis=1, keepdims=True)
    for found, ids in zip(load_embedder(str(onnx_folder), precision="f32").token_states(TEXTS[:2]), rows, strict=True):
        np.testing.assert_allclose(found, unit[ids], atol=1e-5)


def test_an_onnx_file_that_only_pools_has_no_vectors_of_tokens(onnx_folder):
    pooled = onnx_of_word_vectors(np.ones((40, 4), np.float32), "sentence_embedding")
    (onnx_folder / "model.onnx").write_bytes(pooled)
    with pytest.raises(ModelError, match="the outputs sentence_embedding, seen; expected .*last_hidden_state"):
        load_embedder(str(onnx_folder)).token_states(TEXTS)


def test_onnx_files_that_are_none_or_others(onnx_folder):
    (onnx_folder / "model.onnx").write_bytes(b"garbage")
    with pytest.raises(ModelError, match="OpenVINO cannot read"):
        load_embedder(str(onnx_folder))
    (onnx_folder / "model.onnx").write_bytes(onnx_of_word_vectors(np.ones((40, 4), np.float32), "logits"))
    with pytest.raises(ModelError, match="the outputs logits, seen; expected input_ids"):
        load_embedder(str(onnx_folder))
