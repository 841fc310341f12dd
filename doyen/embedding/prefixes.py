"""What is put before questions and passages: from the model's own files, else a table of known families.

Knows no weights. Sources of the table: the models' cards on the Hugging Face Hub.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from doyen.embedding.tokens import read_json

Kind = Literal["passage", "query"]
AUTOMATIC = "auto"
_BGE = "Represent this sentence for searching relevant passages: "
_BGE_ZH = "为这个句子生成表示以用于检索相关文章："  # noqa: RUF001
_E5_INSTRUCT = "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery: "
_KNOWN = (  # pattern of the model's name, query, passage
    (r"(multilingual-)?e5-(small|base|large)(-v2)?", "query: ", "passage: "),
    (r"multilingual-e5-large-instruct", _E5_INSTRUCT, ""),
    (r"bge-(small|base|large)-en(-v1\.5)?", _BGE, ""),
    (r"bge-(small|base|large)-zh(-v1\.5)?", _BGE_ZH, ""),
    (r"mxbai-embed-(large|xsmall)-v1", _BGE, ""),
    (r"snowflake-arctic-embed-.+", _BGE, ""),
    (r"nomic-embed-text-v.+", "search_query: ", "search_document: "),
)


@dataclass(frozen=True, slots=True)
class Prefixes:
    """What stands before a question, and before a passage."""

    query: str = ""
    passage: str = ""

    def before(self, kind: Kind) -> str:
        """Return the prefix of one kind."""
        return self.query if kind == "query" else self.passage


def read_prefixes(folder: Path, name: str, *, query: str = AUTOMATIC, passage: str = AUTOMATIC) -> Prefixes:
    """Return the prefixes of a model; `query` and `passage`, where they are not "auto", win over what it says.

    The order: config_sentence_transformers.json's `prompts` where any of them is not empty, then the table of families
    by the model's name and the name of what it was trained from, then none.
    """
    own = _own(folder) or _known(name) or _known(_origin(folder)) or Prefixes()
    return Prefixes(
        own.query if query == AUTOMATIC else query,
        own.passage if passage == AUTOMATIC else passage,
    )


def _own(folder: Path) -> Prefixes | None:
    prompts = read_json(folder / "config_sentence_transformers.json").get("prompts")
    if not isinstance(prompts, dict) or not any(prompts.values()):
        return None
    query = next((str(prompts[key]) for key in ("query", "search_query", "s2p_query") if key in prompts), "")
    names = ("document", "passage", "search_document", "corpus")
    return Prefixes(query, next((str(prompts[key]) for key in names if key in prompts), ""))


def _known(name: str) -> Prefixes | None:
    last = name.split("@")[0].rstrip("/").rpartition("/")[2].lower()
    for pattern, query, passage in _KNOWN:
        if re.fullmatch(pattern, last):
            return Prefixes(query, passage)
    return None


def _origin(folder: Path) -> str:
    return str(read_json(folder / "config.json").get("_name_or_path", ""))


def plain_name(name: str) -> str:
    """Return a name without `/`, which in a fingerprint parts the model from the backend."""
    return name.replace("/", "--")


def vector_marks(prefixes: Prefixes, pooling: str = "mean", cut: int = 0) -> str:
    """Return what a passage's vector depends on besides the weights, for the fingerprint; empty for plain means."""
    marks = [pooling] if pooling != "mean" else []
    marks += [f"{cut}d"] if cut else []
    marks += [f"p{hashlib.sha256(prefixes.passage.encode()).hexdigest()[:6]}"] if prefixes.passage else []
    return "".join(f"+{mark}" for mark in marks)
