"""GGUF files as models: SentencePiece's vocabulary there and back, `doyen models pull FILE`, what is no model."""

import numpy as np
import pytest
import tiny_exports
import tiny_models

from doyen.errors import ModelError
from doyen.exporting.gguf_lora import write_gguf_lora
from doyen.exporting.gguf_model import write_gguf
from doyen.exporting.llama_cpp import LlamaCpp, has_llama_cpp
from doyen.exporting.merging import MergedModel
from doyen.models.catalogue import find_entry
from doyen.models.fetching import is_fetched, model_folder, pull, require_model
from doyen.models.openvino_engine import OpenVINOEngine

TEXTS = (
    "The crane lifts 12 tonnes.",
    "27 days – naïve café 北京 🚢",
    "  two  spaces\n\nand a line",
    "<|user|>leave<|end|>",
)


@pytest.fixture(scope="module")
def pieces(tmp_path_factory):
    """A tiny Phi-3 with a SentencePiece BPE vocabulary as Llama 2's: byte tokens, a space put before a text, white
    space after turn marks dropped."""
    import json

    from tokenizers import AddedToken, SentencePieceBPETokenizer, Tokenizer, normalizers
    from tokenizers.models import BPE

    folder = tmp_path_factory.mktemp("pieces")
    trained = SentencePieceBPETokenizer(add_prefix_space=False)
    bytes_ = [f"<0x{i:02X}>" for i in range(256)]
    trained.train_from_iterator(
        tiny_models.CORPUS, vocab_size=420, special_tokens=["<unk>", "<s>", "</s>", *bytes_], show_progress=False
    )
    content = json.loads(trained._tokenizer.to_str())["model"]
    rank = {"".join(merge): i for i, merge in enumerate(content["merges"])}
    merges = [
        (left, right)
        for token in sorted(rank, key=rank.__getitem__)
        for left, right in ((token[:i], token[i:]) for i in range(1, len(token)))
        if left in content["vocab"] and right in content["vocab"]
    ]
    made = Tokenizer(BPE(content["vocab"], merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    turns = [AddedToken(token, special=True, normalized=False, rstrip=True) for token in tiny_models.PHI_SPECIALS[1:]]
    made.add_special_tokens(["<unk>", "<s>", "</s>", "<|endoftext|>", *turns])
    model = tiny_exports.model_folder(folder / "model", "phi3", vocab_size=440)
    made.save(str(model / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "<|endoftext|>"}
    config |= {"unk_token": "<unk>", "chat_template": tiny_models.PHI_TEMPLATE}
    (model / "tokenizer_config.json").write_text(json.dumps(config))
    (model / "chat_template.jinja").unlink(missing_ok=True)
    write_gguf(MergedModel(model, None), folder / "x.gguf", "f16", {"name": "phi-3 x"}, lambda *_: None)
    return model, folder / "x.gguf"


def test_sentencepieces_vocabulary_goes_there_and_back(pieces, tmp_path):
    from tokenizers import Tokenizer

    model, path = pieces
    folder = pull(find_entry(str(path)), cache=tmp_path)
    before, after = (Tokenizer.from_file(str(f / "tokenizer.json")) for f in (model, folder))
    for text in TEXTS:
        assert after.encode(text, add_special_tokens=False).ids == before.encode(text, add_special_tokens=False).ids
        if "<" not in text:
            assert after.decode(after.encode(text).ids).strip() == text.strip()


@pytest.mark.skipif(not has_llama_cpp(), reason="xllamacpp (doyen[export]) is not installed")
def test_llama_cpp_makes_the_same_pieces(pieces):
    from tokenizers import Tokenizer

    model, path = pieces
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    with LlamaCpp(path, context=256) as server:
        for text in TEXTS:
            assert server.tokens(text) == tokenizer.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize("family", ["qwen3", "phi3"])
def test_a_gguf_file_is_pulled_and_answers_as_its_model(family, tmp_path, monkeypatch):
    monkeypatch.setenv("DOYEN_CACHE", str(tmp_path / "cache"))
    model = tiny_exports.model_folder(tmp_path / "model", family)
    write_gguf(MergedModel(model, None), tmp_path / "mine.gguf", "bf16", {"name": "x"}, lambda *_: None)
    name = str(tmp_path / "mine.gguf")
    with pytest.raises(ModelError, match="not on this machine") as caught:
        require_model(name)
    assert caught.value.hint == f"doyen models pull {name}"
    folder = pull(find_entry(name))
    assert require_model(name) == folder == model_folder(find_entry(name)) and is_fetched(find_entry(name))
    prompt = [{"role": "user", "content": "How many days of leave?"}]
    wanted, found = (OpenVINOEngine(f, precision="f32").next_token_logits(prompt) for f in (model, folder))
    assert np.linalg.norm(found - wanted) < 0.02 * np.linalg.norm(wanted)


def test_what_is_no_model_is_told(tmp_path):
    with pytest.raises(ModelError, match="cannot be read: No such file"):
        find_entry(str(tmp_path / "none.gguf"))
    (tmp_path / "text.gguf").write_text("not a model")
    with pytest.raises(ModelError, match="no GGUF file that can be read"):
        pull(find_entry(str(tmp_path / "text.gguf")), cache=tmp_path / "cache")
    model = tiny_exports.model_folder(tmp_path / "model", "llama")
    adapter = tiny_exports.adapter_into(tmp_path / "adapter", model)
    write_gguf_lora(model, adapter, tmp_path / "lora.gguf", "a", lambda *_: None)
    with pytest.raises(ModelError, match=r"lora.gguf is no model: its type is adapter"):
        pull(find_entry(str(tmp_path / "lora.gguf")), cache=tmp_path / "cache")
    assert list((tmp_path / "cache" / "models").iterdir()) == []
