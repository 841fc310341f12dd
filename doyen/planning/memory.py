"""A model's shape and a way to train it → bytes by part. Pure arithmetic; every formula with its reason.

What autograd keeps was counted tensor by tensor on Phi-3 and Llama in transformers with PEFT (tests/planning), so it
holds for this training loop: answer-only loss, SDPA attention, LoRA weights in float32 under autocast.
"""

from __future__ import annotations

from dataclasses import dataclass

from doyen.planning.shapes import ModelShape

NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
"""Of one weight: 4 bits; an 8-bit scale for 64 of them; a float32 for 256 scales (QLoRA, arXiv 2305.14314, section 3)."""
ADAM_BYTES = 8
"""Of one trained weight: two float32 moments."""
ADAM8_BYTES = 2.03
"""The same in 8 bits, with a float32 for blocks of 256 (bitsandbytes' paged AdamW, with qlora on an NVIDIA GPU)."""
LOGIT_BYTES = 12
"""Of one logit: bf16, its float32 copy or gradient, the log-probability that is kept, and the bf16 gradient."""
WIDTH_STEP = 64
GIB = 2**30


@dataclass(frozen=True, slots=True)
class Training:
    """How a model is trained. `tokens` are those of one micro-batch, `length` is its longest row's.

    `supervised_share` of the tokens carry a loss; `compute_bytes` is 2 for bf16, 4 for float32. `shards` > 1 spreads
    weights, gradients and optimiser over GPUs (FSDP); `offload` keeps them in the machine's memory.
    """

    method: str
    tokens: int = 1024
    length: int = 1024
    rank: int = 16
    dora: bool = False
    supervised_share: float = 0.1
    checkpointing: bool = False
    gpu: bool = True
    compute_bytes: int = 2
    shards: int = 1
    offload: bool = False


# What a process holds before the first weight: a CUDA context and cuBLAS's workspaces; on the processor, PyTorch,
# transformers, PEFT and bitsandbytes themselves (benchmarks/results/finetune_plan.json has both measured parts).
GPU_OVERHEAD = 0.7 * GIB
CPU_OVERHEAD = 0.75 * GIB
# Of activations and buffers, what the allocator holds beyond them: PyTorch's CUDA caching allocator (assumed), glibc's
# heap (fitted to the same measurements).
GPU_FRAGMENTATION = 0.10
CPU_FRAGMENTATION = 0.20


def trained_parameters(shape: ModelShape, how: Training) -> int:
    """Return how many weights are trained."""
    return shape.parameters if how.method == "full" else shape.adapter_parameters(how.rank, dora=how.dora)


def layer_bytes(shape: ModelShape, how: Training) -> float:
    """Return what autograd keeps of one token in one layer."""
    b, h, q, k, i = how.compute_bytes, shape.hidden, shape.query, shape.key, shape.inner
    full, mixed = how.method == "full", how.compute_bytes == 2
    # Each RMS norm keeps its input in float32; a trained norm its result too.
    norms = 2 * (4 * h * (2 if full else 1) + 4)
    # Autocast makes a copy of a linear's input for each module that trains on it; in float32 they share the input.
    first, second = (1, 1) if shape.fused or not mixed else (3, 2)
    inputs = b * ((first + second) * h + i + (q if shape.fused or not full else 0))
    # Attention: rotated query and key, value, output, a log-sum for each head. A fused value is a view of all of qkv.
    value = q + 2 * k if shape.fused else k
    attention = b * (2 * q + k + value) + 4 * shape.heads
    mlp = 3 * b * i  # gate, up, and the activation of gate
    lora = 0 if full else b * how.rank * len(shape.linears)
    return norms + inputs + attention + mlp + lora


def activation_bytes(shape: ModelShape, how: Training) -> float:
    """Return what the forward pass keeps for one micro-batch, and the gradients of the layer being computed."""
    kept = layer_bytes(shape, how)
    ends = 6 * shape.hidden * how.compute_bytes  # embedding's output, last norm, their gradients
    # Backward holds, of one layer, the gradients of gate, up, their product and its float32 copy.
    moving = (4 + 4 * how.compute_bytes) * shape.inner + 4 * shape.hidden
    if how.checkpointing:
        # The residual stream at each layer's entry, and one layer whole, computed again.
        return how.tokens * (shape.layers * shape.hidden * how.compute_bytes + kept + ends + moving)
    return how.tokens * (shape.layers * kept + ends + moving)


def parts(shape: ModelShape, how: Training) -> dict[str, float]:
    """Return the bytes on one device at the highest point of a training step, by part."""
    trained = trained_parameters(shape, how)
    frozen_rest = (shape.vocabulary_parameters + shape.small_parameters) * how.compute_bytes
    linear = shape.linear_parameters * (NF4_BYTES if how.method == "qlora" else how.compute_bytes)
    layer = linear / shape.layers
    if how.method == "full":
        # float32 weights, and autocast's bf16 copies of the linear ones, which live as long as the step's graph.
        copies = shape.linear_parameters * 2 if how.compute_bytes == 2 else 0
        weights, layer = shape.parameters * 4.0 + copies, (shape.linear_parameters * 4 + copies) / shape.layers
    else:
        weights = linear + frozen_rest
    eight_bit = how.method == "qlora" and how.gpu
    found = {
        "weights": weights,
        "adapter": trained * 4.0 if how.method != "full" else 0.0,
        "gradients": trained * 4.0,
        "optimiser": trained * (ADAM8_BYTES if eight_bit else ADAM_BYTES),
    }
    if how.method != "full" and how.compute_bytes == 2:
        found["adapter"] += trained * 2.0  # autocast's copies
    if how.shards > 1:
        found = {name: (0.0 if how.offload else value / how.shards) for name, value in found.items()}
        # Gathered: this layer and the one fetched ahead, and the vocabulary's weights.
        found["gathered layers"] = 2 * layer + shape.vocabulary_parameters * how.compute_bytes
    widest = max(a * b for a, b in shape.linears.values())
    found["dequantised buffer"] = float(widest * how.compute_bytes) if how.method == "qlora" else 0.0
    found["activations"] = activation_bytes(shape, how)
    found["attention mask"] = float(how.length * max(how.tokens, how.length) * how.compute_bytes)
    found["logits and loss"] = max(1.0, how.tokens * how.supervised_share) * shape.vocabulary * LOGIT_BYTES
    moving = found["activations"] + found["logits and loss"] + found["dequantised buffer"]
    found["framework"] = (GPU_OVERHEAD if how.gpu else CPU_OVERHEAD) + moving * (
        GPU_FRAGMENTATION if how.gpu else CPU_FRAGMENTATION
    )
    return found


def check_bytes(shape: ModelShape, how: Training) -> float:
    """Return what the check after training takes: the adapter on the base as it is served, in 16 bits, not in NF4."""
    serving = shape.parameters * how.compute_bytes
    own = serving if how.method == "full" else trained_parameters(shape, how) * 4
    return float(serving + own + (GPU_OVERHEAD if how.gpu else CPU_OVERHEAD))


def disk_bytes(shape: ModelShape, how: Training) -> float:
    """Return what a run keeps on disk at most: a checkpoint, its successor while that is written, and the result."""
    trained = trained_parameters(shape, how)
    return float(2 * trained * (4 + ADAM_BYTES) + (trained * 4 if how.method != "full" else shape.parameters * 2))
