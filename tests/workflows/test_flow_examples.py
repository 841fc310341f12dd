import json

import pytest
from flow_engine import Scripted
from small_stores import HashEmbedder, write_texts

from doyen.config import RetrievalSettings
from doyen.errors import ExamplesError
from doyen.examples.building import load_examples
from doyen.examples.doubles import Asked
from doyen.prompts import question_of
from doyen.retrieval.hybrid import Retriever
from doyen.workflows.examples import build_workflow_examples
from doyen.workflows.inputs import open_input
from doyen.workflows.opening import open_setup
from doyen.workflows.reading import load_workflow
from doyen.workflows.running import Run

MORE = """
[steps.wording]
do = "retrieve"
query = "{peril} {text}"
passages = 1
[steps.cover]
do = "classify"
passages = "wording"
instruction = "Is it covered?"
input = "{text}"
choices = ["yes", "no"]
"""
HEADER = "claim,text,amount,expected.peril,expected.facts.amount,expected.verdict,expected.cover,split\n"
WORDS = "cellar roof stairs kitchen window garden chimney attic garage bath gutter door fence shed".split()


@pytest.fixture
def retriever(index):
    embedder = HashEmbedder()
    write_texts(index, embedder, {"water.md": "Water from pipes is insured.", "storm.md": "Storm on roofs is insured."})
    index.finish()
    return Retriever(index, embedder, RetrievalSettings())


@pytest.fixture
def labelled(tmp_path):
    path = tmp_path / "labelled.csv"
    rows = [
        f"C{n},{'water' if n % 2 else 'storm'} {word} {word[::-1]} {n},1,{'water' if n % 2 else 'storm'},{n if n != 5 else 5000},"
        f"{'pay' if n != 5 else 'refer'},{'yes' if n != 6 else ''},{'test' if n == 13 else ''}"
        for n, word in enumerate(WORDS)
    ]
    path.write_text(HEADER + "\n".join(rows) + "\n")
    return path


def test_examples_are_what_the_steps_are_asked(flow_file, expert, labelled, retriever, tmp_path):
    flow = load_workflow(flow_file(more=MORE))
    engine = Scripted()
    report = build_workflow_examples(expert, flow, labelled, engine=engine, retriever=retriever)
    train, validation = load_examples(expert)
    assert report.train == len(train) and not engine.batches
    examples = {(e.question_id, e.variant): e for e in (*train, *validation)}
    assert ("triage:C0:cover", "flow-passages") in examples and ("triage:C0:cover", "flow") in examples
    assert ("triage:C5:verdict", "flow") not in examples  # a rule decides it
    assert ("triage:C6:cover", "flow") not in examples  # no label
    assert not any(name.startswith("triage:C13:") for name, _ in examples)  # a test row
    assert examples["triage:C1:facts", "flow"].messages[-1]["content"] == '{"amount": 1}'

    # the same rows, run: a prompt that is asked is a prompt that was trained on
    def answer(system, user):
        n = int(user.split()[-1]) if user.split()[-1].isdigit() else 0
        if "JSON" in system:
            return json.dumps({"amount": n if n != 5 else 5000})
        return (
            "water" if "Input:\nwater" in user or "Cause: water" in user else "storm" if "caused" in system else "pay"
        )

    for arm in ("base", "rag"):
        asking = Scripted(answer)
        setup = open_setup(expert, flow, arm=arm, engine=asking, retriever=retriever)
        Run(setup, open_input(str(labelled)), tmp_path / f"{arm}.jsonl").go()
        asked = {json.dumps(p) for p in asking.prompts}
        for (name, variant), example in examples.items():
            if variant == "flow-passages" and arm == "base" or variant == "flow" and "cover" in name and arm == "rag":
                continue
            if name.split(":")[1] not in ("C6",):
                assert json.dumps(list(example.messages[:-1])) in asked, (arm, name, variant)


def test_examples_name_the_passages_that_they_show(flow_file, expert, labelled, retriever):
    build_workflow_examples(expert, flow_file(more=MORE), labelled, engine=Scripted(), retriever=retriever)
    train, _ = load_examples(expert)
    shown = next(e for e in train if e.variant == "flow-passages")
    assert shown.source[0].document in ("water.md", "storm.md")
    assert question_of(shown.messages) in ("\n".join(m["content"] for m in shown.messages))
    assert "insured" not in Asked.of(shown).text and "insured" in shown.messages[1]["content"]


def test_validation_rows_are_kept_apart(flow_file, expert, labelled, retriever):
    build_workflow_examples(expert, flow_file(more=MORE), labelled, engine=Scripted(), retriever=retriever)
    train, validation = load_examples(expert)
    rows = [{e.question_id.split(":")[1] for e in side} for side in (train, validation)]
    assert validation and rows[0].isdisjoint(rows[1])


def test_nothing_to_train_on(flow_file, expert, tmp_path, retriever):
    path = tmp_path / "labelled.csv"
    path.write_text("claim,text,expected.verdict,split\nC1,water,pay,test\n")
    with pytest.raises(ExamplesError, match="no training example is left"):
        build_workflow_examples(expert, flow_file(), path, engine=Scripted(), retriever=retriever)
