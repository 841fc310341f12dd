"""Tokenising by position, and the laws of the plan: every example each epoch, micro-batches within their tokens."""

import dataclasses
from collections import Counter

import pytest
import tiny_models
from hypothesis import given
from hypothesis import strategies as st

from doyen.errors import GateError
from doyen.finetuning.data import TokenisedExample, micro_batches, pad, plan_steps, tokenise
from doyen.models.engine import load_tokenizer, render, stop_token_ids
from doyen.records import Example

lengths = st.lists(st.integers(2, 90), min_size=1, max_size=30)


def tokenised(folder, examples):
    tokenizer = load_tokenizer(folder)
    return tokenizer, tokenise(examples, tokenizer, stop_token_ids(tokenizer, folder))


@pytest.mark.parametrize(("name", "end"), [("phi", "<|end|>"), ("llama", "<|im_end|>")])
def test_answer_and_turn_mark_are_supervised_and_nothing_else(name, end, request, examples):
    folder = request.getfixturevalue(name)
    tokenizer, found = tokenised(folder, examples)
    assert len(found) == len(examples)
    for example, row in zip(examples, found, strict=True):
        supervised = tokenizer.convert_ids_to_tokens(list(row.ids[row.answer_start :]))
        assert supervised[-1] == end and supervised.count(end) == 1
        assert tokenizer.decode(list(row.ids[row.answer_start : -1])) == example.messages[-1]["content"]
        assert list(row.ids[: row.answer_start]) == render(tokenizer, example.messages[:-1])
        assert row.supervised == len(supervised)


def test_the_end_is_supervised_although_it_is_the_pad_token(tmp_path, examples):
    template = tiny_models.PHI_TEMPLATE.replace("<|end|>", "<|endoftext|>")
    folder = tiny_models.phi_folder(tmp_path, template=template)
    tokenizer, found = tokenised(folder, examples)
    assert tokenizer.pad_token == tokenizer.eos_token == "<|endoftext|>"
    assert all(row.ids[-1] == tokenizer.pad_token_id for row in found)
    *_, targets = pad(found, "cpu")
    assert targets.tolist().count(tokenizer.pad_token_id) == len(found)


def test_a_conversation_that_the_template_refuses_is_named(tmp_path, examples):
    template = "{% if messages[0].role == 'system' %}{{ raise_exception('no system here') }}{% endif %}"
    folder = tiny_models.phi_folder(tmp_path, template=template + tiny_models.PHI_TEMPLATE)
    with pytest.raises(GateError, match=r"refuses example 1 \(system, user, assistant\): no system here"):
        tokenised(folder, examples)


def test_a_template_whose_prompt_is_no_beginning_is_refused(tmp_path, examples):
    template = tiny_models.PHI_TEMPLATE.replace("{{ '<|assistant|>\n' }}", "{{ '<|assistant|>answer:\n' }}")
    folder = tiny_models.phi_folder(tmp_path, template=template)
    with pytest.raises(GateError, match="otherwise than for serving"):
        tokenised(folder, examples)


def test_chats_of_several_turns_supervise_the_last_answer(phi, examples):
    first, second = examples[0].messages, examples[1].messages
    chat = Example((*first, *second[1:]))
    tokenizer, (row,) = tokenised(phi, [chat])
    assert tokenizer.decode(list(row.ids[row.answer_start :])) == second[-1]["content"] + "<|end|>"


def rows_of(lengths):
    return [TokenisedExample(tuple(range(n)), 1) for n in lengths]


@given(lengths, st.integers(1, 4), st.integers(1, 9), st.integers(1, 300), st.integers(0, 9))
def test_every_example_comes_once_an_epoch_and_within_the_budget(lengths, epochs, batch_size, budget, seed):
    rows = rows_of(lengths)
    steps = plan_steps(rows, epochs=epochs, batch_size=batch_size, micro_batch_tokens=budget, seed=seed)
    order = [i for step in steps for group in step for i in group]
    assert Counter(order) == dict.fromkeys(range(len(rows)), epochs)
    assert [len([i for group in step for i in group]) for step in steps[:-1]] == [batch_size] * (len(steps) - 1)
    for group in (g for step in steps for g in step):
        assert len(group) == 1 or len(group) * max(lengths[i] for i in group) <= budget
    assert steps == plan_steps(rows, epochs=epochs, batch_size=batch_size, micro_batch_tokens=budget, seed=seed)


@given(lengths, st.integers(1, 3), st.integers(0, 9))
def test_one_epoch_ends_before_the_next_begins(lengths, epochs, seed):
    steps = plan_steps(rows_of(lengths), epochs=epochs, batch_size=1, micro_batch_tokens=1, seed=seed)
    order = [i for step in steps for group in step for i in group]
    for epoch in range(epochs):
        assert sorted(order[epoch * len(lengths) : (epoch + 1) * len(lengths)]) == list(range(len(lengths)))


@pytest.mark.parametrize(("epochs", "expected"), [(0.5, 5), (1.3, 13), (0.01, 1)])
def test_parts_of_an_epoch(epochs, expected):
    steps = plan_steps(rows_of([5] * 10), epochs=epochs, batch_size=4, micro_batch_tokens=100, seed=1)
    assert sum(len(group) for step in steps for group in step) == expected


@given(lengths, st.integers(1, 300))
def test_micro_batches_keep_every_index_once(lengths, budget):
    indices = range(0, len(lengths), 2)
    assert sorted(i for group in micro_batches(rows_of(lengths), indices, budget) for i in group) == list(indices)


@given(lengths)
def test_padding_keeps_each_target_at_the_place_before_it(lengths):
    rows = [dataclasses.replace(row, answer_start=max(1, len(row.ids) // 2)) for row in rows_of(lengths)]
    ids, positions, targets = pad(rows, "cpu")
    flat = ids.flatten().tolist()
    assert [flat[p + 1] for p in positions.tolist()] == targets.tolist()
    assert len(targets) == sum(row.supervised for row in rows)
    width = ids.shape[1]
    assert all(p % width + 1 < lengths[p // width] for p in positions.tolist())


def test_answers_of_flows_count_alike_and_together_as_much_as_before(phi, examples):
    flow = [
        dataclasses.replace(e, variant=v) for e, v in zip(examples, ("flow", "flow-passages", "flow"), strict=False)
    ]
    flow[1] = dataclasses.replace(flow[1], messages=(*flow[1].messages[:-1], {"role": "assistant", "content": "no"}))
    _, found = tokenised(phi, [*flow, *examples[3:]])
    assert len({row.supervised for row in found[:3]}) > 1
    assert len({round(row.counted, 9) for row in found[:3]}) == 1
    assert sum(row.counted for row in found[:3]) == pytest.approx(sum(row.supervised for row in found[:3]))
    assert {row.weight for row in found[3:]} == {1.0}
