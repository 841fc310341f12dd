"""Small real models for tests: Phi-3, Llama and BERT architectures with random weights, tokenizers trained here.

Enters: an empty folder. Leaves: a model folder as `doyen` reads it. `successor_phi` is scripted: each token names the next.
"""

import json
from pathlib import Path

CORPUS = (
    "Question: How many days of leave does the guild grant? The guild grants 27 days of leave. [1]",
    "Answer in as few words as possible: a name, a number with its unit, yes or no, or one short sentence.",
    'If you cannot answer, write "Not in the documents." You are an expert of this organisation.',
    "You answer from numbered passages and end with the number of the passage used, like [1].",
    "The Tamsin crane lifts 12 tonnes. The Orrel lock opens at 06:30 and closes at 22:15.",
)
PHI_SPECIALS = ("<|endoftext|>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>")
CHATML_SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
PHI_TEMPLATE = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)
CHATML_TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SHORT_ROPE, LONG_ROPE = [1.0] * 8, [1.0 + i for i in range(8)]


def save_tokenizer(folder: Path, specials, template):
    """Train a byte-level BPE tokenizer on CORPUS; its end and pad token are both <|endoftext|>, as Phi's."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=list(specials), initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>", pad_token="<|endoftext|>")
    fast.add_special_tokens({"additional_special_tokens": list(specials[1:])})
    fast.chat_template = template
    fast.save_pretrained(str(folder))
    return fast


def phi_folder(folder: Path, *, template=PHI_TEMPLATE, seed=0, **changes):
    """Save a Phi-3 of 2 layers; `changes` go to its configuration."""
    from transformers import Phi3Config, Phi3ForCausalLM

    return _save(folder, save_tokenizer(folder, PHI_SPECIALS, template), Phi3Config, Phi3ForCausalLM, seed, changes)


def longrope_phi_folder(folder: Path, *, switch: int):
    """Save a Phi-3 whose rotary frequencies change beyond `switch` tokens (as Phi's do beyond 4,096)."""
    rope = {"rope_type": "longrope", "short_factor": SHORT_ROPE, "long_factor": LONG_ROPE, "rope_theta": 10000.0}
    rope["original_max_position_embeddings"] = switch
    return phi_folder(folder, original_max_position_embeddings=switch, rope_parameters=rope)


def llama_folder(folder: Path, *, seed=0, **changes):
    """Save a Llama of 2 layers that speaks ChatML, as SmolLM2 does."""
    from transformers import LlamaConfig, LlamaForCausalLM

    return _save(
        folder, save_tokenizer(folder, CHATML_SPECIALS, CHATML_TEMPLATE), LlamaConfig, LlamaForCausalLM, seed, changes
    )


def _save(folder, tokenizer, config_class, model_class, seed, changes):
    import torch

    end = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    options = {
        "vocab_size": len(tokenizer), "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "max_position_embeddings": 2048, "initializer_range": 0.3, "tie_word_embeddings": False,
        "bos_token_id": end, "eos_token_id": end, "pad_token_id": end,
    }  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = model_class(config_class(**(options | changes)))
    model.save_pretrained(str(folder))
    return folder


def successor_phi(folder: Path, chain):
    """Save a Phi-3 that writes each token of `chain` after the one before it: attention and MLP add nothing."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    phi_folder(folder)
    ids = AutoTokenizer.from_pretrained(str(folder)).convert_tokens_to_ids(list(chain))
    model = AutoModelForCausalLM.from_pretrained(str(folder))
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        model.lm_head.weight.zero_()
        for before, after in zip(ids, ids[1:], strict=False):
            model.lm_head.weight[after] += model.model.embed_tokens.weight[before]
    model.save_pretrained(str(folder))
    return folder


def adapter_folder(folder: Path, model_folder: Path, seed: int):
    """Save a LoRA adapter with random weights, so large that it changes every answer."""
    import torch
    from peft import LoraConfig, get_peft_model

    from doyen.models.engine import load_causal_model, quiet_peft

    with torch.random.fork_rng(), quiet_peft():
        torch.manual_seed(seed)
        config = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
        model = get_peft_model(load_causal_model(model_folder, dtype=torch.float32), config)
    model.save_pretrained(str(folder))
    return folder


def bert_folder(folder: Path):
    """Save a BERT embedder of 1 layer with a WordPiece tokenizer trained on CORPUS."""
    import torch
    from tokenizers import BertWordPieceTokenizer, processors
    from transformers import BertConfig, BertModel

    wordpiece = BertWordPieceTokenizer(lowercase=True)
    wordpiece.train_from_iterator(CORPUS, vocab_size=300, show_progress=False)
    tokenizer = wordpiece._tokenizer
    ends = [(mark, tokenizer.token_to_id(mark)) for mark in ("[SEP]", "[CLS]")]
    tokenizer.post_processor = processors.BertProcessing(*ends)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=tokenizer.get_vocab_size(),
            hidden_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=128,
        )
        BertModel(config, add_pooling_layer=False).save_pretrained(str(folder))
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def write_jsonl(path: Path, rows):
    """Write rows as JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path
