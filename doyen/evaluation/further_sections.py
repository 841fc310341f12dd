"""A report → what it says beside the four arms' figures: what was not measured, trainings, the judge, domain text.

Sections are plain text first; `further_section` writes them for the page, `further_markdown` for report.md, `further_lines` for
a terminal. Computes no figure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from doyen.evaluation.page_table import row_of, table
from doyen.evaluation.trainings import SPREAD

FEW_DOCUMENTS = 5


@dataclass(frozen=True, slots=True)
class Section:
    """A heading, sentences, and a table where `rows` has any; all of it plain text."""

    title: str
    lines: tuple[str, ...] = ()
    head: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()


def further_sections(report: Mapping[str, Any]) -> list[Section]:
    """Return the sections that this report has something for."""
    return [*_not_measured(report), *_trainings(report), *_judge(report), *_domain_text(report)]


def further_section(report: Mapping[str, Any]) -> str:
    """Return the sections as HTML; nothing where there are none."""
    parts = []
    for section in further_sections(report):
        said = "".join(f"<p>{escape(line)}</p>" for line in section.lines)
        rows = [row_of(escape(row[0]), [f"<td>{escape(cell)}</td>" for cell in row[1:]]) for row in section.rows]
        drawn = table(section.title, [escape(cell) for cell in section.head], rows) if rows else ""
        parts.append(f"{drawn}{said}" if rows else f"<h3>{escape(section.title)}</h3>{said}")
    return "".join(parts)


def further_markdown(
    report: Mapping[str, Any],
    escaped: Callable[[str], str],
    drawn: Callable[[Sequence[str], Sequence[Sequence[str]]], str],
) -> str:
    """Return the sections as Markdown; `escaped` and `drawn` write a text and a table."""
    parts = []
    for section in further_sections(report):
        parts.append(f"## {escaped(section.title)}")
        if section.rows:
            parts.append(drawn(list(map(escaped, section.head)), [list(map(escaped, row)) for row in section.rows]))
        parts += ["\n".join(f"- {escaped(line)}" for line in section.lines)] if section.lines else []
    return "\n\n".join(parts)


def further_lines(report: Mapping[str, Any]) -> list[str]:
    """Return the sections' sentences and tables for a terminal."""
    lines = []
    for section in further_sections(report):
        lines.append(f"{section.title}:")
        shown = [section.head, *section.rows] if section.rows else []
        lines += [f"  {'  '.join(f'{cell:<22}' for cell in row).rstrip()}" for row in shown]
        lines += [f"  {line}" for line in section.lines]
    return lines


# ------------------------------------------------------------------ sections
def _not_measured(report: Mapping[str, Any]) -> Iterator[Section]:
    lines = [
        f"{arm} has no figures: {why}. What it answered is kept; the same command goes on with it."
        for arm, why in report.get("failed", {}).items()
    ]
    total = report["questions"]["total"]
    for arm, reasons in report.get("left_out", {}).items():
        why = ", ".join(f"{count} with {reason}" for reason, count in reasons.items())
        lines.append(f"{arm} was asked {total - sum(reasons.values())} of {total} questions; left out: {why}.")
    counts = report["questions"]
    if missing := counts.get("without_answers"):
        lines.append(
            f"{missing} of {counts['answerable']} answerable questions have no known answer: whether they are answered rightly "
            "is not measured; refusals, time and citations are."
        )
    if missing := counts.get("without_gold"):
        lines.append(
            f"{missing} of {counts['answerable']} answerable questions have no gold: retrieval and right citations are not "
            "measured with them."
        )
    if lines:
        yield Section("What was not measured", tuple(lines))


def _trainings(report: Mapping[str, Any]) -> Iterator[Section]:
    arms = {arm: found["trainings"] for arm, found in report["arms"].items() if "trainings" in found}
    if not arms:
        return
    names = {"overall": "Overall score", "answer_score": "Answer score", "token_f1": "Token F1"}
    shown = [name for name in SPREAD if any(name in trainings["spread"] for trainings in arms.values())]
    rows = []
    for arm, trainings in arms.items():
        for row in trainings["adapters"]:
            rows.append((f"{arm}: {row['adapter']}", *(_share(row.get(name)) for name in shown)))
        spread = trainings["spread"]
        rows.append((f"{arm}: standard deviation", *(_share(spread.get(name)) for name in shown)))
    lines = [
        f"{', '.join(arms)}: means over the trainings. Each question counts with the mean of its answers, and intervals are over "
        "questions and trainings (crossed random effects).",
        *map(str, report["manifest"].get("trainings_differ", ())),
    ]
    yield Section("Trainings, and how far they differ", tuple(lines), ("Arm", *(names[n] for n in shown)), tuple(rows))


def _judge(report: Mapping[str, Any]) -> Iterator[Section]:
    judge = report.get("judge")
    if not judge:
        return
    lines = []
    if judge["failed"]:
        lines.append(
            f"The judge was given up: {judge['failed']}. All deterministic figures stand; what was judged is kept, and the same "
            "command goes on."
        )
    rows = [(arm, *_agreed(found)) for arm, found in judge["arms"].items() if found["n"]]
    whole = judge["agreement"]
    if whole["n"]:
        rows.append(("all", *_agreed(whole)))
        lines.append(
            f"{judge['model']} at {judge['host']} judged the answers by a fixed prompt (version {judge['prompt']}, temperature "
            "0). Agreement: both say right, or both wrong. Kappa is agreement beyond chance: 1 perfect, 0 none."
        )
        lines.append(f"Deterministic and judged: {_crossed(whole['table'])}.")
    if judge["unjudged"]:
        lines.append(f"{judge['unjudged']} answers got no verdict.")
    head = ("Arm", "Answers judged", "Called correct", "Agreement", "Kappa")
    yield Section("The judge and the deterministic figures", tuple(lines), head, tuple(rows))


def _agreed(found: Mapping[str, Any]) -> tuple[str, ...]:
    correct = sum(row.get("correct", 0) for row in found["table"].values())
    kappa = "–" if found["kappa"] is None else f"{found['kappa']:.2f}"
    return str(found["n"]), _share(correct / found["n"]), _share(found["share"]), kappa


def _crossed(rows: Mapping[str, Mapping[str, int]]) -> str:
    return ", ".join(
        f"{n} {'right' if a == 'correct' else a} and {b}" for a, row in rows.items() for b, n in row.items()
    )


def _domain_text(report: Mapping[str, Any]) -> Iterator[Section]:
    found = report.get("domain_text")
    if not found:
        return
    title = "Bits per byte of documents that were not trained on"
    if found["left_out"]:
        yield Section(title, (f"Not measured: {found['left_out']}.",))
        return
    rows = [("the model as it is", _bits(found["base"]), "–")]
    for name, figures in found["adapters"].items():
        change = figures["change"]
        low, high = f"{change['low']:+.1%}", f"{change['high']:+.1%}"
        rows.append((name, _bits(figures), f"{change['value']:+.1%} ({low} to {high})"))
    about = (
        f"Documents: {found['documents']}, with {found['bytes']:,} bytes. Fewer bits: the text is likelier to the model, which is "
        "nearer to the domain's language. Intervals are over the documents."
    )
    lines = (about,) if found["documents"] >= FEW_DOCUMENTS else (about, "So few documents tell little.")
    yield Section(title, lines, ("Model", "Bits a byte", "Change"), tuple(rows))


def _bits(figure: Mapping[str, Any]) -> str:
    return f"{figure['value']:.3f} ({figure['low']:.3f} to {figure['high']:.3f})"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}%"
