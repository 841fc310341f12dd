"""Counters: what they count, where tokens start, what a worker process needs of them."""

import pickle
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from doyen.embedding import ByteCounter, TokenizerCounter
from doyen.embedding.tokens import BLOCK_CHARS, encodable, read_limit

VOCABULARY = ["[UNK]", "[CLS]", "[SEP]", "pump", "valve", "##s", "水", "."]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    ids = {token: i for i, token in enumerate(VOCABULARY)}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    tokenizer.enable_padding(length=9)
    tokenizer.enable_truncation(4)
    tokenizer.save(str(tmp_path_factory.mktemp("tokens") / "tokenizer.json"))
    return tmp_path_factory.getbasetemp() / "tokens0" / "tokenizer.json"


def test_the_tokenizers_padding_and_truncation_do_not_count(path):
    counter = TokenizerCounter(path, 32)
    assert (counter.limit, counter.special) == (32, 2)
    assert counter.count("pumps valve.  what") == 5
    assert list(counter.starts("pumps valve.  what")) == [0, 4, 6, 11, 14]
    assert list(counter.starts("é水 \ud800 pump")) == [0, 3, 5]
    assert counter.count("") == 0 and list(counter.starts("")) == []


@pytest.mark.parametrize("gap", ["\n", " ", "."])
def test_long_texts_are_read_in_blocks(path, gap):
    counter = TokenizerCounter(path, 32)
    text = gap.join(["pumps"] * (BLOCK_CHARS // 2))
    starts = counter.starts(text)
    assert len(starts) == pytest.approx(counter.count(text), abs=8)  # a word cut at a block's end
    assert list(starts) == sorted(starts) and text[starts[-1] :] == "s"


def test_the_fingerprint_names_file_and_limit(path):
    one, other = TokenizerCounter(path, 32), TokenizerCounter(path, 64)
    assert one.fingerprint.startswith("tokenizer@") and one.fingerprint != other.fingerprint


def test_a_counter_travels_by_its_path(path):
    counter = TokenizerCounter(path, 32)
    sent = pickle.dumps(counter)
    assert len(sent) < 1000
    assert pickle.loads(sent).count("pumps valve") == 3


def test_a_worker_loads_no_network(path):
    sent = pickle.dumps(TokenizerCounter(path, 32)).hex()
    code = f"import pickle, sys; print(pickle.loads(bytes.fromhex('{sent}')).count('pump'))\n"
    code += "print([m for m in ('openvino', 'torch', 'transformers', 'lancedb') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["1", "[]"]


def test_bytes_are_a_quarter_token():
    counter = ByteCounter(10)
    assert [counter.count(t) for t in ("", "a", "abcd", "abcde", "水水水水")] == [0, 1, 1, 2, 3]
    assert list(counter.starts("abcdefghi")) == [0, 4, 8]
    assert list(counter.starts("a水水b")) == [0, 2]
    assert pickle.loads(pickle.dumps(counter)).fingerprint == counter.fingerprint


@given(st.text(st.characters()))
def test_every_byte_token_starts_once(text):
    starts = list(ByteCounter(10).starts(text))
    assert len(starts) == ByteCounter(10).count(text)
    assert starts == sorted(starts) and all(0 <= start < len(text) for start in starts)
    assert len(encodable(text)) == len(text)


@pytest.mark.parametrize(("sentence", "limit"), [(None, 512), ('{"max_seq_length": 256}', 256), ("{}", 512)])
def test_the_limit_is_the_sentence_embedders(tmp_path, sentence, limit):
    (tmp_path / "config.json").write_text('{"max_position_embeddings": 512}')
    if sentence:
        (tmp_path / "sentence_bert_config.json").write_text(sentence)
    assert read_limit(tmp_path) == limit
