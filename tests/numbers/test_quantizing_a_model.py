"""Every number that notebook 14 says in words is computed again, and its findings are tried on other cases."""

import json

import numpy as np
import pytest
import torch

from kit.quantization_ladder import PUBLISHED
from llmnotes.course.glossary import entries
from llmnotes.evaluation import flips, held_out_text, kl_divergence, log_probs, mean_error, with_weights
from llmnotes.evaluation.weights import inputs_of_layers
from llmnotes.fit import fit
from llmnotes.formats import inspect
from llmnotes.pebble import exam, score
from llmnotes.pebble.answering import answerer, chances
from llmnotes.pebble.hard import CHAINS
from llmnotes.quantization import blocks, plain
from tests.conftest import ROOT
from tests.numbers.prose import Prose

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def lesson():
    return Prose("14")


@pytest.fixture(scope="module")
def values(lesson):
    values = lesson.run()
    yield values
    values["work"].cleanup()


def test_the_numbers_of_levels(lesson, values):
    says, error, W, lost = lesson.says, *(values[name] for name in ("error", "W", "lost"))
    says("a scale and {} evenly spaced levels", 2 * 7 + 1)
    codes = values["q"]
    says("The {} codes of our recipe in 4 bits", 2 * 7 + 1)
    says("The five in the middle serve {:.0%} of the weights", (np.abs(codes) <= 2).mean())
    says("A bar for each code from {} to {}.", -7, 7)
    says("and {:.1%} below {:.2f}", values["edge"], values["above"][-1])
    assert len(values["above"]) == 1 + 8 and len(values["below"]) == 7  # "8 steps up, and 7 down"
    below, above = (values["edge"] - 0.5) / 7, (values["edge"] - 0.5) / 8
    says("A bell curve in slices: 7 slices of {:.1%}, 8 slices of {:.1%}", below, above)
    groups = W.reshape(-1, 64)
    real = np.histogram(groups / np.abs(groups).max(axis=1, keepdims=True), values["levels"])[0] / W.size
    says("Below it, bars between the same levels, from {:.1%} to {:.1%}", real.min(), real.max())
    says("We draw {:,} numbers", values["rows"]["bell curve"].size)
    says("{:.1%} against {:.1%}. The table below", lost["bell curve", 32][0], lost["bell curve", 64][1])
    for name in values["rows"]:
        assert lost[name, 64][1] < lost[name, 64][0]  # "in blocks of 64 NF4's levels are better each time"
    gains = {name: lost[name, 64][0] / lost[name, 64][1] for name in values["rows"]}
    assert max(gains, key=gains.get) == "heavy tails"  # "most of all"
    won = [error(x, values["even"](x, 32)) < error(x, values["nf4"](x, 64)) for x in values["tensors"].values()]
    says("Q4_0 wins in all {} matrices of Pebble", len(won))
    assert all(won) and round(lost["our matrix", 32][0], 3) == round(lost["our matrix", 64][1], 3)  # "by a hair"
    for seed in range(1, 4):
        x = np.random.default_rng(seed).normal(size=(4096, 64)).astype(np.float32)
        assert error(x, values["even"](x, 32)) < 0.95 * error(x, values["nf4"](x, 64))
    assert error(W, values["twice"]) < 1.01 * error(W, values["once"])  # "for next to nothing"


def test_the_numbers_of_scales(lesson, values):
    says = lesson.says
    saved = 4.5 - (4 + 8 / 64 + 32 / (64 * 256))
    says("That saves {:.2f} bits per weight ({:.1f} GB of a 7B), for next to nothing", saved, 7 * saved / 8)
    says("They put {} weights into one block. Q4_K cuts it into {} parts of {}", 256, 8, 256 // 8)
    for name, x in values["tensors"].items():
        if x.shape[1] % 256 == 0:
            data = blocks.quantize(x, "Q4_K").reshape(-1, 144)[:8]
            ours = np.stack([values["read_q4_k"](one) for one in data])
            assert np.allclose(ours, blocks.dequantize(data, "Q4_K", (len(data), 256)), rtol=1e-6, atol=1e-7), name


def test_the_numbers_of_the_ladder(lesson, values):
    says = lesson.says
    kept = json.loads((ROOT / "llmnotes" / "quantization_ladder.json").read_text(encoding="utf-8"))
    says("SmolLM2, with {:.0f} million weights", sum(p.numel() for p in values["smol"].model.parameters()) / 1e6)
    assert {t.dtype for t in inspect(values["here"] / "Q2_K.gguf").tensors} >= {"Q6_K", "Q3_K", "Q2_K"}
    says("Q2_K itself takes {:.1f}", blocks.TYPES["Q2_K"].nbytes * 8 / 256)
    kl = list(kept["published"]["kl"].values())
    assert all(1.9 < low / high < 4.5 for high, low in zip(kl, kl[1:], strict=False))  # "by two to four"
    others = [kept["published"]["other"][name] for name in ("Q4_K_M", "Q2_K")]
    says("Of its likeliest tokens {:.0%} are other ones in Q4_K_M, and {:.0%} in Q2_K", *others)
    errors = [kept["models"][name]["types"]["Q4_K_M"]["weight_error"] for name in ("smollm2", "pebble")]
    says("its weights are off by {:.0%}, Pebble's by {:.0%}", *errors)
    for name in ("Pebble", "SmolLM2"):
        for kind, one in kept["models"][name.lower()]["types"].items():
            if kind != "original":
                says("{} {}: {:.0%}", name, kind, one["other"])
    for kind, value in kept["published"]["kl"].items():
        says("Llama-3-8B {}: KL {:.2g}", kind, value)
    bits = {one.precision: one.bits_per_weight for one in fit("llama-3.1-8b", vram="8GiB", ram="16GiB").options}
    assert kept["published"]["bits"].items() <= bits.items() and kept["published"] | PUBLISHED == kept["published"]
    p, p_hat = values["p"], values["p_hat"]
    assert abs(p.sum() - 1) < 1e-5 and 0 < (p * np.log(p / p_hat)).sum() < 0.02
    best = np.argsort(-p)[:3]
    for i, word in zip(best, values["words"], strict=True):
        says("{} {:.1%} and {:.1%}", word.replace(" ", "␣"), p[i], p_hat[i])
    says("all others {:.1%} and {:.1%}", 1 - p[best].sum(), 1 - p_hat[best].sum())


def test_the_numbers_of_a_large_channel(lesson, values):
    says, x, V, error = lesson.says, *(values[name] for name in ("x", "V", "error"))
    tops = np.abs(x).max(axis=0)
    says("A dot for each of the {} channels", x.shape[1])
    says("Channel {} stretches the step", tops.argmax())
    says("the others up to {:.1f}, and a single one at {:.0f}; below", np.sort(tops)[-2], tops.max())
    says("Channel {} is the largest at nearly every token", tops.argmax())
    assert 0.2 < np.mean(values["to_int8"](x)[0] == 0) < 0.3  # "a quarter of all numbers become 0"
    says("One channel of {} in floats, and the error is a fifth", len(values["large"]))
    assert values["large"].sum() == 1
    exact = values["exact"]
    assert 0.18 < error(exact, values["parts"]) / error(exact, values["multiply"](x, V)) < 0.22

    # "in this layer and in all from 9 to 23", "on average over all 30 such matrices", on this and on another text
    words, whole, left = " ".join(entry.says for entry in entries()), [], []
    tokens = torch.tensor(values["smol"].tokenizer(words, verbose=False)["input_ids"])
    for start in (0, 3000):
        inputs = inputs_of_layers(values["smol"].model, [tokens[start : start + 256]])
        for number in range(30):
            name = f"model.layers.{number}.self_attn.v_proj"
            seen, weight = inputs[name].numpy(), values["smol"].model.get_submodule(name).weight.detach().numpy()
            assert number not in range(9, 24) or (np.abs(seen).argmax(axis=1) == 247).mean() > 0.9
            large = (np.abs(seen) >= 6).any(axis=0)
            parts = seen[:, large] @ weight[:, large].T + values["multiply"](seen[:, ~large], weight[:, ~large])
            whole.append(error(seen @ weight.T, values["multiply"](seen, weight)))
            left.append(error(seen @ weight.T, parts))
    says("On average over all {} such matrices, int8 loses {:.1%}, and", 30, np.mean(whole))
    says("{:.1%} is left", np.mean(left))
    assert np.argmax(whole[:30]) == 12  # "the worst layer"

    # why bitsandbytes loses a bit more: the same two steps lose as much
    small = np.where(np.abs(x) >= 6, 0, x)
    s = np.abs(small).max(axis=1, keepdims=True) / 127
    q = np.where(values["large"], 0, np.rint(small / s))
    p, t = values["to_int8"](V)
    theirs = (q @ p.T) * s * t.T + x[:, values["large"]] @ (p * t)[:, values["large"]].T
    assert abs(error(exact, theirs) - error(exact, values["found"])) < 0.001


def test_a_broken_model_is_surprised_less(lesson, values):
    lm, broken = values["lm"], values["broken"]
    lesson.says("with which it knew {:.0%} of the exam", score(answerer(broken, lm.tokenizer), exam()).accuracy)
    lesson.says("{:.0f} nats and more, where Q2_K has {:.1f}", int(min(values["kls"])[0]), values["kls"][0][1])

    def perplexity(model, piece):
        return (-log_probs(model, lm.tokenizer, piece, pick=True).mean()).exp()

    says = [entry.says for entry in entries()]
    four = with_weights(lm.model, {name: values["dequantize"](*values["quantize_full"](x, 2, 32), x.shape)
                                   for name, x in values["tensors"].items()})  # fmt: skip
    for start in range(120, len(says) - 24, 24):  # the rest, and another damaged model
        piece = " ".join(says[start : start + 24])
        assert max(perplexity(model, piece) for model in (broken, four)) < perplexity(lm.model, piece)
        assert kl_divergence(lm.model, broken, lm.tokenizer, piece) > 3
    own, size = held_out_text(), len(lm.tokenizer)
    zeros = with_weights(lm.model, {name: 0 * x for name, x in values["tensors"].items()})
    assert all(abs(perplexity(zeros, piece) - size) < 1 for piece in (values["pieces"][0], own))
    lesson.says("sees the damage: {:.1f} before, {:.0f} after", *(perplexity(m, own) for m in (lm.model, broken)))


def test_the_numbers_of_the_hard_questions(lesson, values):
    """Those in words are kept ones; two types are asked again, on questions that the kept marks don't have."""
    says, lm = lesson.says, values["lm"]
    part = json.loads((ROOT / "llmnotes" / "quantization_ladder.json").read_text(encoding="utf-8"))
    part = part["models"]["pebble"]["hard"]
    types, whole, four = part["types"], part["types"]["original"], part["types"]["Q4_K_M"]
    assert round(100 * four["change"]) == -1 and 2 < -four["change"] / four["change_error"] < 2.5  # "just over two"
    assert whole["exam"] - four["exam"] < whole["exam_error"] + four["exam_error"]  # "by their marks you can't tell"
    says("it falls by {:.1f} ± {:.1f} points", -100 * four["chance_change"], 100 * four["chance_error"])
    says("{:,} hard questions ({} seeds)", part["seeds"] * part["questions"], part["seeds"])
    says("the standard error of a mark, {:.1f} points", 100 * whole["exam_error"])
    assert {round(100 * one["exam_error"], 1) for name, one in types.items() if " " not in name} == {0.9}
    for kind, one in types.items():
        name = kind.replace("2 bits, three levels", "3 levels")
        says("{} {:.1%} right, {:,} lost, {:,} won, chance {:.1%}",
             name, one["exam"], one["lost"], one["won"], one["chance"])  # fmt: skip
    says("{} lost, {} won", four["lost"], four["won"])  # behind the alternative text, which has these words, too
    questions = [question for seed in (100, 101, 102) for question in exam(hard=True, seed=seed)]
    right = [score(answerer(model, lm.tokenizer), questions).correct for model in (lm.model, values["opened"]["Q2_K"])]
    found = flips(*right)
    assert found.change < -3 * found.noise and abs(found.change - types["Q2_K"]["change"]) < 3 * found.noise
    assert abs(np.mean(right[0]) - whole["exam"]) < 0.05
    sure = [chances(model, lm.tokenizer, questions) for model in (lm.model, values["opened"]["Q4_K_M"])]
    assert (sure[1] - sure[0]).mean() < -3 * mean_error(sure[1] - sure[0])  # a third of the questions, so not six
    assert "Again {p} lost the" in CHAINS["job.tool"]  # "Again Mia lost the": the tool of Mia's job


def test_the_numbers_of_the_choice(lesson, values):
    best, says = values["best"], lesson.says
    says("beside {:,} tokens of text", 8192)
    says("with {:,} tokens of text, and keep {:.0f} GB of each card", 8192, 0.5 + 0.5)
    option = fit("qwen3-8b", context=8192, **values["cards"]["8 GB"]).whole()
    assert option.precision == "Q6_K" and 8 * 1.0737 - 1 - option.gpus[0] / 1e9 < 0.1  # tight
    assert fit("qwen3-4b", context=8192, cache="Q8_0", **values["cards"]["4 GB"]).whole().precision == "Q4_K_M"
    longer = {name: fit(name, context=32768, vram="8GiB", ram="16GiB").whole() for name in ("qwen3-4b", "qwen3-8b")}
    says("with {:,} tokens 8 GB hold only the 4B", 32768)
    assert longer["qwen3-8b"] is None or longer["qwen3-8b"].bits_per_weight < 4 <= longer["qwen3-4b"].bits_per_weight
    [nf4] = [one for one in fit("qwen3-8b", context=8192, vram="8GiB", ram="16GiB").options if one.precision == "NF4"]
    says("Qwen3-8B takes {:.2f} bits per weight", nf4.bits_per_weight)
    assert nf4.verdict != "GPU"  # "8 GB are too few"
    mac = fit("qwen3-8b", machine="m2-16gb").vram[0]
    assert 0.62 < mac / (16 * 2**30) < 0.7  # "two thirds"
    for card, found in best.items():
        for size in values["sizes"]:
            says("{}, {}: {}", card, size, found.get(size, ("none",))[0])


def test_llama_cpp_tries_so_many_stretches(lesson):
    lesson.says("llama.cpp tries {} stretches", len(plain.STRETCHES))


def test_no_other_number_stands_in_the_prose(lesson):
    names = (
        r"\bQ\d_[01K](?:_[MSL])?|NF4|LLM\.int8\(\)|int8|float16|\b7B|\b8B|\b4B|176B 15 to 23%|4-bit|6-bit",
        r"from 0 to (?:15|63|255)|code of 0\.0|\b2 bits|(?:of |scale )(?:4|16|32) bits",
        r"16 times 6 bits|lower 6 bits|4\.5 bits|of 4 to 24 GB|at most 8\.5|(?:in|from) 16 bits",
        r"4 bits(?: or more)?|8 bits|6 bits|level 1|\b4 GB|beside that 1 GB|These 16 levels|types called Q4|8 GB are",
        r"it in 8 bits|2 and 3",
        r"blocks? of (?:32|64|256)|parts of 32|12 bytes|rows of 576|an array of 32|144 small|128 for codes|a 6 or more",
        r"to 8 bits|in 8\b|below 6|35,000|since 0 should|lies below 0|(?:of|around|from|for) 0\b|become 0|0 if nothing",
        r"8 steps up, and 7 down|largest of 32|largest of 64|\(0: there is none\)|the answer is 4\.5|and 256 of them",
        r"−8|to 7 times|the scale 0|holds 0|256 codes have 255|and 4: the split|below 0|not all 0|10⁹",
        r"more than 3 bits|tokens gets 6|Parts 0 to 3|Parts 4 to 7|4 bits each|upper 2|from 9 to 23",
    )
    lesson.finish(*(name.replace(" ", r"\s+") for name in names))
