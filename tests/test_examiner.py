"""What a changed Pebble still says like the original: the exam, the likeliest tokens, stories; and the kept ladder."""

import json
import math

import numpy as np
import pytest

from kit.quantization_ladder import FILE, LADDER, SEEDS, THREE, gguf_name, hard, quantized
from llmnotes.evaluation import flips, matrices, with_weights
from llmnotes.evaluation.examiner import OPENINGS, Examiner, inputs_of
from llmnotes.models import open_model
from llmnotes.pebble import exam, score
from llmnotes.pebble.answering import answerer, chances

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


def test_flips_count_what_changed_and_their_error_is_that_of_the_difference():
    before, after = [True] * 60 + [False] * 40, [False] * 6 + [True] * 58 + [False] * 36
    lost, won, change, noise = flips(before, after)
    assert (lost, won) == (6, 4) and change == pytest.approx(-0.02)
    assert noise == pytest.approx(math.sqrt((10 - 2**2 / 100) / 100) / 10)  # McNemar's
    assert flips(before, before) == (0, 0, 0, 0)
    assert flips(before, after, range(100)).noise == pytest.approx(noise)
    twice = flips(before * 2, after * 2, [*range(100), *range(100)])  # asked twice is not known better
    assert twice.noise == pytest.approx(noise) and flips(before * 2, after * 2).noise < noise
    with pytest.raises(ValueError, match="100 answers before and 99 after"):
        flips(before, after[1:])


def test_chances_agree_with_greedy_answers_and_with_one_question_alone(lm):
    questions = exam(hard=True)[::10]
    found = chances(lm.model, lm.tokenizer, questions)
    alone = [chances(lm.model, lm.tokenizer, [question])[0] for question in questions]
    assert np.allclose(found, alone, atol=1e-4) and ((found > 0) & (found <= 1)).all()
    right = np.array(score(answerer(lm.model, lm.tokenizer), questions).correct)
    assert right[found > 0.5].all() and found[right].mean() > 0.5 > found[~right].mean()


def test_the_kept_marks_on_hard_questions_are_what_pebble_gets(lm):
    part = json.loads(FILE.read_text(encoding="utf-8"))["models"]["pebble"]["hard"]
    assert part["seeds"] == SEEDS and part["questions"] == len(exam(hard=True)) == 300
    assert list(part["types"]) == ["original", *LADDER, THREE]
    for one in part["types"].values():
        assert one["exam"] == pytest.approx(np.mean(one["by_seed"]), abs=0.0002)
        assert one["change"] == pytest.approx((one["won"] - one["lost"]) / (300 * SEEDS), abs=0.0001)
    now = hard(lm, [1], ("original", "Q2_K"))
    for name, one in now.items():
        assert one["exam"] == pytest.approx(part["types"][name]["by_seed"][1], abs=0.0101)  # 3 questions at a tie
    assert now["Q2_K"]["lost"] > now["Q2_K"]["won"]


def test_the_hard_part_tells_the_types_apart():
    """The original loses nothing in Q8_0, little in Q4_K_M, more in Q3_K_M and Q2_K, and all with three levels."""
    types = json.loads(FILE.read_text(encoding="utf-8"))["models"]["pebble"]["hard"]["types"]
    assert 0.5 < types["original"]["exam"] < 0.75
    for name in ("Q8_0", "Q6_K"):
        assert abs(types[name]["change"]) < 2 * types[name]["change_error"]
    changes = [types[name]["change"] for name in ("Q8_0", "Q5_K_M", "Q4_K_M", "Q3_K_M", "Q2_K", THREE)]
    assert changes == sorted(changes, reverse=True)
    for name in ("Q3_K_M", "Q2_K", THREE):
        assert types[name]["change"] < -2.5 * types[name]["change_error"]
    for name in ("Q4_K_M", "Q3_K_M", "Q2_K", THREE):  # the chance of the right answer sees more
        assert types[name]["chance_change"] < -4 * types[name]["chance_error"]
    assert types[THREE]["exam"] < 0.02
