"""float32 rows → blocks of llama.cpp's K-quants (Q4_K, Q5_K, Q6_K), which the package `gguf` reads but does not write.

The layouts are those of ggml's `block_q4_K`, `block_q5_K` and `block_q6_K`: 256 numbers a block, with scales of their
own for 32 (16 in Q6_K) of them, themselves kept in 6 (8) bits. Scales are chosen by weighted least squares over a few
candidates, as ggml's quantisers do; the weights are larger for larger numbers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK = 256
_AT_ONCE = 1 << 13  # blocks: bounds the memory to some hundred MiB
_TINY = np.float32(1e-30)
Floats = NDArray[np.floating[Any]]
Bytes = NDArray[Any]  # uint8


def quantise_k(values: Floats, bits: int) -> Bytes:
    """Return the bytes `(rows, bytes a row)` of numbers `(rows, n)` with 4, 5 or 6 bits each; n divides by 256."""
    blocks = values.reshape(-1, BLOCK)
    one = _q6 if bits == 6 else lambda part: _q4_or_q5(part, bits)
    made = [one(np.ascontiguousarray(blocks[i : i + _AT_ONCE])) for i in range(0, len(blocks), _AT_ONCE)]
    return np.concatenate(made).reshape(*values.shape[:-1], -1)


def _q4_or_q5(blocks: Floats, bits: int) -> Bytes:
    """Quantise blocks `(n, 256)` to `x ≈ d·sc·q − dmin·m`, with d and dmin in float16, sc and m in 6 bits."""
    most = (1 << bits) - 1
    x = blocks.reshape(-1, 8, 32)
    scales, minima = _scales_and_minima(x, most)
    d = _half(scales.max(axis=1) / 63)
    d_min = _half(minima.max(axis=1) / 63)
    sc = _whole(scales / np.maximum(d.astype(np.float32), _TINY)[:, None], 63)
    m = _whole(minima / np.maximum(d_min.astype(np.float32), _TINY)[:, None], 63)
    step = d.astype(np.float32)[:, None] * sc
    low = d_min.astype(np.float32)[:, None] * m
    q = _whole((x + low[..., None]) / np.where(step > 0, step, np.inf)[..., None], most)
    head = np.stack([d, d_min], axis=1).view(np.uint8)
    parts = [head, _packed_scales(sc, m)]
    if bits == 5:
        high = (q >> 4) << np.arange(8, dtype=np.uint8)[None, :, None]
        parts.append(np.bitwise_or.reduce(high, axis=1))
    pairs = (q & 15).reshape(-1, 4, 2, 32)
    parts.append((pairs[:, :, 0] | pairs[:, :, 1] << 4).reshape(-1, 128))
    return np.concatenate(parts, axis=1)


def _scales_and_minima(x: Floats, most: int) -> tuple[Floats, Floats]:
    """Return for each 32 numbers the scale s ≥ 0 and the minimum m ≥ 0 of `x ≈ s·q − m` with q in 0..most."""
    weights = np.sqrt(np.mean(x * x, axis=-1, keepdims=True)) + np.abs(x)
    lowest = np.minimum(x.min(axis=-1), 0)
    width = np.maximum(x.max(axis=-1), 0) - lowest
    sums = [np.sum(part, axis=-1) for part in (weights, weights * x)]
    best_scale, best_minimum = width / most, -lowest
    best_error = np.full(width.shape, np.inf, np.float32)
    for extra in np.arange(-1.0, 1.05, 0.25, dtype=np.float32):
        steps = (most + extra) / np.maximum(width, _TINY)
        q = np.clip(np.rint(steps[..., None] * (x - lowest[..., None])), 0, most)
        scale, minimum = _least_squares(q, x, weights, *sums)
        off = scale[..., None] * q - minimum[..., None] - x
        error = np.sum(weights * off * off, axis=-1)
        better = (error < best_error) & (scale > 0) & (width > 0)
        best_error = np.where(better, error, best_error)
        best_scale = np.where(better, scale, best_scale)
        best_minimum = np.where(better, minimum, best_minimum)
    return best_scale, best_minimum


def _least_squares(q: Floats, x: Floats, weights: Floats, total: Floats, total_x: Floats) -> tuple[Floats, Floats]:
    """Return s and m ≥ 0 that make the weighted squares of `s·q − m − x` least."""
    wq = weights * q
    sum_q, sum_qq, sum_qx = np.sum(wq, axis=-1), np.sum(wq * q, axis=-1), np.sum(wq * x, axis=-1)
    determinant = total * sum_qq - sum_q * sum_q
    safe = np.where(determinant > 0, determinant, 1)
    scale = np.where(determinant > 0, (total * sum_qx - total_x * sum_q) / safe, 0)
    minimum = np.where(determinant > 0, (sum_q * sum_qx - sum_qq * total_x) / safe, 0)
    alone = sum_qx / np.maximum(sum_qq, _TINY)  # the best scale where the minimum would be of the wrong sign
    return np.where(minimum > 0, scale, alone), np.maximum(minimum, 0)


def _packed_scales(sc: Bytes, m: Bytes) -> Bytes:
    """Pack 8 scales and 8 minima of 6 bits into 12 bytes: the last four of each give their upper bits to the first."""
    first = sc[:, :4] | (sc[:, 4:] >> 4) << 6
    second = m[:, :4] | (m[:, 4:] >> 4) << 6
    third = (sc[:, 4:] & 15) | (m[:, 4:] & 15) << 4
    return np.concatenate([first, second, third], axis=1)


def _q6(blocks: Floats) -> Bytes:
    """Quantise blocks `(n, 256)` to `x ≈ d·sc·q`, with q in −32..31, sc in 8 bits with a sign for each 16 numbers."""
    x = blocks.reshape(-1, 16, 16)
    scales = _signed_scales(x)
    largest = np.take_along_axis(scales, np.abs(scales).argmax(axis=1)[:, None], axis=1)[:, 0]
    d = _half(largest / -128)
    safe = np.where(d != 0, d.astype(np.float32), np.inf)
    sc = np.clip(np.rint(scales / safe[:, None]), -128, 127).astype(np.int8)
    step = d.astype(np.float32)[:, None] * sc
    q = np.clip(np.rint(x / np.where(step != 0, step, np.inf)[..., None]), -32, 31)
    q = (q + 32).astype(np.uint8).reshape(-1, 2, 4, 32)
    low = np.stack([(q[:, :, 0] & 15) | (q[:, :, 2] & 15) << 4, (q[:, :, 1] & 15) | (q[:, :, 3] & 15) << 4], axis=2)
    high = np.bitwise_or.reduce((q >> 4) << np.array([0, 2, 4, 6], np.uint8)[None, None, :, None], axis=2)
    parts = [low.reshape(-1, 128), high.reshape(-1, 64), sc.view(np.uint8), d[:, None].view(np.uint8)]
    return np.concatenate(parts, axis=1)


def _signed_scales(x: Floats) -> Floats:
    """Return for each 16 numbers the scale of `x ≈ s·q`, q in −32..31: the number furthest from 0 is near −32."""
    weights = x * x
    furthest = np.take_along_axis(x, np.abs(x).argmax(axis=-1)[..., None], axis=-1)
    safe = np.where(furthest != 0, furthest, np.inf)
    best, best_gain = np.zeros(x.shape[:2], np.float32), np.full(x.shape[:2], -1, np.float32)
    for extra in np.arange(-0.8, 0.85, 0.2, dtype=np.float32):
        q = np.clip(np.rint(-(32 + extra) / safe * x), -32, 31)
        wq = weights * q
        sum_qx, sum_qq = np.sum(wq * x, axis=-1), np.sum(wq * q, axis=-1)
        gain = sum_qx * sum_qx / np.maximum(sum_qq, _TINY)  # how far the squares fall
        better = (gain > best_gain) & (sum_qq > 0)
        best_gain = np.where(better, gain, best_gain)
        best = np.where(better, sum_qx / np.maximum(sum_qq, _TINY), best)
    return best


def _half(values: Floats) -> NDArray[np.float16]:
    return values.astype(np.float16)


def _whole(values: Floats, most: int) -> Bytes:
    return np.clip(np.rint(values), 0, most).astype(np.uint8)
