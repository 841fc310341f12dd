"""Embed the same texts with doyen's embedder and with sentence-transformers' default (torch, fp32): rate and cosine.

    python benchmarks/embedding.py --work DIR [--data DIR] [--peer PYTHON]

The texts are windows of 126 tokens (128 with the special ones) from the documents below --data, by default this
repository's docs/. The peer runs in a process of its own, which waits while doyen computes; --peer names the Python of
an environment with sentence-transformers, so that torch need not be in doyen's. Rounds alternate between the two, and
the figure is the ratio of the medians.

Bars: >= 2x sentence-transformers' chunks/s; mean cosine to it >= 0.99.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from measuring import machine, parser, save
from numpy.typing import NDArray

from doyen.documents import SUFFIXES, read_document
from doyen.embedding import TokenCounter, load_embedder
from doyen.errors import DocumentError
from doyen.models.fetching import require_model
from doyen.sources.folder import list_files

MODEL = "all-minilm-l6-v2"
WINDOW_TOKENS = 126

# Run by the peer's Python: reads the model's folder, the texts' file and the vectors' file, then a line a round.
PEER = """
import json, sys, time
import numpy as np, sentence_transformers, torch
folder, texts, vectors = sys.argv[1:]
texts = json.load(open(texts, encoding="utf-8"))
model = sentence_transformers.SentenceTransformer(folder, device="cpu")
model.encode(texts[:32], normalize_embeddings=True)
about = {"sentence-transformers": sentence_transformers.__version__, "torch": torch.__version__}
about |= {"dtype": str(next(model.parameters()).dtype), "threads": torch.get_num_threads()}
print(json.dumps(about | {"max_tokens": model.max_seq_length}), flush=True)
for line in sys.stdin:
    start = time.perf_counter()
    found = model.encode(texts, normalize_embeddings=True)
    print(time.perf_counter() - start, flush=True)
    np.save(vectors, found)
"""


def windows(folder: Path, counter: TokenCounter, count: int) -> list[str]:
    """Return `count` texts of about 128 tokens, evenly from all documents."""
    found = []
    for path in list_files(folder, SUFFIXES)[0]:
        try:
            text = read_document(path, path.name).text
        except DocumentError:
            continue
        starts = [*counter.starts(text), len(text)]
        for first in range(0, len(starts) - WINDOW_TOKENS, WINDOW_TOKENS):
            found.append(text[starts[first] : starts[first + WINDOW_TOKENS]].strip())
    if not found:
        raise SystemExit(f"{folder} holds no document of {WINDOW_TOKENS} tokens")
    return [found[i * len(found) // count % len(found)] for i in range(count)]


def start_peer(python: str, folder: Path, work: Path) -> tuple[subprocess.Popen[str], dict[str, Any]]:
    """Start the peer's process and return it with its versions."""
    command = [python, "-c", PEER, str(folder), str(work / "texts.json"), str(work / "peer.npy")]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise SystemExit("pip install sentence-transformers to compare, or name a Python that has it with --peer")
    return process, json.loads(line)


def peer_round(process: subprocess.Popen[str]) -> float:
    """Return the seconds of one round of the peer."""
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    return float(process.stdout.readline())


def cosines(a: NDArray[np.float32], b: NDArray[np.float32]) -> dict[str, float]:
    found = (a * b).sum(axis=1)
    return {"mean": round(float(found.mean()), 6), "min": round(float(found.min()), 6)}


def main() -> None:
    made = parser(__doc__ or "")
    made.add_argument("--data", type=Path, default=Path(__file__).parent.parent / "docs")
    made.add_argument("--peer", default=sys.executable, help="Python of an environment with sentence-transformers")
    made.add_argument("--texts", type=int, default=512)
    made.add_argument("--rounds", type=int, default=9)
    made.add_argument("--precision", choices=("f32", "bf16"), default=None)
    arguments = made.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    embedder = load_embedder(MODEL, precision=arguments.precision)
    texts = windows(arguments.data, embedder.counter, arguments.texts)
    tokens = [embedder.counter.count(text) + embedder.counter.special for text in texts]
    (arguments.work / "texts.json").write_text(json.dumps(texts), encoding="utf-8")
    process, about = start_peer(arguments.peer, require_model(MODEL), arguments.work)
    embedder.embed(texts[:32])
    ours, theirs = [], []
    for number in range(arguments.rounds):
        theirs.append(peer_round(process))
        start = time.perf_counter()
        vectors = embedder.embed(texts)
        ours.append(time.perf_counter() - start)
        print(f"round {number + 1}: doyen {len(texts) / ours[-1]:.1f}, peer {len(texts) / theirs[-1]:.1f} chunks/s")
    process.terminate()
    alone = np.concatenate([embedder.embed([text]) for text in texts[:64]])
    result = {
        "texts": len(texts),
        "tokens": {"mean": round(statistics.mean(tokens), 1), "max": max(tokens)},
        "rounds": arguments.rounds,
        "doyen": {"fingerprint": embedder.fingerprint, **rates(ours, len(texts))},
        "sentence_transformers": about | rates(theirs, len(texts)),
        "ratio_of_medians (bar: 2)": round(statistics.median(theirs) / statistics.median(ours), 2),
        "cosine_to_it (bar: mean 0.99)": cosines(vectors, np.load(arguments.work / "peer.npy")),
        "cosine_alone_to_batched (bar: min 0.9999)": cosines(vectors[: len(alone)], alone),
        "torch_in_this_environment": machine()["versions"]["torch"],
    }
    print(json.dumps(result, indent=1))
    save("embedding", result, arguments.out)


def rates(seconds: list[float], count: int) -> dict[str, float]:
    """Return chunks/s of the median round, the best and the worst."""
    found = {"median": statistics.median(seconds), "best": min(seconds), "worst": max(seconds)}
    return {f"chunks_per_s_{name}": round(count / value, 1) for name, value in found.items()}


if __name__ == "__main__":
    main()
