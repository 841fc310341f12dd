"""Constrained answers of the engines of this machine, on tiny models with random weights, which would write anything."""

import json
import re
import sys
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import tiny_models
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from doyen.errors import EngineError, UsageError
from doyen.models import decoding
from doyen.models.constraints import Choices, JsonSchema, PassageNumbers, Regex
from doyen.models.engine import CERTAINTY_TOKENS
from doyen.models.guiding import GrammarGuide, has_wrong_number
from doyen.models.openvino_engine import OpenVINOEngine
from doyen.models.transformers_engine import TransformersEngine
from doyen.prompts import REFUSAL

CLAIM = JsonSchema(
    {
        "type": "object",
        "properties": {
            "größe": {"type": "integer", "minimum": 3, "maximum": 900},
            "state": {"enum": ["open", "closed", "不明"]},
            "note": {"type": "string", "maxLength": 12},
            "parts": {"type": "array", "items": {"type": "boolean"}, "maxItems": 3},
        },
        "required": ["größe", "state", "note"],
    }
)
DATE = Regex(r"\d{4}-(0[1-9]|1[0-2])-\d{2}")
ANSWER = Choices(("yes", "no", "maybe so"))
MIXED = [CLAIM, DATE, None, ANSWER, CLAIM, Regex(r" ?[ab]{3,}c")]
PROMPTS = [[{"role": "user", "content": text}] for text in ("a", "When?", "Anything " * 9, "Is it?", "b " * 20, "c")]


def valid(text, constraint):
    value = json.loads(text)
    jsonschema.Draft202012Validator(dict(constraint.schema)).validate(value)
    return value


@pytest.fixture(scope="module", params=["phi", "llama"])
def pair(request):
    folder = request.getfixturevalue(request.param)
    return OpenVINOEngine(folder, precision="f32"), TransformersEngine(folder, dtype=torch.float32)


@pytest.fixture(scope="module")
def engine(llama):
    return OpenVINOEngine(llama, precision="f32")


def test_each_row_of_a_batch_keeps_to_its_own_constraint_and_the_engines_agree(pair):
    ours, theirs = (e.generate(PROMPTS, max_tokens=90, constraints=MIXED, refusal=REFUSAL) for e in pair)
    assert [c.text for c in ours] == [c.text for c in theirs]
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.completion_tokens == other.completion_tokens
        assert mine.choice_probabilities == pytest.approx(other.choice_probabilities, abs=1e-4)
        assert mine.refusal_probability == pytest.approx(other.refusal_probability, rel=1e-3)
        assert mine.log_probability == pytest.approx(other.log_probability, rel=1e-3)
        assert mine.total_log_probability == pytest.approx(other.total_log_probability, rel=1e-3)
        assert mine.shortened == other.shortened
    assert [c.total_log_probability < c.log_probability for c in ours] == [
        isinstance(c, JsonSchema | Regex) for c in MIXED
    ]
    valid(ours[0].text, CLAIM)
    valid(ours[4].text, CLAIM)
    assert re.fullmatch(DATE.pattern, ours[1].text) and re.fullmatch(r" ?[ab]{3,}c", ours[5].text)
    assert ours[3].text in ANSWER.options
    alone = [pair[0].generate([p], max_tokens=90, constraints=[c])[0].text for p, c in zip(PROMPTS, MIXED, strict=True)]
    assert alone == [c.text for c in ours]


def test_the_whole_of_a_long_answer_counts_in_its_total(pair):
    for engine in pair:
        (made,) = engine.generate(PROMPTS[:1], max_tokens=120, constraints=[Regex(r"[a-z]{80}")])
        assert made.completion_tokens > 2 * CERTAINTY_TOKENS
        assert made.total_log_probability < 1.5 * CERTAINTY_TOKENS * made.log_probability < 0


@pytest.mark.parametrize("max_tokens", range(52, 100, 6))
def test_an_answer_that_runs_out_of_tokens_is_valid_all_the_same(engine, max_tokens):
    found = engine.generate(PROMPTS[:1], max_tokens=max_tokens, constraints=[CLAIM])[0]
    assert found.completion_tokens <= max_tokens
    valid(found.text, CLAIM)


def test_a_text_without_bounds_is_closed_and_said_to_be(engine):
    schema = JsonSchema({"type": "object", "properties": {"a": {"type": "string"}, "b": {"enum": ["x", "y"]}}})
    schema.schema["required"] = ["a", "b"]
    found = engine.generate(PROMPTS[:1], max_tokens=40, constraints=[schema])[0]
    assert set(valid(found.text, schema)) == {"a", "b"}
    assert found.shortened and found.completion_tokens <= 40


def test_too_few_tokens_for_any_answer_are_refused_before_the_weights_are_read(llama):
    engine = OpenVINOEngine(llama, precision="f32")
    with pytest.raises(EngineError, match="within 5 tokens") as caught:
        engine.generate(PROMPTS[:1], max_tokens=5, constraints=[CLAIM])
    assert "max_answer_tokens" in caught.value.hint
    assert engine._base is None


def test_forced_tokens_are_not_asked_of_the_model(engine, monkeypatch):
    schema = JsonSchema({"type": "object", "properties": {"a_long_name_of_a_property": {"enum": [1, 2]}}})
    schema.schema["required"] = ["a_long_name_of_a_property"]
    rows = []
    monkeypatch.setattr(decoding, "GUESSES", 0)
    write = GrammarGuide.write
    monkeypatch.setattr(GrammarGuide, "write", lambda self, logits: rows.append(1) or write(self, logits))
    found = engine.generate(PROMPTS[:1], max_tokens=60, constraints=[schema])[0]
    assert set(valid(found.text, schema).values()) <= {1, 2}
    assert len(rows) <= 4 < 15 < found.completion_tokens


def test_guessed_tokens_are_checked_against_the_mask(tmp_path, monkeypatch):
    cycle = ["Ċ", "A", "B", "X", "C", "D", "E", "A"]
    folder = tiny_models.successor_phi(tmp_path, cycle)
    texts = []
    for guesses in (0, 12):
        monkeypatch.setattr(decoding, "GUESSES", guesses)
        engine = OpenVINOEngine(folder, precision="f32")
        held = [Regex("(AB(X|Y)C[DE]*){2,}END")]
        texts.append(engine.generate([[{"role": "user", "content": "AB?"}]], max_tokens=24, constraints=held)[0].text)
        assert re.fullmatch(held[0].pattern, texts[-1])
    assert texts[0] == texts[1]


def test_an_answer_that_crosses_the_longrope_switch_is_computed_anew(tmp_path):
    folder = tiny_models.longrope_phi_folder(tmp_path, switch=64)
    held = [Regex("([a-z]{1,3}(: a long forced stretch of text; |!)){3}")]
    ours, theirs = OpenVINOEngine(folder, precision="f32"), TransformersEngine(folder, dtype=torch.float32)
    texts = [e.generate(PROMPTS[:1], max_tokens=150, constraints=held)[0].text for e in (ours, theirs)]
    assert texts[0] == texts[1] and re.fullmatch(held[0].pattern, texts[0])
    assert ours.count_tokens(PROMPTS[0]) < 64


def test_streamed_pieces_make_the_text(pair):
    for engine in pair:
        pieces = []
        found = engine.generate(
            PROMPTS, max_tokens=90, constraints=MIXED, stream=lambda i, text, to=pieces: to.append((i, text))
        )
        for i, completion in enumerate(found):
            assert "".join(text for row, text in pieces if row == i) == completion.text


def test_adapters_choose_within_the_constraint(llama, make_adapter, engine):
    adapter = make_adapter(llama, 3)
    base, tuned = (engine.generate(PROMPTS, max_tokens=90, adapter=a, constraints=MIXED) for a in (None, adapter))
    assert [c.text for c in base] != [c.text for c in tuned]
    valid(tuned[0].text, CLAIM)
    assert base[3].choice_probabilities != tuned[3].choice_probabilities


def test_the_probabilities_of_a_choice_are_those_of_its_tokens(engine):
    options = ("yes", "no", "none of both")
    found = engine.generate(PROMPTS[3:4], max_tokens=2, constraints=[Choices(options)])[0]
    losses = np.array(engine.text_losses(options, PROMPTS[3:4] * 3))
    expected = np.exp(-losses) / np.exp(-losses).sum()
    assert found.choice_probabilities == pytest.approx(expected, abs=1e-4)
    assert found.text == options[int(expected.argmax())]
    assert sum(found.choice_probabilities) == pytest.approx(1)


def test_many_choices_leave_the_memory_as_it_was(engine):
    names = tuple(f"ward {i}" for i in range(30))
    found = engine.generate(PROMPTS[:2], max_tokens=2, constraints=[Choices(names)] * 2)
    assert all(c.text in names for c in found)
    pool = engine._base.network.pool
    assert len(pool._free) + len(pool._idle) == pool.size


def test_what_a_constraint_forbids_is_never_written_whatever_may_not_be_said(engine):
    found = engine.generate(
        PROMPTS[:1], max_tokens=20, constraints=[Regex(re.escape(REFUSAL))], refusal=REFUSAL, may_refuse=False
    )
    assert found[0].text == REFUSAL


def test_no_number_above_the_passages_is_cited(tmp_path):
    folder = tiny_models.successor_phi(tmp_path, ["Ċ", "A", "[", "3", "]", "A"])
    engine = OpenVINOEngine(folder, precision="f32")
    free, held, wide = (
        engine.generate([PROMPTS[0]], max_tokens=12, constraints=c)[0].text
        for c in ([], [PassageNumbers(2)], [PassageNumbers(3)])
    )
    assert has_wrong_number(free, 2) and not has_wrong_number(held, 2)
    assert wide == free


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("so [1]", False), ("[1, 3]", False), ("[1, 4]", True), ("[12]", True), ("[0]", True), ("[ 7", True),
        ("[see 9]", False), ("9 of [2] 9", False), ("no. 17", False), ("[2][4]", True),
    ],
)  # fmt: skip
def test_wrong_numbers_are_seen(text, wrong):
    assert has_wrong_number(text, 3) == wrong


def test_a_constraint_that_cannot_be_met_is_said_before_the_model_is_asked(llama):
    engine = OpenVINOEngine(llama, precision="f32")
    for constraint in (JsonSchema({"enum": []}), Regex("(a"), Choices(()), PassageNumbers(0)):
        with pytest.raises(UsageError):
            engine.generate(PROMPTS[:1], max_tokens=9, constraints=[constraint])
    with pytest.raises(UsageError, match="2 constraints for 1 prompts"):
        engine.generate(PROMPTS[:1], max_tokens=9, constraints=[None, None])
    assert engine._base is None


sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(seed=st.integers(0, 10**9))
def test_random_schemas_are_always_met(seed, engine):
    from random_schemas import random_case

    schema, prompt = random_case(seed)
    found = engine.generate([[{"role": "user", "content": prompt}]], max_tokens=300, constraints=[JsonSchema(schema)])[
        0
    ]
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    jsonschema.Draft202012Validator(schema, format_checker=checker).validate(json.loads(found.text))
