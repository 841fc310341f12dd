"""A BERT that reads a query with a passage and gives one score, in torch. Starts from an embedder or a cross-encoder.

Written as Hugging Face's `BertForSequenceClassification` with one label. Knows no pairs of the training and no index.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from doyen.embedding.tokens import encodable, open_tokenizer, read_limit
from doyen.finetuning.retriever.encoder import TOKENIZER_FILES, batches, mixed_precision, padded, require_bert
from doyen.models.engine import quiet_transformers


class CrossEncoder:
    """A reranker that can be trained."""

    def __init__(self, folder: Path, *, seed: int) -> None:
        """Load the BERT in `folder`; where it has no head for one score, a new one is drawn by `seed`.

        Raises: ModelError where it is no BERT.
        """
        import torch
        from transformers import BertForSequenceClassification

        require_bert(folder)
        quiet_transformers()
        self.folder = folder
        self.limit = read_limit(folder)
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = BertForSequenceClassification.from_pretrained(
                str(folder), num_labels=1, local_files_only=True, use_safetensors=True
            )
        self.model = model.float().to(self.device)
        self._tokenizer = open_tokenizer(folder / "tokenizer.json")

    def tokenise(self, pairs: Sequence[tuple[str, str]], most: int) -> list[tuple[list[int], list[int]]]:
        """Return token ids and their types (0: query, 1: passage) of pairs, at most `most` tokens each."""
        self._tokenizer.enable_truncation(min(most, self.limit), strategy="longest_first")
        found = self._tokenizer.encode_batch([(encodable(query), encodable(text)) for query, text in pairs])
        return [(encoding.ids, encoding.type_ids) for encoding in found]

    def scores(self, rows: Sequence[tuple[Sequence[int], Sequence[int]]]) -> Any:
        """Return one score `(n,) float32` a tokenised pair, in their order; higher is better."""
        import torch

        order = sorted(range(len(rows)), key=lambda i: len(rows[i][0]))
        parts = []
        for batch in batches(order, [row[0] for row in rows]):
            ids, mask = padded([rows[i][0] for i in batch], self.device)
            types, _ = padded([rows[i][1] for i in batch], self.device)
            with mixed_precision(self.device):
                logits = self.model(input_ids=ids, attention_mask=mask, token_type_ids=types).logits
            parts.append(logits[:, 0].float())
        return torch.cat(parts)[torch.argsort(torch.tensor(order)).to(self.device)]

    def score(self, pairs: Sequence[tuple[str, str]], most: int) -> NDArray[np.float32]:
        """Return one score `(n,) float32` a pair of query and passage, without gradients."""
        import torch

        self.model.eval()
        if not pairs:
            return np.empty(0, dtype=np.float32)
        with torch.inference_mode():
            found: NDArray[np.float32] = self.scores(self.tokenise(pairs, most)).cpu().numpy()
        return found

    def save(self, folder: Path) -> None:
        """Write weights, configuration and tokenizer into `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        self.model.save_pretrained(str(folder), safe_serialization=True)
        for name in TOKENIZER_FILES:
            if (self.folder / name).is_file():
                shutil.copyfile(self.folder / name, folder / name)
