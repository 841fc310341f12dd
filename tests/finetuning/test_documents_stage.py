"""The stage before the examples: every token of the documents once, measured on documents kept back, resumed bit for bit."""

import dataclasses
import json

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from small_stores import manifest_of, write_texts

from doyen.adapters import interrupted_runs, read_adapter
from doyen.config import FinetuneSettings, ModelSettings, Settings, load_settings
from doyen.errors import GateError, Interrupted, UsageError
from doyen.examples.held_out.rows import Made, write_made
from doyen.finetuning.data import TokenisedExample
from doyen.finetuning.documents_stage import (
    WINDOW_TOKENS,
    DocumentsRun,
    domain_rows,
    held_rows,
    learn_documents,
    learned_texts,
    repeated,
)
from doyen.finetuning.domain_text import (
    Domain,
    DomainText,
    _divided,
    domain_hash,
    lineage_of,
    read_domain,
    text_mark,
    windows,
)
from doyen.finetuning.parallel import Group
from doyen.finetuning.training import finetune
from doyen.index.lance import LanceIndex
from doyen.lineage import DOCUMENT_TEXT, read_lineage, stale_examples
from doyen.models.engine import load_tokenizer

TEXTS = [f"The {thing} of the guild lifts {i} tonnes. " * 6 for i, thing in enumerate(("crane", "lock", "barge"))]


def domain_of(texts, held=()):
    return Domain(
        [DomainText(f"d{i}.md", f"sha{i}", text) for i, text in enumerate(texts)],
        [DomainText(f"h{i}.md", f"held{i}", text) for i, text in enumerate(held)],
    )


@pytest.fixture
def domain():
    return domain_of(TEXTS, ["The crane of the guild lifts 7 tonnes. " * 3])


@pytest.fixture
def tiny(settings_of, phi):
    """Settings of a run of four steps on the documents and two on the examples, with dropout."""
    given = {"documents_epochs": 2.0, "epochs": 1.0, "replay": 0.0, "dropout": 0.1, "max_tokens": 512}
    return lambda **changes: settings_of(phi, **given | {"batch_size": 4, "micro_batch_tokens": 64} | changes)


# ---- text and tokens


@pytest.fixture(scope="module")
def tokenizer(phi):
    return load_tokenizer(phi)


@given(st.text(max_size=300), st.integers(2, 40), st.booleans())
@hypothesis_settings(max_examples=60)
def test_windows_supervise_every_token_of_a_text_once(tokenizer, text, most, whole):
    rows = windows(text, tokenizer, most, 5, whole=whole)
    mark = text_mark(tokenizer)
    supervised = [token for row in rows for token in row.ids[row.answer_start :]]
    assert supervised == tokenizer.encode(text, add_special_tokens=False) + [mark] * whole
    assert all(2 <= len(row.ids) <= most and row.number == 5 for row in rows)
    for before, after in zip(rows, rows[1:], strict=False):
        assert after.ids[0] == before.ids[-1]
    assert not rows or rows[0].ids[0] == mark


def test_marks_of_turns_in_a_text_are_only_letters(tokenizer):
    mark = tokenizer.convert_tokens_to_ids("<|end|>")
    assert all(mark not in row.ids for row in windows("Write <|end|> and stop.", tokenizer, 64))


def test_the_mark_between_texts_is_not_the_end_of_a_turn(tokenizer, llama):
    assert tokenizer.convert_ids_to_tokens(text_mark(tokenizer)) == "<|endoftext|>"
    chatml = load_tokenizer(llama)
    chatml.eos_token = "<|im_end|>"
    assert chatml.convert_ids_to_tokens(text_mark(chatml)) == "<|endoftext|>"


def test_one_in_ten_is_kept_back_and_never_a_near_duplicate():
    texts = {f"{i:03}": DomainText(f"{i}", f"{i}", f"text {i}", lone=i % 2 == 0) for i in range(60)}
    domain = _divided(texts)
    assert len(domain.held_out) == 6 and len(domain.learned) == 54
    assert all(text.lone for text in domain.held_out)
    assert not {t.document for t in domain.held_out} & {t.document for t in domain.learned}
    assert _divided(dict(reversed(texts.items()))).held_out == domain.held_out
    assert _divided(dict(list(texts.items())[:20])).held_out == []  # two would say nothing
    assert len(_divided({f"{i:04}": DomainText("", "", "") for i in range(900)}).held_out) == 32


def test_the_hash_tells_texts_and_their_roles_apart():
    one = domain_of(["a", "b"], ["c"])
    assert domain_hash(one) == domain_hash(domain_of(["a", "b"], ["c"]))
    assert len({domain_hash(d) for d in (one, domain_of(["a", "b", "c"]), domain_of(["a", "x"], ["c"]))}) == 3


def test_replay_takes_as_many_tokens_as_wanted():
    rows = [TokenisedExample(tuple(range(10)), 3, i) for i in range(5)]
    assert repeated(rows, 0, 1) == []
    for tokens, count in ((20, 2), (100, 10), (1000, 20)):
        found = repeated(rows, tokens, 1)
        assert len(found) == count and {row.number for row in found} == {-1}
    assert repeated([], 100, 1) == []


def test_less_than_a_pass_reads_only_some_documents(tokenizer, tiny):
    settings = dataclasses.replace(tiny().finetune, epochs=0.3, batch_size=1)
    domain = domain_of(["one", "two", "three", "four", "five", "six"])
    rows = domain_rows(domain, tokenizer, settings)
    assert len(rows) == 6 and len(learned_texts(domain, rows, settings)) == 2
    whole = dataclasses.replace(settings, epochs=1.0)
    assert learned_texts(domain, rows, whole) == domain.learned


def test_rows_are_no_longer_than_a_micro_batch_or_an_example(tokenizer, tiny):
    domain = domain_of(["word " * 2000], ["other " * 2000])
    for change, most in (
        ({"micro_batch_tokens": 64}, 64),
        ({"micro_batch_tokens": 4096, "max_tokens": 2048}, WINDOW_TOKENS),
    ):
        settings = tiny(**change).finetune
        assert max(len(row.ids) for row in domain_rows(domain, tokenizer, settings)) == most
        assert max(len(row.ids) for row in held_rows(domain, tokenizer, settings)) == most


def test_lineage_of_documents_goes_stale_as_that_of_examples(tmp_path):
    rows = [row.as_dict() for row in lineage_of(domain_of(["a", "b", "c"]).learned)]
    path = tmp_path / "lineage.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    stale = stale_examples(read_lineage(path), None, {"d0.md": "sha0", "d1.md": "new"})
    assert [(row["documents"], row["reason"], row["variant"]) for row in stale] == [
        (["d1.md"], "changed", DOCUMENT_TEXT),
        (["d2.md"], "gone", DOCUMENT_TEXT),
    ]


# ---- runs


def weights(expert, name):
    return load_file(str(expert / "adapters" / name / "adapter_model.safetensors"))


def stop_at(stage, step):
    def report(line):
        if (line.stage, line.step) == (stage, step):
            raise KeyboardInterrupt

    return report


@pytest.fixture(scope="module")
def whole(phi, examples, tmp_path_factory):
    """One undisturbed run of both stages: (expert, settings, domain, manifest, lines of the curve)."""
    tuned = FinetuneSettings(
        rank=4, alpha=8, learning_rate=0.02, epochs=1.0, documents_epochs=2.0, batch_size=4, micro_batch_tokens=64,
        max_tokens=512, dropout=0.1, replay=0.3,
    )  # fmt: skip
    settings = Settings(model=ModelSettings(name=str(phi)), finetune=tuned)
    expert, lines = tmp_path_factory.mktemp("expert"), []
    domain = domain_of(TEXTS, ["The crane of the guild lifts 7 tonnes. " * 3])
    made = finetune(expert, settings, examples, [], name="whole", domain=domain, report=lines.append)
    return expert, settings, domain, made, lines


def test_the_documents_come_first_and_one_adapter_is_left(whole):
    expert, settings, _, made, lines = whole
    stages = [line.stage for line in lines]
    first = stages.count("documents")
    assert first > 2 and stages == ["documents"] * first + [None] * made.steps
    stage = made.stages[0]
    assert (stage["stage"], stage["documents"], stage["held_out_documents"]) == ("documents", 3, 1)
    assert stage["steps"] == first and 0 < stage["replay_tokens"] < stage["tokens"]
    assert stage["bits_per_byte_after"] < 0.95 * stage["bits_per_byte_before"]
    assert made == read_adapter(expert / "adapters" / "whole")
    folder = expert / "adapters" / "whole"
    assert len((folder / "documents_history.jsonl").read_text().splitlines()) == first
    assert len((folder / "history.jsonl").read_text().splitlines()) == made.steps
    assert interrupted_runs(expert) == []


def test_the_documents_read_stand_in_lineage_and_sources(whole):
    expert, _, domain, made, _ = whole
    rows = read_lineage(expert / "adapters" / "whole" / "lineage.jsonl")
    read = [row["source"][0] for row in rows if row["variant"] == DOCUMENT_TEXT]
    assert [(s["document"], s["start"], s["end"]) for s in read] == [
        (t.document, 0, len(t.text)) for t in domain.learned
    ]
    assert {s["document"] for s in made.sources} >= {"d0.md", "d1.md", "d2.md"}
    assert len(rows) == 3 + made.examples["train"]


@pytest.mark.parametrize("stage,step", [("documents", 2), ("documents", None), (None, 1)])
def test_stopped_in_either_stage_and_resumed_is_the_undisturbed_run(stage, step, whole, examples, tmp_path):
    expert, settings, domain, made, lines = whole
    step = step or sum(line.stage == "documents" for line in lines)
    options = {"name": "parts", "domain": domain}
    with pytest.raises(Interrupted) as caught:
        finetune(tmp_path, settings, examples, [], report=stop_at(stage, step), **options)
    assert "--name parts --resume" in caught.value.hint
    assert interrupted_runs(tmp_path) == ["parts"]
    again = []
    parts = finetune(tmp_path, settings, examples, [], resume=True, report=again.append, **options)
    left = lines[[(line.stage, line.step) for line in lines].index((stage, step)) + 1 :]
    assert [(line.stage, line.step, line.loss) for line in again] == [(e.stage, e.step, e.loss) for e in left]
    one, other = weights(expert, "whole"), weights(tmp_path, "parts")
    assert all(torch.equal(one[key], other[key]) for key in one)
    unlike = ("seconds",)
    assert {k: v for k, v in parts.stages[0].items() if k not in unlike} == {
        k: v for k, v in made.stages[0].items() if k not in unlike
    }


def test_resuming_after_the_documents_changed_is_refused(whole, examples, tmp_path):
    _, settings, domain, *_ = whole
    with pytest.raises(Interrupted):
        finetune(tmp_path, settings, examples, [], name="a", domain=domain, report=stop_at("documents", 1))
    changed = dataclasses.replace(domain, learned=domain.learned[:-1])
    with pytest.raises(GateError, match="other examples, settings or model"):
        finetune(tmp_path, settings, examples, [], name="a", domain=changed, resume=True)


def test_without_text_there_is_nothing_to_learn(tiny, phi, tmp_path):
    with pytest.raises(UsageError, match="no document") as caught:
        learn_documents(
            None, phi, Domain([], []), tiny().finetune, [], DocumentsRun(tmp_path, "f", None, print, 60.0, Group())
        )
    assert "doyen ingest" in caught.value.hint


def test_the_index_gives_each_text_once(expert, embedder):
    index = LanceIndex.open_or_create(expert / "index", manifest_of(embedder))
    write_texts(index, embedder, {"a.md": "The crane.", "b.md": "The crane.", "c.md": "The lock.", "d.md": " "})
    index.finish()
    domain = read_domain(expert, load_settings(expert))
    assert [t.document for t in domain.learned] == ["a.md", "c.md"] and domain.held_out == []
    write_made(expert, Made(documents=["c.md"]))  # its questions are to be asked: it must not be read before
    assert [t.document for t in read_domain(expert, load_settings(expert)).learned] == ["a.md"]
