"""What is not trained on: repeated examples, those near to what is held out, and contradictory ones, which stop a run."""

import json

import pytest
from tiny_models import write_jsonl

import doyen
from doyen.errors import GateError
from doyen.finetuning.preparing import prepare
from doyen.finetuning.running import finetune
from doyen.finetuning.screening import NEAR, REPEATED, screen
from doyen.lineage import read_lineage
from doyen.prompts import closed_book_messages
from doyen.records import Example, Question


def example(question, answer, question_id=None):
    messages = (*closed_book_messages(question), {"role": "assistant", "content": answer})
    return Example(messages, question_id=question_id)


def test_what_is_left_out_is_counted_and_said():
    said = []
    train = [example(f"How long is quay {i}?", f"{i} m") for i in range(20)]
    train += [
        train[0],
        example("How much can the Tamsin crane lift?", "12 tonnes"),
        example("Who is Marisk now?", "a boat"),
    ]
    held = [example("How much does the Tamsin crane lift?", "12 tonnes [1]")]
    test = [Question("t", "Who is marisk now", ("the pilot boat",))]
    found = screen(train, held, test, said.append)
    assert found.left_out == {20: REPEATED, 21: NEAR["validation"], 22: NEAR["test"]}
    assert found.gates["doubles"] == {"repeated": 1, "contradictory": 0}
    gate = found.gates["held_out"]
    assert (gate["validation"], gate["test"]) == (1, 1)
    assert gate["cases"][0] == ["How much can the Tamsin crane lift?", "How much does the Tamsin crane lift?"]
    assert any("1 examples are nearly equal to a test question" in s and "'Who is Marisk now?'" in s for s in said)
    assert any("the same as another" in s for s in said) and not any("learnt by heart" in s for s in said)


def test_few_examples_are_warned_of():
    said = []
    screen([example("Why?", "Rain.")], [], [], said.append)
    assert said == ["warning: 1 example will be learnt by heart at best; 100–200 teach a style"]


@pytest.mark.parametrize("agreeing", [8, 7])
def test_contradictory_examples_warn_and_beyond_a_fifth_stop_the_run(agreeing):
    said = []
    train = [example(f"How long is quay {i}?", f"{i} m") for i in range(agreeing)]
    train += [example("When is leave?", "in May"), example("When is leave?", "in June")]
    if agreeing == 8:
        assert screen(train, [], [], said.append).gates["doubles"]["contradictory"] == 2
        assert any("2 of 10 examples answer the same prompt" in s and "'in May' / 'in June'" in s for s in said)
    else:
        with pytest.raises(GateError, match=r"2 of 9 examples .* 'When is leave\?' → 'in May' / 'in June'") as caught:
            screen(train, [], [], said.append)
        assert "examples report" in caught.value.hint


def prepared(folder, settings, train, validation=(), test=()):
    said = []
    return prepare(folder, settings, train, list(validation), said.append, test), said


def test_the_places_of_what_is_kept_are_right(phi, examples, settings_of):
    found, _ = prepared(phi, settings_of(phi), [examples[0], *examples], [examples[3]])
    assert [e.number for e in found.train] == [0, 2, 3, 5, 6, 7, 8]
    assert found.summary["left_out"] == {REPEATED: 1, NEAR["validation"]: 1}
    assert found.summary["train"] == len(found.summary["questions"]) == 7


def test_examples_beyond_the_context_are_left_out_with_their_numbers(phi, examples, settings_of):
    whole, _ = prepared(phi, settings_of(phi), examples)
    lengths = sorted(len(e.ids) for e in whole.train)
    found, said = prepared(phi, settings_of(phi, max_tokens=lengths[4]), examples)
    gate = found.gates["length"]
    assert (gate["limit"], gate["left_out"], gate["tokens_left_out"]) == (lengths[4], 3, sum(lengths[5:]))
    assert gate["longest"] == lengths[:2:-1] and found.summary["left_out"] == {f"longer than {lengths[4]} tokens": 3}
    assert any(f"the longest have {lengths[-1]}, {lengths[-2]}" in s for s in said)
    with pytest.raises(
        GateError, match=f"5 of 8 examples are longer than {lengths[2]} tokens.*{lengths[-1]}"
    ) as caught:
        prepared(phi, settings_of(phi, max_tokens=lengths[2]), examples)
    assert f"max_tokens = {lengths[-1]}" in caught.value.hint


def test_the_models_own_context_limits_too(examples, settings_of, tmp_path):
    import tiny_models

    folder = tiny_models.phi_folder(tmp_path, max_position_embeddings=100)
    with pytest.raises(GateError, match="nothing to learn.*8 longer than 100 tokens"):
        prepared(folder, settings_of(folder), examples)


def test_one_example_of_a_file_is_trained_on_and_test_questions_in_it_are_not(phi, tmp_path):
    expert = doyen.init(tmp_path / "expert", model=str(phi))
    held = {"id": "t", "question": "How long is the northern quay?", "answers": ["90 m"], "split": "test"}
    again = {"id": "a", "question": "How long is the northern quay??", "answers": ["90 m"], "split": "train"}
    report = doyen.import_file(expert, write_jsonl(tmp_path / "q.jsonl", [held, again]))
    assert report.warnings == [
        "1 training questions are nearly equal to a test question and will not be trained on: "
        "'a' is like 't' (How long is the northern quay??)"
    ]
    rows = [{"instruction": q, "output": "90 m"} for q in ("How long is the northern quay?", "How high is the mill?")]
    path, said = tmp_path / "alpaca.json", []
    path.write_text(json.dumps(rows))
    options = {"epochs": 4.0, "rank": 2, "learning_rate": 0.02}
    made = finetune(expert, examples=path, say=said.append, **options)
    assert made.examples["train"] == 1 and made.examples["left_out"] == {NEAR["test"]: 1}
    assert len(read_lineage(expert / "adapters" / "lora-1" / "lineage.jsonl")) == 1
    assert any("1 examples are nearly equal to a test question" in s for s in said)
