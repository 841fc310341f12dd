"""`doyen.toml` ↔ frozen dataclasses. Every fault is reported together; unknown keys are refused by name.

Knows no models and no store. Each setting's `doc` is the text of the reference page (docs/reference/settings.md)
and of the commented file that `doyen init` writes.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from doyen.errors import ConfigError, ExpertError
from doyen.records import ARMS

FORMAT_VERSION = 1
FILE_NAME = "doyen.toml"
SERVER_FILE = "server.json"
"""What `doyen serve` writes into an expert's folder while a model server runs for it."""


def setting(default: Any, doc: str, *, low: float | None = None, high: float | None = None, one_of: Any = None) -> Any:
    """Declare a setting with its documentation and permitted values."""
    return field(default=default, metadata={"doc": doc, "low": low, "high": high, "one_of": one_of})


@dataclass(frozen=True)
class ModelSettings:
    """The language model that writes the answers."""

    name: str = setting(
        "smollm2-135m-instruct",
        "Catalogue name (`doyen models`), `org/repository`, a folder, or `openai:MODEL` or `azure:DEPLOYMENT` behind an API.",
    )
    max_answer_tokens: int = setting(96, "Longest answer, in tokens.", low=1, high=8192)
    engine: str = setting(
        "auto",
        "What runs it: openvino (the CPU, without torch), transformers (a GPU; any model), server (what answers at "
        "`endpoint`); auto: a server for names of APIs, else the faster that can.",
        one_of=("auto", "openvino", "transformers", "server"),
    )
    bits: int = setting(
        16,
        "Bits of a weight of the layers: 16 as stored, or 8 or 4, which take a half or a third of the memory.",
        one_of=(16, 8, 4),
    )
    batch_tokens: int = setting(8192, "Prompt tokens answered together in one batch.", low=256)
    endpoint: str = setting(
        "",
        "Base URL of the server (`http://host:8000/v1`); empty: that of OpenAI, or with engine server the one that "
        "`doyen serve` runs.",
    )
    key_variable: str = setting(
        "",
        "Environment variable with the server's key; empty: OPENAI_API_KEY or AZURE_OPENAI_API_KEY, for their own URLs only.",
    )
    context_tokens: int = setting(
        0, "Tokens that a prompt and its answer have together, on a server that does not say it; 0: as it says.", low=0
    )
    requests_per_minute: int = setting(0, "Most requests to the server in a minute; 0: no limit.", low=0)
    tokens_per_minute: int = setting(0, "Most tokens to and from the server in a minute; 0: no limit.", low=0)
    input_price: float = setting(-1.0, "US dollars for a million tokens sent, for the estimate; -1: unknown.", low=-1.0)
    output_price: float = setting(-1.0, "US dollars for a million tokens written; -1: unknown.", low=-1.0)


@dataclass(frozen=True)
class EmbedderSettings:
    """The model that turns text into vectors. An index belongs to one embedder."""

    name: str = setting(
        "all-minilm-l6-v2",
        "Catalogue name, folder (`./…`: within the expert's folder), `org/repository`, `openai:MODEL`, `azure:DEPLOYMENT` or `jina:MODEL`.",
    )
    dimensions: int = setting(
        0, "Numbers of a vector, for models trained to be cut (Matryoshka); 0: all of them.", low=0, high=65536
    )
    query_prefix: str = setting("auto", "What is put before a question; auto: what the model was trained with.")
    passage_prefix: str = setting("auto", "What is put before a passage; auto: what the model was trained with.")
    endpoint: str = setting("", "Base URL of the API (`https://host/v1`); empty: that of OpenAI or Jina.")
    key_variable: str = setting(
        "", "Environment variable with the API's key; empty: OPENAI_API_KEY or JINA_API_KEY, for their own URLs only."
    )
    requests_per_minute: int = setting(0, "Most requests to the API in a minute; 0: no limit.", low=0)
    tokens_per_minute: int = setting(0, "Most tokens sent to the API in a minute; 0: no limit.", low=0)
    price: float = setting(-1.0, "US dollars for a million tokens, for the estimate; -1: as doyen knows it.", low=-1.0)


JOINED = "experts:"
"""How the URI of a store begins that is the indexes of other experts, read as one."""


@dataclass(frozen=True)
class StoreSettings:
    """Where the index lives."""

    uri: str = setting(
        "index",
        "A folder, relative to the expert's folder or absolute; `s3://bucket/prefix`; `postgresql://user@host/database?schema=NAME`; "
        "`experts:FOLDER,FOLDER` for the indexes of other experts, read as one. No secrets.",
    )


@dataclass(frozen=True)
class DocumentsSettings:
    """What is kept of documents beside their current text."""

    keep_versions_days: int = setting(
        30, "Days for which the text of a changed or vanished document stays resolvable; 0: not at all.", low=0
    )
    keep_originals: str = setting(
        "paged",
        "Files to keep a copy of, so that a page can be shown, of an older version too: those with pages, all, none.",
        one_of=("paged", "all", "none"),
    )
    labels: str = setting(
        "",
        "Who may see which documents: one `PATTERN = LABEL, LABEL` a line, of which the first that fits a document's path "
        "counts (`hr/* = hr, board`); who holds one of its labels sees it, without labels everybody does.",
    )


@dataclass(frozen=True)
class ChunkingSettings:
    """How documents are cut into passages."""

    max_tokens: int = setting(
        200, "Largest chunk, in the embedder's own tokens; less where the embedder reads less.", low=32, high=2000
    )


@dataclass(frozen=True)
class IngestSettings:
    """What reading one file may take. A file beyond it is listed as failed; the others go on."""

    workers: int = setting(0, "Processes that read files; 0: one a core, at most 4.", low=0, high=64)
    file_timeout_s: float = setting(
        30.0,
        "Most processor time for one file; each MiB beyond 8 MiB adds 2 s. By the clock: four times that.",
        low=1.0,
        high=86400.0,
    )
    file_memory_gib: float = setting(2.0, "Most memory for one file.", low=0.25, high=1024.0)
    file_max_characters: int = setting(50_000_000, "Most text out of one file.", low=1000)


@dataclass(frozen=True)
class ClusterSettings:
    """How work is shared out on a Ray cluster (`--on ray`)."""

    workers: int = setting(0, "Workers; 0: as many as the cluster has room for.", low=0, high=100_000)
    worker_cores: int = setting(2, "Cores of a worker; fewer where the machines have fewer.", low=1, high=1024)


@dataclass(frozen=True)
class RetrievalSettings:
    """How passages are found."""

    candidates: int = setting(
        100, "Chunks taken from each of dense and full-text search before fusion.", low=10, high=1000
    )
    dense_weight: float = setting(
        0.6, "Share of the embedding similarity where full text has all words of a question.", low=0.0, high=1.0
    )
    phrase_weight: float = setting(
        0.25, "Weight of the question's pairs of words that stand together in a passage.", low=0.0, high=1.0
    )
    document_weight: float = setting(
        0.2, "Weight of the match between a question and a document's name and title.", low=0.0, high=1.0
    )
    summary_weight: float = setting(
        0.15, "Weight of the similarity between a question and a document's summary.", low=0.0, high=1.0
    )


@dataclass(frozen=True)
class RerankSettings:
    """The model that puts the best passages first. It reads each with the question."""

    name: str = setting(
        "",
        "Catalogue name, `maxsim` (the embedder itself), folder (`./…`: within the expert's folder), `org/repository`, "
        "`jina:MODEL` or `cohere:MODEL`; empty: none.",
    )
    candidates: int = setting(30, "Passages that are read again.", low=1, high=1000)
    endpoint: str = setting("", "Base URL of the API (`https://host/v1`); empty: that of Jina or Cohere.")
    key_variable: str = setting(
        "", "Environment variable with the API's key; empty: JINA_API_KEY or COHERE_API_KEY, for their own URLs only."
    )


@dataclass(frozen=True)
class AnswerSettings:
    """How an answer is made."""

    arm: str = setting("rag", "What `doyen ask` uses by default.", one_of=ARMS)
    adapter: str = setting("", "Adapter of the fine-tuned arms; empty: the newest.")
    passages: int = setting(3, "Passages shown to the model.", low=1, high=50)
    min_similarity: float = setting(
        0.35,
        "Below this cosine, and with under half of the question's longer words in a passage, there is no evidence.",
        low=-1.0,
        high=1.0,
    )
    document_summaries: bool = setting(
        False, "Show the model in a line what each passage's document is about; examples must be built with the same."
    )
    refusal_threshold: float = setting(
        0.0,
        "Refuse when the calibrated probability of missing evidence exceeds this; 0: the adapter's own threshold.",
        low=0.0,
        high=1.0,
    )
    tables: bool = setting(True, "Answer questions that are meant for an ingested table by calculating over its rows.")
    cache_mib: int = setting(
        64,
        "Most MiB of answers that `doyen ask` keeps, to give the same answer to the same prompt at once; 0: none.",
        low=0,
    )


@dataclass(frozen=True)
class FinetuneSettings:
    """How an adapter is trained."""

    method: str = setting(
        "lora",
        "lora, qlora (base in 4-bit NF4, double quantisation), or full (every weight; a whole model is kept).",
        one_of=("lora", "qlora", "full"),
    )
    lora_variants: str = setting("", "Of LoRA, separated by commas: rslora, dora, loftq (with qlora only).")
    target_modules: str = setting("all-linear", "all-linear, or module names of the model, separated by commas.")
    rank: int = setting(16, "LoRA rank r.", low=1, high=1024)
    alpha: int = setting(32, "LoRA alpha; the update is scaled by alpha / rank.", low=1)
    dropout: float = setting(0.0, "LoRA dropout.", low=0.0, high=0.9)
    learning_rate: float = setting(
        0.0, "Peak learning rate (linear warm-up, cosine decay); 0: 5e-4, with method full 5e-5.", low=0.0, high=1.0
    )
    epochs: float = setting(2.0, "Passes over the examples.", low=0.001, high=1000)
    documents_epochs: float = setting(
        0.0,
        "Passes over the documents' own text in a stage before the examples, for the domain's words; 0: no such stage.",
        low=0.0,
        high=100,
    )
    batch_size: int = setting(8, "Examples a step of the optimiser.", low=1)
    micro_batch_tokens: int = setting(1024, "Padded tokens computed at once: bounds the memory.", low=64)
    gradient_checkpointing: bool = setting(
        False, "Keep the layers' inputs only and compute the rest again: a fraction of the memory, a third more time."
    )
    shard: bool = setting(
        False,
        "Of several processes, each holds a part of the weights (FSDP) instead of all; for lora and full, where one device "
        "is too small.",
    )
    compile: str = setting(
        "auto",
        "Compile the layers (torch.compile; needs a C++ compiler): on, off, or auto, where a long run on the CPU gains by it.",
        one_of=("auto", "on", "off"),
    )
    max_tokens: int = setting(2048, "Longest example; longer ones are left out and counted.", low=64)
    validation_share: float = setting(
        0.15, "Share of the questions held out for validation, by gold pages.", low=0.0, high=0.5
    )
    evaluate_every: int = setting(
        0,
        "Steps between measurements of the held-out loss; 0: as often as costs about a twentieth of the training.",
        low=0,
    )
    early_stop: int = setting(
        3,
        "Measurements in a row with a held-out loss surely above the lowest after which training stops; what is kept are "
        "the weights before it surely rose. 0: train to the end and keep the last.",
        low=0,
    )
    replay: float = setting(
        0.0,
        "General questions with the base model's own answers among the examples, as a share of these.",
        low=0.0,
        high=2.0,
    )
    report_to: str = setting(
        "",
        "Where the curve goes besides, separated by commas: tensorboard, mlflow, wandb. All of them on this machine.",
    )
    false_refusals: float = setting(
        0.05,
        "Share of the answerable validation questions that may be refused: bounds the refusal threshold.",
        low=0.01,
        high=0.9,
    )
    seed: int = setting(7, "Seed of initialisation and order.")


@dataclass(frozen=True)
class ExamplesSettings:
    """The training mix that `doyen examples build` makes from questions."""

    passages_share: float = setting(
        1.0, "Share of the questions made into examples with retrieved passages.", low=0.0, high=1.0
    )
    abstain_share: float = setting(
        0.15, "Share of answerable questions shown again without their gold passage, to be refused.", low=0.0, high=1.0
    )
    closed_book_share: float = setting(0.3, "Share of the questions shown again without passages.", low=0.0, high=1.0)
    generator: str = setting(
        "rules",
        "Who makes questions from documents: rules, model (the rules and [model]) or teacher ([teacher]).",
        one_of=("rules", "model", "teacher"),
    )
    generated: int = setting(400, "Most questions made from documents.", low=1, high=1_000_000)
    phrasings: int = setting(2, "Most phrasings of a question made from documents.", low=1, high=5)
    absent_share: float = setting(
        0.1, "Share of the questions made from documents that have no answer in them.", low=0.0, high=0.9
    )
    seed: int = setting(7, "Seed of the mix.")


@dataclass(frozen=True)
class TeacherSettings:
    """A stronger model behind an OpenAI-style API that makes questions from documents; passages are sent there."""

    model: str = setting("", "The model's name there; empty: no teacher.")
    url: str = setting("", "Base URL of the API (`https://host/v1`); empty: that of OpenAI.")
    key_variable: str = setting(
        "", "Environment variable with the API's key; empty: OPENAI_API_KEY, for OpenAI's URL only."
    )
    input_price: float = setting(-1.0, "US dollars for a million tokens sent, for the estimate; -1: unknown.", low=-1.0)
    output_price: float = setting(-1.0, "US dollars for a million tokens written; -1: unknown.", low=-1.0)


@dataclass(frozen=True)
class ServeSettings:
    """What `doyen serve` takes on, and for how long."""

    requests: int = setting(64, "Most questions that wait or are answered at once; more are told to ask later.", low=1)
    time_limit_s: float = setting(120.0, "Longest time for an answer, the waiting included.", low=1.0, high=86400.0)
    adapters: int = setting(2, "Most adapters that stay loaded beside the base model.", low=1)
    upload_mib: int = setting(100, "Largest upload, in MiB.", low=1)
    key_requests_a_minute: int = setting(0, "Most requests with one key in a minute; 0: no limit.", low=0)
    audit_mib: int = setting(
        100,
        "Most MiB of the log of who asked what and which documents were shown (serving/audit.jsonl); 0: none.",
        low=0,
    )
    origins: str = setting(
        "",
        "Other sites whose pages may use the server with a key (`https://intranet.example`, by commas); empty: none.",
    )
    history_tokens: int = setting(512, "Tokens of a conversation's earlier turns that count for a follow-up.", low=0)
    rewrite: str = setting(
        "auto",
        "Who makes a question of a follow-up: the model, words (those of the question before), off; auto: the model "
        "from two billion weights on.",
        one_of=("auto", "model", "words", "off"),
    )


@dataclass(frozen=True)
class HostedSettings:
    """A model behind an OpenAI-style API that only measures."""

    name: str = setting(
        "", "`openai:MODEL`, `azure:DEPLOYMENT`, or a name that the server at `endpoint` knows; empty: none."
    )
    endpoint: str = setting("", "Base URL of the server (`http://host:8000/v1`); empty: that of OpenAI.")
    key_variable: str = setting(
        "",
        "Environment variable with the server's key; empty: OPENAI_API_KEY or AZURE_OPENAI_API_KEY, for their own URLs only.",
    )
    max_answer_tokens: int = setting(0, "Longest answer, in tokens; 0: as in [model].", low=0, high=8192)
    context_tokens: int = setting(
        0, "Tokens that a prompt and its answer have together, on a server that does not say it; 0: as it says.", low=0
    )
    requests_per_minute: int = setting(0, "Most requests to the server in a minute; 0: no limit.", low=0)
    tokens_per_minute: int = setting(0, "Most tokens to and from the server in a minute; 0: no limit.", low=0)
    input_price: float = setting(-1.0, "US dollars for a million tokens sent, for the estimate; -1: unknown.", low=-1.0)
    output_price: float = setting(-1.0, "US dollars for a million tokens written; -1: unknown.", low=-1.0)


@dataclass(frozen=True)
class ReferenceSettings(HostedSettings):
    """A large model behind an API, the arms `reference` and `reference+rag` of a comparison; questions and passages go there."""


@dataclass(frozen=True)
class JudgeSettings(HostedSettings):
    """A model behind an API that judges a comparison's answers; they go there with the questions and known answers."""


@dataclass(frozen=True)
class EvaluationSettings:
    """What a comparison measures beside its own figures. None of it changes an answer."""

    glossary: str = setting(
        "", "A CSV file of terms (`term`, `definition`, `forbidden`), relative to the expert's folder; empty: none."
    )
    entailment: str = setting(
        "",
        "A cross-encoder trained on natural language inference (folder or `org/repository`), which says whether a citation "
        "supports each sentence of its answer; empty: none.",
    )


@dataclass(frozen=True)
class CostSettings:
    """What this machine costs, for the prices in a comparison's report. It shapes no answer."""

    usd_per_hour: float = setting(
        0.0, "US dollars for an hour of the machine (rent, or purchase over its life).", low=0.0
    )
    watts: float = setting(0.0, "What it draws while it answers; 0: unknown.", low=0.0)
    usd_per_kwh: float = setting(0.0, "US dollars for a kilowatt-hour.", low=0.0)


@dataclass(frozen=True)
class Settings:
    """All settings of an expert, one attribute a table of `doyen.toml`."""

    model: ModelSettings = field(default_factory=ModelSettings)
    embedder: EmbedderSettings = field(default_factory=EmbedderSettings)
    store: StoreSettings = field(default_factory=StoreSettings)
    documents: DocumentsSettings = field(default_factory=DocumentsSettings)
    ingest: IngestSettings = field(default_factory=IngestSettings)
    chunking: ChunkingSettings = field(default_factory=ChunkingSettings)
    retrieval: RetrievalSettings = field(default_factory=RetrievalSettings)
    rerank: RerankSettings = field(default_factory=RerankSettings)
    answer: AnswerSettings = field(default_factory=AnswerSettings)
    finetune: FinetuneSettings = field(default_factory=FinetuneSettings)
    examples: ExamplesSettings = field(default_factory=ExamplesSettings)
    teacher: TeacherSettings = field(default_factory=TeacherSettings)
    serve: ServeSettings = field(default_factory=ServeSettings)
    evaluation: EvaluationSettings = field(default_factory=EvaluationSettings)
    reference: ReferenceSettings = field(default_factory=ReferenceSettings)
    judge: JudgeSettings = field(default_factory=JudgeSettings)
    cost: CostSettings = field(default_factory=CostSettings)
    cluster: ClusterSettings = field(default_factory=ClusterSettings)

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """Return table → key → value."""
        return {
            t.name: {f.name: getattr(getattr(self, t.name), f.name) for f in fields(getattr(self, t.name))}
            for t in fields(self)
        }

    def shaping(self) -> dict[str, dict[str, Any]]:
        """Return `as_dict` without what shapes no answer: where a server is, its key, pace and prices, `[cost]`, `[serve]`, `[cluster]`."""
        return {
            table: {key: value for key, value in values.items() if key not in _OF_THE_WAY}
            for table, values in self.as_dict().items()
            if table not in ("cost", "serve", "cluster")
        }


_OF_THE_WAY = frozenset(
    {"endpoint", "key_variable", "requests_per_minute", "tokens_per_minute", "price", "input_price", "output_price"}
)


def _fault(where: str, value: Any, declared: Any) -> str | None:
    """Return what is wrong with `value`, or None."""
    default, meta = declared.default, declared.metadata
    wanted = type(default)
    number_ok = wanted is float and isinstance(value, int) and not isinstance(value, bool)
    if type(value) is not wanted and not number_ok:
        return f"{where} = {value!r}: expected {wanted.__name__}, got {type(value).__name__}"
    if meta["one_of"] is not None and value not in meta["one_of"]:
        return f"{where} = {value!r}: expected one of {', '.join(meta['one_of'])}"
    if not (meta["low"] is None or value >= meta["low"]) or not (
        meta["high"] is None or value <= meta["high"]
    ):  # nan too
        return f"{where} = {value!r}: expected {_range(meta['low'], meta['high'])}"
    return None


def _faults(table: str, values: Any, given: dict[str, Any]) -> list[str]:
    """Return what is wrong with the keys and values given for a table (its class, or settings of it)."""
    declared = {f.name: f for f in fields(values)}
    faults = [f"[{table}] " + _unknown("key", key, list(declared)) for key in given if key not in declared]
    found = [_fault(f"[{table}] {key}", value, declared[key]) for key, value in given.items() if key in declared]
    return faults + [fault for fault in found if fault]


def override(values: Any, given: dict[str, Any], *, table: str) -> Any:
    """Return one table's settings with some keys replaced; None keeps a value.

    Raises:
        ConfigError: with every unknown key and wrong value.
    """
    given = {key: value for key, value in given.items() if value is not None}
    if faults := _faults(table, values, given):
        raise ConfigError("\n".join(faults), hint="docs/reference/settings.md lists all settings")
    return replace(values, **given)


def _range(low: float | None, high: float | None) -> str:
    if low is not None and high is not None:
        return f"a value from {low:g} to {high:g}"
    return f"at least {low:g}" if low is not None else f"at most {high:g}"


def _unknown(where: str, name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"unknown {where} '{name}'" + (f" (did you mean '{near[0]}'?)" if near else f" (known: {', '.join(known)})")


def parse_settings(text: str, *, where: str = FILE_NAME) -> Settings:
    """Parse the text of a `doyen.toml`.

    Raises:
        ConfigError: with every unknown table, unknown key and wrong value, one a line.
    """
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{where} is not valid TOML: {error}") from error
    faults: list[str] = []
    version = data.pop("format", FORMAT_VERSION)
    if version != FORMAT_VERSION:
        faults.append(f"format = {version!r}: this doyen reads format {FORMAT_VERSION}")
    tables = {t.name: t.default_factory for t in fields(Settings)}
    built: dict[str, Any] = {}
    for name, content in data.items():
        if name not in tables:
            faults.append(_unknown("table", name, list(tables)))
            continue
        if not isinstance(content, dict):
            faults.append(f"{name} = {content!r}: expected a table [{name}]")
            continue
        faults += _faults(name, tables[name], content)
        if not faults:
            built[name] = tables[name](**content)  # type: ignore[operator]
    if faults:
        listed = "\n".join(f"  - {fault}" for fault in faults)
        raise ConfigError(
            f"{where} has {len(faults)} fault(s):\n{listed}",
            hint=f"edit {where}; docs/reference/settings.md lists all settings",
        )
    return Settings(**built)


def load_settings(expert: Path) -> Settings:
    """Read the settings of the expert in folder `expert`."""
    path = expert / FILE_NAME
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ExpertError(f"{expert} is not an expert: it has no {FILE_NAME}", hint=f"doyen init {expert}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8: {error}") from error
    return _in_expert(parse_settings(text, where=str(path)), expert)


def _in_expert(settings: Settings, expert: Path) -> Settings:
    """Make model names that begin with `./` paths of the expert's folder, wherever that is."""
    changed = {}
    for table in fields(settings):
        values = getattr(settings, table.name)
        name = getattr(values, "name", "")
        if name.startswith("./"):
            changed[table.name] = replace(values, name=str((expert / name).resolve()))
    if settings.model.engine == "server" and not settings.model.endpoint:
        changed["model"] = replace(changed.get("model", settings.model), endpoint=_running_server(expert))
    return replace(settings, **changed)


def _running_server(expert: Path) -> str:
    """Return the base URL of the server that `doyen serve` runs for an expert, "" where there is none.

    Only one on this machine counts: an expert's folder comes from elsewhere, perhaps, and must not send questions there.
    """
    try:
        row = json.loads((expert / SERVER_FILE).read_text(encoding="utf-8"))
        found = str(row["endpoint"])
        if row.get("pid"):
            os.kill(int(row["pid"]), 0)  # `doyen serve` has ended without taking the file away
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return ""
    return found if urlsplit(found).hostname in ("127.0.0.1", "localhost", "::1") else ""


def written_name(expert: Path, table: str) -> str:
    """Return `name` of a table of the expert's `doyen.toml` as it is written there, or its default."""
    settings = parse_settings((expert / FILE_NAME).read_text(encoding="utf-8"), where=str(expert / FILE_NAME))
    found: str = getattr(settings, table).name
    return found


def write_name(expert: Path, table: str, name: str) -> None:
    """Set `name` of a table in the expert's `doyen.toml`, in its line; all else stays as the user wrote it.

    Raises:
        ConfigError: the file is not written in such a way that one line can be changed (nothing is written then).
    """
    path = expert / FILE_NAME
    changed = with_name(path.read_text(encoding="utf-8"), table, name)
    try:
        done = getattr(parse_settings(changed), table).name == name
    except ConfigError:
        done = False
    if not done:
        line = f"name = {toml_value(name)}"
        raise ConfigError(f"cannot set {line} in {path} by changing one line", hint=f"write [{table}] {line} yourself")
    write_atomic(path, changed)


def with_name(text: str, table: str, name: str) -> str:
    """Return the text of a `doyen.toml` with another `name` in a table; a comment after the value stays."""
    value = toml_value(name)
    lines = text.splitlines(keepends=True)
    header = next((i for i, line in enumerate(lines) if re.match(rf"\s*\[\s*{table}\s*\]", line)), None)
    if header is None:
        return f"{text.rstrip()}\n\n[{table}]\nname = {value}\n"
    end = next((i for i in range(header + 1, len(lines)) if re.match(r"\s*\[", lines[i])), len(lines))
    for i in range(header + 1, end):
        if found := re.match(r"""(\s*name\s*=\s*)("(?:[^"\\]|\\.)*"|'[^']*')(.*)""", lines[i], re.DOTALL):
            lines[i] = f"{found[1]}{value}{found[3]}"
            return "".join(lines)
    lines[header] = f"{lines[header].rstrip()}\nname = {value}\n"
    return "".join(lines)


def toml_value(value: Any) -> str:
    """Write one value as TOML (strings, numbers and booleans: all that settings hold)."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # JSON's escapes are TOML's
    return repr(value)


def settings_toml(settings: Settings) -> str:
    """Write settings as a commented `doyen.toml`: what differs from the default is set, the rest is shown commented out."""
    lines = ["# An expert of doyen. Commented settings show the default.", f"format = {FORMAT_VERSION}", ""]
    for table in fields(settings):
        values = getattr(settings, table.name)
        lines.append(f"[{table.name}]  # {(values.__doc__ or '').splitlines()[0]}")
        for item in fields(values):
            value = getattr(values, item.name)
            mark = "" if value != item.default or item.name in ("name", "uri") else "# "
            lines += [f"# {item.metadata['doc']}", f"{mark}{item.name} = {toml_value(value)}"]
        lines.append("")
    return "\n".join(lines)


def find_expert(start: Path | None = None) -> Path:
    """Return the nearest folder upwards from `start` that holds a `doyen.toml`."""
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / FILE_NAME).is_file():
            return folder
    raise ExpertError(f"no {FILE_NAME} in {here} or above", hint="doyen init DIR, or --expert DIR")


def write_atomic(path: Path, data: str | bytes) -> None:
    """Write a file so that a crash leaves either the old or the new content."""
    with replaced(path) as partial:
        partial.write_bytes(data.encode() if isinstance(data, str) else data)


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Give a path to write to; what the block has written there takes the place of `path` in one step, if all went well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        with partial.open("r+b") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
