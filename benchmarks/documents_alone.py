"""Documents alone: examples made from documents without any question → fine-tune → rag and rag+finetuned on human questions.

    python benchmarks/documents_alone.py --data DIR --work DIR    # dev-multilingual-xquad, English

DIR of --data holds docs/en and questions.jsonl in doyen's format. The human questions are for the test only: a seeded
sample of one side of a split by paragraph (seed 7). No human question is read before the training has ended. rag is
also shown with two worked examples, made from documents too, so that form alone is not what is measured.
"""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from measuring import adapter_figures, figures, parser, save, show_arms
from open_sets import SEED, against_best_prompt, two_shots

import doyen
from doyen.cli.output import Bar
from doyen.config import load_settings
from doyen.examples.generating.review import read_review
from doyen.examples.importing import read_questions
from doyen.examples.splitting import overlapping, split_by_document
from doyen.expert import open_engine, open_retriever
from doyen.records import GoldSource, Question
from doyen.words import words

ADAPTER = "documents"


def human_questions(path: Path, count: int) -> list[Question]:
    """A seeded sample of English questions whose paragraphs are on one side of the split."""
    english = [q for q in read_questions(path) if q.language == "en"]
    named = [
        dataclasses.replace(
            q, gold=tuple(dataclasses.replace(g, document=g.document.removeprefix("en/")) for g in q.gold)
        )
        for q in english
    ]
    test = [q for q in split_by_document(named, share=0.3, seed=SEED) if q.split == "test"]
    return random.Random(SEED).sample(test, min(count, len(test)))


def prepare(arguments: Any) -> Any:
    """Ingest the documents and make the examples from them."""
    expert = arguments.work
    if not (expert / "doyen.toml").exists():
        doyen.init(expert)
    doyen.ingest(expert, [arguments.data / "docs" / "en"])
    settings = load_settings(expert)
    engine = open_engine(settings) if arguments.generator == "model" else None
    return doyen.build_examples(
        expert,
        open_retriever(expert, settings),
        from_documents=True,
        generator=arguments.generator,
        questions=arguments.questions,
        engine=engine,
        say=print,
    )


def train(expert: Path, epochs: float) -> None:
    """Train the adapter, or go on with an interrupted training."""
    folder = expert / "adapters" / ADAPTER
    if (folder / "manifest.json").exists():
        return
    with Bar("steps") as bar:
        doyen.finetune(
            expert,
            name=ADAPTER,
            epochs=epochs,
            resume=(folder.with_name(f".{ADAPTER}.training") / "checkpoint.pt").exists(),
            say=print,
            report=lambda p: bar("training", p.step, p.steps, f"loss {p.loss:.3f} {p.tokens_per_s:.0f} tokens/s"),
        )


def worked_examples(expert: Path) -> list[Question]:
    """The generated questions with their evidence, as `two_shots` takes them."""
    review = read_review(expert / "examples")
    found = []
    for row in review.rows:
        if row.answerable and row.made_by in ("number", "name", "year") and row.id in review.written:
            gold = (GoldSource(row.document, row.page),)
            found.append(Question(row.id, row.question, (row.answer,), "span", gold, split="train"))
    return found


def against(made: Sequence[Question], test: Sequence[Question]) -> dict[str, Any]:
    """How near the generated questions come to the human ones: pairs nearly equal, and the same answer on the same paragraph."""
    answers = {(q.gold[0].document, " ".join(words(a))) for q in test for a in q.answers}
    same = sum((q.gold[0].document, " ".join(words(q.answers[0]))) in answers for q in made)
    return {"nearly equal questions": len(overlapping(made, test)), "same paragraph and answer": same}


def main() -> None:
    made = parser(__doc__ or "")
    made.add_argument("--data", type=Path, required=True)
    made.add_argument("--questions", type=int, default=300, help="questions made from the documents, phrasings counted")
    made.add_argument("--generator", choices=("rules", "model"), default="rules")
    made.add_argument("--test", type=int, default=180, help="human questions")
    made.add_argument("--epochs", type=float, default=1.0)
    made.add_argument("--stage", choices=("build", "train", "all"), default="all", help="where to stop")
    arguments = made.parse_args()
    expert = arguments.work
    if not (expert / "built.json").exists():  # a training that goes on needs the examples that it began with
        examples = prepare(arguments)
        (expert / "built.json").write_text(json.dumps(dataclasses.asdict(examples), default=str), encoding="utf-8")
    if arguments.stage == "build":
        return
    train(expert, arguments.epochs)
    if arguments.stage == "train":
        return
    test = human_questions(arguments.data / "questions.jsonl", arguments.test)
    with Bar("questions") as bar:
        folder = expert / "comparisons" / "arms"  # named, so that an interrupted run goes on
        report = doyen.compare(expert, test, arms=["rag", "rag+finetuned"], adapter=ADAPTER, out=folder, progress=bar)
    show_arms(report)
    generated = worked_examples(expert)
    shots = two_shots(generated, open_retriever(expert, load_settings(expert)), load_settings(expert).answer.passages)
    with Bar("questions") as bar:
        folder = expert / "comparisons" / "shots"
        shown = doyen.compare(expert, test, arms=["rag"], shots=shots, out=folder, progress=bar)
    show_arms(shown)
    built = json.loads((expert / "built.json").read_text(encoding="utf-8"))
    kept = ("variants", "generated", "generated_facts", "made_by", "not_generated", "documents", "documents_in_index")
    result = {
        "set": "xquad, English",
        "examples": {name: built[name] for name in kept},
        "generated against the test": against(generated, test),
        "adapter": adapter_figures(expert, ADAPTER),
        "comparison": figures(report),
        "rag with two examples": figures(shown)["arms"]["rag"],
        "against the better rag prompt": against_best_prompt(
            report, shown, test, Path(report["folder"]), Path(shown["folder"])
        ),
    }
    print(report["differences"], result["against the better rag prompt"])
    save("documents_alone", result, arguments.out)


if __name__ == "__main__":
    main()
