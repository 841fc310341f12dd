"""A BERT embedder in torch: texts → unit vectors with gradients. Reads and writes sentence-transformers' folder format.

Knows texts only; no pairs, no index. Pooling is what the folder says: the mean of the last layer's states, or [CLS].
Prefixes and cut vectors are those of serving; the prefixes are written into the folder that is saved.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from doyen.embedding.folder import EncoderFolder, read_folder
from doyen.embedding.prefixes import Kind, Prefixes
from doyen.embedding.tokens import encodable, open_tokenizer, read_json, read_limit
from doyen.errors import ModelError
from doyen.models.engine import quiet_transformers, working_dtype

_BATCH_TOKENS = 4096
_POOLING = Path("1_Pooling", "config.json")
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")
_SENTENCE_CONFIG = "config_sentence_transformers.json"
_SENTENCE_FILES = ("modules.json", "sentence_bert_config.json", _SENTENCE_CONFIG, _POOLING.as_posix())
_POOLING_OF_MEAN = {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}
_MODULES = (("0", "", "Transformer"), ("1", "1_Pooling", "Pooling"), ("2", "2_Normalize", "Normalize"))


class Encoder:
    """An embedder that can be trained."""

    def __init__(self, folder: Path, prefixes: Prefixes | None = None, dimensions: int = 0) -> None:
        """Load the BERT in `folder` with float32 weights; its vectors are cut to `dimensions` numbers (0: all).

        Raises: ModelError where it is no BERT, or has layers after the pooling.
        """
        import torch
        from transformers import BertModel

        found = require_bert(folder)
        if found.dense or found.pooling not in ("mean", "cls"):
            raise ModelError(
                f"{folder} has dense layers after the pooling, or another pooling than 'mean' and 'cls' "
                f"({found.pooling}): it cannot be trained here",
                hint='set [embedder] name = "all-minilm-l6-v2"',
            )
        self.folder = folder
        self.prefixes = prefixes or Prefixes()
        self.limit = read_limit(folder)
        quiet_transformers()
        model = BertModel.from_pretrained(
            str(folder), add_pooling_layer=False, local_files_only=True, use_safetensors=True
        )
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model = model.float().to(self.device)
        self.dim = dimensions or int(model.config.hidden_size)
        self._tokenizer = open_tokenizer(folder / "tokenizer.json")
        self._first_token = found.pooling == "cls"

    def tokenise(self, texts: Sequence[str], most: int, kind: Kind = "passage") -> list[list[int]]:
        """Return the token ids of texts with the prefix of their kind, at most `most` each, special ones included."""
        self._tokenizer.enable_truncation(min(most, self.limit))
        prefix = self.prefixes.before(kind)
        return [e.ids for e in self._tokenizer.encode_batch_fast([prefix + encodable(text) for text in texts])]

    def vectors(self, rows: Sequence[Sequence[int]]) -> Any:
        """Return unit vectors `(n, dim) float32` of token ids, in their order, computed in batches of like length."""
        import torch

        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        parts = [self._pooled([rows[i] for i in batch]) for batch in batches(order, rows)]
        return torch.cat(parts)[torch.argsort(torch.tensor(order)).to(self.device)]

    def _pooled(self, rows: Sequence[Sequence[int]]) -> Any:
        import torch

        ids, mask = padded(rows, self.device)
        with mixed_precision(self.device):
            states = self.model(input_ids=ids, attention_mask=mask).last_hidden_state.float()
        if self._first_token:
            pooled = states[:, 0]
        else:
            shown = mask.unsqueeze(-1).float()
            pooled = (states * shown).sum(1) / shown.sum(1)
        return torch.nn.functional.normalize(pooled[:, : self.dim], dim=-1)

    def embed(self, texts: Sequence[str], most: int, kind: Kind = "passage") -> NDArray[np.float32]:
        """Return unit vectors `(n, dim) float32` of texts, without gradients."""
        import torch

        self.model.eval()
        if not texts:
            return np.empty((0, self.dim), dtype=np.float32)
        with torch.inference_mode():
            found: NDArray[np.float32] = self.vectors(self.tokenise(texts, most, kind)).cpu().numpy()
        return found

    def weights(self) -> dict[str, Any]:
        """Return a copy of the weights by name."""
        return {name: value.detach().clone() for name, value in self.model.state_dict().items()}

    def blend(self, old: dict[str, Any], new: dict[str, Any], share: float) -> None:
        """Set every weight to `old + share * (new - old)`."""
        self.model.load_state_dict(
            {name: old[name].lerp(new[name], share) if new[name].is_floating_point() else new[name] for name in new}
        )

    def save(self, folder: Path) -> None:
        """Write the weights, the prefixes, and what else the embedder's folder has, into `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        self.model.save_pretrained(str(folder), safe_serialization=True)
        for name in (*TOKENIZER_FILES, *_SENTENCE_FILES):
            if (self.folder / name).is_file():
                (folder / name).parent.mkdir(exist_ok=True)
                shutil.copyfile(self.folder / name, folder / name)
        if not (folder / "modules.json").exists():  # a plain BERT: sentence-transformers must know what it is
            kinds = [
                {"idx": int(n), "name": n, "path": path, "type": f"sentence_transformers.models.{kind}"}
                for n, path, kind in _MODULES
            ]
            (folder / "modules.json").write_text(json.dumps(kinds, indent=1), encoding="utf-8")
        if not (folder / _POOLING).exists():
            (folder / _POOLING).parent.mkdir(exist_ok=True)
            pooling = {"word_embedding_dimension": self.model.config.hidden_size, **_POOLING_OF_MEAN}
            (folder / _POOLING).write_text(json.dumps(pooling, indent=1), encoding="utf-8")
        if self.prefixes != Prefixes():
            prompts = {"query": self.prefixes.query, "document": self.prefixes.passage}
            written = read_json(folder / _SENTENCE_CONFIG) | {"prompts": prompts}
            (folder / _SENTENCE_CONFIG).write_text(json.dumps(written, indent=1, ensure_ascii=False), encoding="utf-8")


def require_bert(folder: Path) -> EncoderFolder:
    """Return what a model folder holds. Raises ModelError where its architecture is not BERT."""
    found = read_folder(folder)
    if found.model_type != "bert":
        raise ModelError(
            f"{folder} is of architecture {found.model_type!r}; only BERT can be trained as a retriever here",
            hint='set [embedder] name = "all-minilm-l6-v2"',
        )
    return found


def padded(rows: Sequence[Sequence[int]], device: str) -> tuple[Any, Any]:
    """Return ids, padded with 0, and the mask of what is no padding, both `(n, longest) int64`."""
    import torch

    width = max(map(len, rows))
    ids = torch.zeros((len(rows), width), dtype=torch.long)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
        mask[i, : len(row)] = 1
    return ids.to(device), mask.to(device)


def batches(order: Sequence[int], rows: Sequence[Sequence[int]]) -> list[list[int]]:
    """Divide places that are sorted by length into batches of at most _BATCH_TOKENS padded tokens."""
    found: list[list[int]] = [[]]
    for i in order:
        if found[-1] and (len(found[-1]) + 1) * len(rows[i]) > _BATCH_TOKENS:
            found.append([])
        found[-1].append(i)
    return found


def mixed_precision(device: str) -> AbstractContextManager[Any]:
    """Compute matrix products in bfloat16 where the device does so natively."""
    import torch

    found: AbstractContextManager[Any] = torch.autocast(device, torch.bfloat16, working_dtype() == torch.bfloat16)
    return found
