"""Documents that no adapter was trained on → bits per byte of their text, with the base model and with each adapter.

It tells whether a training has brought the model nearer to the domain's language, of which it saw none of these texts. Needs
the model's log-probabilities, so an engine of this machine. General texts are measured in `finetuning.forgetting`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from doyen.adapters import adapter_folder, read_adapter
from doyen.errors import EngineError
from doyen.evaluation.statistics import Interval, bootstrap_ratio
from doyen.index.store import Index
from doyen.models.engine import Engine

MOST_TEXTS = 32
MOST_CHARACTERS = 4000
NONE_LEFT = (
    "every document that everybody may see is one that an adapter was trained on, or nearly the same: nothing of the domain is "
    "left to measure with"
)


def untrained_texts(index: Index, trained: Sequence[str]) -> dict[str, str]:
    """Return the beginnings of documents that are not among the trained ones, nor near-copies of these: id → text.

    At most 32, chosen by their content, so that a document's name and place decide nothing; restricted ones are left out.
    """
    seen = set(trained)
    for group in index.near_duplicates():
        seen |= set(group.documents) if seen & set(group.documents) else set()
    found: dict[str, tuple[str, str]] = {}
    for row in index.documents():
        if row.labels or row.id in seen:
            continue
        text = index.text(row.id)[0][:MOST_CHARACTERS]
        if text.strip():
            found.setdefault(hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest(), (row.id, text))
    return {document: text for _, (document, text) in sorted(found.items())[:MOST_TEXTS]}


def domain_bits(
    expert: Path, index: Index, engine: Engine, adapters: Sequence[str], *, seed: int = 0
) -> dict[str, Any]:
    """Return `{documents, bytes, base, adapters: {name: {…, change}}, left_out}`; figures are bits per byte with intervals.

    `change` is the adapter's bits over the base's, less 1: below zero the text has become likelier. Intervals are bootstrapped
    over the documents. `left_out` says why nothing was measured, else it is null.
    """
    folders = {name: adapter_folder(expert, name) for name in adapters}
    trained = [source["document"] for folder in folders.values() for source in read_adapter(folder).sources]
    texts = untrained_texts(index, trained)
    if not texts:
        return {"documents": 0, "bytes": 0, "base": None, "adapters": {}, "left_out": NONE_LEFT}
    bodies = list(texts.values())
    sizes = [float(len(body.encode("utf-8", "surrogatepass"))) for body in bodies]
    row: dict[str, Any] = {"documents": len(bodies), "bytes": int(sum(sizes)), "base": None, "adapters": {}}
    try:
        base = _bits(engine, bodies, None)
        tuned = {name: _bits(engine, bodies, folder) for name, folder in folders.items()}
    except EngineError as error:
        return row | {"left_out": str(error)}
    row["base"] = bootstrap_ratio(base, sizes, seed=seed).as_dict()
    row["adapters"] = {
        name: bootstrap_ratio(bits, sizes, seed=seed).as_dict() | {"change": _change(bits, base, seed)}
        for name, bits in tuned.items()
    }
    return row | {"left_out": None}


def _bits(engine: Engine, texts: Sequence[str], adapter: Path | None) -> list[float]:
    return [loss / math.log(2) for loss in engine.text_losses(texts, adapter=adapter)]


def _change(bits: Sequence[float], base: Sequence[float], seed: int) -> Mapping[str, Any]:
    ratio = bootstrap_ratio(bits, base, seed=seed)
    return Interval(ratio.value - 1, ratio.low - 1, ratio.high - 1, ratio.n).as_dict()
