"""An adapter's manifest, an export and its score → the folder's README.md: a model card in the Hub's form.

Says where the model comes from without naming documents: their number, and a hash of their versions.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from doyen.adapters import AdapterManifest
from doyen.exporting.scoring import Score
from doyen.models.catalogue import CatalogueEntry, HubSource

_LIBRARY = {"merged": "transformers", "adapter": "peft", "split": "peft", "gguf": "gguf", "gguf-lora": "gguf"}
_WHAT = {
    "merged": "The whole model in 16 bits, base and adapter merged.",
    "adapter": "A PEFT adapter: it needs its base model.",
    "split": "A PEFT adapter with Phi's fused modules split, for engines that split these: it needs its base model.",
    "gguf": "The whole model, base and adapter merged, as a GGUF file.",
    "gguf-lora": "A LoRA adapter for llama.cpp, as a GGUF file: it needs its base model as GGUF.",
}
_SETTINGS = (
    "method",
    "lora_variants",
    "rank",
    "alpha",
    "learning_rate",
    "epochs",
    "documents_epochs",
    "batch_size",
    "seed",
)
_METRICS = ("overall", "token_f1", "exact_match", "citation_precision", "refusal_rate", "false_refusal_rate")


@dataclass(frozen=True, slots=True)
class Exported:
    """What was exported: `file` is the GGUF file's name, `types` how many tensors have which type."""

    form: str
    quantisation: str
    file: str
    types: Mapping[str, int]
    remarks: Sequence[str]


def card(
    manifest: AdapterManifest,
    entry: CatalogueEntry,
    made: Exported,
    score: Score | None,
    report: Mapping[str, Any] | None,
    languages: Sequence[str],
) -> str:
    """Return the card. `report` is the expert's last comparison, `languages` those of its training questions."""
    parts = [
        _front(manifest, entry, made, languages),
        f"# {manifest.name}: {entry.name}, fine-tuned\n\n{_WHAT[made.form]} Made with doyen.",
        "## Running it\n\n" + _commands(manifest, entry.name, made),
        "## Where it comes from\n\n" + _lineage(manifest, entry.name, made),
        "## Scores\n\n" + _scores(manifest, made, score, report),
        "## Confidentiality\n\nThis model was trained on your documents, and can write parts of them out again. Treat it "
        "as confidential as the most confidential of them: who may not read these may not have this folder.",
        "## Limits\n\n" + _limits(made),
    ]
    return "\n\n".join(parts) + "\n"


def _front(manifest: AdapterManifest, entry: CatalogueEntry, made: Exported, languages: Sequence[str]) -> str:
    """Return the YAML between dashes; JSON's strings and lists are YAML too."""
    hub = isinstance(entry.source, HubSource)
    base = entry.source.repository if isinstance(entry.source, HubSource) else entry.name
    rows: dict[str, Any] = {"base_model": base} if hub or "/" in base else {}
    if licence := spdx(entry):
        rows["license"] = licence
    if languages:
        rows["language"] = list(languages)
    rows["library_name"] = _LIBRARY[made.form]
    rows["pipeline_tag"] = "text-generation"
    rows["tags"] = ["doyen", manifest.method, *(["gguf"] if made.file else [])]
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in rows.items()]
    return "\n".join(["---", *lines, "---"])


def spdx(entry: CatalogueEntry) -> str:
    """Return the base's licence as the Hub writes it, "" where it is not known."""
    return "" if entry.licence.startswith("see ") else entry.licence.lower()


def _commands(manifest: AdapterManifest, base: str, made: Exported) -> str:
    if made.form == "gguf":
        lines = [
            f"llama-server -m {made.file} --temp 0",
            f"ollama create {manifest.name} -f Modelfile && ollama run {manifest.name}",
        ]
    elif made.form == "gguf-lora":
        lines = [f"llama-server -m BASE.gguf --lora {made.file} --temp 0"]
    elif made.form == "merged":
        lines = [f"vllm serve . --served-model-name {manifest.name}"]
    else:
        lines = [f"vllm serve BASE --enable-lora --max-lora-rank 64 --lora-modules {manifest.name}=."]
    note = "" if made.form in ("gguf", "merged") else f"\n\nBASE is {base} (weights {manifest.weights_fingerprint})."
    return "In this folder:\n\n```\n" + "\n".join(lines) + "\n```" + note


def _lineage(manifest: AdapterManifest, base: str, made: Exported) -> str:
    versions = sorted(f"{row['document']}:{row['sha256']}" for row in manifest.sources)
    documents = hashlib.sha256("\n".join(versions).encode()).hexdigest()[:16]
    counts = manifest.examples
    rows = {
        "base model": base,
        "its config.json, SHA-256": manifest.model_fingerprint,
        "its weights, hash of samples": manifest.weights_fingerprint,
        "chat template, hash": manifest.template_hash,
        "adapter": f"{manifest.name}, {manifest.created}",
        "examples": f"{counts.get('train', '?')} trained on (hash {counts.get('sha256', '?')}), "
        f"{counts.get('validation', '?')} held out",
        "documents": f"{len(manifest.sources)} (hash of their versions {documents})",
        "training": ", ".join(f"{key} {manifest.settings[key]}" for key in _SETTINGS if manifest.settings.get(key)),
        "steps, tokens": f"{manifest.steps}, {manifest.tokens}",
        "versions": ", ".join(f"{name} {version}" for name, version in manifest.versions.items()),
    }
    if made.quantisation:
        types = ", ".join(f"{count} {kind}" for kind, count in sorted(made.types.items()))
        rows["kept in"] = f"{made.quantisation} ({types} tensors)"
    return _table(("what", "value"), [(key, value) for key, value in rows.items()])


def _scores(manifest: AdapterManifest, made: Exported, score: Score | None, report: Mapping[str, Any] | None) -> str:
    parts = ["This export was **not checked** (`--no-check`)." if score is None else _loaded_back(score)]
    trained = (report or {}).get("manifest", {}).get("adapter") or {}
    if report and trained.get("name") == manifest.name and trained.get("created") == manifest.created:
        rows = [
            (arm, *(_value(found["metrics"].get(metric)) for metric in _METRICS))
            for arm, found in report["arms"].items()
        ]
        count = report["manifest"].get("question_count")
        parts.append(
            f"The expert's last comparison, {count} held-out questions, before the export:\n\n"
            + _table(("arm", *_METRICS), rows)
        )
    elif manifest.validation_loss is not None:
        parts.append(f"Loss on held-out examples at the end of training: {manifest.validation_loss:.4f} nats a token.")
    return "\n\n".join(parts)


def _loaded_back(score: Score) -> str:
    text = (
        f"Loaded back with {score.engine} and compared with the expert before the export, over {score.positions} tokens of "
        f"{score.examples} examples: mean KL divergence {score.mean_kl:.2g} nats (largest {score.largest_kl:.2g}; the base "
        f"without the adapter: {score.base_kl:.2g}), the same likeliest token in {score.agreement:.1%}."
    )
    if score.f1_before is not None and score.f1_after is not None:
        text += f" Token F1 on {score.questions} held-out answers: {score.f1_before:.1f} before, {score.f1_after:.1f} after."
    return text


def _limits(made: Exported) -> str:
    lines = [
        "- It answers as it was trained to: from numbered passages in the prompt, or in a short sentence. Passages are "
        "doyen's part: without them it knows only what training left in it, and can be wrong with confidence.",
        "- The rule by which doyen refuses to answer where evidence is missing is not in these files.",
        "- What changed in the documents since the training is not in it.",
        *(f"- {remark}" for remark in made.remarks),
    ]
    return "\n".join(lines)


def _value(metric: Mapping[str, Any] | None) -> str:
    return f"{metric['value']:.3f} ({metric['low']:.3f} to {metric['high']:.3f})" if metric else "–"


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)
