"""Which languages an embedder was trained on: from its card, else by the name of its family. Knows no weights."""

from __future__ import annotations

import re
from pathlib import Path

_MULTILINGUAL = re.compile(r"multilingual|xlm|labse|bge-m3|embeddings-v3", re.IGNORECASE)
_BY_NAME = (  # pattern of the model's name, language
    (re.compile(r"-zh\b", re.IGNORECASE), "zh"),
    (re.compile(r"-de\b|german", re.IGNORECASE), "de"),
    (re.compile(r"minilm|all-mpnet|multi-qa|msmarco|-en\b|\be5-|nomic-embed-text-v1|gte-", re.IGNORECASE), "en"),
)
_CARD_LANGUAGES = re.compile(
    r"^language:[ \t]*(?P<one>[a-z]{2,3})?[ \t]*\n(?P<list>(?:[ \t]*-[ \t]*[a-z]{2,3}[ \t]*\n)*)", re.M
)


def trained_languages(folder: Path, *names: str) -> frozenset[str]:
    """Return ISO 639-1 codes; empty where all languages, or unknown ones, are meant.

    The front matter of the folder's README.md wins over `names` (what the model was asked for as, what it comes from).
    """
    if found := _of_card(folder / "README.md"):
        return found
    for name in names:
        if _MULTILINGUAL.search(name):
            return frozenset()
        for pattern, language in _BY_NAME:
            if pattern.search(name):
                return frozenset((language,))
    return frozenset()


def _of_card(card: Path) -> frozenset[str]:
    try:
        text = card.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return frozenset()
    if not text.startswith("---"):
        return frozenset()
    found = _CARD_LANGUAGES.search(text.split("\n---", 1)[0] + "\n")
    if found is None:
        return frozenset()
    listed = re.findall(r"[a-z]{2,3}", found["list"]) or [found["one"] or ""]
    return frozenset(code for code in listed if code)
