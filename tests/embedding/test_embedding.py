"""The network against transformers' BERT: a tiny random one offline, the true weights in e2e."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from doyen.embedding import load_counter, load_embedder, recorded_precision
from doyen.embedding.runtime import GROUP_TEXTS
from doyen.embedding.weights import read_weights
from doyen.errors import ModelError

WORDS = "invoice delivery late the of a pump valve pressure order is was not paid due days thirty".split()
TEXTS = ["the invoice is due", "pump", "valve pressure " * 30, "late delivery of the order was not paid"]


@pytest.fixture(scope="module")
def tiny_bert(tmp_path_factory):
    """A BERT of 2 layers and 32 dimensions with random weights, and the reference that made it."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("tiny-bert")
    torch.manual_seed(0)
    vocab = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    config = BertConfig(
        vocab_size=len(vocab),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
        initializer_range=0.5,
    )
    model = BertModel(config).eval()
    model.save_pretrained(folder)
    tokenizer = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.enable_padding(length=7)  # as all-MiniLM-L6-v2's tokenizer.json: settings that must not be used
    tokenizer.enable_truncation(7)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder, model


def reference(folder, model, texts, max_tokens):
    import torch
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_tokens)
    vectors = []
    for text in texts:  # one by one: no padding, hence no mask
        with torch.no_grad():
            states = model(torch.tensor([tokenizer.encode(text).ids])).last_hidden_state
        vectors.append(torch.nn.functional.normalize(states.mean(1), dim=-1)[0].numpy())
    return np.stack(vectors)


def cosines(a, b):
    return (a * b).sum(axis=1)


def test_equals_transformers(tiny_bert):
    folder, model = tiny_bert
    embedder = load_embedder(str(folder), precision="f32")
    vectors = embedder.embed(TEXTS)
    assert vectors.shape == (len(TEXTS), embedder.dim) == (4, 32) and vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, reference(folder, model, TEXTS, 64), atol=2e-5)


def test_order_and_progress(tiny_bert):
    embedder = load_embedder(str(tiny_bert[0]), precision="f32")
    texts = [" ".join(WORDS[i % 17 : i % 17 + 1 + i % 9]) for i in range(300)]
    done = []
    vectors = embedder.embed(texts, progress=done.append)
    assert sum(done) == 300 and len(done) > 1
    alone = np.concatenate([embedder.embed([text]) for text in texts[:40]])
    np.testing.assert_allclose(vectors[:40], alone, atol=1e-5)


def test_texts_of_many_groups_keep_their_order(tiny_bert):
    embedder = load_embedder(str(tiny_bert[0]), precision="f32")
    texts = [WORDS[i % 17] for i in range(3 * GROUP_TEXTS // 2)]
    vectors = embedder.embed(texts)
    np.testing.assert_allclose(vectors[:17], vectors[2 * 17 * 60 : 2 * 17 * 60 + 17], atol=1e-5)
    assert len({tuple(v.round(3)) for v in vectors}) == 17


def test_several_threads_may_embed_at_once(tiny_bert):
    embedder = load_embedder(str(tiny_bert[0]), precision="f32")
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda word: embedder.embed([word] * 50), WORDS))
    np.testing.assert_allclose([f[0] for f in found], embedder.embed(WORDS), atol=1e-5)


def test_a_few_texts_do_not_wait_for_a_long_call(tiny_bert):
    embedder = load_embedder(str(tiny_bert[0]), precision="f32")
    done = []
    with embedder._network._lock:  # a long call is at work
        few = embedder.embed(TEXTS, progress=done.append)
    assert sum(done) == len(TEXTS)
    np.testing.assert_allclose(few, embedder.embed(TEXTS * 10)[:4], atol=1e-5)


def test_a_failing_progress_leaves_the_embedder_usable(tiny_bert):
    embedder = load_embedder(str(tiny_bert[0]), precision="f32")

    def stop(_count):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embedder.embed(WORDS * 20, progress=stop)
    assert embedder.embed(WORDS).shape == (17, 32)


def test_lone_surrogates_are_read_as_unknown(tiny_bert):
    embedder = load_embedder(str(tiny_bert[0]), precision="f32")
    np.testing.assert_array_equal(embedder.embed(["pump \ud800"]), embedder.embed(["pump \ufffd"]))


def test_the_precision_of_an_index_is_kept(tiny_bert):
    folder = str(tiny_bert[0])
    for precision in ("f32", "bf16"):
        recorded = load_embedder(folder, precision=precision).fingerprint
        assert load_embedder(folder, recorded=recorded).fingerprint == recorded
    assert recorded_precision("m@1/numpy-f32") is recorded_precision("m@1/openvino-i4") is recorded_precision(None)


def test_the_counter_needs_no_network_weights(tiny_bert, tmp_path):
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / name).write_bytes((tiny_bert[0] / name).read_bytes())
    (tmp_path / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    counter = load_counter(str(tmp_path))
    assert (counter.limit, counter.special) == (64, 2)
    assert counter.fingerprint == load_embedder(str(tiny_bert[0]), precision="f32").counter.fingerprint


def test_empty(tiny_bert):
    embedder = load_embedder(str(tiny_bert[0]), precision="f32")
    assert embedder.embed([]).shape == (0, 32)
    assert np.isfinite(embedder.embed([""])).all()


def test_bert_prefix_and_short_floats_are_read(tmp_path):
    import torch
    from safetensors.torch import save_file

    values = torch.tensor([[1.5, -2.0], [0.25, 3.0]])
    tensors = {"bert.a": values.bfloat16(), "b": values.half(), "c": values, "ids": torch.arange(3)}
    save_file(tensors, tmp_path / "w.safetensors")
    weights = read_weights(tmp_path / "w.safetensors")
    assert set(weights) == {"a", "b", "c"}
    assert all(array.dtype == np.float32 and (array == values.numpy()).all() for array in weights.values())


def test_fingerprint_names_model_weights_and_precision(tiny_bert):
    folder = tiny_bert[0]
    fingerprint = load_embedder(str(folder), precision="f32").fingerprint
    assert fingerprint.startswith(f"{folder.name}@") and fingerprint.endswith("/openvino-f32")


def _copy_with_config(folder, target, **changes):
    for path in folder.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    config = json.loads((folder / "config.json").read_text()) | changes
    (target / "config.json").write_text(json.dumps(config))


def test_unknown_architecture_is_refused(tiny_bert, tmp_path):
    _copy_with_config(tiny_bert[0], tmp_path, model_type="frobnicator")
    with pytest.raises(ModelError, match="'frobnicator'"):
        load_embedder(str(tmp_path))


def test_what_transformers_cannot_open_is_an_error_with_its_words(tiny_bert, tmp_path):
    _copy_with_config(tiny_bert[0], tmp_path, model_type="modernbert", hidden_size="wide")
    with pytest.raises(ModelError, match="transformers cannot open"):
        load_embedder(str(tmp_path))


def test_all_faults_of_a_folder_are_named(tiny_bert, tmp_path):
    _copy_with_config(tiny_bert[0], tmp_path, hidden_act="relu")
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text('{"pooling_mode_max_tokens": true}')
    with pytest.raises(ModelError, match="hidden_act is 'relu'.*pooling is 'max'"):
        load_embedder(str(tmp_path))


def test_missing_tensor_is_named(tiny_bert, tmp_path):
    _copy_with_config(tiny_bert[0], tmp_path, num_hidden_layers=3)
    with pytest.raises(ModelError, match=r"lacks the tensor 'encoder\.layer\.2"):
        load_embedder(str(tmp_path))


@pytest.fixture(scope="session")
def minilm():
    from doyen.models.catalogue import find_entry
    from doyen.models.fetching import pull

    return pull(find_entry("all-minilm-l6-v2"))


FREED_ELSEWHERE = """
import os, signal, threading
from doyen.embedding import load_embedder
held = [load_embedder("all-minilm-l6-v2")]
held[0].embed(["one"])
thread = threading.Thread(target=held.clear)
thread.start()
thread.join()
try:
    os.kill(os.getpid(), signal.SIGINT)
except KeyboardInterrupt:
    print("stopped")
"""


@pytest.mark.e2e
def test_ctrl_c_after_a_network_was_freed_in_another_thread_is_no_crash(minilm):
    done = subprocess.run([sys.executable, "-c", FREED_ELSEWHERE], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "stopped\n"), done.stderr


FEW_AND_MANY = """
from doyen.embedding import load_embedder
embedder = load_embedder("all-minilm-l6-v2")
words = "the deposit of a lease is returned within thirty days when the keys are handed over and nothing is broken".split()
many = [" ".join((words * 6)[i % 17:i % 17 + 5 + i * 7 % 60]) for i in range(60)]
few = [" ".join(words[:3 + i % 15]) for i in range(20)]
for turn in range(60):
    embedder.embed(few[turn % 10:turn % 10 + 1 + turn % 8], kind="query")
    others = [bytes(64 + 16 * (i % 40)) for i in range(3000)]
    del others[::2]
    embedder.embed(many[turn % 20:turn % 20 + 20 + turn % 20], kind="query")
    del others
print("whole")
"""


@pytest.mark.e2e
def test_few_and_many_texts_in_turn_leave_the_memory_whole(minilm):
    done = subprocess.run([sys.executable, "-c", FEW_AND_MANY], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "whole\n"), done.stderr


REAL_TEXTS = [
    "Payment terms are thirty days net.",
    "When must an invoice be paid?",
    "The pump's valve opens at 4.5 bar; above that pressure the motor stops. " * 6,
    "Zürich 日本語 🙂",
    "Der Liefertermin wurde um zwei Wochen verschoben.",
    "word " * 400,
]


@pytest.mark.e2e
@pytest.mark.parametrize("precision", ["f32", None])
def test_true_weights_equal_transformers(minilm, precision):
    from transformers import BertModel

    model = BertModel.from_pretrained(minilm, add_pooling_layer=False, local_files_only=True).eval()
    embedder = load_embedder("all-minilm-l6-v2", precision=precision)
    assert embedder.max_tokens == 256 and embedder.dim == 384
    vectors = embedder.embed(REAL_TEXTS)
    assert cosines(vectors, reference(minilm, model, REAL_TEXTS, 256)).min() >= 0.999
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2]


@pytest.mark.e2e
@pytest.mark.parametrize("precision", ["f32", "bf16"])
def test_a_vector_does_not_depend_on_its_batch(minilm, precision):
    embedder = load_embedder("all-minilm-l6-v2", precision=precision)
    alone = np.concatenate([embedder.embed([text]) for text in REAL_TEXTS])
    for others in (REAL_TEXTS * 9, ["a"] * 40, ["word " * 300] * 3, ["x y z " * n for n in range(1, 60)]):
        together = embedder.embed(REAL_TEXTS + others)[: len(REAL_TEXTS)]
        assert cosines(alone, together).min() >= 0.9999
        backwards = embedder.embed(others + REAL_TEXTS[::-1])[: -len(REAL_TEXTS) - 1 : -1]
        assert cosines(alone, backwards).min() >= 0.9999
