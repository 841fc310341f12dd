"""Beyond one disk: an index on S3 against a local one, readers during a re-embedding, two million chunks.

    python benchmarks/scale_store.py --work DIR --expert EXPERT --parts s3 switch million

`s3`: milliseconds of `Retriever.search` on an S3 server (moto, of tests/s3_server.py, on this machine) and in a folder with
the same rows; bar: at most 3 times. `switch`: readers ask without pause while `doyen reembed` makes a new generation and
switches, both ways; bar: no failed query, no result of mixed embedders, the right hit each time. `million`: synthetic chunks
with matched neighbour distances (retrieval_scale.py), the memory of the ingest at a quarter and at the end, query p95 at most
150 ms, recall@10 at least 0.95. EXPERT is an ingested expert whose chunks are the pattern.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import measuring
import numpy as np
from retrieval_scale import SEED, _documents, _summary_vectors, make_store, measured
from synthetic_chunks import Synthesis, Texts

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from s3_server import BUCKET, KEYS, running_s3
from small_stores import HashEmbedder, make_expert

import doyen
import doyen.expert
from doyen.config import Settings, StoreSettings, load_settings
from doyen.expert import open_retriever
from doyen.index.places import place_of
from doyen.index.rows import matrix
from doyen.index.tables import rows_of
from doyen.ingesting import index_place, open_index

_BATCH = 10_000
_QUESTIONS = 200


def main() -> None:
    """Run the parts that were named."""
    options = measuring.parser(__doc__ or "")
    options.add_argument("--expert", type=Path, required=True, help="expert whose chunks are the pattern")
    options.add_argument("--parts", nargs="+", default=["s3", "switch", "million"])
    options.add_argument("--chunks", type=int, default=20_000, help="of the parts s3 and switch")
    options.add_argument("--million", type=int, default=2_000_000, help="chunks of the part million")
    options.add_argument("--readers", type=int, default=4)
    options.add_argument("--note", default="", help="what else the machine did")
    options.add_argument("--make", type=Path, default=None, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.make is not None:
        make_store(given.expert, given.make, given.million)
        return
    parts = {"s3": on_s3, "switch": switching, "million": million}
    for name in given.parts:
        result: dict[str, Any] = {"seed": SEED, "note": given.note} | parts[name](given)
        print(json.dumps(result, indent=1))
        out = given.out and given.out.with_stem(f"{given.out.stem}_{name}")
        measuring.save(f"scale_store_{name}", result, out)


# ---- s3


def on_s3(given: argparse.Namespace) -> dict[str, Any]:
    """Write the same chunks into a folder and into a bucket, and time the same searches."""
    found: dict[str, Any] = {"chunks": given.chunks}
    os.environ.update(KEYS)
    with tempfile.TemporaryDirectory(dir=given.work) as folder, running_s3() as address:
        stores = {"local": "index", "s3": f"s3://{BUCKET}/scale?endpoint={address}"}
        experts = {name: _filled(given, Path(folder) / name, uri) for name, uri in stores.items()}
        for name, (expert, written) in experts.items():
            found[name] = {"write_s": written} | _searched(expert, _questions(given))
    ratio = {q: found["s3"]["search_ms"][q] / found["local"]["search_ms"][q] for q in ("p50", "p95")}
    found["ratio"] = {q: round(value, 2) for q, value in ratio.items()}
    found["same_hits"] = found["local"].pop("hits") == found["s3"].pop("hits")
    found["bar"] = {"most": 3.0, "met": ratio["p50"] <= 3.0 and found["same_hits"]}
    return found


def _filled(given: argparse.Namespace, folder: Path, uri: str) -> tuple[Path, float]:
    source = open_index(given.expert, load_settings(given.expert))
    rng = np.random.default_rng(SEED)
    synthesis, texts = _patterns(source)
    expert = make_expert(folder, Settings(store=StoreSettings(uri)))
    place = place_of(uri, expert)
    index = place.open_or_create(source.manifest)
    started = time.perf_counter()
    with place.only_writer():
        index.take_hold()
        for first in range(0, given.chunks, _BATCH):
            size = min(_BATCH, given.chunks - first)
            vectors = synthesis.make(size, rng)
            index.write(_documents(first, texts.make(size, rng)), vectors, summary_vectors=_summary_vectors(vectors))
        index.finish()
    return expert, round(time.perf_counter() - started, 1)


def _patterns(source: Any) -> tuple[Synthesis, Texts]:
    batches = list(rows_of(source.tables.chunks, ("vector", "searched")))
    real = np.concatenate([matrix(batch["vector"], source.manifest.dim) for batch in batches])
    return Synthesis.of(real), Texts([text for batch in batches for text in batch["searched"].to_pylist()])


def _questions(given: argparse.Namespace) -> list[str]:
    source = open_index(given.expert, load_settings(given.expert))
    return _patterns(source)[1].questions(_QUESTIONS, np.random.default_rng(SEED + 1))


def _searched(expert: Path, questions: list[str]) -> dict[str, Any]:
    """Time a search for each question, each in the state of a server that has answered some."""
    started = time.perf_counter()
    retriever = open_retriever(expert, load_settings(expert))
    retriever.search(questions[0])
    first = time.perf_counter() - started
    for question in questions[:20]:
        retriever.search(question)
    took, hits = [], []
    for question in questions[20:]:
        started = time.perf_counter()
        found = retriever.search(question)
        took.append(1e3 * (time.perf_counter() - started))
        hits.append([(hit.chunk.document, hit.chunk.start) for hit in found])
    quantiles = {name: round(float(np.quantile(took, q)), 2) for name, q in (("p50", 0.5), ("p95", 0.95))}
    return {"first_search_s": round(first, 2), "search_ms": quantiles, "hits": hits}


# ---- switch


def switching(given: argparse.Namespace) -> dict[str, Any]:
    """Let readers ask while the index is re-embedded and switched, there and back.

    Embedders are of hashed words (tests/small_stores.py), so that each text's vector, and with it the right hit, is known.
    """
    rounds = 3
    models = {f"hashing-{n}": HashEmbedder(f"hashing-{n}", dim=64 * n, version=n) for n in (2, 4)}
    with tempfile.TemporaryDirectory(dir=given.work) as folder:
        expert = make_expert(Path(folder) / "expert", Settings(store=StoreSettings("index")))
        texts = _write_numbered(expert, given.chunks, models["hashing-2"])
        doyen.expert.load_embedder = lambda named, **_: models[named.name]  # type: ignore[assignment]
        (expert / "doyen.toml").write_text('[store]\nuri = "index"\n\n[embedder]\nname = "hashing-2"\n')
        stop, seen, faults = threading.Event(), Counter[str](), []
        took: list[float] = []

        def read(seed: int) -> None:
            rng = np.random.default_rng(seed)
            place, stamp, retriever = index_place(expert, load_settings(expert)), None, None
            while not stop.is_set():
                name = str(rng.choice(list(texts)))
                started = time.perf_counter()
                try:
                    if retriever is None or place.stamp() != stamp:
                        stamp, retriever = place.stamp(), open_retriever(expert, load_settings(expert))
                    hits = retriever.search(texts[name], 5)
                    assert hits and hits[0].chunk.document == name, f"{name}: {[h.chunk.document for h in hits]}"
                    seen[retriever.index.manifest.embedder] += 1
                except Exception as error:
                    faults.append(repr(error)[:300])
                took.append(1e3 * (time.perf_counter() - started))

        threads = [threading.Thread(target=read, args=(n,)) for n in range(given.readers)]
        for thread in threads:
            thread.start()
        started = time.perf_counter()
        for _ in range(rounds):
            for name in ("hashing-4", "hashing-2"):
                doyen.reembed(expert, name, embedder=models[name])
            doyen.reembed(expert, undo=True)
            doyen.reembed(expert, "hashing-2", embedder=models["hashing-2"])
        seconds = time.perf_counter() - started
        stop.set()
        for thread in threads:
            thread.join()
    found = {"chunks": given.chunks, "switches": 4 * rounds, "seconds": round(seconds, 1), "readers": given.readers}
    found |= {"queries": dict(seen), "failed": len(faults), "faults": faults[:5]}
    found |= {"search_ms": {"p50": round(float(np.median(took)), 1), "most": round(max(took), 1)}}
    return found | {"bar": {"failed": 0, "met": not faults and len(seen) == 2}}


def _write_numbered(expert: Path, count: int, embedder: Any) -> dict[str, str]:
    from small_stores import manifest_of, write_texts

    place = place_of("index", expert)
    index = place.open_or_create(manifest_of(embedder))
    texts = {f"{n:06}.txt": f"wheel{n} of hall{n} turns beside gate{n} of the mill" for n in range(count)}
    with place.only_writer():
        index.take_hold()
        names = list(texts)
        for first in range(0, count, 1000):
            write_texts(index, embedder, {name: texts[name] for name in names[first : first + 1000]})
        index.finish()
    return texts


# ---- million


def million(given: argparse.Namespace) -> dict[str, Any]:
    """Make the large store in a process of its own, watching its memory, and measure it."""
    folder = given.work / f"chunks-{given.million}"
    found: dict[str, Any] = {"chunks": given.million}
    if not (folder / "made.json").is_file():
        command = [sys.executable, __file__, "--expert", str(given.expert), "--work", str(given.work)]
        process = subprocess.Popen([*command, "--million", str(given.million), "--make", str(folder)])
        found["resident_gib"] = _memory(process)
        if process.returncode:
            raise SystemExit("the store could not be made")
    found |= json.loads((folder / "made.json").read_text()) | measured(folder)
    recall = min(found["recall_at_10"].values())
    met = found["search_ms"]["p95"] <= 150 and recall >= 0.95
    return found | {"bar": {"p95_ms": 150, "recall_at_10": 0.95, "met": met}}


def _memory(process: subprocess.Popen[bytes]) -> dict[str, float]:
    """Return the memory (without mapped files) of a process a quarter through its samples, its most, and near its end."""
    samples: list[float] = []
    while process.poll() is None:
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
            samples.append(int(status.split("RssAnon:")[1].split()[0]) / 2**20)
        except (OSError, IndexError):
            break
        time.sleep(1)
    process.wait()
    if not samples:
        return {}
    quarter = samples[len(samples) // 4]
    return {"quarter": round(quarter, 2), "most": round(max(samples), 2), "last": round(samples[-1], 2)}


if __name__ == "__main__":
    main()
