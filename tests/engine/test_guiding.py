"""Guides without a network: random logits in the place of a model, tokenizers of both kinds."""

import json
import re

import jsonschema
import numpy as np
import pytest

from doyen.errors import EngineError
from doyen.models.constraints import JsonSchema, Regex
from doyen.models.guiding import KEPT, Guides

SCHEMA = {
    "type": "object",
    "properties": {"größe": {"type": "string", "maxLength": 6}, "x": {"enum": ["😀", "a b"]}, "n": {"type": "integer"}},
    "required": ["größe", "x", "n"],
}
STOPS = [1, 2]


class Wrapped:
    """What a guide asks of a chat tokenizer, around one of the `tokenizers` package."""

    def __init__(self, tokenizer):
        self.backend_tokenizer = tokenizer

    def __len__(self):
        return self.backend_tokenizer.get_vocab_size()

    def decode(self, ids):
        return self.backend_tokenizer.decode(ids)


def byte_level(trainer):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    trainer.initial_alphabet = pre_tokenizers.ByteLevel.alphabet()
    return made


def with_byte_fallback(trainer):
    """As Llama 2's and Phi-3's: "▁" for a space, unknown characters as bytes."""
    from tokenizers import Tokenizer, decoders, models, normalizers

    made = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    ends = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    made.decoder = decoders.Sequence(ends)
    return made


@pytest.fixture(scope="module", params=[byte_level, with_byte_fallback])
def guides(request):
    from tokenizers import Tokenizer, trainers

    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=["<unk>", "</s>", "<|end|>"], show_progress=False)
    made = request.param(trainer)
    made.train_from_iterator(
        ['yes no {"name": "Anna", "age": 34} the cat, example text', "example", "text"] * 20, trainer
    )
    if request.param is with_byte_fallback:
        stored = json.loads(made.to_str())
        vocabulary = stored["model"]["vocab"]
        vocabulary |= {f"<0x{i:02X}>": len(vocabulary) + i for i in range(256)}
        made = Tokenizer.from_str(json.dumps(stored))
    wrapped = Wrapped(made)
    return Guides(wrapped, len(wrapped) + 37, STOPS)  # models have more rows than their tokenizers have tokens


def written(guides, constraint, seed, max_tokens=120):
    random, guide, tokens = np.random.default_rng(seed), guides.of(constraint, max_tokens), []
    while not tokens or tokens[-1] not in STOPS:
        assert len(tokens) <= max_tokens
        tokens += guide.write(random.standard_normal(len(guides._tokenizer) + 37).astype(np.float32))
    assert len(tokens) - 1 <= max_tokens
    return guides.text(tokens)


@pytest.mark.parametrize("seed", range(12))
def test_whatever_the_logits_the_text_has_its_form(guides, seed):
    jsonschema.validate(json.loads(written(guides, JsonSchema(SCHEMA), seed)), SCHEMA)
    assert re.fullmatch(" ?[ab]{3}é", written(guides, Regex(" ?[ab]{3}é"), seed))
    assert re.fullmatch("(0|1)*11", written(guides, Regex("(0|1)*11"), seed, max_tokens=9))


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "pattern": "straße"},
        {"type": "string", "format": "email"},
        {"type": "string", "format": "uuid"},
        {"type": "string", "minLength": 60},
        {"type": "array", "items": {"type": "number", "minimum": 0.5, "multipleOf": 0.25}, "minItems": 3},
        {"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": {"type": "integer"}},
        {"$ref": "#/$defs/t", "$defs": {"t": {"type": "array", "items": {"$ref": "#/$defs/t"}, "minItems": 0}}},
    ],
)
@pytest.mark.parametrize("seed", range(3))
def test_an_end_is_found_within_few_tokens(guides, schema, seed):
    jsonschema.validate(json.loads(written(guides, JsonSchema(schema), seed, max_tokens=70)), schema)


@pytest.mark.parametrize("seed", range(3))
def test_a_long_text_needs_fewer_tokens_than_characters(guides, seed):
    assert re.fullmatch(r"(.|\n){90,}", written(guides, Regex(r"(.|\n){90,}"), seed, max_tokens=60))
    long = {"type": "string", "minLength": 90}
    jsonschema.validate(json.loads(written(guides, JsonSchema(long), seed, max_tokens=60)), long)


def test_what_never_ends_is_refused(guides):
    endless = {"$ref": "#/$defs/t", "$defs": {"t": {"type": "array", "items": {"$ref": "#/$defs/t"}, "minItems": 1}}}
    with pytest.raises(EngineError, match="no answer that the constraint allows"):
        guides.of(JsonSchema(endless), 50)


def test_an_empty_text_may_be_what_is_allowed(guides):
    assert written(guides, Regex(""), 0) == ""


def test_grammars_kept_ready_are_bounded_and_stay_at_their_start(guides):
    for i in range(KEPT + 5):
        guides.of(Regex(f"a{{{i + 1}}}"), 200)
    assert len(guides._kept) == KEPT
    assert [written(guides, Regex("ab"), 0) for _ in range(2)] == ["ab", "ab"]


def test_a_tokenizer_without_its_file_says_so():
    with pytest.raises(EngineError, match="object has no tokenizer.json"):
        Guides(object(), 10, STOPS).of(Regex("a"), 9)
