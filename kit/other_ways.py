"""Measure on SmolLM2 what a fold and a rounded cache cost, on four kinds of text: `python -m kit.other_ways`.

Writes llmnotes/other_ways.json, which lesson 16 quotes. It takes some minutes.
"""

import argparse
import copy
import datetime
import json
from importlib.metadata import version
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from llmnotes.cache_name import cache_name
from llmnotes.course.glossary import entries
from llmnotes.evaluation import held_out_text, with_weights
from llmnotes.models import open_model
from llmnotes.quantization import blocks
from llmnotes.quantization.grouped import round_to_nearest
from llmnotes.quantization.models import kv_cache, smoothing

ROOT = Path(__file__).parents[1]
FILE = ROOT / "llmnotes" / "other_ways.json"
SEEN, PROMPT, REST = 256, 256, 128  # tokens to choose factors by; in the cache; and judged behind them


def texts(tokenizer: PreTrainedTokenizerBase) -> dict[str, torch.Tensor]:
    """Return four kinds of text as token ids, (1, 384), none of which chooses a factor."""
    glossary = " ".join(entry.says for entry in entries())
    found = {
        "this course's glossary": tokenizer(glossary, verbose=False)["input_ids"][2 * SEEN :],
        "Pebble's stories": tokenizer(held_out_text(), verbose=False)["input_ids"],
        "Python code": tokenizer((ROOT / "llmnotes/attention.py").read_text("utf-8"), verbose=False)["input_ids"],
        "a licence": tokenizer((ROOT / "LICENSE").read_text("utf-8"), verbose=False)["input_ids"],
    }
    return {name: torch.tensor([ids[: PROMPT + REST]]) for name, ids in found.items()}


def main() -> None:
    """Measure everything and write the file."""
    argparse.ArgumentParser(prog="python -m kit.other_ways", description=main.__doc__).parse_args()
    lm = open_model("smollm2")
    judged = texts(lm.tokenizer)
    glossary = " ".join(entry.says for entry in entries())
    seen = torch.tensor([lm.tokenizer(glossary, verbose=False)["input_ids"][:SEEN]])
    with torch.no_grad():
        exact = {name: lm.model(ids[:, :PROMPT]).logits[0].log_softmax(-1) for name, ids in judged.items()}

    def strays(model: PreTrainedModel) -> dict[str, float]:
        """Return the KL from the original, nats per token, on each text."""
        found = {}
        with torch.no_grad():
            for name, p in exact.items():
                q = model(judged[name][:, :PROMPT]).logits[0].log_softmax(-1)
                found[name] = round(float((p.exp() * (p - q)).sum(-1).mean()), 6)
        return found

    awq = {}
    for bits in (3, 4):

        def rounded(w, bits=bits):
            return round_to_nearest(w, bits, 64, symmetric=False).dequantize().numpy()

        plain = strays(with_weights(lm.model, rounded))
        model = copy.deepcopy(lm.model)
        smoothing.awq(model, [seen], bits=bits, group_size=64)
        awq[bits] = {"nearest": plain, "AWQ": strays(with_weights(model, rounded))}
        print(bits, awq[bits], flush=True)

    kept = {
        "model": "smollm2",
        "texts": f"{PROMPT} tokens of each kind; behind a rounded cache of {PROMPT}, {REST} more",
        "unit": "KL divergence from the original, nats per token",
        "AWQ": awq,
        "cache": {name: cached(lm.model, ids) for name, ids in judged.items()},
        "versions": {name: version(name) for name in ("torch", "transformers")},
        "date": datetime.date.today().isoformat(),
    }
    FILE.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


def cached(model: PreTrainedModel, ids: torch.Tensor) -> dict[str, float]:
    """Return the KL of what follows a rounded cache, for several ways to round its keys and values."""

    def as_is(x: torch.Tensor) -> torch.Tensor:
        return x

    def in_4_bits(along: int):
        def round_(x: torch.Tensor) -> torch.Tensor:  # (1, heads, tokens, 64)
            groups = x.unflatten(2, (-1, 64))
            return kv_cache.quantize(groups, 4, along).dequantize().reshape(x.shape)

        return round_

    def in_type(kind: str):
        def round_(x: torch.Tensor) -> torch.Tensor:
            rows = x.numpy().reshape(-1, x.shape[-1])
            return torch.from_numpy(blocks.dequantize(blocks.quantize(rows, kind), kind, rows.shape)).view(x.shape)

        return round_

    channel, token = in_4_bits(-2), in_4_bits(-1)
    ways = {
        "keys per channel": (channel, as_is),
        "keys per token": (token, as_is),
        "values per channel": (as_is, channel),
        "values per token": (as_is, token),
        "Q8_0": (in_type("Q8_0"),) * 2,
        "Q4_0": (in_type("Q4_0"),) * 2,
    }
    found = {}
    with torch.no_grad():
        p = model(ids).logits[0, PROMPT:].log_softmax(-1)
        whole = model(ids[:, :PROMPT], use_cache=True)[cache_name()]
        for name, (keys, values) in ways.items():
            cache = copy.deepcopy(whole)
            for layer in cache.layers:
                layer.keys, layer.values = keys(layer.keys), values(layer.values)
            q = model(ids[:, PROMPT:], **{cache_name(): cache}).logits[0].log_softmax(-1)
            found[name] = round(float((p.exp() * (p - q)).sum(-1).mean()), 6)
    return found


if __name__ == "__main__":
    main()
