"""Text → language code. py3langid loads its small model on the first use and keeps it."""

from __future__ import annotations

_PROBE_CHARS = 2000
_MIN_LETTERS = 20


def detect_language(text: str) -> str:
    """Return the ISO 639-1 code of the text's first 2,000 characters; '' where there are too few letters to tell."""
    probe = text[:_PROBE_CHARS]
    if sum(map(str.isalpha, probe)) < _MIN_LETTERS:
        return ""
    import py3langid

    code = str(py3langid.classify(probe)[0])
    return code if len(code) == 2 else ""  # 'zxx' (no language) and three-letter codes are not ISO 639-1
