"""An expert's adapter → an export: written into a hidden folder, loaded back, scored, described, then put in its place.

The folder appears when it is whole and good, or not at all. Trains nothing.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from doyen.adapters import AdapterManifest, adapter_folder, read_adapter
from doyen.config import load_settings
from doyen.errors import DoyenError, EngineError, UsageError
from doyen.evaluation.comparison import latest_report
from doyen.exporting.card import Exported, card, spdx
from doyen.exporting.llama_cpp import EXPORT_EXTRA, has_llama_cpp
from doyen.exporting.quantising import BITS, QUANTISATIONS
from doyen.exporting.readers import EngineReader, open_export
from doyen.exporting.scoring import LARGEST_DROP, MOST_KL, Probe, Reference, Score, probes_of, reference_of, score
from doyen.exporting.writing import Order, needed_bytes, write_form
from doyen.finetuning.space import is_disk_full
from doyen.models.catalogue import find_entry
from doyen.models.chat_tokenizer import open_chat_tokenizer
from doyen.models.engine import golden_tokens, template_hash
from doyen.models.fetching import require_model
from doyen.models.fitting import fingerprint_of_config, require_same_base, require_same_tokens
from doyen.models.safetensors_writing import Progress

FORMS = ("merged", "adapter", "split", "gguf", "gguf-lora")
_CONTEXT = 4096
_RESERVE = 64 << 20


def export_adapter(
    expert: Path | str,
    out: Path | str,
    *,
    name: str = "",
    form: str = "merged",
    quantise: str = "",
    check: bool = True,
    progress: Progress = lambda *_: None,
    say: Callable[[str], None] = lambda _: None,
) -> Path:
    """Write adapter `name` ('': the newest) of an expert into the new folder `out`, and return its absolute path.

    `merged` is a model folder: base and adapter added in float32, rounded once to 16 bits. `adapter` is PEFT's files.
    `split` is the same with Phi's fused modules (`qkv_proj`, `gate_up_proj`) as engines want them that split these
    (vllm#4715, llama.cpp#7164). `gguf` is one file for llama.cpp and Ollama. `gguf-lora` is the adapter for llama.cpp.

    `quantise` is how a GGUF file keeps its numbers (one of QUANTISATIONS; '': f16), or a merged model ("bf16" or "f16";
    '': as the base, or float16 where bfloat16 moves it too far). With `check`, what was written is loaded back and compared
    with the expert; `exported.json` and README.md say how near it is. `say` is told what is to be known.

    Raises:
        UsageError: the form or quantisation is unknown, `out` exists, there is no such adapter, it was trained on another
            model, or its form cannot be had.
        ModelError: the base model is not here, or is of a family that the form does not know.
        EngineError: the base's weights, tokenizer or template have changed since the training, the files are broken, or
            the export, loaded back, is not the expert any more.
        DoyenError: the disk is too small.
    """
    quantise = _checked(form, quantise)
    final = Path(out).expanduser().resolve()
    if final.exists() and (not final.is_dir() or any(final.iterdir())):
        raise UsageError(f"{final} is there already", hint="--out: a folder that does not exist yet")
    expert = Path(expert)
    folder = adapter_folder(expert, name)
    manifest = read_adapter(folder)
    model = load_settings(expert).model.name
    base, entry = require_model(model), find_entry(model)
    _require_fit(manifest, base)
    # llama.cpp tells Phi-3 by general.name: the base's name must be in it.
    about = {"name": f"{entry.name.rpartition('/')[2]} {manifest.name}", "license": spdx(entry), "base": entry.name}
    final.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{final.name}-", dir=final.parent))
    try:
        order = Order(base, folder, manifest.name, partial, form, quantise, about)
        _require_space(final.parent, needed_bytes(order))
        made = write_form(order, progress)
        found = None
        if check:
            made, found = _good(order, made, probes_of(expert), progress, say)
        _describe(expert, manifest, order, made, found)
        partial.chmod(0o755)
        partial.replace(final)
    except OSError as error:
        if not is_disk_full(error):
            raise
        raise DoyenError(f"no space left on the disk of {final.parent}; nothing was kept", hint="free space") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return final


def _checked(form: str, quantise: str) -> str:
    """Return the quantisation; refuse unknown words."""
    if form not in FORMS:
        raise UsageError(f"unknown format '{form}'", hint=f"--format {', '.join(FORMS)}")
    known = {"gguf": QUANTISATIONS, "merged": ("f16", "bf16")}.get(form, ())
    if quantise and quantise not in known:
        wanted = f"--quantise {', '.join(known)}" if known else "leave --quantise out"
        raise UsageError(f"unknown quantisation '{quantise}' of format {form}", hint=wanted)
    return quantise or ("f16" if form == "gguf" else "")


def _require_fit(manifest: AdapterManifest, base: Path) -> None:
    """Refuse to export what was trained on another model, or with another tokenizer, than the expert has now."""
    if manifest.model_fingerprint != fingerprint_of_config(base):
        raise UsageError(
            f"adapter {manifest.name} was trained on {manifest.model}, which is not the expert's model now",
            hint="set [model] name back",
        )
    row = dataclasses.asdict(manifest)
    require_same_base(row, base, manifest.name, base.name)
    tokenizer = open_chat_tokenizer(base)
    names = tokenizer.convert_ids_to_tokens
    require_same_tokens(row, golden_tokens(tokenizer), template_hash(tokenizer), names, base.name)


def _require_space(place: Path, needed: int) -> None:
    free = shutil.disk_usage(place).free
    if free < needed + _RESERVE:
        raise DoyenError(
            f"not enough disk space at {place}: {free / 2**30:.2f} GiB free, {(needed + _RESERVE) / 2**30:.2f} GiB needed",
            hint="free space there, or --out on another disk",
        )


def _good(
    order: Order, made: Exported, probes: list[Probe], progress: Progress, say: Callable[[str], None]
) -> tuple[Exported, Score]:
    """Load an export back and compare it with the expert; a merged model that bfloat16 rounds too far becomes float16.

    Raises:
        EngineError: it is not the expert any more.
    """
    reference = _reference(order, probes, progress)
    found = _score(order, made, probes, reference, progress, say)
    if made.form == "merged" and not order.quantisation and made.quantisation == "bf16" and found.mean_kl >= MOST_KL:
        say(
            f"note: bfloat16 moves it by {found.mean_kl:.2g} nats; it is kept in float16, which rounds eight times less"
        )
        order = dataclasses.replace(order, quantisation="f16")
        made = write_form(order, progress)
        found = _score(order, made, probes, reference, progress, say)
    _judge(found, BITS.get(made.quantisation, 16), say)
    for remark in made.remarks:
        say(f"note: {remark}")
    return made, found


def _reference(order: Order, probes: list[Probe], progress: Progress) -> Reference:
    expert, base = EngineReader(order.base, order.adapter), EngineReader(order.base)
    return reference_of(expert, base, probes, open_chat_tokenizer(order.base), progress)


def _score(
    order: Order,
    made: Exported,
    probes: list[Probe],
    reference: Reference,
    progress: Progress,
    say: Callable[[str], None],
) -> Score:
    if made.file and not has_llama_cpp():
        say(f"llama.cpp is not installed: the GGUF file's numbers are checked, llama.cpp is not ({EXPORT_EXTRA})")
    with open_export(order.form, order.made, order.base, made.file, _CONTEXT) as reader:
        return score(reader, reference, probes, progress)


def _judge(found: Score, bits: int, say: Callable[[str], None]) -> None:
    if bits == 16 and not found.mean_kl < MOST_KL:
        raise EngineError(
            f"the export was loaded back ({found.engine}) and is not the expert: mean KL divergence {found.mean_kl:.2g} "
            f"nats, {MOST_KL} at most; nothing was kept",
            hint="--no-check keeps it unchecked; --format gguf --quantise f16 rounds less than bfloat16",
        )
    if bits == 16 and not found.keeps_adapter:
        raise EngineError(
            f"the export was loaded back ({found.engine}) and answers like the base model: the adapter is not in it",
            hint="--no-check keeps it unchecked",
        )
    if bits < 16 and not found.keeps_adapter:
        say(f"warning: {bits} bits move it further from the expert ({found.mean_kl:.2g} nats) than the base is")
    if bits < 16 and found.f1_drop > LARGEST_DROP[bits]:
        say(
            f"warning: token F1 falls by {found.f1_drop:.1f} points on {found.questions} held-out answers "
            f"({LARGEST_DROP[bits]:.0f} expected at most; so few answers tell little)"
        )


def _describe(expert: Path, manifest: AdapterManifest, order: Order, made: Exported, found: Score | None) -> None:
    """Write `exported.json` and the card."""
    entry = find_entry(load_settings(expert).model.name)
    row = {
        "model": entry.name,
        "adapter": manifest.name,
        "form": made.form,
        "template_hash": manifest.template_hash,
        "weights_fingerprint": manifest.weights_fingerprint,
        "created": manifest.created,
        "quantisation": made.quantisation,
        "tensors": dict(made.types),
        "checked": found is not None,
        "score": dataclasses.asdict(found) if found else None,
    }
    (order.made / "exported.json").write_text(json.dumps(row, indent=1, ensure_ascii=False), encoding="utf-8")
    text = card(manifest, entry, made, found, latest_report(expert), _languages(expert))
    (order.made / "README.md").write_text(text, encoding="utf-8")


def _languages(expert: Path) -> list[str]:
    """Return the languages of most of the training questions, the commonest first."""
    from collections import Counter

    from doyen.documents.language import detect_language
    from doyen.examples.importing import read_examples
    from doyen.prompts import question_of

    path = expert / "examples" / "train.jsonl"
    rows = read_examples(path)[:100] if path.exists() else []
    counts = Counter(detect_language(question_of(row.messages)) for row in rows)
    return [code for code, count in counts.most_common(3) if code and count * 5 >= len(rows)]
