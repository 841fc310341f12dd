"""Making an expert folder, and what `status` says of one."""

import dataclasses
import json

import pytest
from small_stores import HashEmbedder, make_expert, words_bert, write_files

from doyen.adapters import AdapterManifest, adapter_folder
from doyen.config import Settings, load_settings
from doyen.errors import ExpertError, ModelError, StoreError, UsageError
from doyen.folder import init, status
from doyen.ingesting import ingest, open_index
from doyen.lineage import write_lineage
from doyen.records import Example, SourceSpan

MANIFEST = AdapterManifest(
    *("first", "smollm2-135m-instruct", "m@1", "lora", "t", "2026-01-01T00:00:00", {}, {}, [], []),
    *(10, 5, 100, 1.0, 0.5, 1.25, None),
)


@pytest.fixture
def filled(expert, tmp_path):
    source = write_files(tmp_path / "source", {"a.txt": "Text of a.", "b.txt": "Text of b."})
    ingest(expert, [source], embedder=HashEmbedder())
    return expert


def test_init_writes_settings_that_load(tmp_path):
    path = init(tmp_path / "new" / "expert")
    assert path == (tmp_path / "new" / "expert").resolve()
    assert load_settings(path) == Settings()


def test_init_keeps_a_model_folder_as_an_absolute_path(tmp_path, monkeypatch):
    words_bert(tmp_path / "toy", ["some words"])
    monkeypatch.chdir(tmp_path)
    assert load_settings(init("new", embedder="./toy")).embedder.name == str(tmp_path / "toy")


def test_init_keeps_what_is_in_the_folder_but_never_replaces_an_expert(tmp_path):
    write_files(tmp_path / "new", {"mine.txt": "x"})
    path = init(tmp_path / "new")
    assert (path / "mine.txt").read_text() == "x"
    with pytest.raises(ExpertError, match="already"):
        init(path, store="elsewhere")
    assert load_settings(path) == Settings()


def test_init_over_a_file_is_refused(tmp_path):
    write_files(tmp_path, {"new": "x"})
    with pytest.raises(ExpertError, match="is a file"):
        init(tmp_path / "new")


@pytest.mark.parametrize(
    ("options", "error"), [({"model": "no-such-model"}, ModelError), ({"store": "gs://bucket/index"}, StoreError)]
)
def test_init_with_something_unknown_makes_nothing(tmp_path, options, error):
    with pytest.raises(error):
        init(tmp_path / "new", **options)
    assert not (tmp_path / "new").exists()


def test_a_new_expert_holds_nothing(expert):
    row = status(expert)
    assert (row["documents"], row["chunks"], row["failed"], row["adapters"]) == (0, 0, [], [])
    assert (row["examples"], row["comparison"], row["interrupted_runs"]) == (None, None, [])
    assert json.loads(json.dumps(row)) == row


def test_status_counts_documents_and_makes_no_index(filled, tmp_path):
    assert (status(filled)["documents"], status(filled)["chunks"]) == (2, 2)
    other = make_expert(tmp_path / "other")
    status(other)
    assert [p.name for p in other.iterdir()] == ["doyen.toml"]


def test_an_adapter_whose_documents_changed_or_went_is_stale(filled):
    known = {d.id: d.sha256 for d in open_index(filled, load_settings(filled)).documents()}
    sources = [{"document": "a.txt", "sha256": known["a.txt"]}, {"document": "b.txt", "sha256": "old"}]
    sources.append({"document": "gone.txt", "sha256": "x"})
    dataclasses.replace(MANIFEST, sources=sources).write(filled / "adapters" / "first")
    (row,) = status(filled)["adapters"]
    assert (row["name"], row["documents"], row["stale_documents"]) == ("first", 3, ["b.txt", "gone.txt"])


def test_a_broken_adapter_is_named_and_the_others_still_listed(filled):
    MANIFEST.write(filled / "adapters" / "first")
    write_files(
        filled / "adapters",
        {"bad/manifest.json": "{", ".half.training/checkpoint.pt": "x", ".none.training/options.json": "{}"},
    )
    row = status(filled)
    found = {a["name"]: a for a in row["adapters"]}
    assert set(found) == {"bad", "first"}
    assert "cannot be read" in found["bad"]["fault"] and "fault" not in found["first"]
    assert row["interrupted_runs"] == ["half"]


def test_an_adapter_is_found_by_name_or_as_the_newest(expert):
    with pytest.raises(UsageError, match="has no adapter"):
        adapter_folder(expert, "")
    MANIFEST.write(expert / "adapters" / "first")
    assert adapter_folder(expert, "").name == adapter_folder(expert, "first").name == "first"
    with pytest.raises(UsageError) as caught:
        adapter_folder(expert, "second")
    assert caught.value.hint == "adapters: first"


def test_the_newest_adapter_is_the_one_made_last_whatever_was_written_since(expert):
    dataclasses.replace(MANIFEST, created="2026-02-01T00:00:00").write(expert / "adapters" / "later")
    MANIFEST.write(expert / "adapters" / "first")
    assert adapter_folder(expert, "").name == "later"


def test_an_adapter_with_lineage_tells_which_examples_are_stale(filled, tmp_path):
    known = {d.id: d.sha256 for d in open_index(filled, load_settings(filled)).documents()}
    spans = [SourceSpan(name, known[name], None, 0, 4) for name in ("a.txt", "b.txt")]
    examples = [Example((), (spans[n % 2],), question_id=f"q{n}", variant="passages") for n in range(4)]
    MANIFEST.write(filled / "adapters" / "first")
    write_lineage(filled / "adapters" / "first", examples)
    write_files(filled / "examples", {"manifest.json": '{"train": 4, "validation": 0}'})
    (filled / "examples" / "train.jsonl").write_text("".join(json.dumps(e.as_dict()) + "\n" for e in examples))
    assert status(filled)["adapters"][0]["stale_examples"] == []
    write_files(tmp_path / "source", {"b.txt": "Other words."})
    ingest(filled, [tmp_path / "source"], embedder=HashEmbedder())
    row = status(filled)
    for found in (row["adapters"][0], row["examples"]):
        assert [e["question_id"] for e in found["stale_examples"]] == ["q1", "q3"]
        assert (found["stale_documents"], found["stale_share"]) == (["b.txt"], 0.5)
    assert json.loads(json.dumps(row)) == row


def test_duplicates_are_shown(filled, tmp_path):
    write_files(tmp_path / "source", {"copy.txt": "Text of a."})
    ingest(filled, [tmp_path / "source"], embedder=HashEmbedder())
    (group,) = status(filled)["duplicates"]
    assert (group["documents"], group["exact"]) == (["a.txt", "copy.txt"], True)
