"""The answer-only loss against transformers' own loss over the whole vocabulary of every position."""

import dataclasses

import pytest
import tiny_models
import torch

from doyen.finetuning.data import WIDTH_STEP, micro_batches, tokenise
from doyen.finetuning.loss import answer_loss, mean_loss
from doyen.models.engine import load_causal_model, load_tokenizer, stop_token_ids


@pytest.fixture(scope="module", params=["phi", "llama"])
def case(request, examples):
    folder = request.getfixturevalue(request.param)
    tokenizer = load_tokenizer(folder)
    rows = tokenise(examples, tokenizer, stop_token_ids(tokenizer, folder))
    return load_causal_model(folder, dtype=torch.float32).eval(), rows


def reference(model, row):
    """Return transformers' summed loss of one unpadded example, labels -100 before the answer."""
    ids = torch.tensor([row.ids])
    labels = ids.clone()
    labels[:, : row.answer_start] = -100
    with torch.inference_mode():
        return float(model(input_ids=ids, labels=labels).loss) * row.supervised


def test_equals_transformers_loss(case):
    model, rows = case
    with torch.inference_mode():
        for row in rows[:3]:
            loss, count = answer_loss(model, [row])
            assert count == row.supervised
            assert float(loss) == pytest.approx(reference(model, row), rel=1e-4)


def test_padding_changes_nothing(case):
    model, rows = case
    assert len({len(row.ids) for row in rows}) > 4
    with torch.inference_mode():
        together, count = answer_loss(model, rows)
    assert count == sum(row.supervised for row in rows)
    assert float(together) == pytest.approx(sum(reference(model, row) for row in rows), rel=1e-4)


def test_gradients_equal_those_of_transformers_loss(case):
    model, rows = case
    weight = model.get_decoder().layers[0].mlp.down_proj.weight
    (ours,) = torch.autograd.grad(answer_loss(model, rows[:2])[0], weight)
    width = max(len(r.ids) for r in rows[:2])
    ids, labels, mask = (
        torch.zeros(2, width, dtype=torch.long),
        torch.full((2, width), -100),
        torch.zeros(2, width, dtype=torch.long),
    )
    for i, row in enumerate(rows[:2]):
        ids[i, : len(row.ids)], mask[i, : len(row.ids)] = torch.tensor(row.ids), 1
        labels[i, row.answer_start : len(row.ids)] = torch.tensor(row.ids[row.answer_start :])
    theirs = model(input_ids=ids, attention_mask=mask, labels=labels).loss * (labels != -100).sum()
    (expected,) = torch.autograd.grad(theirs, weight)
    assert torch.allclose(ours, expected, atol=1e-4 * float(expected.abs().max()))


def test_the_mean_does_not_depend_on_the_micro_batches(case):
    model, rows = case
    expected = sum(reference(model, row) for row in rows) / sum(row.supervised for row in rows)
    for budget in (1, 200, 10_000):
        assert mean_loss(model, rows, budget) == pytest.approx(expected, rel=1e-4)
    assert mean_loss(model, [], 100) is None


def test_examples_on_both_sides_of_the_longrope_switch_keep_their_own_loss(examples, tmp_path):
    tokenizer = load_tokenizer(tiny_models.longrope_phi_folder(tmp_path / "probe", switch=64))
    rows = tokenise(examples, tokenizer, stop_token_ids(tokenizer, tmp_path / "probe"))
    lengths = sorted(len(row.ids) for row in rows)
    switch = lengths[len(lengths) // 2]
    model = load_causal_model(tiny_models.longrope_phi_folder(tmp_path / "phi", switch=switch)).eval()
    assert min(lengths) <= switch < max(lengths) and switch % WIDTH_STEP
    expected = sum(reference(model, row) for row in rows) / sum(row.supervised for row in rows)
    assert mean_loss(model, rows, 100_000) == pytest.approx(expected, rel=1e-4)
    groups = micro_batches(rows, range(len(rows)), 100_000, switch)
    assert sorted(max(len(rows[i].ids) for i in g) > switch for g in groups) == [False, True]
    with torch.inference_mode():
        mixed, count = answer_loss(model, rows)
    assert float(mixed) / count != pytest.approx(expected, rel=1e-4)  # what sharing a micro-batch would do


def test_each_token_counts_by_its_examples_weight(case):
    model, rows = case
    weighed = [dataclasses.replace(row, weight=w) for row, w in zip(rows[:3], (0.5, 1.0, 4.0), strict=True)]
    with torch.inference_mode():
        loss, count = answer_loss(model, weighed)
    assert count == sum(row.supervised for row in rows[:3])
    assert float(loss) == pytest.approx(sum(row.weight * reference(model, row) for row in weighed), rel=1e-4)
