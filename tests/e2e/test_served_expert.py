"""The default model behind vLLM's protocol: `doyen ask` and `doyen compare` answer over the server as they do here."""

import io
import json
import sys
from contextlib import redirect_stdout

import pytest
import tiny_models
from chat_server import ChatServer, RealModel

from doyen.adapters import AdapterManifest
from doyen.expert import Expert
from doyen.models.catalogue import find_entry
from doyen.models.fetching import pull
from doyen.models.fitting import fingerprint_of_config
from doyen.models.transformers_engine import TransformersEngine

pytestmark = pytest.mark.e2e

TEXT = "# Ferries\n\nDeck crew receive 31 days of annual leave.\n\n## Fleet\n\nThe Marlpit is moored at Pier 6.\n"
ASKED = ("How many days of annual leave do deck crew receive?", "Where is the Marlpit moored?")
ARMS = ("base", "rag", "finetuned", "rag+finetuned")


def command(*arguments):
    from doyen.cli import main

    out, before = io.StringIO(), sys.argv
    sys.argv = ["doyen", *map(str, arguments), "--json"]
    try:
        with redirect_stdout(out), pytest.raises(SystemExit) as done:
            main()
    finally:
        sys.argv = before
    assert not done.value.code, out.getvalue()
    return json.loads(out.getvalue())


@pytest.fixture(scope="module")
def folder():
    return pull(find_entry("smollm2-135m-instruct"))


@pytest.fixture(scope="module")
def expert(folder, tmp_path_factory):
    """An expert with an untrained adapter that changes every answer a little."""
    from doyen.models.chat_tokenizer import open_chat_tokenizer
    from doyen.models.engine import golden_tokens, template_hash

    pull(find_entry("all-minilm-l6-v2"))
    root = tmp_path_factory.mktemp("ferries")
    (root / "documents").mkdir()
    (root / "documents" / "ferries.md").write_text(TEXT)
    command("init", root / "expert")
    command("ingest", root / "documents", "--expert", root / "expert")
    made = tiny_models.adapter_folder(root / "expert" / "adapters" / "a", folder, 1)
    shrink(made, 0.3)
    tokenizer = open_chat_tokenizer(folder)
    head = (
        "a",
        "smollm2-135m-instruct",
        fingerprint_of_config(folder),
        "lora",
        template_hash(tokenizer),
        "2026-01-01T00:00:00",
    )
    AdapterManifest(*head, {}, {}, [], [], 1, 1, 1, 1.0, 0.5, 1.25, None, golden_tokens=golden_tokens(tokenizer)).write(
        made
    )
    return root / "expert"


def shrink(adapter, factor):
    from safetensors.torch import load_file, save_file

    path = str(adapter / "adapter_model.safetensors")
    save_file({k: v * factor for k, v in load_file(path).items()}, path, metadata={"format": "pt"})


@pytest.fixture(scope="module")
def local(folder):
    return TransformersEngine(folder)


@pytest.fixture(scope="module")
def server(local, expert):
    server = ChatServer(RealModel(local, {"a": expert / "adapters" / "a"}), model="smollm2-135m-instruct", context=8192)
    server.adapters["a"] = "/adapters/a"
    settings = (
        f'[model]\nmax_answer_tokens = 16\nengine = "server"\nendpoint = "{server.url}"\n[answer]\npassages = 2\n'
    )
    (expert / "doyen.toml").write_text(settings)
    yield server
    server.close()


@pytest.mark.parametrize("arm", [a if a == "rag+finetuned" else pytest.param(a, marks=pytest.mark.slow) for a in ARMS])
def test_answers_over_the_server_are_those_of_here(expert, local, server, arm):
    here = Expert.open(expert, arm=arm, engine=local)
    for question in ASKED:
        own, there = here.ask(question).as_dict(), command("ask", question, "--arm", arm, "--expert", expert)
        for answer in (own, there):
            answer.pop("seconds")
        bound, exact = there.pop("refusal_probability", 0.0), own.pop("refusal_probability", 0.0)
        assert exact - 2e-3 <= bound < exact + 0.05
        assert there.pop("completion_tokens") - own.pop("completion_tokens") in (
            0,
            1,
        )  # servers count the end of the turn
        assert there == own


def test_citations_of_served_answers_resolve(expert, server):
    told = command("ask", ASKED[1], "--arm", "rag", "--expert", expert)
    assert told["citations"]
    for citation in told["citations"]:
        assert TEXT.strip()[citation["start"] : citation["end"]] == citation["quote"]


def test_a_comparison_of_all_arms_over_the_server(expert, server):
    rows = [{"id": str(i), "question": q, "answers": ["x"], "split": "test"} for i, q in enumerate(ASKED[:1])]
    questions = tiny_models.write_jsonl(expert.parent / "q.jsonl", rows)
    report = command("compare", "--questions", questions, "--expert", expert)
    assert set(report["arms"]) == set(ARMS) and report["manifest"]["engine"] == "server"
