"""Who may see a document: the labels that an item gets, of the first of these places that names some.

the item itself (a database's column), then its upload, then `[documents] labels` by the document's path, then the source
(`doyen ingest SOURCE --labels`, of several the innermost). A document with labels is for those who hold one of them, one
without for everybody. Labels are compared letter by letter.

Enters: items. Leaves: labels. Knows no index and no key.
"""

from __future__ import annotations

import fnmatch
import json
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from doyen.config import Settings, write_atomic
from doyen.errors import ConfigError, ExpertError, UsageError
from doyen.sources.item import Item

UPLOADS = "uploads"
"""The folder of an expert that holds uploads; their documents' ids begin with it, too."""
UPLOAD_LABELS = ".labels.json"
MOST_LABELS = 50
_LABEL = re.compile(r"[\w .:@/+-]{1,80}")
Labels = tuple[str, ...]


def read_labels(given: str | Iterable[str]) -> Labels:
    """Return labels that were given as a text with commas, or one by one: sorted, each once. Raises UsageError."""
    parts = given.split(",") if isinstance(given, str) else [part for one in given for part in one.split(",")]
    found = {unicodedata.normalize("NFC", part.strip()) for part in parts if part.strip()}
    strange = sorted(label for label in found if not _LABEL.fullmatch(label))
    if strange:
        raise UsageError(f"'{strange[0][:80]}' is no label", hint="letters, digits, spaces and .:@/+-, at most 80")
    if len(found) > MOST_LABELS:
        raise UsageError(f"{len(found)} labels; at most {MOST_LABELS} are taken")
    return tuple(sorted(found))


def read_rules(text: str) -> list[tuple[str, Labels]]:
    """Return the rules of `[documents] labels`: (pattern, labels), in their order.

    Raises:
        ConfigError: lines that are no `PATTERN = LABEL, LABEL`, all of them named.
    """
    rules: list[tuple[str, Labels]] = []
    faults: list[str] = []
    for line in filter(None, (line.strip() for line in text.splitlines())):
        pattern, equals, labels = line.rpartition("=")
        try:
            found = read_labels(labels)
        except UsageError as error:
            faults.append(f"{line}: {error}")
            continue
        if equals and pattern.strip() and found:
            rules.append((pattern.strip(), found))
        else:
            faults.append(line)
    if faults:
        raise ConfigError(
            "[documents] labels has lines that are no PATTERN = LABEL, LABEL:\n  " + "\n  ".join(faults),
            hint='such as "hr/* = hr, board"; nothing was changed',
        )
    return rules


def fits(pattern: str, document: str) -> bool:
    """Whether a pattern of a rule fits a document's id; one that fits a folder fits all that is below. Case does not count."""
    wanted, name = (unicodedata.normalize("NFC", text).casefold() for text in (pattern.strip("/"), document))
    return fnmatch.fnmatchcase(name, wanted) or fnmatch.fnmatchcase(name, f"{wanted}/*")


@dataclass(slots=True)
class Labeller:
    """Says which labels an item gets; `sources` maps the roots of known sources to their labels."""

    rules: Sequence[tuple[str, Labels]] = ()
    sources: Mapping[str, Labels] = field(default_factory=dict)
    uploads: Path | None = None
    _held: tuple[tuple[int, int], dict[str, Labels]] | None = None

    @classmethod
    def of(cls, expert: Path, settings: Settings, sources: Mapping[str, Labels]) -> Labeller:
        """Return the labeller of an expert. Raises ConfigError for wrong rules."""
        own = {_root(spec): labels for spec, labels in sources.items() if labels}
        return cls(read_rules(settings.documents.labels), own, (expert / UPLOADS).resolve())

    @property
    def is_used(self) -> bool:
        """Whether a rule, a source or an upload has labels."""
        return bool(self.rules or self.sources or any(self._of_uploads().values()))

    def __call__(self, item: Item) -> Labels:
        """Return the labels of an item with its final id, sorted."""
        if item.labels:
            return tuple(sorted(set(item.labels)))
        if self.uploads is not None and Path(item.source).parent == self.uploads:
            if own := self._of_uploads().get(Path(item.source).name):
                return own
        by_rule = next((labels for pattern, labels in self.rules if fits(pattern, item.id)), ())
        return by_rule or self._of_source(item)

    def _of_source(self, item: Item) -> Labels:
        # A site may lead its pages elsewhere (https for http, the whole host): they still name its root.
        places = (item.source, *([_root(item.root)] if "://" in item.root else []))
        covering = [root for root in self.sources if any(p == root or p.startswith(f"{root}/") for p in places)]
        return self.sources[max(covering, key=len)] if covering else ()

    def _of_uploads(self) -> dict[str, Labels]:
        """Return the uploads' labels as they are now: a file that was read has its labels in there already."""
        path = self.uploads / UPLOAD_LABELS if self.uploads is not None else None
        if path is None or not path.exists():
            return {}
        state = path.stat()
        stamp = (state.st_mtime_ns, state.st_ino)
        if self._held is None or self._held[0] != stamp:
            self._held = stamp, load_upload_labels(path.parent)
        return self._held[1]


def _root(place: str) -> str:
    """Return what the items of a source have in common: of a URL, no query."""
    return (place.partition("?")[0] if "://" in place else place).rstrip("/")


def load_upload_labels(folder: Path) -> dict[str, Labels]:
    """Return file name → labels of the uploads in a folder. Raises ExpertError for a broken file: nothing is guessed."""
    path = folder / UPLOAD_LABELS
    try:
        rows: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        return {name: read_labels(labels) for name, labels in rows.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise ExpertError(f"{path} does not hold the uploads' labels ({error})", hint="mend it by hand") from error


def save_upload_labels(folder: Path, labels: Mapping[str, Labels]) -> None:
    """Set the labels of some uploads, before they are there; none take a former file's away."""
    known = load_upload_labels(folder) | dict(labels)
    rows = {name: list(own) for name, own in sorted(known.items()) if own}
    if rows or (folder / UPLOAD_LABELS).exists():
        write_atomic(folder / UPLOAD_LABELS, json.dumps(rows, indent=1, ensure_ascii=False))
