"""`doyen compare --curve` killed with SIGKILL while it asks and while it trains, and run again: nothing is asked or trained twice."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny_models
from tiny_models import write_jsonl

import doyen

pytestmark = pytest.mark.e2e

QUESTIONS = 96  # three blocks an arm
COMMAND = [sys.executable, "-m", "doyen", "compare", "--arms", "base,rag,finetuned,rag+finetuned", "--curve-shares"]


@pytest.fixture
def expert(tmp_path):
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents" / "boats.md").write_text(
        "# Boats\n\n" + "\n\n".join(f"## Boat {i}\n\nBoat {i} has {i} sails and a crew of {i + 3}." for i in range(40))
    )
    (tmp_path / "bert").mkdir()
    model, embedder = tiny_models.phi_folder(tmp_path / "phi"), tiny_models.bert_folder(tmp_path / "bert")
    expert = doyen.init(tmp_path / "expert", model=str(model), embedder=str(embedder))
    doyen.ingest(expert, [tmp_path / "documents"])
    text = (expert / "doyen.toml").read_text().replace("# max_answer_tokens = 96", "max_answer_tokens = 12")
    text = text.replace('# engine = "auto"', 'engine = "transformers"').replace("# rank = 16", "rank = 2")
    (expert / "doyen.toml").write_text(text.replace("# epochs = 2.0", "epochs = 4.0"))
    chats = [
        {"messages": [{"role": "user", "content": f"Sails of boat {i}?"}, {"role": "assistant", "content": f"{i}"}], "question_id": f"q{i}"}
        for i in range(48)
    ]  # fmt: skip
    write_jsonl(expert / "examples" / "train.jsonl", chats)
    rows = [
        {
            "id": f"t{i}",
            "question": f"How many hands has boat {i}?",
            "answers": [f"{i + 3}"],
            "kind": "number",
            "split": "test",
        }
        for i in range(QUESTIONS)
    ]
    write_jsonl(expert / "examples" / "questions.jsonl", rows)
    doyen.finetune(expert, name="all")
    return expert


def lines(expert):
    """Return each answers file's whole lines, by its name."""
    found = {}
    for path in (expert / "comparisons").glob("**/answers.*.jsonl"):
        text = path.read_text(encoding="utf-8", errors="replace")
        found[path.name] = [line for line in text[: text.rfind("\n") + 1].split("\n") if line]
    return found


def run_and_kill(expert, when):
    """Run the comparison; kill it as soon as `when` says so. Return what it had written; None if it came to its end."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [*COMMAND, "0.5", "--expert", str(expert)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    deadline = time.monotonic() + 240
    try:
        while process.poll() is None and not when() and time.monotonic() < deadline:
            time.sleep(0.02)
        if process.poll() is not None:
            return None
        process.send_signal(signal.SIGKILL)
        process.wait()
        return lines(expert)
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow  # in short: test_comparison_run.py and test_learning_curve.py
def test_nothing_is_asked_or_trained_twice(expert):
    curves = expert / "curves" / "adapters"

    def asked(count):
        return lambda: sum(map(len, lines(expert).values())) >= count

    moments = [
        ("asking", asked(33)),
        ("asking the fine-tuned", asked(2 * QUESTIONS + 1)),
        ("training", lambda: any(curves.glob(".*.training/history.jsonl"))),
        ("asking the curve", asked(4 * QUESTIONS + 1)),
    ]
    before, trained = {}, {}
    for name, moment in moments:
        found = run_and_kill(expert, moment)
        assert found is not None, f"it ended before it was killed while {name}"
        for file, kept in before.items():
            assert found[file][: len(kept)] == kept, f"{file} was asked again after {name}"
        before = found
        for path in curves.glob("*/manifest.json"):
            assert trained.setdefault(path, path.stat().st_mtime_ns) == path.stat().st_mtime_ns
    done = subprocess.run(
        [*COMMAND, "0.5", "--expert", str(expert), "--json"], capture_output=True, text=True, check=True
    )
    final = lines(expert)
    for file, kept in before.items():
        assert final[file][: len(kept)] == kept
    assert {len(found) for found in final.values()} == {QUESTIONS} and len(final) == 6
    report = json.loads(done.stdout)
    assert [a["examples"] for a in report["curve"]["adapters"]] == [24, 48]
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in trained.items()) and trained
    assert Path(report["folder"], "report.html").exists() and not list(curves.glob(".*.training"))
