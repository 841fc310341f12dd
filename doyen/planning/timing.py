"""A model's shape and a device's rate → seconds a token. Pure arithmetic."""

from __future__ import annotations

from doyen.planning.devices import Machine
from doyen.planning.memory import Training
from doyen.planning.shapes import ModelShape

# Of the dense matrix rate, what a training step reaches: the rest is norms, attention's softmax, the adapter's thin
# products, copies. GPU: PyTorch fine-tuning without fused kernels reaches 0.3–0.5; assumed until
# benchmarks/gpu/finetune.py has run. Processor: between what SmolLM2-135M reaches (thin layers) and a Phi-3 of 0.33 billion
# weights, by benchmarks/results/finetune_plan.json.
GPU_EFFICIENCY = 0.35
CPU_EFFICIENCY = 0.22
# Dequantising NF4: a GPU reads 0.5 bytes a weight, writes 2, and the product reads them again, at memory bandwidth.
# The processor: two cores with AVX-512, from NF4's extra time at 128 to 2,048 tokens a micro-batch.
GPU_DEQUANTISED_BYTES = 4.5
CPU_DEQUANTISE_S = 0.6e-9


def step_flops(shape: ModelShape, how: Training) -> float:
    """Return the floating-point operations of one token.

    Forward 2 a weight; backward 2 for the inputs' gradients, and 2 for the weights' where they are trained (Kaplan et
    al., arXiv 2001.08361, section 2.1). Attention: 4 a token pair and head width forward, half of the pairs masked.
    """
    full = how.method == "full"
    linear = shape.linear_parameters * (6 if full else 4)
    adapter = 0 if full else shape.adapter_parameters(how.rank) * 6
    attention = 3 * shape.layers * 2 * how.length * shape.query
    output = how.supervised_share * shape.vocabulary * shape.hidden * (6 if full else 4)
    again = (2 * shape.linear_parameters + attention / 3) if how.checkpointing else 0
    return linear + adapter + attention + output + again


def tokens_per_s(shape: ModelShape, how: Training, machine: Machine) -> float | None:
    """Return the tokens a second of all devices together, None where the device's rate is not known."""
    device = machine.device
    if not device.tera_flops:
        return None
    efficiency = GPU_EFFICIENCY if device.kind == "gpu" else CPU_EFFICIENCY
    seconds = step_flops(shape, how) * how.tokens / (device.tera_flops * 1e12 * efficiency)
    return machine.count * how.tokens / (seconds + dequantise_s(shape, how, machine))


def dequantise_s(shape: ModelShape, how: Training, machine: Machine) -> float:
    """Return the seconds that one micro-batch spends on dequantising, whatever its tokens."""
    if how.method != "qlora":
        return 0.0
    passes = 3 if how.checkpointing else 2
    if machine.device.kind != "gpu":
        return passes * shape.linear_parameters * CPU_DEQUANTISE_S
    if not machine.device.bandwidth_gb_s:
        return 0.0
    return passes * shape.linear_parameters * GPU_DEQUANTISED_BYTES / (machine.device.bandwidth_gb_s * 1e9)
