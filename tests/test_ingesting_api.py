"""Ingest and search with an embedder behind an API: what is said of the cost, what an index remembers, what is kept."""

import dataclasses
import json

import pytest
from api_server import KEY, ApiServer
from small_stores import make_expert, write_files

import doyen
from doyen.config import EmbedderSettings, Settings, StoreSettings, load_settings, settings_toml
from doyen.errors import EndpointError, StoreError
from doyen.expert import open_retriever

FILES = {"yard.txt": "The crane stands in the yard.", "rent.txt": "The deposit is due within thirty days."}


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("TEST_API_KEY", KEY)
    server = ApiServer()
    yield server
    server.close()


def expert_with(folder, server, **changes):
    given = {"name": "openai:our-model", "endpoint": server.url, "key_variable": "TEST_API_KEY"} | changes
    return make_expert(folder, Settings(store=StoreSettings("index"), embedder=EmbedderSettings(**given)))


def change(expert, **changes):
    settings = load_settings(expert)
    settings = dataclasses.replace(settings, embedder=dataclasses.replace(settings.embedder, **changes))
    (expert / "doyen.toml").write_text(settings_toml(settings))


def test_ingest_says_the_cost_before_it_sends_and_search_finds(server, tmp_path):
    expert = expert_with(tmp_path / "expert", server, price=100.0)
    said = []
    doyen.ingest(
        expert,
        [write_files(tmp_path / "source", FILES)],
        say=lambda text: said.append((text, [b for b in server.bodies if len(b["input"]) > 1])),
    )
    ((text, sent_before),) = said
    assert "tokens are sent to 127.0.0.1" in text and "US$ 0.00" in text and not sent_before
    manifest = json.loads((expert / "index" / "manifest.json").read_text())
    assert (manifest["dim"], manifest["embedder"]) == (64, "openai:our-model")
    assert manifest["fingerprint"] == "openai:our-model@64/api"
    hits = open_retriever(expert, load_settings(expert)).search("deposit thirty days", 1)
    assert hits[0].chunk.document == "rent.txt"
    assert not [path for path in expert.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]
    said.clear()
    doyen.ingest(expert, say=said.append)
    assert not said


def test_the_first_batch_stands_for_the_rest(server, tmp_path):
    expert = expert_with(tmp_path / "expert", server)
    lines = "\n\n".join(
        f"Paragraph {{0}}-{i} says that the crane number {i} stands in yard {i * 7}. " * 9 for i in range(400)
    )
    source = write_files(tmp_path / "source", {f"{n}.txt": lines.format(n) for n in range(8)})
    said = []
    doyen.ingest(expert, [source], say=said.append)
    tokens = int(said[0].split()[1].replace(",", ""))
    sent = sum(len(text.encode()) / 4 for body in server.bodies for text in body["input"])
    assert len(said) == 1 and 0.8 < tokens / sent < 1.25


def test_other_dimensions_and_prefixes_are_another_index(server, tmp_path):
    expert = expert_with(tmp_path / "expert", server)
    source = write_files(tmp_path / "source", FILES)
    doyen.ingest(expert, [source])
    for changes in ({"dimensions": 16}, {"passage_prefix": "passage: "}, {"name": "openai:other"}):
        before = (expert / "doyen.toml").read_text()
        change(expert, **changes)
        with pytest.raises(StoreError, match="embedder") as error:
            open_retriever(expert, load_settings(expert))
        assert "--rebuild" in error.value.hint
        (expert / "doyen.toml").write_text(before)
    change(expert, query_prefix="question: ")
    assert open_retriever(expert, load_settings(expert)).search("crane", 1)
    assert server.bodies[-1]["input"] == ["question: crane"]


def test_what_was_written_before_the_api_failed_is_kept(server, tmp_path):
    expert = expert_with(tmp_path / "expert", server)
    source = write_files(tmp_path / "source", FILES)
    doyen.ingest(expert, [source])
    write_files(source, {"new.txt": "A new crane."})
    server.faults = [(401, {}, "{}")] * 9
    with pytest.raises(EndpointError, match="refuses: 401"):
        doyen.ingest(expert, [source])
    server.faults = []
    report = doyen.ingest(expert, [source])
    assert report.new == ["new.txt"] and len(report.unchanged) == 2


def test_status_and_doctor_know_an_api(server, tmp_path, monkeypatch):
    from doyen.doctor import examine

    expert = expert_with(tmp_path / "expert", server)
    doyen.ingest(expert, [write_files(tmp_path / "source", FILES)])
    assert doyen.status(expert)["models"]["embedder"] == {"name": "openai:our-model", "fetched": True}
    checks = {check.name: check for check in examine(expert)}
    assert checks["embedder"].ok and "behind an API" in checks["embedder"].detail and checks["index"].ok
    monkeypatch.delenv("TEST_API_KEY")
    checks = {check.name: check for check in examine(expert)}
    assert not checks["index"].ok and "TEST_API_KEY is not set" in checks["index"].detail
