"""A Llama with SentencePiece's tokenizer, made by code: it stands in for stories260K where that is not at hand.

It has that model's shape (262,000 weights, 512 tokens, rows of 172 that no block of 32 divides), the same files, and
weights drawn at random. What it says means nothing; every comparison of two programs that run it holds all the same.
"""

import io
from pathlib import Path

from llmnotes.pebble.corpus import documents

SHAPE = {
    "vocab_size": 512,
    "hidden_size": 64,
    "intermediate_size": 172,
    "num_hidden_layers": 5,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True,
}
# SentencePiece's settings for Llama 2, in small.
PIECES = {
    "model_type": "bpe",
    "vocab_size": SHAPE["vocab_size"],
    "byte_fallback": True,
    "split_digits": True,
    "character_coverage": 1.0,
    "normalization_rule_name": "identity",
    "allow_whitespace_only_pieces": True,
    "minloglevel": 2,
}


def write_stories(folder: Path) -> None:
    """Write config.json, model.safetensors and the tokenizer's files into `folder`."""
    import sentencepiece
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, LlamaTokenizer

    folder.mkdir(parents=True)
    pieces = io.BytesIO()
    lines = (line for document in documents(300, seed=0) for line in document.text.splitlines())
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=lines, model_writer=pieces, **PIECES)
    (folder / "tokenizer.model").write_bytes(pieces.getvalue())
    LlamaTokenizer.from_pretrained(folder).save_pretrained(folder)
    torch.manual_seed(0)
    # This seed was searched for: with most others two tokens are so close somewhere that two programs, which round
    # differently, write different texts. On the tests' four prompts the leader is ahead by 0.47% of its logit or more.
    model = LlamaForCausalLM(LlamaConfig(**SHAPE, initializer_range=0.1))
    with torch.no_grad():  # 3 special tokens and 256 bytes are never the likeliest, so that all it says is text
        model.model.embed_tokens.weight[: 3 + 256] *= 0.1
    model.save_pretrained(folder)
