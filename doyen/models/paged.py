"""A compiled decoder and the memory of the texts that it reads: blocks of keys and values, shared by equal beginnings.

Enters: pieces of token sequences. Leaves: logits. Knows no prompts, no tokenizer and no order of requests.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from doyen.embedding.runtime import cores, load_openvino, native_precision, openvino_core
from doyen.errors import EngineError
from doyen.models.rotary import Rotary

BLOCK = 32
"""Tokens of a block: what OpenVINO's paged attention on the CPU takes."""


class BlockPool:
    """Which blocks are in use, and which hold the beginning of a text that was read before."""

    def __init__(self, blocks: int) -> None:
        self.size = blocks
        self._free = list(range(blocks - 1, -1, -1))
        self._users = [0] * blocks
        self._key_of: dict[int, bytes] = {}
        self._known: dict[bytes, int] = {}
        self._idle: OrderedDict[int, None] = OrderedDict()  # known blocks without a user, longest unused first

    def take(self, count: int) -> list[int] | None:
        """Return so many blocks for one user, None if there are not enough; known ones are forgotten for it."""
        if count > len(self._free) + len(self._idle):
            return None
        taken = []
        for _ in range(count):
            if not self._free:
                block, _ = self._idle.popitem(last=False)
                del self._known[self._key_of.pop(block)]
                self._free.append(block)
            taken.append(self._free.pop())
            self._users[taken[-1]] = 1
        return taken

    def find(self, keys: Sequence[bytes]) -> list[int]:
        """Return the blocks of the longest known beginning, with one user more each."""
        found = []
        for key in keys:
            if (block := self._known.get(key)) is None:
                break
            self._idle.pop(block, None)
            self._users[block] += 1
            found.append(block)
        return found

    def note(self, block: int, key: bytes) -> None:
        """Say what a block holds from now on; the first block of a key stays the known one."""
        if key not in self._known and block not in self._key_of:
            self._known[key] = block
            self._key_of[block] = key

    def release(self, blocks: Sequence[int]) -> None:
        """Give blocks back; known ones stay findable until their room is needed, the end of a text goes first."""
        for block in reversed(blocks):
            self._users[block] -= 1
            if self._users[block] == 0:
                if block in self._key_of:
                    self._idle[block] = None
                else:
                    self._free.append(block)


def block_keys(ids: Sequence[int], long: bool) -> list[bytes]:
    """Return one key a whole block of a text, which stands for all of the text up to the block's end.

    `long` texts (LongRoPE) hold other keys and values than short ones.
    """
    keys, before = [], b"long" if long else b""
    tokens = np.asarray(ids, dtype=np.int64)
    for start in range(0, len(ids) - BLOCK + 1, BLOCK):
        before = hashlib.blake2b(before + tokens[start : start + BLOCK].tobytes(), digest_size=16).digest()
        keys.append(before)
    return keys


@dataclass(slots=True)
class Piece:
    """Tokens to be read next in one text, after `past` read ones; `blocks` are those of the whole text."""

    ids: Sequence[int]
    past: int
    blocks: list[int] = field(default_factory=list)
    long: bool = False
    wanted: int = 1
    """Of how many of its last tokens the logits are wanted."""


class PagedNetwork:
    """A compiled decoder with memory for `tokens` tokens. One call at a time."""

    def __init__(self, model: Any, rotary: Rotary, tokens: int, precision: str | None = None) -> None:
        """Compile. `precision` is "f32" or "bf16"; None takes bf16 where the CPU computes in it, else f32.

        Raises:
            EngineError: OpenVINO cannot compile this network.
        """
        ov = load_openvino()
        self.precision = precision or native_precision()
        self._rotary = rotary
        options = {
            "INFERENCE_PRECISION_HINT": self.precision,
            "KV_CACHE_PRECISION": self.precision,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": cores(),
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
        }
        try:
            compiled = openvino_core().compile_model(model, "CPU", options)
        except RuntimeError as error:
            raise EngineError(
                f"OpenVINO {ov.__version__} cannot compile this model: {str(error).splitlines()[-1]}",
                hint='set [model] engine = "transformers"',
            ) from error
        self._request = compiled.create_infer_request()
        self._ports = [port for port in compiled.inputs if "_cache." in port.any_name]
        self.pool = BlockPool(0)
        self.reserve(tokens)

    def reserve(self, tokens: int) -> None:
        """Have room for so many tokens; what was read before is forgotten if there was less. No text may be at work."""
        blocks = -(-tokens // BLOCK)
        if blocks > self.pool.size:
            ov = load_openvino()
            self.pool = BlockPool(blocks)
            self._memory = [self._give_memory(ov, port, blocks) for port in self._ports]

    def _give_memory(self, ov: Any, port: Any, blocks: int) -> NDArray[Any]:
        """Bind a layer's blocks; the pages of untouched ones take no memory."""
        shape = [blocks, *(size.get_length() for size in list(port.partial_shape)[1:])]
        if shape[2] != BLOCK:
            raise EngineError(
                f"OpenVINO {ov.__version__} keeps {shape[2]} tokens in a block, expected {BLOCK}",
                hint='set [model] engine = "transformers"',
            )
        wide = port.element_type == ov.Type.f32
        memory: NDArray[Any] = np.zeros(shape, dtype=np.float32 if wide else np.uint16)
        self._request.set_tensor(port, ov.Tensor(memory, ov.Shape(shape), port.element_type))
        return memory

    def step(self, pieces: Sequence[Piece]) -> NDArray[np.float32]:
        """Read pieces; return the logits `(wanted of all pieces, vocabulary) float32`, piece by piece.

        The array is a view that the next step overwrites.
        """
        ov = load_openvino()
        for name, value in self._feed(pieces).items():
            self._request.set_tensor(name, ov.Tensor(value))
        self._request.infer()
        logits: NDArray[np.float32] = self._request.get_output_tensor(0).data
        return logits

    def _feed(self, pieces: Sequence[Piece]) -> dict[str, NDArray[Any]]:
        lengths = np.array([len(p.ids) for p in pieces])
        past = np.array([p.past for p in pieces], dtype=np.int32)
        begins = np.concatenate([[0], np.cumsum(lengths)])
        positions = np.concatenate([np.arange(p.past, p.past + len(p.ids)) for p in pieces])
        cos, sin = self._rotary.tables(positions, np.repeat(np.array([p.long for p in pieces]), lengths))
        counts = [-(-(p.past + len(p.ids)) // BLOCK) for p in pieces]
        blocks = np.concatenate([p.blocks[:count] for p, count in zip(pieces, counts, strict=True)])
        return {
            "input_ids": np.concatenate([np.asarray(p.ids, dtype=np.int64) for p in pieces]),
            "cos": cos,
            "sin": sin,
            "rows": np.concatenate([np.arange(e - p.wanted, e) for e, p in zip(begins[1:], pieces, strict=True)]),
            "past_lens": past,
            "subsequence_begins": begins.astype(np.int32),
            "block_indices": blocks.astype(np.int32),
            "block_indices_begins": np.concatenate([[0], np.cumsum(counts)]).astype(np.int32),
            "max_context_len": np.array((past + lengths).max(), dtype=np.int32),
        }
