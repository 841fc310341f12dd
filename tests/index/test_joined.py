"""The indexes of several experts, asked as one: the hits are those of one index with all documents, and nothing is written."""

import dataclasses
from pathlib import PurePath

import pytest
from small_stores import words_bert, write_files
from typer.testing import CliRunner

import doyen
from doyen.answer_cache import kept_mib
from doyen.capacity.sample import make_files
from doyen.cli import app
from doyen.config import StoreSettings, load_settings, settings_toml
from doyen.doctor import examine
from doyen.errors import ExpertError, StoreError, UsageError
from doyen.evaluation.costs import cost_figures
from doyen.expert import open_retriever
from doyen.index.filtering import Visible
from doyen.ingesting import index_place, open_index
from doyen.page_images import page_image
from doyen.records import Answer, Chunk, Hit
from doyen.serving.sessions import Sessions
from doyen.sources import SourceOptions

CLAIMS = {
    "water.md": "A burst pipe under the sink is paid in full up to nine thousand euros.",
    "theft.md": "Bicycles stolen from a locked cellar are paid up to six hundred euros.",
    "glass.md": "A cracked window of the greenhouse is replaced within nine days.",
}
LEGAL = {
    "notice.md": "Notice of a burst pipe is given within three days by letter or mail.",
    "court.md": "The court of the harbour town decides about all claims above nine thousand euros.",
}
NAMES = {name: f"claims/{name}" for name in CLAIMS} | {name: f"legal/{name}" for name in LEGAL}
QUESTIONS = [
    "When is notice of a burst pipe given?",
    "What is paid for a bicycle from the cellar?",
    "Which court decides about claims?",
    "greenhouse window",
]


@pytest.fixture(scope="module")
def embedder(tmp_path_factory):
    return words_bert(tmp_path_factory.mktemp("embedder"), [*CLAIMS.values(), *LEGAL.values(), *QUESTIONS])


def expert_of(folder, embedder, texts, labels=()):
    doyen.init(folder, embedder=str(embedder))
    source = write_files(folder.parent / f"{folder.name}-files", texts)
    doyen.ingest(folder, [source], options=SourceOptions(labels=labels))
    return folder


@pytest.fixture
def joined(tmp_path, embedder, monkeypatch):
    """An expert that joins two others, one of them with labels."""
    expert_of(tmp_path / "claims", embedder, CLAIMS)
    expert_of(tmp_path / "legal", embedder, LEGAL, labels=["counsel"])
    monkeypatch.chdir(tmp_path)
    return doyen.init("all", store="experts:claims, legal")


def test_no_answer_is_kept_where_a_members_removal_would_not_reach_it(joined, tmp_path):
    assert kept_mib(load_settings(joined)) == 0 < kept_mib(load_settings(tmp_path / "claims"))


def test_documents_of_one_name_stay_two_and_hide_each_other_nothing(joined, tmp_path):
    secret, open_ = "Salaries of the board rise by nine percent.", "Opening hours of the desk are nine to five."
    doyen.ingest(
        tmp_path / "claims",
        [write_files(tmp_path / "one", {"same.md": secret})],
        options=SourceOptions(labels=["board"]),
    )
    doyen.ingest(
        tmp_path / "legal", [write_files(tmp_path / "two", {"same.md": open_})], options=SourceOptions(labels=[])
    )
    retriever = open_retriever(joined, load_settings(joined))
    both = {h.chunk.document: h for h in retriever.search("board salaries and desk hours nine")}
    assert {"claims/same.md", "legal/same.md"} <= set(both)
    for where, ids in ((None, {"claims/same.md", "legal/same.md"}), (Visible(frozenset()), {"legal/same.md"})):
        shown = retriever.documents("nine percent hours", where=where)
        assert {d.document for d in shown} & set(both) >= ids
        assert ("claims/same.md" in {d.document for d in shown}) == (where is None)
        assert all("Salaries" not in str(d.summaries) for d in shown if d.document != "claims/same.md")
    index = retriever.index
    assert index.text("legal/same.md")[0].strip() == open_ and index.text("claims/same.md")[0].strip() == secret
    assert list(index.summaries_of(["legal/same.md"])) == ["legal/same.md"]
    assert "legal/same.md" not in {h.chunk.document for h in retriever.similar("legal/same.md")}


def found(expert, question, **options):
    return open_retriever(expert, load_settings(expert)).search(question, **options)


def test_the_best_of_all_is_found_as_in_one_index(joined, tmp_path, embedder):
    one = expert_of(tmp_path / "one", embedder, CLAIMS | LEGAL)
    for question in QUESTIONS:
        mine, whole = found(joined, question), found(one, question)
        assert [h.chunk.text for h in mine[:1]] == [h.chunk.text for h in whole[:1]]
        cosines = [{PurePath(h.chunk.document).name: h.similarity for h in hits} for hits in (mine, whole)]
        assert cosines[0] == pytest.approx(cosines[1], abs=1e-3)
    index = open_index(joined, load_settings(joined))
    assert [d.id for d in index.documents()] == sorted(NAMES.values())
    assert index.chunk_count() == 5 and index.summary_count() == open_index(one, load_settings(one)).summary_count()
    assert index.text("legal/notice.md")[0].strip() == LEGAL["notice.md"]
    assert index.versions("claims/theft.md")[0].document == "claims/theft.md"


def test_labels_and_filters_hold_in_each(joined):
    question = QUESTIONS[0]
    assert found(joined, question)[0].chunk.document == "legal/notice.md"
    seen = found(joined, question, where=Visible(frozenset()))
    assert seen and {h.chunk.document for h in seen} <= {NAMES[name] for name in CLAIMS}
    index = open_index(joined, load_settings(joined))
    assert index.label_sets() == {(), ("counsel",)}
    assert index.labels_of(["legal/notice.md", "claims/water.md", "claims/none.md", "nobody/x.md"]) == {
        "legal/notice.md": {("counsel",)},
        "claims/water.md": {()},
    }
    only = index.filter_condition(["title=notice*"])
    assert {h.chunk.document for h in found(joined, question, where=only)} == {"legal/notice.md"}
    with pytest.raises(UsageError, match="no document has a field 'colour'"):
        index.filter_condition(["colour=red"])


def test_a_member_that_changes_is_seen(joined, tmp_path):
    retriever = open_retriever(joined, load_settings(joined))
    assert retriever.search(QUESTIONS[3])[0].chunk.document == "claims/glass.md"
    before = index_place(joined, load_settings(joined)).stamp()
    doyen.ingest(tmp_path / "legal", [write_files(tmp_path / "more", {"greenhouse.md": "greenhouse window"})])
    assert retriever.search(QUESTIONS[3])[0].chunk.document == "legal/greenhouse.md"
    doyen.ingest(tmp_path / "legal", [tmp_path / "legal-files", tmp_path / "more"], rebuild=True)
    assert index_place(joined, load_settings(joined)).stamp() != before


def test_the_command_line_asks_all_and_writes_to_none(joined, tmp_path):
    run = CliRunner().invoke(app, ["search", "Which court decides?", "--expert", str(joined), "--json"])
    assert run.exit_code == 0 and "court.md" in run.output
    run = CliRunner().invoke(app, ["status", "--expert", str(joined), "--json"])
    assert run.exit_code == 0 and '"documents": 5' in run.output
    run = CliRunner().invoke(app, ["ingest", str(tmp_path / "claims-files"), "--expert", str(joined)])
    assert "is only read" in str(run.exception) and "--expert MEMBER" in run.exception.hint
    for command in (
        ["remove", "claims/water.md"],
        ["reembed", "--model", str(tmp_path)],
        ["finetune", "--target", "embedder"],
    ):
        run = CliRunner().invoke(app, [*command, "--expert", str(joined)])
        assert isinstance(run.exception, StoreError), command
    assert len(open_index(tmp_path / "claims", load_settings(tmp_path / "claims")).documents()) == 3


def test_removing_erases_what_the_joining_expert_kept_itself(joined):
    sessions = Sessions(joined)
    turns = {name: sessions.begin("ada") for name in ("claims/water.md", "legal/court.md")}
    for name, session in turns.items():
        sessions.add(session, "ada", "What?", "", Answer("so", True, "rag", (), (Hit(Chunk(name, 0, 1, "x"), 1.0),)))
    with pytest.raises(StoreError, match="is erased; they themselves lie in an expert"):
        doyen.remove_documents(joined, ["claims/water.md"])
    assert [len(sessions.turns(session, "ada")) for session in turns.values()] == [0, 1]


def test_a_page_is_drawn_from_the_members_original(joined, tmp_path):
    (pdf,) = make_files(tmp_path / "pdf", count=1, pages=2)
    doyen.ingest(tmp_path / "legal", [pdf])
    pdf.unlink()
    assert page_image(joined, f"legal/{pdf.name}", 2).png.startswith(b"\x89PNG")


def test_what_the_members_ingests_left_is_told_of_all(joined, tmp_path):
    doyen.ingest(tmp_path / "legal", [write_files(tmp_path / "more", {"broken.pdf": "no PDF"})])
    assert [row["file"] for row in doyen.status(joined)["failed"]] == [str(tmp_path / "more" / "broken.pdf")]
    answer = Answer("27", True, "rag", seconds=1.0, prompt_tokens=9, completion_tokens=1)
    costs = cost_figures(joined, load_settings(joined), {"rag": [answer]})
    assert costs["build"]["index"]["documents"] == len(CLAIMS) + len(LEGAL) and costs["build"]["index"]["ingests"] == 2
    assert "index" in costs["disk_mib"]


def test_doctor_names_the_member_whose_database_is_not_reached(joined, tmp_path):
    settings = load_settings(tmp_path / "legal")
    there = dataclasses.replace(settings, store=StoreSettings("postgresql://nobody@127.0.0.1:9/none?schema=legal"))
    (tmp_path / "legal" / "doyen.toml").write_text(settings_toml(there))
    (check,) = [one for one in examine(joined) if "database" in one.name]
    assert (check.name, check.ok) == ("database of legal", False)


def test_what_cannot_be_joined_is_refused_by_name(joined, tmp_path, embedder):
    with pytest.raises(ExpertError, match="nobody"):
        doyen.init("other", store="experts:claims,nobody")
    (tmp_path / "gone").mkdir()
    (tmp_path / "gone" / "doyen.toml").write_text("")
    lost = doyen.init("lost", store="experts:claims,gone")
    (tmp_path / "gone" / "doyen.toml").unlink()
    with pytest.raises(StoreError, match="gone, which this expert joins"):
        open_index(lost, load_settings(lost))
    assert CliRunner().invoke(app, ["status", "--expert", str(lost)]).exit_code == 0
    expert_of(tmp_path / "apart" / "claims", embedder, {"a.md": "greenhouse window"})
    twice = doyen.init("twice", store="experts:claims,apart/claims")
    with pytest.raises(StoreError, match="two experts are called claims"):
        open_index(twice, load_settings(twice))
    with pytest.raises(StoreError, match="names no expert"):
        doyen.init("other", store="experts: ,")
    group = doyen.init("group", store="experts:all,claims")
    with pytest.raises(StoreError, match="joins other experts itself"):
        open_index(group, load_settings(group))
    other = words_bert(tmp_path / "other-embedder", ["quite other words"])
    expert_of(tmp_path / "other-words", other, {"a.md": "quite other words"})
    mixed = doyen.init("mixed", store="experts:claims,other-words")
    with pytest.raises(StoreError, match="was made with embedder") as refused:
        open_index(mixed, load_settings(mixed))
    assert "doyen reembed" in (refused.value.hint or "")


def test_a_member_without_an_index_is_passed_over_until_it_has_one(tmp_path, embedder, monkeypatch):
    monkeypatch.chdir(tmp_path)
    expert_of(tmp_path / "claims", embedder, CLAIMS)
    doyen.init("legal", embedder=str(embedder))
    joined = doyen.init("all", store="experts:claims,legal")
    assert found(joined, QUESTIONS[2])[0].chunk.document in {NAMES[name] for name in CLAIMS}
    doyen.ingest("legal", [write_files(tmp_path / "legal-files", LEGAL)])
    assert found(joined, QUESTIONS[2])[0].chunk.document == "legal/court.md"
