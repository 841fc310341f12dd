"""The small markup in which the source texts are written, and its reader."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Block:
    """One piece of a document: kind is part, clause, text or table."""

    kind: str
    text: str = ""
    rows: list[list[str]] = field(default_factory=list)


@dataclass
class Document:
    """A parsed source text."""

    name: str
    title: str
    subtitle: str
    footer: str
    blocks: list[Block]


def _block_of(line: str) -> Block:
    if line.startswith("## "):
        return Block("clause", line[3:])
    if line.startswith("# "):
        return Block("part", line[2:])
    if line.startswith("| "):
        return Block("table", rows=[[cell.strip() for cell in line[2:].split(" | ")]])
    return Block("text", line)


def read_document(path: Path) -> Document:
    """Read a source text: three header lines (title, subtitle, footer), then blocks, one a line."""
    lines = path.read_text(encoding="utf-8").splitlines()
    head = dict(line.split(": ", 1) for line in lines[:3])
    blocks: list[Block] = []
    for line in lines[3:]:
        if not line.strip():
            continue
        block = _block_of(line)
        if block.kind == "table" and blocks and blocks[-1].kind == "table":
            blocks[-1].rows.extend(block.rows)
        else:
            blocks.append(block)
    for block in blocks:
        if len({len(row) for row in block.rows}) > 1:
            raise ValueError(f"{path.name}: table with rows of unequal length: {block.rows[0]}")
    return Document(path.stem, head["title"], head["subtitle"], head["footer"], blocks)
