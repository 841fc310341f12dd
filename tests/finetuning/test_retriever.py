"""A tiny BERT with random weights learns a company's own words, from documents alone; the index follows, and comes back."""

import dataclasses
import itertools
import json
import random
import re
import shutil

import numpy as np
import pytest
from small_stores import matching

import doyen
from doyen.adapters import AdapterManifest
from doyen.config import EmbedderSettings, load_settings
from doyen.embedding import load_embedder
from doyen.embedding.languages import trained_languages
from doyen.embedding.prefixes import Prefixes, read_prefixes
from doyen.errors import GateError, Interrupted, ModelError, UsageError
from doyen.expert import open_retriever
from doyen.finetuning.retriever.cross_encoder import CrossEncoder
from doyen.finetuning.retriever.embedder import SHARE, BestWeights, finetune_embedder, write_card
from doyen.finetuning.retriever.encoder import Encoder
from doyen.finetuning.retriever.pairs import Pair
from doyen.finetuning.retriever.record import RetrieverTraining
from doyen.finetuning.retriever.reranker import adopt, finetune_reranker
from doyen.finetuning.retriever.training import RetrieverOptions, make_batches, ranking_loss, train
from doyen.index.lance import LanceIndex

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
TOPICS = [a + b for a in ("ka", "le", "mi", "no") for b in ("dar", "fen", "gul", "hox", "jin", "pav", "rud")]
SYLLABLES = ("ado", "emi", "iru", "oso", "uka")
RERANKS = RetrieverOptions(learning_rate=3e-3, batch_size=16, most_pairs=1200)
LEARNS = RetrieverOptions(learning_rate=3e-3, batch_size=32, passes=6)


def documents():
    """Yield name, text: a title names two topics, the text has their words but never their names."""
    for pair in itertools.combinations(TOPICS, 2):
        rng = random.Random(" ".join(pair))
        own = [f"{topic}{syllable}" for topic in pair for syllable in SYLLABLES]
        body = [f"The {' '.join(rng.sample(own, 4))}." for _ in range(8)]
        yield f"{'-'.join(pair)}.md", f"# {' '.join(pair)}\n\n{' '.join(body)}\n"


def bert(folder):
    """Save a BERT of one layer that knows all words of the documents as whole tokens."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel

    found = sorted({w for _, text in documents() for w in text.replace(".", " .").replace("#", " ").lower().split()})
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *found])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, "[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=len(vocabulary),
            hidden_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=128,
        )
        BertModel(config, add_pooling_layer=False).save_pretrained(str(folder))
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="module")
def untouched(tmp_path_factory):
    """An expert with 378 documents, indexed with the random BERT."""
    root = tmp_path_factory.mktemp("retriever")
    (root / "docs").mkdir()
    for name, text in documents():
        (root / "docs" / name).write_text(text)
    expert = doyen.init(root / "expert", embedder=str(bert(root / "bert")))
    doyen.ingest(expert, [root / "docs"])
    toml = expert / "doyen.toml"
    toml.write_text(toml.read_text().replace("[embedder]", "# ours\n[embedder]"))
    return expert


@pytest.fixture
def own(untouched, tmp_path):
    return shutil.copytree(untouched, tmp_path / "expert")


@pytest.fixture(scope="module")
def learned(untouched, tmp_path_factory):
    """The expert after `finetune_embedder`, with what that returned."""
    expert = shutil.copytree(untouched, tmp_path_factory.mktemp("learned") / "expert")
    return expert, finetune_embedder(expert, options=LEARNS)


def vectors(expert):
    index = LanceIndex.open(expert / "index")
    return {d.id: index.vectors_of(d.id) for d in index.documents()}


def test_held_out_documents_are_found_better(learned):
    _, made = learned
    assert made.used
    assert made.gain["low"] > 0
    assert made.after > made.before
    assert made.steps > 10
    assert set(made.pairs) == {"title", "words"}


def test_the_expert_searches_with_the_trained_embedder(learned, untouched):
    expert, made = learned
    assert 'name = "./embedders/tuned-1"' in (expert / "doyen.toml").read_text()
    assert "# ours\n[embedder]" in (expert / "doyen.toml").read_text()
    embedder = load_embedder(load_settings(expert).embedder.name)
    index = LanceIndex.open(expert / "index")
    assert index.manifest.fingerprint.split("/")[0] == embedder.fingerprint.split("/")[0]
    chunk = index.chunks_of(["kadar-kafen.md"])[0]
    assert np.allclose(index.vectors_of("kadar-kafen.md"), embedder.embed([chunk.indexed]), atol=2e-3)
    assert made.reembedded == index.chunk_count() == LanceIndex.open(untouched / "index").chunk_count()
    before = open_retriever(untouched, load_settings(untouched)).search("kadar kafen", 5)
    after = open_retriever(expert, load_settings(expert)).search("kadar kafen", 5)
    assert before
    assert {h.chunk.document for h in after} != set()
    assert matching(index, "kadarado", 3)


def test_nothing_is_left_beside_the_expert(learned):
    expert, made = learned
    assert sorted(p.name for p in expert.iterdir()) == ["doyen.toml", "embedders", "index", "sources.json"]
    assert [p.name for p in (expert / "embedders").iterdir()] == [made.name]
    assert RetrieverTraining.read(expert / "embedders" / made.name) == made


def test_a_moved_expert_still_finds_its_embedder(learned, tmp_path):
    moved = shutil.copytree(learned[0], tmp_path / "elsewhere")
    assert load_settings(moved).embedder.name == str(moved / "embedders" / "tuned-1")
    assert open_retriever(moved, load_settings(moved)).search("kadarado", 1)
    (tmp_path / "new.md").write_text("# kadar miyo\n\nThe kadarado kafenemi.\n")
    doyen.ingest(moved, [tmp_path / "new.md"])
    assert "new.md" in {d.id for d in LanceIndex.open(moved / "index").documents()}


def test_undo_brings_back_vectors_settings_and_later_documents(learned, untouched, tmp_path):
    expert = shutil.copytree(learned[0], tmp_path / "expert")
    (tmp_path / "new.md").write_text("# kadar miyo\n\nThe kadarado kafenemi.\n")
    doyen.ingest(expert, [tmp_path / "new.md"])
    undone = doyen.undo_retriever(expert, "embedder")
    assert undone.reembedded == 1
    assert (expert / "doyen.toml").read_text() == (untouched / "doyen.toml").read_text()
    found, was = vectors(expert), vectors(untouched)
    assert set(found) == {*was, "new.md"}
    assert all(np.array_equal(found[name], was[name]) for name in was)
    assert not list(expert.glob("embedders/*"))
    assert open_retriever(expert, load_settings(expert)).search("kadar", 1)


def test_adapters_that_refuse_by_the_other_cosines_are_named(learned, tmp_path):
    expert = shutil.copytree(learned[0], tmp_path / "expert")
    for name, threshold in (("lora-1", 0.5), ("lora-2", None)):
        (expert / "adapters" / name).mkdir(parents=True)
        facts = ("m", "f", "lora", "h", "2026", {}, {}, [], [], 1, 1, 1, 1.0, 1.0, 1.0, None)
        AdapterManifest(name, *facts, refusal_threshold=threshold).write(expert / "adapters" / name)
    said = []
    doyen.undo_retriever(expert, "embedder", say=said.append)
    assert [line for line in said if "lora-1 refuse" in line]
    assert "lora-2" not in "".join(said)


def test_removing_a_document_forgets_the_old_vectors(learned, tmp_path):
    expert = shutil.copytree(learned[0], tmp_path / "expert")
    doyen.remove_documents(expert, ["kadar-kafen.md"])
    assert not (expert / "embedders" / "tuned-1" / "old-vectors").exists()
    undone = doyen.undo_retriever(expert, "embedder")
    assert undone.reembedded == LanceIndex.open(expert / "index").chunk_count()


def test_without_a_sure_gain_nothing_changes(own, untouched):
    made = finetune_embedder(own, options=dataclasses.replace(LEARNS, learning_rate=2e-3, most_pairs=21, passes=1))
    assert not made.used
    assert made.gain["low"] <= 0
    assert (own / "doyen.toml").read_text() == (untouched / "doyen.toml").read_text()
    assert not list(own.glob("embedders/*"))


def test_a_training_that_changes_nothing_is_an_error(own):
    with pytest.raises(GateError, match="changed no vector"):
        finetune_embedder(own, options=dataclasses.replace(LEARNS, learning_rate=1e-12, passes=1))
    assert not list(own.glob("embedders/*"))


def stop_in(stage):
    def progress(name, done, total, remark):
        if name == stage:
            raise KeyboardInterrupt

    return progress


def test_stopped_in_training_leaves_the_expert_as_it_was(own, untouched):
    with pytest.raises(Interrupted, match="as it was"):
        finetune_embedder(own, options=LEARNS, progress=stop_in("training"))
    assert not list(own.glob("embedders/*"))
    assert (own / "doyen.toml").read_text() == (untouched / "doyen.toml").read_text()


def test_stopped_in_embedding_goes_on_without_training_again(own, untouched):
    with pytest.raises(Interrupted, match="is kept") as stopped:
        finetune_embedder(own, options=LEARNS, progress=stop_in("embedding"))
    assert "--resume --name tuned-1" in stopped.value.hint
    assert (own / "doyen.toml").read_text() == (untouched / "doyen.toml").read_text()
    was, now = vectors(untouched), vectors(own)
    assert all(np.array_equal(was[name], now[name]) for name in was)
    stages = []
    made = doyen.finetune_retriever(own, "embedder", resume=True, progress=lambda stage, *_: stages.append(stage))
    assert made.used
    assert set(stages) == {"embedding"}
    assert load_settings(own).embedder.name.endswith("tuned-1")


def test_a_crash_between_index_and_settings_harms_no_search_and_is_mended(own, monkeypatch):
    with pytest.raises(Interrupted):
        finetune_embedder(own, options=LEARNS, progress=stop_in("embedding"))
    before = (own / "doyen.toml").read_text()
    doyen.finetune_retriever(own, "embedder", resume=True)
    (own / "doyen.toml").write_text(before)
    record = RetrieverTraining.read(own / "embedders" / "tuned-1")
    dataclasses.replace(record, used=False).write(own / "embedders" / "tuned-1")
    assert open_retriever(own, load_settings(own)).search("kadarado", 1)
    doyen.finetune_retriever(own, "embedder", resume=True)
    assert open_retriever(own, load_settings(own)).search("kadarado", 1)
    assert doyen.undo_retriever(own, "embedder").reembedded == 0


def test_the_way_back_needs_something_to_undo(own):
    for target in ("embedder", "reranker"):
        with pytest.raises(UsageError, match="nothing to undo"):
            doyen.undo_retriever(own, target)
    with pytest.raises(UsageError, match="no interrupted run"):
        doyen.finetune_retriever(own, "embedder", resume=True)
    with pytest.raises(UsageError, match="unknown target"):
        doyen.finetune_retriever(own, "retriever")
    with pytest.raises(UsageError, match="not a name"):
        doyen.finetune_retriever(own, "embedder", name="a/../b")


def test_torch_and_serving_give_the_same_vectors(learned):
    folder = learned[0] / "embedders" / "tuned-1"
    texts = ["The kadarado kafenemi.", "kadar kafen", "The lefenado. " * 30]
    assert np.allclose(Encoder(folder).embed(texts, 128), load_embedder(str(folder)).embed(texts), atol=0.02)


def test_prefixes_are_trained_with_and_saved(untouched, tmp_path):
    prefixes = Prefixes("query: ", "passage: ")
    base = untouched.parent / "bert"
    encoder = Encoder(base, prefixes)
    assert encoder.tokenise(["kadar"], 64, "query") == Encoder(base).tokenise(["query: kadar"], 64)
    assert encoder.tokenise(["kadar"], 64) == Encoder(base).tokenise(["passage: kadar"], 64)
    encoder.save(tmp_path / "tuned-1")
    assert read_prefixes(tmp_path / "tuned-1", "tuned-1") == prefixes


def test_cut_vectors_are_trained_as_they_are_served(untouched):
    base, texts = untouched.parent / "bert", ["The kadarado kafenemi.", "kadar"]
    served = load_embedder(EmbedderSettings(str(base), dimensions=8)).embed(texts)
    assert served.shape == (2, 8)
    assert np.allclose(Encoder(base, dimensions=8).embed(texts, 64), served, atol=0.02)


def test_layers_after_the_pooling_are_refused(untouched, tmp_path):
    base = shutil.copytree(untouched.parent / "bert", tmp_path / "bert")
    (base / "modules.json").write_text(json.dumps([{"path": "2_Dense", "type": "sentence_transformers.models.Dense"}]))
    with pytest.raises(ModelError, match="dense layers"):
        Encoder(base)


def test_a_trained_embedder_says_its_languages(tmp_path):
    write_card(tmp_path, "all-minilm-l6-v2", frozenset({"en", "de"}))
    assert trained_languages(tmp_path, "tuned-1") == {"en", "de"}
    write_card(tmp_path, "bge-m3", frozenset())
    assert trained_languages(tmp_path, "tuned-1") == frozenset()


class Judged:
    """A measure whose means are given beforehand."""

    def __init__(self, *means):
        self._means = iter(means)

    def scores(self, embed):
        return np.array([next(self._means)])


def test_training_stops_when_it_gets_worse_and_the_best_weights_are_kept(untouched):
    encoder = Encoder(untouched.parent / "bert")
    old = encoder.weights()
    best = BestWeights(encoder, old, Judged(0.5, 0.6, 0.55))
    stops, name = [], next(name for name in old if old[name].is_floating_point())
    for step in (1.0, 2.0, 3.0):
        encoder.blend(old, {key: value + step for key, value in old.items()}, 1.0)
        stops.append(best.look())
        assert np.allclose(encoder.weights()[name] - old[name], step, atol=1e-5)
    assert stops == [False, False, True]
    best.take()
    assert np.allclose(encoder.weights()[name] - old[name], 2.0 * SHARE, atol=1e-5)


def test_training_is_asked_at_equal_distances_whether_to_stop(untouched):
    pairs = [Pair(topic, f"The {topic}ado.", i, topic, "title") for i, topic in enumerate(TOPICS[:16])]
    encoder = Encoder(untouched.parent / "bert")
    queries = encoder.embed([pair.query for pair in pairs], 64)
    made = make_batches(pairs, queries, queries, size=2, topical=0.0, seed=1)
    steps, asked = [], []

    def stop():
        asked.append(len(steps))
        return len(asked) == 3

    train(encoder, made, learning_rate=1e-4, report=lambda step, _: steps.append(step), stop=stop)
    assert asked == [2, 4, 6]
    assert steps == [1, 2, 3, 4, 5, 6]


def test_few_pairs_are_gone_through_more_often():
    options = RetrieverOptions(1e-4, 16, most_pairs=3200, passes=3)
    assert [options.times(pairs) for pairs in (20, 1067, 1600, 3200, 9000)] == [3, 2, 2, 1, 1]


def test_the_loss_counts_only_what_is_a_negative():
    import torch

    queries, passages = torch.eye(3), torch.eye(3)
    passages[1, 0] = 0.95
    none = np.zeros((3, 3), dtype=np.bool_)
    assert float(ranking_loss(queries, passages, none)) == 0.0
    wrong = none.copy()
    wrong[0, 1] = True
    expected = np.log(1 + np.exp(20 * 0.95 - 20)) / 3
    assert float(ranking_loss(queries, passages, wrong)) == pytest.approx(expected, rel=1e-3)


def test_negatives_leave_out_the_same_document_and_what_may_be_right():
    pairs = [Pair("q", "t", i, document, "title") for i, document in enumerate("aabcd")]
    passages = np.array([[1, 0, 0], [0, 1, 0], [0.99, 0.14, 0], [0, 0, 1], [0.6, 0, 0.8]], dtype=np.float32)
    made = make_batches(pairs, passages, passages, size=5, topical=0.0, seed=1)
    wrong = made.wrong([0, 1, 2, 3, 4])
    assert not wrong[0, 1]  # the same document
    assert not wrong[0, 2]  # as near to the query as its own passage
    assert wrong[0, 3] and wrong[0, 4]
    assert not wrong.diagonal().any()


def test_every_pair_stands_in_one_batch_of_a_pass():
    rng = np.random.default_rng(0)
    points = rng.standard_normal((70, 8)).astype(np.float32)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    made = make_batches([None] * 70, points, points, size=8, topical=0.5, seed=3, passes=2)
    assert sorted(i for batch in made.batches for i in batch) == sorted([*range(70)] * 2)
    assert max(map(len, made.batches)) <= 9


def test_a_reranker_learns_to_tell_the_right_passage(own):
    losses = []
    finetune_reranker(own, options=RERANKS, progress=lambda *given: losses.append(float(given[3].split()[1])))
    chance = np.log(4)
    assert losses[0] == pytest.approx(chance, abs=0.2)
    assert losses[-1] < chance - 0.1


def test_a_reranker_in_use_is_named_and_taken_back(own, untouched):
    work, final = own / "rerankers" / ".tuned-1.training", own / "rerankers" / "tuned-1"
    CrossEncoder(untouched.parent / "bert", seed=1).save(work)
    gain = {"value": 0.1, "low": 0.05, "high": 0.2, "n": 30}
    record = RetrieverTraining(
        "tuned-1", "reranker", "bert", "", {"title": 40}, {}, 3, 1.0, 0.5, 0.6, gain, by_kind={}, settings={}
    )
    assert adopt(own, record, work, final).used
    assert load_settings(own).rerank.name == str(final)
    assert json.loads((final / "config.json").read_text())["architectures"] == ["BertForSequenceClassification"]
    pairs = [("kadar", "The kadarado."), ("kadar", "The lefenado kafenemi. " * 40)]
    again = CrossEncoder(final, seed=2)
    assert np.allclose(
        again.score(pairs, 128), CrossEncoder(untouched.parent / "bert", seed=1).score(pairs, 128), atol=1e-3
    )
    assert doyen.undo_retriever(own, "reranker").name == "tuned-1"
    assert load_settings(own).rerank.name == ""
    assert not list(own.glob("rerankers/*"))


def test_a_reranker_that_orders_no_better_is_not_kept(own, untouched):
    made = finetune_reranker(own, options=dataclasses.replace(RERANKS, learning_rate=1e-9, most_pairs=32))
    assert not made.used
    assert (own / "doyen.toml").read_text() == (untouched / "doyen.toml").read_text()
    assert not list(own.glob("rerankers/*"))


def run(*words):
    from typer.testing import CliRunner

    from doyen.cli import app

    return CliRunner().invoke(app, ["finetune", *words])


def test_the_command_trains_says_what_it_measured_and_goes_back(own):
    result = run("--target", "embedder", "--learning-rate", "0.003", "--expert", str(own))
    assert result.exit_code == 0, result.exception
    assert re.search(r"nDCG@10 of \d+ held-out queries: 0\.\d+ before, \d\.\d+ after", result.stdout)
    back = run("--target", "embedder", "--undo", "--json", "--expert", str(own))
    if "in use now" in result.stdout:
        assert json.loads(back.stdout)["used"] is False
    else:
        assert isinstance(back.exception, UsageError)


def test_options_say_which_target_they_go_with(own):
    result = run("--target", "embedder", "--rank", "4", "--expert", str(own))
    assert isinstance(result.exception, UsageError)
    assert "--rank" in str(result.exception)
    assert isinstance(run("--undo", "--expert", str(own)).exception, UsageError)
    assert "unknown target" in str(run("--target", "retriever", "--expert", str(own)).exception)
