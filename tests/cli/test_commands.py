"""The commands as a user calls them: what they print, where, and with which exit code.

`run` calls `main()` in this process; what depends on the process itself is run in one of its own.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from small_stores import read_lines, words_bert, write_files

from doyen.cli import app, main

DOYEN = Path(sys.executable).with_name("doyen")
FILES = {
    "lease.txt": "The deposit is returned within thirty days.\fPets need the owner's consent.\n",
    "house/yard.md": "# The yard\n\nBicycles stand in the yard behind the mill.",
    "house/o'neil.txt": "Smith repairs the boiler every autumn.",
}
QUESTIONS = [{"id": "q1", "question": "Where do bicycles stand?"}, {"id": "q2", "question": "Who repairs the boiler?"}]


@pytest.fixture
def run(monkeypatch, capsys):
    """Call the command line with arguments; return (exit code, stdout, stderr)."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["doyen", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        code = ended.value.code
        return (0 if code is None else code), *capsys.readouterr()

    return call


@pytest.fixture
def source(tmp_path):
    return write_files(tmp_path / "source", FILES)


@pytest.fixture
def made(tmp_path, run):
    """An expert made by `doyen init` with a toy embedder, nothing ingested."""
    toy = words_bert(tmp_path / "toy", list(FILES.values()))
    code, _, err = run("init", tmp_path / "made", "--embedder", toy)
    assert code == 0, err
    return tmp_path / "made"


@pytest.fixture
def filled(made, source, run):
    code, _, err = run("ingest", source, "--expert", made)
    assert code == 0, err
    return made


def as_json(result):
    code, out, err = result
    assert code == 0, err
    return json.loads(out)


def commands(group, path=()):
    yield path
    for name, command in getattr(group, "commands", {}).items():
        yield from commands(command, (*path, name))


# ---- help and wrong usage


@pytest.mark.parametrize("path", list(commands(typer.main.get_command(app))), ids=" ".join)
def test_every_command_explains_itself(run, path):
    code, out, _ = run(*path, "--help")
    assert code == 0
    assert out.startswith("Usage: ") and " ".join(path) in out
    command = typer.main.get_command(app)
    for name in path:
        command = command.commands[name]
    assert (command.help or "").strip()
    for option in command.params:
        if option.param_type_name == "option":
            assert option.help, f"{' '.join(path)} {option.opts} has no help"


def test_the_contracts_commands_are_there():
    there = {path[0] for path in commands(typer.main.get_command(app)) if path}
    promised = "init ingest documents remove search ask examples finetune compare advise models status doctor"
    assert set(promised.split()) <= there


def test_help_loads_nothing_heavy():
    heavy = ["torch", "lancedb", "transformers", "openvino", "pyarrow", "numpy", "tokenizers", "peft"]
    code = (
        "import sys; sys.argv = ['doyen', '--help']\n"
        "from doyen.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code\n"
        f"print([m for m in {heavy!r} if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    assert "Usage" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["search"],
        ["search", "words", "--like", "lease.txt"],
        ["search", "--questions", "q.jsonl"],
        ["search", "words", "--out", "o.jsonl"],
        ["search", "words", "-k", "0"],
        ["ask"],
        ["ask", "words", "--questions", "q.jsonl"],
        ["ask", "--questions", "q.jsonl"],
        ["ask", "words", "--arm", "ragg"],
        ["ask", "words", "--arm", "finetuned"],
        ["ingest"],
        ["ingest", "x", "--nonsense"],
        ["documents", "show"],
        ["init"],
    ],
    ids=" ".join,
)
def test_wrong_usage_ends_with_2_and_an_empty_stdout(run, made, monkeypatch, arguments):
    monkeypatch.chdir(made)
    code, out, err = run(*arguments)
    assert code == 2, err
    assert out == ""
    assert "rror" in err


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["ingest", "nowhere"], "there is no file or folder", "check the path"),
        (["search", "words"], "there is no index", "doyen ingest FOLDER"),
        (["search", "--like", "a.txt"], "there is no index", "doyen ingest FOLDER"),
        (["documents"], "there is no index", "doyen ingest FOLDER"),
        (["documents", "show", "a.txt"], "there is no index", "doyen ingest FOLDER"),
        (["remove", "a.txt"], "there is no index", "doyen ingest FOLDER"),
        (["ask", "words"], "there is no index", "doyen ingest FOLDER"),
        (["init", "."], "is an expert already", "edit "),
        (["status", "--expert", "nowhere"], "is not an expert", "doyen init nowhere"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_fault_to_mend_ends_with_1_a_message_and_a_hint(run, made, monkeypatch, arguments, message, hint):
    monkeypatch.chdir(made)
    code, out, err = run(*arguments)
    assert (code, out) == (1, "")
    first, last = err.splitlines()
    assert first.startswith("error: ") and message in first
    assert last.startswith("hint: ") and hint in last


def test_outside_an_expert_the_hint_says_how_to_make_one(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = run("status")
    assert code == 1
    assert "hint: doyen init" in err


def test_all_faults_of_the_settings_are_shown(run, made):
    (made / "doyen.toml").write_text("[modle]\nname = 'x'\n[answer]\npassages = 0\n")
    code, _, err = run("status", "--expert", made)
    assert code == 1
    assert "did you mean 'model'?" in err and "passages = 0" in err and "2 fault(s)" in err


# ---- init, models


@pytest.mark.parametrize("option", ["--model", "--embedder"])
def test_an_unknown_model_names_the_nearest_ones_and_makes_nothing(run, tmp_path, option):
    code, out, err = run("init", tmp_path / "new", option, "smollm2-135m-instrukt")
    assert (code, out) == (1, "")
    assert "smollm2-135m-instruct" in err.replace("smollm2-135m-instrukt", "")
    assert not (tmp_path / "new").exists()


def test_a_store_of_another_kind_is_refused(run, tmp_path):
    code, _, err = run("init", tmp_path / "new", "--store", "mysql://host/x")
    assert code == 1
    assert "mysql://" in err and "hint: " in err
    assert not (tmp_path / "new").exists()


def test_the_catalogue_lists_the_defaults(run):
    rows = {row["name"]: row for row in as_json(run("models", "--json"))}
    assert rows["all-minilm-l6-v2"]["role"] == "embedder"
    assert {"licence", "size_mib", "fetched"} <= set(rows["smollm2-135m-instruct"])
    code, out, _ = run("models")
    assert code == 0
    assert all(name in out for name in rows)


def test_pulling_an_unknown_model_names_the_nearest(run):
    code, _, err = run("models", "pull", "all-minilm-l6-v3")
    assert code == 1
    assert "all-minilm-l6-v2" in err


# ---- ingest, documents, remove, status, doctor


def test_ingest_counts_and_names_what_failed(run, made, source):
    write_files(source, {"empty.txt": "", "film.mp4": "x"})
    row = as_json(run("ingest", source, "--expert", made, "--json"))
    assert {k: row[k] for k in ("new", "changed", "unchanged", "removed", "failed")} == {
        "new": 3,
        "changed": 0,
        "unchanged": 0,
        "removed": 0,
        "failed": 1,
    }
    assert row["failures"][0]["file"] == str(source / "empty.txt")
    assert [Path(p).name for p in row["skipped"]] == ["film.mp4"]
    code, out, _ = run("ingest", source, "--expert", made)
    assert code == 0
    assert "new 0  changed 0  unchanged 3  removed 0  failed 1" in out
    assert "empty.txt (0 bytes)" in out or "empty.txt is empty" in out
    _, shown, _ = run("status", "--expert", made)
    assert "documents  3" in shown and "empty.txt" in shown


def test_ingest_takes_a_name_and_prunes(run, made, source, tmp_path):
    as_json(run("ingest", source, "--expert", made, "--json"))
    other = write_files(tmp_path / "other", {"lease.txt": "Another lease."})
    code, _, err = run("ingest", other, "--expert", made)
    assert code == 2 and "hint: " in err and "--name" in err
    assert as_json(run("ingest", other, "--name", "b", "--expert", made, "--json"))["new"] == 1
    assert as_json(run("ingest", source, "--prune", "--expert", made, "--json"))["removed"] == 1


def test_a_changed_chunk_size_is_refused_until_rebuilt(run, filled, source):
    path = filled / "doyen.toml"
    path.write_text(path.read_text().replace("# max_tokens = 200", "max_tokens = 100"))
    code, _, err = run("ingest", source, "--expert", filled)
    assert code == 1 and "chunks of 200" in err and "--rebuild" in err
    assert as_json(run("ingest", source, "--rebuild", "--expert", filled, "--json"))["new"] == 3


def test_documents_lists_what_is_indexed(run, filled):
    rows = as_json(run("documents", "--expert", filled, "--json"))
    assert [r["id"] for r in rows] == sorted(FILES)
    assert {r["id"]: r["pages"] for r in rows}["lease.txt"] == 2
    _, out, _ = run("documents", "--expert", filled)
    assert out.splitlines()[-1] == "3 documents"


def test_documents_show_gives_the_extracted_text(run, filled):
    code, out, _ = run("documents", "show", "house/o'neil.txt", "--text", "--expert", filled)
    assert (code, out) == (0, FILES["house/o'neil.txt"] + "\n")
    row = as_json(run("documents", "show", "lease.txt", "--text", "--json", "--expert", filled))
    pages = [row["text"][p["start"] : p["end"]] for p in row["page_offsets"]]
    assert "deposit" in pages[0] and "Pets" in pages[1]
    assert "text" not in as_json(run("documents", "show", "lease.txt", "--json", "--expert", filled))


def test_documents_show_of_an_unknown_one_is_a_fault_to_mend(run, filled):
    code, out, err = run("documents", "show", "nothing.txt", "--expert", filled)
    assert (code, out) == (1, "")
    assert "nothing.txt" in err and "hint: doyen documents" in err


def test_remove_takes_documents_out(run, filled):
    assert as_json(run("remove", "house/o'neil.txt", "--expert", filled, "--json")) == {"removed": ["house/o'neil.txt"]}
    hits = as_json(run("search", "boiler", "--expert", filled, "--json"))
    assert "house/o'neil.txt" not in {h["document"] for h in hits}
    code, _, err = run("remove", "lease.txt", "nothing.txt", "--expert", filled)
    assert code == 1 and "nothing.txt" in err
    assert len(as_json(run("documents", "--expert", filled, "--json"))) == 2


def test_status_says_what_there_is(run, filled):
    row = as_json(run("status", "--expert", filled, "--json"))
    assert (row["documents"], row["pages"], row["failed"], row["adapters"]) == (3, 2, [], [])
    assert row["models"]["embedder"]["fetched"] is True


def test_doctor_finds_an_interrupted_ingest(run, filled):
    def checks():
        code, out, _ = run("doctor", "--expert", filled, "--json")
        found = {c["name"]: c for c in json.loads(out)}
        assert code == (0 if all(c["ok"] for c in found.values()) else 1)
        return found

    assert checks()["index"]["ok"]
    (filled / "index" / "writing").touch()
    assert not checks()["index"]["ok"]
    assert "doyen ingest" in checks()["index"]["hint"]


# ---- search


def test_search_prints_places_or_json(run, filled):
    hits = as_json(run("search", "Where do bicycles stand?", "--expert", filled, "--json"))
    assert hits[0]["document"] == "house/yard.md"
    assert len(as_json(run("search", "bicycles", "-k", "1", "--expert", filled, "--json"))) == 1
    code, out, _ = run("search", "Pets consent", "--expert", filled)
    assert code == 0
    assert out.startswith("1. lease.txt p. ")


def test_a_filter_holds_the_search_to_some_documents(run, filled, tmp_path):
    def found(*filters):
        options = [part for one in filters for part in ("--filter", one)]
        hits = as_json(run("search", "Where do bicycles stand?", *options, "--expert", filled, "--json"))
        return {h["document"] for h in hits}

    assert found("folder=house") == {"house/yard.md", "house/o'neil.txt"}
    assert found("folder=house", "type=md") == {"house/yard.md"}
    assert found("date<=2001") == set()
    like = as_json(run("search", "--like", "lease.txt", "--filter", "type=md", "--expert", filled, "--json"))
    assert {h["document"] for h in like} == {"house/yard.md"}
    questions = write_files(tmp_path, {"q.jsonl": "\n".join(map(json.dumps, QUESTIONS))}) / "q.jsonl"
    out = tmp_path / "hits.jsonl"
    assert run("search", "--questions", questions, "--out", out, "--filter", "type=txt", "--expert", filled)[0] == 0
    assert {h["document"] for row in read_lines(out) for h in row["hits"]} == {"lease.txt", "house/o'neil.txt"}


@pytest.mark.parametrize(
    ("one", "said", "hint"),
    [
        ("writer=Ito", "'writer'", "folder, type, date, language, title"),
        ("folder", "is not KEY=VALUE", "operators"),
        ("date=soon", "is no date", "date>=2026-01-31"),
    ],
)
def test_a_filter_that_cannot_be_is_wrong_usage(run, filled, one, said, hint):
    for command in ("search", "ask"):
        arm = ["--arm", "rag"] if command == "ask" else []
        code, _, err = run(command, "bicycles", "--filter", one, *arm, "--expert", filled)
        assert code == 2 and said in err and hint in err


def test_an_arm_that_searches_nothing_takes_no_filter(run, filled):
    code, _, err = run("ask", "Why?", "--arm", "base", "--filter", "type=md", "--expert", filled)
    assert code == 2 and "--arm rag" in err


def test_an_index_without_a_snapshot_gets_one_at_the_next_ingest(run, filled, source):
    (filled / "index" / "vectors" / "manifest.json").unlink()
    assert as_json(run("search", "bicycles", "--expert", filled, "--json"))
    assert run("ingest", source, "--expert", filled)[0] == 0
    assert (filled / "index" / "vectors" / "manifest.json").is_file()


def test_an_older_version_of_a_document_can_be_shown(run, filled, source):
    write_files(source, {"lease.txt": "The deposit is returned within sixty days."})
    run("ingest", source, "--expert", filled)
    _, out, _ = run("documents", "versions", "lease.txt", "--expert", filled)
    assert [line.split()[0] for line in out.splitlines()] == ["v2", "v1"]
    assert "current" in out.splitlines()[0] and "until" in out.splitlines()[1]
    assert [v["version"] for v in as_json(run("documents", "versions", "lease.txt", "--json", "--expert", filled))] == [
        2,
        1,
    ]
    _, out, _ = run("documents", "show", "lease.txt", "--version", 1, "--text", "--expert", filled)
    assert out == FILES["lease.txt"] + "\n" or "thirty days" in out
    _, out, _ = run("documents", "show", "lease.txt", "--text", "--expert", filled)
    assert "sixty days" in out
    code, _, err = run("documents", "show", "lease.txt", "--version", 9, "--expert", filled)
    assert (code, "doyen documents versions lease.txt" in err) == (1, True)


def test_duplicates_are_listed(run, filled, source):
    write_files(source, {"copy.txt": FILES["lease.txt"]})
    run("ingest", source, "--expert", filled)
    _, out, _ = run("documents", "--duplicates", "--expert", filled)
    assert out.splitlines() == ["copy.txt = lease.txt", "2 documents in 1 groups"]
    (group,) = as_json(run("documents", "--duplicates", "--json", "--expert", filled))
    assert group == {"documents": ["copy.txt", "lease.txt"], "similarity": 1.0, "exact": True}
    assert "copy.txt = lease.txt" in run("status", "--expert", filled)[1]


def test_a_page_that_cannot_be_drawn_says_why(run, filled, tmp_path):
    code, _, err = run("documents", "page", "lease.txt", 1, "--out", tmp_path / "page.png", "--expert", filled)
    assert code == 2 and "no PDF" in err
    assert not (tmp_path / "page.png").exists()


def test_a_page_of_a_pdf_is_written_as_a_picture(run, filled, source, tmp_path):
    from reportlab.pdfgen.canvas import Canvas

    canvas = Canvas(str(source / "plan.pdf"))
    canvas.drawString(60, 700, "The plan has one page.")
    canvas.save()
    run("ingest", source, "--expert", filled)
    arguments = ("documents", "page", "plan.pdf", 1, "--out", tmp_path / "page.png", "--expert", filled)
    code, out, err = run(*arguments, "--quote", "one page", "--quote", "two pages")
    assert (code, out.startswith("wrote"), "not on this page: two pages" in err) == (0, True, True)
    assert (tmp_path / "page.png").read_bytes().startswith(b"\x89PNG")
    assert [len(boxes) for boxes in as_json(run(*arguments, "--quote", "one page", "--json"))["boxes"]] == [1]


def test_search_like_gives_other_documents(run, filled):
    hits = as_json(run("search", "--like", "lease.txt", "--expert", filled, "--json"))
    assert {h["document"] for h in hits} == {"house/yard.md", "house/o'neil.txt"}
    code, _, err = run("search", "--like", "nothing.txt", "--expert", filled)
    assert code == 1 and "nothing.txt" in err


def test_a_search_over_a_file_writes_the_hits_of_the_contract(run, filled, tmp_path):
    questions = tmp_path / "q.jsonl"
    questions.write_text("".join(json.dumps(q) + "\n" for q in QUESTIONS))
    out = tmp_path / "deep" / "hits.jsonl"
    row = as_json(run("search", "--questions", questions, "--out", out, "-k", "5", "--expert", filled, "--json"))
    assert row == {"questions": 2, "out": str(out)}
    rows = read_lines(out)
    assert [r["id"] for r in rows] == ["q1", "q2"]
    assert [r["hits"][0]["document"] for r in rows] == ["house/yard.md", "house/o'neil.txt"]
    for hit in (h for r in rows for h in r["hits"]):
        assert {"document", "page", "section", "record", "start", "end", "score", "text"} <= set(hit)
        shown = as_json(run("documents", "show", hit["document"], "--text", "--json", "--expert", filled))
        assert shown["text"][hit["start"] : hit["end"]] == hit["text"]
        if hit["document"] == "lease.txt":
            assert hit["page"] == (1 if "deposit" in hit["text"] else 2)
    for r in rows:
        scores = [h["score"] for h in r["hits"]]
        assert scores == sorted(scores, reverse=True)


def test_a_questions_file_that_is_missing_or_broken_is_named(run, filled, tmp_path):
    out = tmp_path / "hits.jsonl"
    code, _, err = run("search", "--questions", tmp_path / "no.jsonl", "--out", out, "--expert", filled)
    assert code == 1 and "no.jsonl" in err and "hint: " in err
    (tmp_path / "q.jsonl").write_text('{"id": "q1", "question": "x"}\n{"id": \n')
    code, _, err = run("search", "--questions", tmp_path / "q.jsonl", "--out", out, "--expert", filled)
    assert code == 1 and "line 2" in err
    assert not out.exists()


# ---- the installed command


def test_the_installed_command_keeps_data_and_messages_apart(made, source):
    """Exit codes and streams of the real process, from inside the expert's folder."""

    def call(*arguments):
        return subprocess.run([DOYEN, *arguments], cwd=made, capture_output=True, text=True, env=os.environ)

    done = call("ingest", str(source), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["new"] == 3
    assert "documents: 3/3" in done.stderr
    done = call("documents", "show", "nothing.txt")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1].startswith("hint: ")
    assert call("search").returncode == 2


# ---- evaluating retrieval


@pytest.fixture
def with_gold(tmp_path):
    gold = [{"document": "house/yard.md"}], [{"document": "house/o'neil.txt"}]
    rows = [q | {"gold": g, "split": s} for q, g, s in zip(QUESTIONS, gold, ("train", "test"), strict=True)]
    path = tmp_path / "gold.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, {"id": "q3", "question": "Why?"}]))
    return path


def test_evaluate_retrieval_prints_tables_and_writes_a_report(filled, with_gold, run, tmp_path):
    code, out, err = run("evaluate-retrieval", "--questions", with_gold, "--split", "all", "--expert", filled)
    assert code == 0, err
    assert out.startswith("2 questions with gold, 1 without (left out)\n")
    assert {"level", "stage", "document", "BM25 only", "dense only", "fused"} <= {
        line[:20].strip() for line in out.splitlines()
    }
    assert "wrote " in err and list(filled.glob("evaluations/*/report.json"))


def test_evaluate_retrieval_asks_the_test_split_and_compares(filled, with_gold, run, tmp_path):
    command = ("evaluate-retrieval", "--questions", with_gold, "--expert", filled, "--no-stages", "--json")
    first = as_json(run(*command, "--out", tmp_path / "first"))
    assert first["questions"] == {"total": 1, "with_gold": 1, "without_gold": 0}
    again = as_json(run(*command, "--against", tmp_path / "first"))
    assert again["against"]["differences"]["ndcg@10"]["value"] == 0
    assert again["manifest"]["id"] == first["manifest"]["id"]


def test_evaluate_retrieval_says_what_is_wrong(filled, with_gold, run, tmp_path):
    code, _, err = run("evaluate-retrieval", "--questions", with_gold, "--split", "dev", "--expert", filled)
    assert code == 2
    assert "hint: --split all" in err
    lost = tmp_path / "lost.jsonl"
    lost.write_text(json.dumps(QUESTIONS[0] | {"gold": [{"document": "docs/house/yard.md"}]}) + "\n")
    code, _, err = run("evaluate-retrieval", "--questions", lost, "--expert", filled)
    assert code == 1
    assert "is in the index" in err
    assert "hint: ingest the folder with --name docs" in err
    bad = tmp_path / "bad.jsonl"
    bad.write_text(json.dumps(QUESTIONS[0] | {"gold": [{"document": "a", "grade": -1}]}) + "\n")
    code, _, err = run("evaluate-retrieval", "--questions", bad, "--expert", filled)
    assert code == 1
    assert "line 1: gold grade -1 is not a number from 0 to 100" in err
