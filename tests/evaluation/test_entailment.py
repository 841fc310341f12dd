import json

import numpy as np
import pytest
from tiny_encoders import make_encoder

from doyen.errors import ModelError
from doyen.evaluation.entailment import NliCrossEncoder, open_entailer

LABELS = {0: "contradiction", 1: "entailment", 2: "neutral"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("nli") / "model"
    options = {"num_labels": 3, "id2label": LABELS, "label2id": {v: k for k, v in LABELS.items()}}
    make_encoder(made, "bert", head="ForSequenceClassification", **options)
    from transformers import PreTrainedTokenizerFast

    fast = PreTrainedTokenizerFast(
        tokenizer_file=str(made / "tokenizer.json"),
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
    )
    fast.save_pretrained(made)
    return made


def test_probabilities_are_the_models_own_and_do_not_depend_on_the_batch(folder):
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    premises = ["the invoice is due", "pump pressure " * 80, "late delivery"] * 7
    hypotheses = ["invoice is paid", "valve", "the order was not paid"] * 7
    found = NliCrossEncoder(folder).entails(premises, hypotheses)
    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    for i in (0, 1, 2):
        row = tokenizer(premises[i], hypotheses[i], truncation="only_first", max_length=64, return_tensors="pt")
        with torch.inference_mode():
            expected = model(**row).logits.softmax(-1)[0, 1].item()
        assert found[i] == pytest.approx(expected, abs=1e-5)
    assert found.shape == (21,) and np.allclose(found[:3], found[18:], atol=1e-5)
    assert len(set(found[:3].round(6))) == 3


def test_a_model_without_a_label_of_entailment_is_refused(folder, tmp_path):
    config = json.loads((folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"id2label": {"0": "entailment", "1": "not_entailment"}}))
    assert NliCrossEncoder(tmp_path)._label == 0
    (tmp_path / "config.json").write_text(json.dumps(config | {"id2label": {"0": "LABEL_0", "1": "LABEL_1"}}))
    with pytest.raises(ModelError, match="labels are LABEL_0, LABEL_1"):
        NliCrossEncoder(tmp_path)


def test_a_model_that_is_not_here_is_named():
    with pytest.raises(ModelError):
        open_entailer("nobody/nli-of-nobody")
