"""The default model behind vLLM's protocol: `doyen ask` and `doyen compare` answer over the server as they do here."""

import io
import json
import sys
from contextlib import redirect_stdout

import pytest
import tiny_models
from chat_server import ChatServer, RealModel

from doyen.adapters import AdapterManifest
from doyen.models.catalogue import find_entry
from doyen.models.fetching import pull
from doyen.models.fitting import fingerprint_of_config
from doyen.models.transformers_engine import TransformersEngine

pytestmark = pytest.mark.e2e

TEXT = "# Ferries\n\nDeck crew receive 31 days of annual leave.\n\n## Fleet\n\nThe Marlpit is moored at Pier 6.\n"
ASKED = ("How many days of annual leave do deck crew receive?", "Where is the Marlpit moored?", "Who wrote Faust?")
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
def server(folder, expert):
    real = RealModel(TransformersEngine(folder), {"a": expert / "adapters" / "a"})
    server = ChatServer(real, model="smollm2-135m-instruct", context=8192)
    server.adapters["a"] = "/adapters/a"
    yield server
    server.close()


def engine_is(expert, lines):
    (expert / "doyen.toml").write_text(f"[model]\nmax_answer_tokens = 16\n{lines}\n[answer]\npassages = 2\n")


def without_times(answer):
    return {k: v for k, v in answer.items() if k not in ("seconds", "refusal_probability")}


def test_answers_over_the_server_are_those_of_here(expert, server):
    found = []
    for lines in ('engine = "transformers"', f'engine = "server"\nendpoint = "{server.url}"'):
        engine_is(expert, lines)
        found.append({(arm, q): command("ask", q, "--arm", arm, "--expert", expert) for arm in ARMS for q in ASKED})
    here, there = found
    for key, answer in here.items():
        assert without_times(there[key]) == without_times(answer), key
        bound = there[key]["refusal_probability"]
        assert bound >= answer["refusal_probability"] - 2e-3 and bound < answer["refusal_probability"] + 0.05
    assert any(a["citations"] for a in there.values())
    assert any(here["base", q]["answer"] != here["finetuned", q]["answer"] for q in ASKED)
    rows = [{"id": str(i), "question": q, "answers": ["x"], "split": "test"} for i, q in enumerate(ASKED)]
    questions = tiny_models.write_jsonl(expert.parent / "q.jsonl", rows)
    report = command("compare", "--questions", questions, "--expert", expert)
    assert set(report["arms"]) == set(ARMS) and report["manifest"]["engine"] == "server"
