"""Bits per byte of the general set, and replay of general questions with the base's own answers."""

import json
import math

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from doyen.adapters import read_adapter
from doyen.finetuning.forgetting import Forgetting, bits_per_byte, general_rows, measure_forgetting
from doyen.finetuning.replay import replay_count, tokenise_replay, without_replay
from doyen.finetuning.training import finetune
from doyen.models.engine import stop_token_ids
from doyen.models.transformers_engine import TransformersEngine

TEXTS = ["The crane lifts 12 tonnes.", "Der Kran hebt zwölf Tonnen, und die Schleuse öffnet um halb sieben.", "起重机"]


def test_the_general_set_is_whole_and_no_question_is_both_asked_and_trained_on():
    texts, turns, prompts = (general_rows(kind) for kind in ("text", "turn", "prompt"))
    assert len(texts) >= 60 and len(turns) >= 30 and len(prompts) >= 80
    assert {row["language"] for row in texts} == {"en", "de", "es", "hi", "zh"}
    assert not {row["question"] for row in turns} & {row["question"] for row in prompts}
    assert all(row["text"].strip() == row["text"] and len(row["text"]) > 20 for row in texts)
    assert len({row["text"] for row in texts}) == len(texts)


def reference(folder, ids, start):
    """The loss of a text by the model itself, alone in its batch, without doyen."""
    model = AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32)
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    return -sum(float(logits[i - 1, ids[i]]) for i in range(start, len(ids)))


def test_plain_text_is_counted_from_its_first_token_where_the_model_has_a_beginning(phi, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(str(phi))
    assert tokenizer.bos_token_id is None
    engine = TransformersEngine(phi, dtype=torch.float32)
    for text, loss in zip(TEXTS, engine.text_losses(TEXTS), strict=True):
        assert loss == pytest.approx(reference(phi, tokenizer(text)["input_ids"], 1), rel=1e-4)
    tokenizer.bos_token = "<|endoftext|>"
    engine = TransformersEngine(phi, dtype=torch.float32)
    engine.tokenizer.bos_token = "<|endoftext|>"
    ids = [tokenizer.bos_token_id, *tokenizer(TEXTS[0], add_special_tokens=False)["input_ids"]]
    assert engine.text_losses(TEXTS[:1]) == pytest.approx([reference(phi, ids, 1)], rel=1e-4)


def test_an_answer_is_counted_behind_its_prompt(llama):
    engine = TransformersEngine(llama, dtype=torch.float32)
    chat = [{"role": "user", "content": "How many days?"}]
    prompt = engine.tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=True)["input_ids"]
    ids = [*prompt, *engine.tokenizer("27 days")["input_ids"]]
    assert engine.text_losses(["27 days"], [chat]) == pytest.approx([reference(llama, ids, len(prompt))], rel=1e-4)


def test_bits_are_a_byte_and_not_a_character():
    assert bits_per_byte([math.log(2) * 6], ["zwölf"]) == pytest.approx(1.0)


def test_the_rise_is_what_the_adapter_costs(trained_far, phi):
    expert, manifest = trained_far
    engine = TransformersEngine(phi)
    made = expert / "adapters" / "far"
    found = measure_forgetting(engine, made)
    assert found.rise == pytest.approx(found.bits_per_byte_after / found.bits_per_byte_before - 1, abs=2e-4)
    assert found.bytes > 8000 and found.rise < 0 and found.answers_rise < 0  # a random model can only learn
    assert manifest.forgetting["rise"] == pytest.approx(found.rise, abs=1e-3)
    assert measure_forgetting(engine, made) == found  # the base is the base again


@pytest.fixture(scope="module")
def trained_far(phi, examples, settings_of, tmp_path_factory):
    """A training with replay: (expert, manifest)."""
    expert, said = tmp_path_factory.mktemp("far"), []
    manifest = finetune(expert, settings_of(phi, epochs=8.0, replay=0.5), examples, [], name="far", say=said.append)
    assert any(line.startswith("forgetting: ") for line in said)
    return expert, manifest


def test_replay_stands_among_the_examples_and_not_in_the_lineage(trained_far, examples):
    expert, manifest = trained_far
    folder = expert / "adapters" / "far"
    assert manifest.examples["replay"]["examples"] == 4 and manifest.examples["train"] == len(examples)
    assert manifest.steps == 24  # (8 + 4) examples, 8 times, 4 a step
    assert len((folder / "lineage.jsonl").read_text().splitlines()) == len(examples)
    rows = [json.loads(line) for line in (folder / "replay.jsonl").read_text().splitlines()]
    asked = {row["question"] for row in general_rows("prompt")}
    assert len(rows) == 4 and all(row["question"] in asked and row["answer"] for row in rows)
    assert read_adapter(folder).examples["replay"] == manifest.examples["replay"]


def test_replay_is_what_the_base_answers(trained_far, phi):
    expert, _ = trained_far
    rows = [json.loads(line) for line in (expert / "adapters" / "far" / "replay.jsonl").read_text().splitlines()]
    engine = TransformersEngine(phi, finished=lambda _: False)
    chats = [[{"role": "user", "content": row["question"]}] for row in rows]
    assert [c.text for c in engine.generate(chats, max_tokens=64)] == [row["answer"] for row in rows]


def test_only_an_answer_that_ended_teaches_the_end(llama):
    engine = TransformersEngine(llama)
    stops = stop_token_ids(engine.tokenizer, llama)
    rows = [{"question": "Why?", "answer": "It is.", "ended": ended} for ended in (True, False)]
    ended, cut = tokenise_replay(rows, engine.tokenizer, stops, 8)
    assert ended.ids[-1] in stops and cut.ids == ended.ids[:-1]
    assert (ended.number, cut.number) == (8, 9) and without_replay([ended, cut], 9) == [ended]


def test_the_share_of_replay_is_bounded_by_the_questions():
    assert [replay_count(100, 0.1), replay_count(100, 0.0), replay_count(4, 0.1)] == [10, 0, 0]
    assert replay_count(100_000, 1.0) == len(general_rows("prompt"))


@pytest.mark.parametrize(("rise", "kinds"), [(0.02, ["forgetting"]), (0.021, ["forgetting", "warning"])])
def test_above_two_percent_is_a_warning(rise, kinds):
    found = Forgetting(1.0, 1.0 + rise, rise, 1.0, 1.0, 0.0, 10)
    assert [line.split(":")[0] for line in found.remarks()] == kinds
    assert found.too_much == (len(kinds) == 2) and f"{rise:+.1%}" in found.remarks()[0]
