"""A small real embedder that needs no weights, and what tests write into stores with it."""

import hashlib
import json
import re
import zlib
from pathlib import Path

import numpy as np

from doyen.config import Settings, StoreSettings, settings_toml
from doyen.embedding import ByteCounter
from doyen.index.lance import LanceIndex
from doyen.index.postgresql.store import PostgresIndex
from doyen.index.rows import IndexEntry
from doyen.index.store import IndexManifest
from doyen.records import Chunk, Document, Hit, Summary


class HashEmbedder:
    """An `Embedder` (doyen/embedding/__init__.py) without weights: each word adds 1 at the hash of itself.

    Texts that share words are near, others nearly orthogonal; the same text always gets the same vector.
    """

    max_tokens = 10**6
    counter = ByteCounter(10**6)

    languages = frozenset()

    def __init__(self, name="hashing", dim=256, version=1):
        self.name = name
        self.dim = dim
        self.fingerprint = f"{name}@{version}/numpy-f32"
        self.embedded = 0
        """How many texts were embedded since the start."""

    def embed(self, texts, *, kind="passage", progress=None):
        vectors = np.zeros((len(texts), self.dim), dtype=np.float32)
        for vector, text in zip(vectors, texts, strict=True):
            for word in re.findall(r"\w+", text.casefold()) or [""]:
                vector[zlib.crc32(word.encode()) % self.dim] += 1
        self.embedded += len(texts)
        if progress:
            progress(len(texts))
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-12)


def write_files(folder: Path, files: dict[str, str | bytes]) -> Path:
    """Write name → content below `folder`."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def read_lines(path: Path) -> list[dict]:
    """Read a file of JSON lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def store_state(folder: Path) -> dict[str, tuple[int, str]]:
    """Return every file below `folder` with its time of writing and the hash of its content."""
    files = [p for p in folder.rglob("*") if p.is_file()]
    return {str(p): (p.stat().st_mtime_ns, hashlib.sha256(p.read_bytes()).hexdigest()) for p in files}


def one_chunk_document(name, text, *, sha256="a", **item):
    """Return an entry as `LanceIndex.write` takes it, with the whole text as one chunk."""
    document = Document(name, text, name, "text/plain", sha256, f"/files/{name}")
    return IndexEntry(document, "/files", [Chunk(name, 0, len(text), text, sha256=sha256)], **item)


def write_texts(index, embedder, texts, *, keep=(), **changes):
    """Write name → text into the index, one chunk and one summary a document, without finishing."""
    summaries = {n: [Summary(n, None, 0, len(t), t, ((0, len(t)),), t)] for n, t in texts.items()}
    entries = [one_chunk_document(n, t, summaries=summaries[n], **changes) for n, t in texts.items()]
    vectors = embedder.embed(list(texts.values()))
    index.write(entries, vectors, keep=keep, summary_vectors=vectors)


def written(place, embedder, texts, **options):
    """Hold a place as its writer, write name → text as `write_texts` does, and finish; return the index."""
    index = place.open_or_create(manifest_of(embedder))
    with place.only_writer():
        index.take_hold()
        write_texts(index, embedder, texts, **options)
        index.finish()
    return index


def make_expert(folder: Path, settings: Settings | None = None) -> Path:
    """Make an expert folder whose store stays empty."""
    return write_files(folder, {"doyen.toml": settings_toml(settings or Settings(store=StoreSettings("index")))})


def manifest_of(embedder, chunk_tokens=200):
    return IndexManifest(
        embedder.name, embedder.fingerprint, embedder.dim, chunk_tokens, counter=embedder.counter.fingerprint
    )


def words_bert(folder: Path, texts: list[str]) -> Path:
    """Save a BERT embedder of no layers in Hugging Face format: the mean of random vectors, one a known word.

    It is a real model to `doyen init --embedder FOLDER`, and takes no torch to make.
    """
    from safetensors.numpy import save_file
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    found = sorted({word for text in texts for word in re.findall(r"\w+", text.casefold())})
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", *found])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, "[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    size, positions = 64, 512
    config = {"model_type": "bert", "architectures": ["BertModel"], "hidden_act": "gelu", "hidden_size": size}
    config |= {"num_hidden_layers": 0, "num_attention_heads": 1, "max_position_embeddings": positions}
    config |= {"layer_norm_eps": 1e-12, "vocab_size": len(vocabulary), "type_vocab_size": 1}
    (folder / "config.json").write_text(json.dumps(config))
    words = np.random.default_rng(0).standard_normal((len(vocabulary), size)).astype(np.float32)
    weights = {"word_embeddings.weight": words, "LayerNorm.bias": np.zeros(size, np.float32)}
    weights |= {"position_embeddings.weight": np.zeros((positions, size), np.float32)}
    weights |= {"token_type_embeddings.weight": np.zeros((1, size), np.float32)}
    weights |= {"LayerNorm.weight": np.ones(size, np.float32)}
    save_file({f"embeddings.{name}": values for name, values in weights.items()}, folder / "model.safetensors")
    return folder


def reopened(index):
    """Open the index of an open one once more."""
    return LanceIndex.open(index.folder) if isinstance(index, LanceIndex) else PostgresIndex.open(index.database)


def nearest(index, vector, limit, **options):
    """Return `index.nearest_rows` as hits."""
    return _hits(index, index.nearest_rows(vector, limit, **options))


def matching(index, words, limit, **options):
    """Return `index.matching_rows` as hits."""
    return _hits(index, index.matching_rows(words, limit, **options))


def _hits(index, rows):
    chunks = index.chunks_at([row.row for row in rows])
    return [Hit(chunks[row.row], row.score) for row in rows if row.row in chunks]
