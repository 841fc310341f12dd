"""`doyen remove`: a document out of the index, its versions, its original and the files that held them.

Enters: ids. Leaves: an index in whose files nothing of the documents stands, no cached answer, no turn of a conversation,
no feedback, no row of a workflow that waits for a person.
Training examples and adapters made from them are listed by `doyen status`, not changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from doyen.answer_cache import forget_answers
from doyen.config import load_settings
from doyen.errors import ExpertError, StoreError
from doyen.feedback import FeedbackBook
from doyen.index.places import JoinedPlace
from doyen.ingesting import index_place, writing_store
from doyen.ingesting.revectoring import forget_old_vectors
from doyen.originals import collect_originals, erase_originals
from doyen.serving.sessions import Sessions
from doyen.workflows.reviewing import ReviewQueue


def remove_documents(expert: Path | str, documents: Sequence[str]) -> list[str]:
    """Erase documents, all their versions and originals; return the ids of what was erased.

    With a file that holds files, what is in it goes too. Vanished documents whose versions are still kept can be named.

    Where the expert joins others, what it keeps of them itself goes (conversations, feedback, reviews), and the documents stay.

    Raises:
        ExpertError: one of them is not indexed (nothing is removed then).
        StoreError: another process writes the index, or it cannot be written (disk full); the next `doyen remove` or `ingest` goes on with it.
    """
    expert = Path(expert)
    settings = load_settings(expert)
    place = index_place(expert, settings)
    if isinstance(place, JoinedPlace):
        _forget(expert, documents)  # a member's removal does not reach what was kept here
        what = "what this expert kept of these documents is erased; they themselves lie in an expert that it joins"
        raise StoreError(what, hint=f"doyen remove … --expert {' or '.join(map(str, place.experts))}")
    index = place.open()
    members = index.members(documents)
    found = {m.document for m in members} | {m.item for m in members} | set(index.erasing)
    missing = [d for d in documents if d not in found]
    if missing:
        raise ExpertError(f"not indexed: {', '.join(missing)}", hint="doyen documents lists the ids")
    erased = sorted({m.document for m in members} | (set(documents) & set(index.erasing)))
    # A container's copy holds what is erased, so it goes although other documents in it stay.
    hashes = {h for m in members for h in (m.sha256, m.item_sha256)}
    with place.only_writer(), writing_store():
        index.take_hold()
        erase_originals(expert, hashes - index.named(hashes, items=False, without=erased))
        index.recover()
        index.remove(erased)
        index.finish(keep_versions_days=settings.documents.keep_versions_days)
        collect_originals(expert, index)
        forget_old_vectors(expert)
        _forget(expert, erased)
    return erased


def _forget(expert: Path, documents: Sequence[str]) -> None:
    """Erase what was kept of questions that these documents answered."""
    forget_answers(expert)
    Sessions(expert).forget(documents)
    FeedbackBook(expert).forget(documents)
    ReviewQueue(expert).forget(documents)
