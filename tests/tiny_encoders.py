"""Small encoders with random weights in Hugging Face format, and what transformers computes with them.

Enters: an empty folder and the name of a family. Leaves: the folder as doyen reads it, and the model that made it.
"""

import json

WORDS = "invoice delivery late the of a pump valve pressure order is was not paid due days thirty query passage".split()
TEXTS = ["the invoice is due", "pump", "valve pressure " * 40, "late delivery of the order was not paid"]
BERT_SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
ROBERTA_SPECIALS = ["<s>", "<pad>", "</s>", "<unk>"]
_SHAPE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
_SHAPE |= {"initializer_range": 0.5}
_DISTIL = {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "initializer_range": 0.5}
_OFFSET = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "max_position_embeddings": 66}
FAMILIES = {  # transformers' class prefix, configuration beside the vocabulary's size
    "bert": ("Bert", _SHAPE | {"max_position_embeddings": 64}),
    "xlm-roberta": ("XLMRoberta", _SHAPE | _OFFSET | {"type_vocab_size": 1}),
    "roberta": ("Roberta", _SHAPE | _OFFSET | {"type_vocab_size": 1}),
    "mpnet": ("MPNet", _SHAPE | _OFFSET),
    "distilbert": ("DistilBert", _DISTIL | {"max_position_embeddings": 64}),
    "modernbert": ("ModernBert", _SHAPE | {"max_position_embeddings": 64, "pad_token_id": 0}),
}


def save_tokenizer(folder, family):
    """Save a tokenizer of whole words with the family's special tokens; return the vocabulary's size."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    like_bert = family in ("bert", "distilbert", "modernbert")
    specials = BERT_SPECIALS if like_bert else ROBERTA_SPECIALS
    vocabulary = {word: i for i, word in enumerate([*specials, ":", *WORDS])}
    unknown, first, last = (specials[1], specials[2], specials[3]) if like_bert else (specials[3], "<s>", "</s>")
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unknown))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    pair = f"{first} $A {last} $B:1 {last}:1" if like_bert else f"{first} $A {last} {last} $B {last}"
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}", pair=pair, special_tokens=[(t, vocabulary[t]) for t in (first, last)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    return len(vocabulary)


def make_encoder(folder, family, *, head="Model", pooling="mean", **changes):
    """Save a model of random weights; `head` is "Model" or "ForSequenceClassification"."""
    import torch
    import transformers

    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    prefix, config = FAMILIES[family]
    config = config | changes | {"vocab_size": save_tokenizer(folder, family)}
    if head != "Model":
        config |= {"num_labels": config.get("num_labels", 1)}
    model = getattr(transformers, prefix + head)(getattr(transformers, prefix + "Config")(**config)).eval()
    with torch.no_grad():  # biases are 0 and norms 1 at the start: what forgets them would not be noticed
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    write_json(folder / "1_Pooling" / "config.json", {f"pooling_mode_{pooling}": True})
    return model


def write_json(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def tokenized(folder, texts, max_tokens):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(max_tokens)
    return [tokenizer.encode(*text) if isinstance(text, tuple) else tokenizer.encode(text) for text in texts]


def reference_vectors(folder, model, texts, max_tokens=64, pooling="mean", dim=None):
    """Return transformers' unit vectors, text by text: no padding, hence no mask."""
    import numpy as np
    import torch

    vectors = []
    for row in tokenized(folder, texts, max_tokens):
        with torch.no_grad():
            states = model(torch.tensor([row.ids])).last_hidden_state[0]
        pooled = {"mean": states.mean(0), "cls": states[0], "last": states[-1], "max": states.max(0).values}[pooling]
        vectors.append(torch.nn.functional.normalize(pooled[:dim], dim=-1).numpy())
    return np.stack(vectors)


def reference_logits(folder, model, question, passages, max_tokens=64):
    """Return transformers' logit of each pair."""
    import numpy as np
    import torch

    logits = []
    segments = model.config.model_type == "bert"
    for row in tokenized(folder, [(question, passage) for passage in passages], max_tokens):
        more = {"token_type_ids": torch.tensor([row.type_ids])} if segments else {}
        with torch.no_grad():
            logits.append(model(torch.tensor([row.ids]), **more).logits[0, 0].item())
    return np.array(logits)
