"""Every number that notebook 13 says in words is computed again, and what its quantizer promises is tried."""

from types import SimpleNamespace

import gguf
import numpy as np
import pytest

from llmnotes.course import source
from llmnotes.evaluation.examiner import OPENINGS, TOKENS, Examiner
from llmnotes.exercises.fewer_bits_checks import BUDGETS, MODELS, OFFERS, best_offer
from llmnotes.fit import fit
from llmnotes.quantization import even
from tests.numbers.prose import WORDS, Prose

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def lesson():
    return Prose("13")


@pytest.fixture(scope="module")
def values(lesson):
    return lesson.run()


def there_and_back(values, x, bits, block, recipe="quantize"):
    return values["dequantize"](*values[recipe](x, bits, block), x.shape)


def test_the_numbers_of_a_float(lesson, values):
    says, w = lesson.says, values["w"]
    says("a model with {:.0f} billion weights", 7e9 / 1e9)
    says("At 16 bits per weight, {:.0f} of the {:.0f} tiles are off the card", 7 * 2 - 8, 7 * 2)
    says(": {:.0f} in 16 bits, {:.0f} in 8 bits, {:g} in 4 bits", 7 * 2, 7, 7 / 2)
    says("takes {} GB and not {}", 7 * 2, 7 * 4)
    errors = [values["error"](row, there_and_back(values, row, 4, len(row))) for row in values["W"]]
    assert int(np.argmax(errors)) == 159 and (values["row"] == values["W"][159]).all()
    says("Of all {} rows, its weights lose the most", len(values["W"]))
    says("Take the largest of our {}, {:.9f}", WORDS[len(w)], np.abs(w).max())
    says("The 32 bits of the weight {:.9f}: one sign bit, eight exponent bits that say {}", w[3], -2)
    says("23 mantissa bits that say {:.4g}", w[3] * 4)
    assert w[3].view(np.uint32) >> 23 == 127 - 2
    says("Pebble has {:.2f} million weights", sum(p.numel() for p in values["lm"].model.parameters()) / 1e6)
    says("only once in {:,} times", 2**16)
    says("the largest of our eight is only {:.0f} times the smallest", np.abs(w).max() / np.abs(w).min())
    exponents = w.view(np.uint32) >> 23 & 255
    differ = int(np.bitwise_or.reduce(exponents) ^ np.bitwise_and.reduce(exponents)).bit_length()
    says("only the last {} bits of these differ", differ)


def test_the_numbers_of_a_scale(lesson, values):
    says, w, codes = lesson.says, values["w"], values["codes"]
    says("We have {} whole numbers to choose from", 2**8)
    says("They make {} patterns", 2**4)
    assert np.abs(w).max() < 0.5 and (values["step"] * 7 == np.abs(w).max())
    double = [code for code in set(codes.tolist()) if (codes == code).sum() == 2]
    says("Two of them end up on the same one, {}", *double)
    says("divided by the scale {:.4f}, fan out from {:.2f} to 7", values["step"], (w / values["step"]).min())
    says("rounded to the codes {}", ", ".join(str(code) for code in sorted(codes.tolist())))
    says("16 cells each: signs, exponents, mantissas; {} bits", 8 * 16)
    says("eight codes of 4 bits and one scale of 16 bits; {} bits", 8 * 4 + 16)


def test_the_numbers_of_the_row(lesson, values):
    says, row, X, error, ours = (lesson.says, *(values[name] for name in ("row", "X", "error", "ours")))
    zeros = values["q_row"] == 0
    says("All {} weights of the row (dots) over the {} levels", len(row), 2 * 7 + 1)
    says("up to {:.2f}, pull the levels so far apart that {:.0%}", row.max(), zeros.mean())
    says("The {} weights of the row as dots, over the {} levels of 4 bits. A few reach up to", len(row), 2 * 7 + 1)
    says("{:.2f}; {} of the others", row.max(), zeros.sum())
    assert np.median(np.abs(row)) < values["s_row"] / 2 / 2  # "much smaller than that"
    w, back = values["w"], values["s_row"] * values["q_row"][ours]
    gone, at = values["q_row"][ours] == 0, np.abs(back - values["w"]).argmax()
    says("{} of them are gone, and what's left is either {:.3f} or {:.3f}", gone.sum(), back.max(), back.min())
    says("up to {:.3f}; and {:.3f} became {:.3f}", np.abs(w[gone]).max(), w[at], back[at])
    says("of which {} are 0", gone.sum())

    cuts, off, out = values["cuts"], values["off"], values["out"]
    bests = cuts[out.argmin(axis=1)]
    says("the best cut is at {:.1f} (ring)", cuts[off.argmin()])
    says("it is between {:.1f} and {:.1f}, and cutting", bests.min(), bests.max())
    says("the error of the weights falls until {:.1f}", cuts[off.argmin()])
    says("minimum between {:.1f} and {:.1f} and then", bests.min(), bests.max())
    assert off[2] < off[0] and (out[:, 2] < out[:, 0]).all()  # "A little cutting helps both"
    ratios = out[:, 10] / out[:, 0]
    says("But at {:.1f} the weights get better ({:.0%} instead of", cuts[10], off[10])
    says("{:.0%}), and the output gets {:.1f} to {:.1f} times as bad", off[0], ratios.min(), ratios.max())
    says("The row's largest weight, {:.2f}, meets", np.abs(row).max())
    W = values["W"]
    tops = np.abs(W).max(axis=1, keepdims=True)
    assert abs(cuts[10] / tops[159, 0] - 0.6) < 0.01
    full, cut = (top / 7 * np.clip(np.rint(W / (top / 7)), -7, 7) for top in (tops, 0.6 * tops))
    better = np.linalg.norm(cut - W, axis=1) < np.linalg.norm(full - W, axis=1)
    worse = np.linalg.norm(X @ (cut - W).T, axis=0) > np.linalg.norm(X @ (full - W).T, axis=0)
    says("Cut each of the {} at 60% of its largest weight", len(W))
    counts = better.sum(), (better & worse).sum(), (better & ~worse).sum()
    says("{} get better weights, and in {} of those the output gets worse, in {} better", *counts)
    whole = [error(x @ row, x @ there_and_back(values, row, 4, 768)) for x in values["texts"]]
    strengths = [np.sqrt((x**2).mean(axis=0)) for x in values["texts"]]
    usual = [s[np.abs(row).argmax()] / np.median(s) for s in strengths]
    says("an input that is {:.0f} to {:.0f} times as strong", min(usual), max(usual))
    rows = [error(X @ r, X @ there_and_back(values, r, 4, 768)) for r in values["W"]]
    says("Its output is off by {:.0%} in the first text, that of a middling row by {:.0%}", whole[0], np.median(rows))
    ranks = {int((np.abs(row) * s > np.abs(row[25]) * s[25]).sum()) + 1 for s in strengths}
    place = int((np.abs(row) > row[25]).sum()) + 1
    says("{:.3f}, from our eight, is only the {}th largest of the row, but the {}th by what", row[25], place, *ranks)
    small = there_and_back(values, row, 4, 32)
    assert error(row, small) < 0.5 * off[0] and error(X @ row, X @ small) < 0.5 * whole[0]  # "to less than half"


def test_the_numbers_of_blocks(lesson, values):
    says, lost, W, q = lesson.says, values["lost"], values["W"], values["q"]
    byte = (q[0, 0] + 8) | (q[0, 16] + 8) << 4
    assert byte == values["pack"](q)[0, 0]
    says("into the byte {}", byte)
    says("The row cut into {} blocks, each with {} levels", len(q), 2 * 7 + 1)
    says("Each block has {} levels of its own", 2 * 7 + 1)
    says("take {} + {} = {} bytes. In bfloat16 the weights took {}", 2, 16, 18, 32 * 2)
    says("that's {:.1f} times less", 64 / 18)
    says("The two rings cost the same, {:g} bits per weight", 4 + 16 / 8)
    says("4 bits in blocks of 8 lose {:.1%}, 5 bits in blocks of 16 only {:.1%}", lost[4, 8], lost[5, 16])
    won = {
        name: values["error"](x, there_and_back(values, x, 5, x.shape[1]))
        < values["error"](x, there_and_back(values, x, 4, 16))
        for name, x in values["tensors"].items()
    }
    says("have the smaller error in {} of Pebble's {} matrices", sum(won.values()), len(won))
    says("it's a tie: {:.1%} and {:.1%}", lost[4, 16], lost[5, 768])
    assert [name for name in won if not won[name]] == ["model.layers.3.mlp.down_proj.weight"] and W.shape[1] == 768
    says("Our matrix is off by {:.0%}, in 4 bits and blocks of 32", lost[4, 32])
    says("16 / {} = {:.1f} times", 4 + 16 / 32, 16 / 4.5)
    full = values["error"](W, there_and_back(values, W, 4, 32, "quantize_full"))
    says("is off by {:.1%} instead of {:.1%}", full, lost[4, 32])
    theirs = gguf.dequantize(gguf.quantize(W, gguf.GGMLQuantizationType.Q4_0), gguf.GGMLQuantizationType.Q4_0)
    ours = there_and_back(values, W, 4, 32, "quantize_full")
    # "in just this way"; its codes come from the scale before that is rounded to float16
    assert (theirs.ravel() == ours.ravel()).mean() > 0.998
    w = values["w"]
    largest = np.abs(w).max()
    zeros = [(np.abs(w) < step / 2).sum() for step in (largest, largest / 2)]
    says("where {} of {} become 0, and over four levels, where {} do", zeros[0], len(w), zeros[1])
    says("= {:.3f} / −2 = {:.3f}", largest, largest / -2)
    assert round(-0.30 / (largest / -2)) == 2  # "would need the code 2"
    steps = [
        np.abs(s * codes - x.reshape(-1, 32)) / np.abs(s)
        for x in values["tensors"].values()
        for codes, s in [values["quantize_full"](x, 2, 32)]
    ]
    far = np.concatenate([part.ravel() for part in steps])
    says("So one weight in {:.0f} is off by more than half a step", 1 / (far > 0.505).mean())
    assert abs(far.max() - 1) < 0.01  # "at worst by a whole one"


def test_what_pebble_notices(lesson, values):
    says, found, original, BITS = lesson.says, values["found"], values["original"], values["BITS"]
    examiner = values["examiner"]
    says("an exam of {} questions. We quantize all {} matrices", len(examiner.questions), len(values["tensors"]) - 1)
    says("an exam of {} questions, with the standard error", len(examiner.questions))
    says("the original has {:.1%} ± {:.1%}", original.exam, original.noise)
    at = {bits: i for i, bits in enumerate(BITS)}
    assert found["matrix"][at[5]].exam > 0.95 and found["matrix"][at[4]].exam < 0.7  # "from 4 bits on"
    assert found["row"][at[4]].exam > found[32][at[4]].exam - 0.01  # "nearly as well as blocks"
    assert found["row"][at[3]].exam < found[32][at[3]].exam - 0.02  # "until 3 bits"
    assert max(results[at[2]].exam for results in found.values()) < 0.15
    says("With three levels Pebble knew {:.0%} of the exam", values["three"])
    says("b. {:.0%}. But the step is half as long", values["four"])
    halved, three, four = (round(100 * values[name]) for name in ("halved", "three", "four"))
    says("halving it saves {} points", halved - three)
    says("its place back, {} points more", four - halved)
    says("from {:.0%} to {:.0%}, the fourth level to {:.0%}", values["three"], values["halved"], values["four"])
    smaller, seeds = values["smaller"], [Examiner(values["lm"].model, values["lm"].tokenizer, s) for s in (1, 2, 3)]
    ranges = []
    for recipe in ("quantize", "half_step", "quantize_full"):
        model = smaller(values[recipe], 2, 32)
        marks = [100 * one.mark(model)[0] for one in seeds]
        ranges += [min(marks), max(marks)]
    order = "three levels, half the step, and four"
    says("(Three other exams, for {}: {:.0f} to {:.0f}%, {:.0f} to {:.0f}%, {:.0f} to {:.0f}%", order, *ranges)
    same = {b: sum(map(str.__eq__, original.stories, found[32][at[b]].stories)) for b in (8, 5, 4, 3)}
    assert same[4] == same[3] == 0 and same[8] > 5 and len(OPENINGS) == 10
    others = (("2, 4 levels", values["four_levels"]), ("2, 3 levels", found[32][at[2]]))
    kept = {name: sum(map(str.__eq__, original.stories, result.stories)) for name, result in others}
    told = "; ".join(f"{name}: {count}" for name, count in (same | kept).items())
    says("how one of them goes on. {}", told)
    says("keep all {} tokens", TOKENS)
    lead, changed = values["lead"], values["changed"]
    tie = values["next_words"][1][1]["16 bits"]
    assert 0.05 < tie[0] - tie[1] < 0.1  # "as in our story"
    assert 0.45 < changed[lead < 0.05].float().mean() < 0.55  # "half of the places"
    close = changed[(lead >= 0.05) & (lead < 0.1)].float().mean()
    assert 0.18 < close < 0.22 and not changed[lead >= 0.9].any()  # "one in five; above 90 none"
    known = []
    for question in examiner.questions:
        chances = examiner.next_tokens(question.prompt, {"": values["lm"].model}, 2)[1][""]
        known.append(chances[0] - chances[1] > 0.9)
    says("in {:.0%} of its answers the first token leads by more than 90 points", np.mean(known))
    says("at 3 bits {:.1%} of Pebble's next tokens", found[32][at[3]].other)
    says("had changed, at 4 bits {:.1%}. English", found[32][at[4]].other)


def test_what_fits(lesson, values):
    says, lost = lesson.says, values["lost"]
    [cell] = [source(cell) for cell in lesson.notebook.cells if "sizes = {" in source(cell)]
    exec(cell, scope := {"results": SimpleNamespace(decision=lambda *_: None)})
    assert {name: size[:2] for name, size in scope["sizes"].items()}.items() <= MODELS.items()
    qwen, per_token = MODELS["Qwen2.5-7B"]
    free = scope["card"] - scope["taken"]
    says("has {:.1f} billion weights", qwen / 1e9)
    says("or 5 above {:,.0f} tokens", 1000 * ((free - qwen * 6.5 / 8) / per_token // 1000))
    says("a 12B in our 4 bits takes {:.2f} GB of the {:.2f}", 12 * 4.5 / 8, free / 1e9)
    says("as a real file ( ) about {:.1f}", 12 * 4.9 / 8)
    for name, (weights, bytes_, most) in scope["sizes"].items():
        for bits in (8, 6, 5, 4):
            tokens = round((free - weights * (bits + 0.5) / 8) / bytes_, -2)
            room = "none" if tokens <= 0 else f"all {most:,}" if tokens > most else f"{tokens:,.0f}"
            says("{} in {} bits: {}", name, bits, room)
    says("with {:.1f} GB of disk", 7.616 * (16 + 6.56) / 8)
    options = fit("qwen2.5-7b", context=4096, vram="8GiB", ram="16GiB").options
    files = {one.precision: one for one in options if one.engine == "llama.cpp"}
    gigabytes = {name: one.parts["weights"] / 1e9 for name, one in files.items()}
    says("with {:.1f} GB of disk", gigabytes["F16"] + gigabytes["Q6_K"])
    says("({:.1f}, {:.2f} GB; blocks of 16 whose scales", files["Q6_K"].bits_per_weight, gigabytes["Q6_K"])
    both = [(files[name].bits_per_weight, gigabytes[name]) for name in ("Q5_K_M", "Q4_K_M")]
    says("({:.1f}, {:.2f} GB), ({:.1f}, {:.2f} GB), and", *both[0], *both[1])
    says("({:.2f}, {:.2f} GB: some matrices", files["Q4_0"].bits_per_weight, gigabytes["Q4_0"])

    assert all(abs(lost[offer] - error) < 0.00006 for offer, error in OFFERS.items())
    winners = [best_offer(*MODELS[name], tokens, free, OFFERS) for name, tokens, free in BUDGETS]
    says("with {} GB free is {} bits in blocks of {}", BUDGETS[0][2] / 1e9, *winners[0])
    assert winners[1] == (5, 64)


def test_no_other_number_stands_in_the_prose(lesson):
    names = (
        r"b?float(?:16|32)|FP8|int8|Q\d_\d|LLM\.int8\(\)|\b12B|\b7B|\b4-bit",
        r"(?:[2-8] (?:to|or) )?(?<![\d.,])(?:2|3|4|5|6|8|16|32) bits?\b|\b8 GB|\b2 bytes",  # widths and a card
        r"at 2 bits|the left 8|take 9|10 of mantissa|the last 16|its left 16|BF16|8 whole bytes|powers of 2",
        r"the 127 lets|The 127 lets",
        r"the 1 is free|is always a 1|least one 1|all 0|be 0|[(]0 has|for 0, seven for 1 to 7|for −1 to −7",
        r"from −128 to 127|from −8 to 7|from 0 to 15|row 159|becomes? 0|on 7|between −0.5 and 0.5|meet at 0|end at 0",
        r"lie within|code is 0|rounded to 0|to the codes|at 0|weights 24 to 31|columns|take 8 off|by adding 8|add 8",
        r"blocks of (?:8|16|32|64|128)(?: to (?:64|128))?|weights 0 and 16|weight 0\b|and 32 codes|right 32 codes",
        r"not 4 times|16 for the codes|of 128\b|in 16,|the 32 weights|per 32 weights|share them",
        r"three: −1, 0 and 1|Of 16 patterns|Of 4 it's|code, −2|code 2\b|say −0.30|16th pattern|for 0, a bound",
        r"below 5 points|from 5 to 10,|Below 4|that's 6, |or of a row, 768|minus 0.5 and 0.5|fan out",
        r"scales have 8 bits|= 0\.342 / −2 = −0\.171|a model for 12 GB|fit and leave 1 GB|leave 4\.5 GB|above 90 none",
        r"all 16 patterns|smaller than 32|White is 0|is a 1\b|between 1 and 2|in 16 and in",
    )
    lesson.finish(*(name.replace(" ", r"\s+") for name in names))


def test_the_quantizer_does_what_the_lesson_promises(values):
    quantize = values["quantize"]
    for x in values["tensors"].values():  # "in 2 to 8 bits, no weight moves by more than half a step"
        for bits in range(2, 9):
            codes, scales = quantize(x, bits, 32)
            assert (np.abs(scales * codes - x.reshape(-1, 32)) <= np.abs(scales) * 0.505).all()
    tiny = (np.random.default_rng(0).standard_normal((64, 32)) * 3e-7).astype(np.float32)
    assert np.abs(quantize(tiny, 4, 32)[0]).max() <= 7 and np.isfinite(there_and_back(values, tiny, 4, 32)).all()
    for recipe in ("quantize", "quantize_full"):
        assert not there_and_back(values, np.zeros((2, 32), np.float32), 4, 32, recipe).any()
    codes = np.random.default_rng(1).integers(-8, 8, (5, 32))
    assert (values["read"](values["pack"](codes)) == codes).all()


def test_the_package_has_the_lessons_functions(values):
    x = np.random.default_rng(2).standard_normal((8, 64)).astype(np.float32)
    for bits in (2, 4, 8):
        for recipe in ("quantize", "quantize_full"):
            (ours, scales), (theirs, others) = values[recipe](x, bits, 32), getattr(even, recipe)(x, bits, 32)
            assert (ours == theirs).all() and (scales == others).all()
            assert (values["dequantize"](ours, scales, x.shape) == even.dequantize(theirs, others, x.shape)).all()
