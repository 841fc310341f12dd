"""Four arms on open question sets that you bring (their texts stay out of the results).

    python benchmarks/open_sets.py xquad --data DIR --work DIR       # dev-multilingual-xquad, English
    python benchmarks/open_sets.py pubmedqa --data DIR --work DIR    # dev-medical-pubmedqa
    python benchmarks/open_sets.py it-aws --data DIR --work DIR      # dev-it-aws

DIR of --data holds docs/ and questions.jsonl in doyen's format. xquad is split again by paragraph (seed 7), and rag is
also shown with two worked examples from the training paragraphs; pubmedqa and it-aws keep their own split.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from measuring import adapter_figures, figures, parser, save, show_arms

import doyen
from doyen.answering import answer_of
from doyen.cli.output import Bar
from doyen.config import load_settings
from doyen.evaluation.scoring import score_answer
from doyen.evaluation.statistics import paired_difference
from doyen.examples.importing import question_row, read_questions, write_rows
from doyen.examples.splitting import split_by_document
from doyen.expert import open_retriever
from doyen.prompts import Shot, answer_text
from doyen.records import Question
from doyen.retrieval.hybrid import Retriever

SEED = 7


def xquad_questions(questions: Sequence[Question], train: int, test: int) -> list[Question]:
    """English questions, split by paragraph; a seeded sample of each side."""
    english = [q for q in questions if q.language == "en"]
    split = split_by_document(english, share=0.3, seed=SEED)
    return _sample(split, train, test)


def as_split(questions: Sequence[Question], train: int, test: int) -> list[Question]:
    """The source's own split; a seeded sample of each side."""
    return _sample(questions, train, test)


def _sample(questions: Sequence[Question], train: int, test: int) -> list[Question]:
    rng = random.Random(SEED)
    sides = {side: [q for q in questions if q.split == side] for side in ("train", "test")}
    kept = []
    for side, count in (("train", train), ("test", test)):
        kept += rng.sample(sides[side], min(count, len(sides[side])))
    return kept


def two_shots(questions: Sequence[Question], retriever: Retriever, passages: int) -> list[Shot]:
    """Two training questions whose gold passage the retriever finds first, with short answers."""
    shots: list[Shot] = []
    for q in (q for q in questions if q.split == "train"):
        hits = retriever.search(q.question, passages)
        if hits[0].chunk.document == q.gold[0].document and q.answers[0] in hits[0].chunk.text:
            shots.append(Shot(q.question, tuple(hits), answer_text(q.answers[0], 1)))
        if len(shots) == 2:
            break
    return shots


def against_best_prompt(
    report: dict[str, Any], shown: dict[str, Any], questions: Sequence[Question], folder: Path, shots_folder: Path
) -> dict[str, Any]:
    """The paired gain of rag+finetuned over the better of the two rag prompts, in token F1."""
    means = {
        "rag": report["arms"]["rag"]["metrics"]["token_f1"]["value"],
        "rag, two examples": shown["arms"]["rag"]["metrics"]["token_f1"]["value"],
    }
    better = max(means, key=lambda k: means[k])
    a = _f1(questions, (folder if better == "rag" else shots_folder) / "answers.rag.jsonl")
    b = _f1(questions, folder / "answers.rag+finetuned.jsonl")
    return {
        "better rag prompt": better,
        "token F1": means,
        "rag+finetuned minus it (bar: 0.10)": paired_difference(a, b, seed=SEED).as_dict(),
    }


def _f1(questions: Sequence[Question], path: Path) -> list[float]:
    import json

    answers = {
        row["id"]: answer_of(row) for row in map(json.loads, path.read_text(encoding="utf-8").strip().split("\n"))
    }
    return [score_answer(q, answers[q.id]).token_f1 or 0.0 for q in questions]


def main() -> None:
    made = parser(__doc__ or "")
    made.add_argument("set", choices=("xquad", "pubmedqa", "it-aws"))
    made.add_argument("--data", type=Path, required=True)
    made.add_argument("--train", type=int, default=450, help="training questions")
    made.add_argument("--test", type=int, default=240, help="test questions")
    made.add_argument("--epochs", type=float, default=1.5)
    arguments = made.parse_args()
    expert = arguments.work
    documents = arguments.data / "docs" / ("en" if arguments.set == "xquad" else "")
    if not (expert / "doyen.toml").exists():
        doyen.init(expert)
    doyen.ingest(expert, [documents])
    choose = xquad_questions if arguments.set == "xquad" else as_split
    questions = choose(read_questions(arguments.data / "questions.jsonl"), arguments.train, arguments.test)
    if arguments.set == "xquad":  # ids are paths below docs/en here
        questions = [
            dataclasses.replace(
                q, gold=tuple(dataclasses.replace(g, document=g.document.removeprefix("en/")) for g in q.gold)
            )
            for q in questions
        ]
    test = [q for q in questions if q.split == "test"]
    write_rows(expert / "sampled.jsonl", map(question_row, questions))
    doyen.import_file(expert, expert / "sampled.jsonl")
    retriever = open_retriever(expert, load_settings(expert))
    examples = doyen.build_examples(expert, retriever)
    if not (expert / "adapters" / "bench" / "manifest.json").exists():
        with Bar("steps") as bar:
            doyen.finetune(
                expert,
                name="bench",
                epochs=arguments.epochs,
                say=print,
                report=lambda p: bar("training", p.step, p.steps, f"loss {p.loss:.3f} {p.tokens_per_s:.0f} tokens/s"),
            )
    with Bar("questions") as bar:
        report = doyen.compare(expert, test, adapter="bench", progress=bar)
    show_arms(report)
    result: dict[str, Any] = {
        "set": arguments.set,
        "examples": examples.variants,
        "adapter": adapter_figures(expert, "bench"),
        "comparison": figures(report),
    }
    if arguments.set == "xquad":
        shots = two_shots(questions, retriever, load_settings(expert).answer.passages)
        with Bar("questions") as bar:
            shown = doyen.compare(expert, test, arms=["rag"], shots=shots, progress=bar)
        show_arms(shown)
        result["rag with two examples"] = figures(shown)["arms"]["rag"]
        result["bar"] = against_best_prompt(report, shown, test, Path(report["folder"]), Path(shown["folder"]))
        print(result["bar"])
    save(arguments.set, result, arguments.out)


if __name__ == "__main__":
    main()
