"""Sources → index, kept in step: select what changed, parse it in workers, embed, write, take out what is gone."""

from doyen.ingesting.faults import FAILED_FILE, WARNINGS_FILE
from doyen.ingesting.opening import index_place, index_places, open_index, require_own, writing_experts, writing_store
from doyen.ingesting.report import IngestReport, Progress
from doyen.ingesting.running import ingest
from doyen.ingesting.writing import BATCH_CHUNKS

__all__ = [
    "BATCH_CHUNKS",
    "FAILED_FILE",
    "WARNINGS_FILE",
    "IngestReport",
    "Progress",
    "index_place",
    "index_places",
    "ingest",
    "open_index",
    "require_own",
    "writing_experts",
    "writing_store",
]
