"""What a changed Pebble still says like the original: the exam, the likeliest tokens, stories; and the kept ladder."""

import json
import math

import numpy as np
import pytest

from kit.quantization_ladder import FILE, LADDER, gguf_name, quantized
from llmnotes.evaluation import matrices, with_weights
from llmnotes.evaluation.examiner import OPENINGS, Examiner, inputs_of
from llmnotes.models import open_model

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def lm():
    return open_model("pebble", say=lambda line: None)


@pytest.fixture(scope="module")
def examiner(lm):
    return Examiner(lm.model, lm.tokenizer)


def test_the_original_is_itself_and_a_ruined_model_is_not(lm, examiner):
    original = examiner.measure(lm.model)
    assert original.other == 0 and original.exam > 0.98 and len(set(original.stories)) == len(OPENINGS)
    assert original.noise == pytest.approx(math.sqrt(original.exam * (1 - original.exam) / 500))
    ruined = examiner.measure(with_weights(lm.model, lambda weight: 0 * weight))
    assert ruined.exam < 0.1 and ruined.other > 0.5


def test_the_lead_and_the_next_tokens_agree(lm, examiner):
    lead = examiner.lead()
    assert lead.shape == examiner.picks.shape and (lead >= 0).all()
    tokens, chances = examiner.next_tokens("The opposite of hot is", {"one": lm.model, "two": lm.model})
    assert tokens[0] == " cold" and np.array_equal(chances["one"], chances["two"])
    assert (np.diff(chances["one"]) <= 0).all()


def test_what_a_layer_reads_is_what_it_answers_to(lm):
    x = inputs_of(lm.model, lm.tokenizer, "model.layers.0.mlp.up_proj", most=256)
    assert x.shape == (256, 256) and np.isfinite(x).all() and not (x[0] == x[1]).all()


def test_the_kept_ladder_is_what_pebble_measures(lm):
    kept = json.loads(FILE.read_text(encoding="utf-8"))
    for name, model in kept["models"].items():
        assert list(model["types"]) == ["original", *LADDER]
        values = [model["types"][name]["kl"] for name in LADDER]
        assert values == sorted(values) or name == "smollm2"  # which comes in 4 bits: 5 fit it better than 6
        assert values[-1] == max(values) and model["types"]["original"]["kl"] == 0
    back, bits = quantized(matrices(lm.model, embeddings=True), "Q4_K_M", 2)
    rung = kept["models"]["pebble"]["types"]["Q4_K_M"]
    assert bits == pytest.approx(rung["bits"], abs=0.001)
    tensors = matrices(lm.model, embeddings=True)
    lost = sum(float(np.square(back[name] - x).sum()) for name, x in tensors.items())
    assert math.sqrt(lost / sum(float(np.square(x).sum()) for x in tensors.values())) == pytest.approx(
        rung["weight_error"], abs=0.0001
    )
    assert gguf_name("model.layers.3.mlp.down_proj.weight") == "blk.3.ffn_down.weight"
