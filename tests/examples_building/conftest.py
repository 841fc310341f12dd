import pytest
from small_stores import HashEmbedder

DOCUMENTS = {
    "cranes.md": "# Cranes\n\n## Tamsin\n\nThe Tamsin crane lifts 12 tonnes and stands at berth 4.\n\n"
    "## Orla\n\nThe Orla crane lifts 31 tonnes and is inspected every 90 days.\n",
    "locks.md": "# Locks\n\n## Hours\n\nThe Orrel lock opens at 06:30 and closes at 22:15.\n\n"
    "## Fees\n\nPassing the Orrel lock costs 48 crowns for a barge.\n",
    "leave.md": "# Leave\n\n## Annual leave\n\nThe guild grants 27 days of leave a year.\n\n"
    "## Sickness\n\nA certificate is needed after the third day of sickness.\n",
    "manual.txt": "Harbour manual, page one. Radio channel 14 is for pilots.\fSecond page. The pilot boat is called Marisk.\f"
    "Third page. Mooring lines of a boat are replaced after 400 hours.\n",
    "rules.md": "# Rules\n\nThe harbour master may close a berth in a storm. Bicycles are not allowed on the quay.\n",
}


@pytest.fixture(scope="session")
def embedder():
    return HashEmbedder()


@pytest.fixture(scope="session")
def indexed(tmp_path_factory, embedder):
    """An expert of the documents above; returns its folder."""
    import doyen

    root = tmp_path_factory.mktemp("examples")
    (root / "documents").mkdir()
    for name, text in DOCUMENTS.items():
        (root / "documents" / name).write_text(text, encoding="utf-8")
    expert = doyen.init(root / "expert")
    (expert / "doyen.toml").write_text("[chunking]\nmax_tokens = 32\n")  # so that each section is its own passage
    report = doyen.ingest(expert, [root / "documents"], embedder=embedder)
    assert sorted(report.new) == sorted(DOCUMENTS)
    return expert


@pytest.fixture(scope="session")
def retriever(indexed, embedder):
    from doyen.config import load_settings
    from doyen.ingesting import open_index
    from doyen.retrieval.hybrid import Retriever

    settings = load_settings(indexed)
    return Retriever(open_index(indexed, settings), embedder, settings.retrieval)
