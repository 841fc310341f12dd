"""Documents to measure with: files of the user's, or, without any, a few PDFs that are made here.

The made ones have pages of running text in sentences of invented words, drawn from a seed: they are read, cut, embedded and
indexed as real ones are, and say nothing about how long yours are.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Sequence
from pathlib import Path

from doyen.documents.reading import SUFFIXES
from doyen.errors import UsageError
from doyen.sources.folder import list_files

MOST_FILES, MOST_BYTES = 60, 24 << 20
_SEED = 7
_MADE, _PAGES, _LINES, _NOTES = 16, 6, 42, 32
_SYLLABLES = "ba ce di fo gu la me ni or pu ra se ti vo wen cal dor fin gar hol".split()


def choose_files(folder: Path, most: int = MOST_FILES, most_bytes: int = MOST_BYTES) -> list[Path]:
    """Return some of a folder's readable files, drawn from a seed, but none that would take most of the bytes alone.

    Raises:
        UsageError: there are none.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder", hint="--sample FOLDER, with files like those to be planned for")
    found, *_ = list_files(folder, SUFFIXES)
    found = [path for path in found if 0 < path.stat().st_size <= most_bytes // 2]
    if not found:
        raise UsageError(f"{folder} holds no file that can be read", hint="--sample FOLDER, with files like yours")
    random.Random(_SEED).shuffle(found)
    chosen, size = list[Path](), 0
    for path in found:
        if len(chosen) < most and size + path.stat().st_size <= most_bytes:
            chosen.append(path)
            size += path.stat().st_size
    return chosen


def copy_files(files: Sequence[Path], into: Path) -> list[Path]:
    """Copy files under numbers, so that equal names in different folders do not meet; return the copies."""
    into.mkdir(parents=True, exist_ok=True)
    return [Path(shutil.copyfile(path, into / f"{i:04d}{path.suffix.lower()}")) for i, path in enumerate(files)]


def make_files(into: Path, count: int = _MADE, pages: int = _PAGES) -> list[Path]:
    """Write PDFs with pages of text, the same ones every time."""
    into.mkdir(parents=True, exist_ok=True)
    made = []
    for number in range(count):
        rng = random.Random(_SEED + number)
        words = ["".join(rng.choices(_SYLLABLES, k=rng.randint(1, 3))) for _ in range(400)]
        made.append(into / f"made-{number:02d}.pdf")
        made[-1].write_bytes(_pdf([_page(rng, words) for _ in range(pages)]))
    return made


def make_notes(into: Path, count: int = _NOTES) -> list[Path]:
    """Write texts of one short sentence each: what a document costs beside its characters."""
    into.mkdir(parents=True, exist_ok=True)
    made = [into / f"note-{number:02d}.txt" for number in range(count)]
    for number, path in enumerate(made):
        words = random.Random(_SEED + number).choices(_SYLLABLES, k=8)
        path.write_text(f"Note {number}: {' '.join(words)}.\n", encoding="utf-8")
    return made


def _page(rng: random.Random, words: Sequence[str]) -> list[str]:
    lines, left = [], 0
    for _ in range(_LINES):
        line = ""
        while len(line) < 78:
            word = words[min(int(rng.expovariate(0.012)), len(words) - 1)]
            word = word.capitalize() if left == 0 else word
            left = rng.randint(8, 18) if left == 0 else left - 1
            line += word + (". " if left == 0 else " ")
        lines.append(line.strip())
    return lines


def _pdf(pages: Sequence[Sequence[str]]) -> bytes:
    """Return a PDF of lines in Helvetica, which every reader has."""
    kids = " ".join(f"{4 + 2 * i} 0 R" for i in range(len(pages)))
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for i, lines in enumerate(pages):
        text = " ".join(f"({line}) Tj T*" for line in lines)
        drawn = f"BT /F1 11 Tf 16 TL 50 790 Td {text} ET"
        objects.append(
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Resources << /Font << /F1 3 0 R >> >> "
            f"/Contents {5 + 2 * i} 0 R >>"
        )
        objects.append(f"<< /Length {len(drawn)} >>\nstream\n{drawn}\nendstream")
    out, places = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += f"{number} 0 obj\n{body}\nendobj\n".encode("ascii")
    table = "".join(f"{place:010d} 00000 n \n" for place in places)
    end = (
        f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}trailer\n<< /Size {len(objects) + 1} /Root 1 0 R >>\n"
    )
    return out + f"{end}startxref\n{len(out)}\n%%EOF\n".encode("ascii")
