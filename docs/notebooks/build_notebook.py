"""Build and execute docs/notebooks/expert.ipynb: `python docs/notebooks/build_notebook.py` (some minutes, no network).

Enters: the cells below. Leaves: the notebook with its outputs, without paths of the machine it ran on. Needs the two
default models (`doyen models pull all-minilm-l6-v2 smollm2-135m-instruct`) and the extras finetune and dev.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
NOTEBOOK = HERE / "expert.ipynb"
MOST_BYTES = 300_000

CELLS = [
    """# From a folder of documents to a measured expert

This notebook takes the documents of a sample company, answers questions from them with citations, fine-tunes the
model on questions with known answers, and compares the two ways and their combination on questions that were held
out. Everything runs on this machine: a laptop's processor is enough, and nothing is sent anywhere.

The figures below are of a **short** run: 20 steps of training and 16 test questions, so that the whole notebook takes
some minutes on two cores. They show the way, not what a full run reaches.

Before the first run, fetch the two small models once: `doyen models pull all-minilm-l6-v2 smollm2-135m-instruct`.""",
    """import tempfile
from pathlib import Path

import doyen

company = Path("../../examples/insurer")  # documents and questions of an invented insurer
expert = Path(tempfile.mkdtemp()) / "velmarrow"
doyen.init(expert)
print((expert / "doyen.toml").read_text()[:330])""",
    """## Documents → index

An expert is a folder. `ingest` reads PDF, Word, HTML, Markdown, CSV and text files, cuts them into passages and writes
them with their vectors into the folder's index. A second call reads only what has changed.""",
    """report = doyen.ingest(expert, [company / "documents"])
print(f"{len(report.new)} documents, {report.chunks} passages, {len(report.failed)} failed")

again = doyen.ingest(expert, [company / "documents"])
print(f"second time: {len(again.new)} new, {len(again.unchanged)} unchanged")""",
    """## Asking with retrieval

The *arm* `rag` is the untuned model reading the passages that the search finds.""",
    """rag = doyen.Expert.open(expert, arm="rag")
QUESTION = "How long may the home stay empty before Hearthwell Home cover for burglary rests?"

for hit in rag.search(QUESTION, k=3):
    print(f"{hit.score:.2f}  {hit.chunk.document}, page {hit.chunk.page}  {hit.chunk.section}")""",
    """answer = rag.ask(QUESTION)
print(answer.text)
for c in answer.citations:
    named = "found by doyen" if c.attributed else "named by the model"
    print(f"  {c.document}, page {c.page} ({named}): “{' '.join(c.quote.split())}”")""",
    """The model names passage numbers at most. Document, page, characters and quote are resolved by code, and a quote that
does not stand at its place in the document's text is dropped. This holds for every citation:""",
    """for c in answer.citations:
    text, pages = rag.retriever.index.text(c.document)
    assert text[c.start : c.end] == c.quote
print("every quote stands in its document")""",
    """## Questions → training examples

The sample company comes with 600 questions, 258 of them marked as test questions. `build_examples` makes training
examples of the others, with the passages that this expert's own search finds: some with the passage that holds the
answer, some without it (to be refused), some without any passages.""",
    """imported = doyen.import_file(expert, company / "questions.jsonl")
print(f"{imported.questions} questions, {imported.test_questions} held out")

built = doyen.build_examples(expert, rag.retriever)
print(f"{built.train} training examples: {built.variants}; {built.validation} for validation")""",
    """import json

rows = [json.loads(line) for line in (expert / "examples" / "train.jsonl").read_text(encoding="utf-8").splitlines()]
shortest = min((r for r in rows if r["variant"] == "passages"), key=lambda r: len(r["messages"][1]["content"]))
for message in shortest["messages"]:
    print(f"--- {message['role']}\\n{message['content']}")
source = shortest["source"][0]
print(f"\\nmade from {source['document']}, characters {source['start']} to {source['end']}")""",
    """## Fine-tuning

LoRA on all linear layers of the model. `epochs=0.37` is 160 of the examples: 20 steps of 8, where a full run takes
two epochs. Gates stop a run that would learn nothing; what they measured stands in the adapter's manifest.""",
    """curve = []
adapter = doyen.finetune(expert, name="short", epochs=0.37, report=curve.append)

for line in curve[::4] + curve[-1:]:
    print(f"step {line.step:>2} of {line.steps}  loss {line.loss:.3f}")
print(f"{adapter.tokens:,} tokens in {adapter.seconds:.0f} s, validation loss {adapter.validation_loss}")
print(f"refusal threshold {adapter.refusal_threshold}, calibrated on {adapter.calibration['answerable']} answerable "
      f"and {adapter.calibration['unanswerable']} unanswerable validation examples")
print("gates:", json.dumps(adapter.gates, indent=1))""",
    """both = doyen.Expert.open(expert, arm="rag+finetuned")
answer = both.ask(QUESTION)
print(answer.text)
for c in answer.citations:
    named = "found by doyen" if c.attributed else "named by the model"
    print(f"  {c.document}, page {c.page} ({named}): “{' '.join(c.quote.split())}”")""",
    """A question whose answer is not in the documents should be refused. How reliably it is, and how often the expert
refuses although the passage with the answer is there, only a comparison says.""",
    """unknown = both.ask("What does Velmarrow pay its branch managers?")
print(unknown.text, f"(answered: {unknown.answered}, probability of refusing {unknown.refusal_probability:.2f})")""",
    """## Comparing the four arms

The same 16 held-out questions for the model alone, with passages, fine-tuned, and both.""",
    """import random

from doyen.examples.building import held_out_questions

sample = random.Random(7).sample(held_out_questions(expert), 16)
comparison = doyen.compare(expert, sample)

shown = ("overall", "answer_score", "false_refusal_rate", "unanswerable_refused", "citation_precision", "seconds_p50")
print(f"{'':<14}" + "".join(f"{name:>21}" for name in shown))
for arm, found in comparison["arms"].items():
    cells = [found["metrics"].get(name) for name in shown]
    print(f"{arm:<14}" + "".join(f"{m['value']:>21.2f}" if m else f"{'–':>21}" for m in cells))
counts = comparison["questions"]
print(f"\\n{counts['answerable']} answerable and {counts['unanswerable']} unanswerable questions")
for arm, found in comparison["arms"].items():
    m = found["metrics"]["overall"]
    print(f"{arm:<14} overall {m['value']:.2f}, 95% interval {m['low']:.2f} to {m['high']:.2f}")""",
    """With 16 questions the intervals are wide. The advice says so, and what would change it. The folder of the comparison
holds the same as a page, `report.html`, with every question, answer and citation.""",
    """advice = doyen.advise(comparison)
print(f"use: {advice.arm}")
for reason in advice.reasons:
    print(" -", reason)""",
    """## What has gone stale?

The adapter's manifest names the document versions that its examples stand on. When a document changes, `status` says
which of them are stale. Here every document is as it was at the training:""",
    """state = doyen.status(expert)["adapters"][0]
print(f"{state['name']}: {len(state['stale_documents'])} of its {state['documents']} documents are stale")""",
]


def build() -> Any:
    """Return the notebook without outputs; a cell that is not Python is prose."""
    import nbformat

    notebook = nbformat.v4.new_notebook()
    for n, text in enumerate(CELLS):
        made = nbformat.v4.new_code_cell(text) if _is_code(text) else nbformat.v4.new_markdown_cell(text)
        made["id"] = f"cell-{n:02d}"
        notebook.cells.append(made)
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return notebook


def _is_code(text: str) -> bool:
    try:
        compile(text, "cell", "exec")
    except SyntaxError:
        return False
    return not text.startswith("#")


def strip_paths(text: str) -> str:
    """Replace this machine's folders by short names."""
    for folder, name in ((str(ROOT), "doyen"), (tempfile.gettempdir(), "tmp"), (str(Path.home()), "~")):
        text = text.replace(folder + "/", name + "/").replace(folder, name)
    return text


def main() -> None:
    """Execute the notebook and write it."""
    import nbformat
    from nbclient import NotebookClient

    notebook = build()
    client = NotebookClient(
        notebook,
        timeout=3600,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": str(HERE)}},
    )
    client.execute()
    notebook.metadata.pop("language_info", None)
    for cell in notebook.cells:
        if "outputs" in cell:
            kept = [o for o in cell["outputs"] if "TqdmWarning" not in o.get("text", "")]  # asks for a notebook widget
            outputs = json.loads(strip_paths(json.dumps(kept, ensure_ascii=False)))
            cell["outputs"] = [nbformat.from_dict(o) for o in outputs]
    text = nbformat.writes(notebook)
    if re.search(r"/(work|root|home|tmp)/", text) or len(text.encode()) > MOST_BYTES:
        sys.exit(f"not written: it holds a path of this machine, or more than {MOST_BYTES} bytes")
    NOTEBOOK.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
