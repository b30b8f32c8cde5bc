"""Measure what GPTQ's calibration text and settings do to the whole of Pebble: `python -m kit.gptq_calibration`.

Writes llmnotes/gptq_calibration.json, which lesson 15 draws. GPTQ adapts each weight to those before it, so a last
digit that differs moves many codes: another processor, or another number of threads, gives other figures, by up to a
quarter.
"""

import argparse
import copy
import datetime
import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from llmnotes.evaluation import held_out_text, kl_divergence, with_weights
from llmnotes.evaluation.weights import inputs_of_layers
from llmnotes.models import open_model
from llmnotes.pebble.corpus import documents
from llmnotes.quantization import gptq, grouped
from llmnotes.quantization.models.gptq import quantize_model
from llmnotes.quantization.models.layerwise import token_windows

FILE = Path(__file__).parents[1] / "llmnotes" / "gptq_calibration.json"
SEEDS, COUNTS, DAMPS = (11, 12, 13), (256, 512, 1024, 2048, 4096, 8192), (0.001, 0.01, 0.1, 1.0)
TEXT = 24  # held-out documents that judge


def main() -> None:
    """Measure everything and write the file."""
    argparse.ArgumentParser(prog="python -m kit.gptq_calibration", description=main.__doc__).parse_args()
    lm, text = open_model("pebble"), held_out_text(count=TEXT)
    pebble = lm.model

    def kl(model: PreTrainedModel) -> float:
        return round(kl_divergence(pebble, model, lm.tokenizer, text), 6)

    def windows(seed: int, tokens: int) -> list[torch.Tensor]:
        stories = [document.text for document in documents(400, seed=seed)]
        return list(token_windows(stories, lm.tokenizer, tokens=tokens))

    def calibrated(seed: int, tokens: int = COUNTS[-1], bits: int = 3, **how: Any) -> float:
        model = copy.deepcopy(pebble)
        quantize_model(model, windows(seed, tokens), bits, **{"order": "natural", "search": False} | how)
        return kl(model)

    def at_once(seed: int) -> float:
        """Every layer with what it reads in the original model, not behind rounded layers."""
        rows: Sequence[torch.Tensor] = [ids for batch in windows(seed, COUNTS[-1]) for ids in batch]
        weights = {}
        for name, inputs in inputs_of_layers(pebble, rows).items():
            weight = pebble.get_parameter(f"{name}.weight").detach()
            made = gptq.quantize(weight, gptq.hessian(inputs), 3, order="natural", search=False)
            weights[f"{name}.weight"] = made.dequantize().numpy()
        return kl(with_weights(pebble, weights))

    def nearest(bits: int) -> float:
        return kl(with_weights(pebble, lambda w: grouped.round_to_nearest(w, bits).dequantize().numpy()))

    kept = {
        "model": "pebble",
        "text": f"{TEXT} held-out documents",
        "unit": "KL divergence from the original, nats per token; groups of 128, natural order, damping 0.01",
        "seeds": SEEDS,
        "nearest": {bits: nearest(bits) for bits in (3, 4)},
        "tokens": {count: [calibrated(seed, count) for seed in SEEDS] for count in COUNTS},
        "in one go": [at_once(seed) for seed in SEEDS],
        "damping": {damp: [calibrated(seed, damp=damp) for seed in SEEDS] for damp in DAMPS},
        "order": {
            order: {bits: [calibrated(seed, bits=bits, order=order) for seed in SEEDS] for bits in (3, 4)}
            for order in ("natural", "activation")
        },
        "threads": torch.get_num_threads(),
        "versions": {name: version(name) for name in ("torch", "transformers")},
        "date": datetime.date.today().isoformat(),
    }
    FILE.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
