"""Every number that notebook 15 says in words is computed again, and its findings are tried on other cases."""

import json
from importlib import resources

import numpy as np
import pytest

from llmnotes.pebble.corpus import documents
from llmnotes.plots import gptq_measured
from llmnotes.quantization import gptq as library
from llmnotes.quantization.models.layerwise import token_windows
from tests.numbers.prose import WORDS, Prose

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def lesson():
    return Prose("15")


@pytest.fixture(scope="module")
def values(lesson):
    return lesson.run()


def test_the_numbers_of_two_weights(lesson, values):
    says, x, error = lesson.says, values["x"], values["error"]
    w = values["w"]
    says("It has two weights, {} and {}", *w)
    says(f"{WORDS[len(x)].capitalize()} tokens come by.")
    says("Its error is {:.2f}, and that of the nearest pair {:.2f}. Rounding {} up to {}", 1.62, 7.62, 0.4, 1)
    by_pair = {pair: error(pair) for pair in ((0, 0), (1, 0), (0, 1), (1, 1))}
    assert {pair: round(found, 2) for pair, found in by_pair.items()} == {
        (0, 0): 7.62,
        (1, 0): 1.62,
        (0, 1): 2.82,
        (1, 1): 26.82,
    }
    says("Each weight may become {} or {}", 0, 1)
    says("a {} and {}, the nearest numbers", 0, 0)
    says("b {} and {}", 1, 0)
    says("c {} and {}", 1, 1)
    says(
        "Four tokens with two inputs each, the two weights, and the four outputs: {:.1f}, {:.1f}, {:.1f}, {:.1f}",
        *x @ w,
    )
    says("Rounded to 0 and 0 the errors of the two weights add up, and the squares make {:.2f};", by_pair[0, 0])
    says("rounded to 1 and 0 they partly cancel, {:.2f}.", by_pair[1, 0])
    for _ in range(2):  # both pictures of the valley
        says("The corners: 0 and 0: {:.2f}, 1 and 0: {:.2f}, 0 and 1: {:.2f}, 1 and 1: {:.2f}", *by_pair.values())
    says("Round the first one, to {}. That's an error of {}", 0, 0 - w[0])
    says("From {:.2f} down to {:.2f}, and nothing was tried out", by_pair[0, 0], by_pair[0, 1])
    assert round(values["moved"], 2) == 0.63 and round(values["moved_first"], 2) == 0.7
    says("The rows of a real matrix, below, have {}", values["W"].shape[1])


def test_the_numbers_of_three_weights(lesson, values):
    says, w, X = lesson.says, values["w3"], values["X"]
    H = X.T @ X
    says("its third weight is {}", w[2])
    says("A matrix of {} rows and {} columns", *X.shape)
    says("the products of its columns: " + str(H.tolist()))
    states = values["states"]
    says(
        "Rows of {} cells: at first {:.2f}, {:.2f}, {:.2f}; after the last step {:.0f} {:.0f} {:.0f}.",
        3,
        *w,
        *states[-1],
    )
    delta = np.rint(w) - w
    assert round(delta @ H @ delta, 2) == 16.01  # in the print line
    moves = values["moves"]
    says("if column 1 ends up 1 too high, column 2 moves by {:.2f} and column 3 by {:.2f}", *moves[0, 1:])
    says("The row below says what column {} asks of column {}", 2, 3)
    says("(framed: columns {} and {})", 1, 2)
    pair = H[:2, :2]  # E = 15 d1^2 + 30 d1 d2 + 18 d2^2 = 18 (d2 + 15/18 d1)^2 + 2.5 d1^2
    assert (pair[0, 0], 2 * pair[0, 1], pair[1, 1]) == (15, 30, 18)
    assert pair[0, 0] - pair[0, 1] ** 2 / pair[1, 1] == pytest.approx(2.5)
    says("the {} changes nothing", 2)
    says("the bracket is {} when", 0)
    says("a model of {} billion weights onto one card of {} GB, in {} bits", 175, 80, 3)
    assert 175 * 3 / 8 < 80
    says("And with {} weights?", 768)
    says("The matrix that we take below has {} rows", values["W"].shape[0])
    assert round(pair[0, 1] / pair[1, 1], 2) == 0.83
    triangle = np.linalg.inv(moves).T  # the brackets of three completed squares, a row each
    prices = 1 / values["U"].diagonal() ** 2
    assert [round(price, 2) for price in prices] == [2.2, 4.56, 9]
    assert np.allclose(triangle, [[1, 0, 0], [0.61, 1, 0], [1.11, 1.22, 1]], atol=0.005)
    assert np.allclose((triangle.T * prices) @ triangle, H)
    says("Say column {} ends up {} too high. Then column {} moves by {:.2f}.", 1, 1, 2, moves[0, 1])
    says("And column {} sees both: {:.2f} + {:.2f} · {:.2f} = {:.2f}.", 3, -triangle[2, 0], 1.22, 0.61, moves[0, 2])
    says("if column {} ends up {} too high: column {} moves by {:.2f}", 1, 1, 2, moves[0, 1])
    says("column {} by {:.2f}.", 3, moves[0, 2])
    said = "; ".join(", ".join(f"{v:.2f}" for v in row[: k + 1]) for k, row in enumerate(triangle))
    says(f"the brackets {said}")
    says("{:.2f} is {:.2f} · {:.2f}", 0.4 * 0.61, -0.4, -0.61)
    assert np.allclose(values["U"] * np.sqrt(prices)[:, None], moves)  # "each row over the root of its price"
    says("as 1/{} undoes {}", 18, 18)
    says("with {:,} inputs, thousands of times the work of one", 14336)
    assert 2000 < sum(k**3 for k in range(14336)) / 14336**3 < 4000


def test_the_numbers_of_the_matrix(lesson, values):
    says, W, read = lesson.says, values["W"], values["read"]
    says("And the library, on all {} matrices?", len(read))
    of_weights, of_outputs = values["of_weights"], values["of_outputs"]
    worse = sum(e[1] > e[0] for e in of_weights.values())
    better = sum(e[1] < e[0] for e in of_outputs.values())
    says(f"A line for each of Pebble's {len(read)} matrices at {{}} bits, the thick one is ours.", 3)
    says("in {} of {}, and its outputs, on tokens it has not seen, are nearer in {}", worse, len(read), better)
    hessian = values["H"] + 0.01 * values["H"].diagonal().mean() * np.eye(768)
    for done in (128, 384, 640):
        off = (values["by_hand"] - W)[:, :done]
        moved = np.abs(off @ np.linalg.solve(hessian[done:, done:], hessian[done:, :done]).T).mean()
        says("after {} columns the waiting ones have moved by {:.3f} on average", done, moved)
    assert np.abs(values["nearest"] - values["back"][values["name"]][0].numpy()).mean() < 1e-3  # plain rounding


def test_the_numbers_of_the_calibration(lesson, values):
    says, lm, kl = lesson.says, values["lm"], values["kl"]
    for was, now in kl.values():  # "a quarter to a half"
        assert 0.2 < 1 - now / was < 0.55
    says("That took {:,} tokens", sum(batch.numel() for batch in values["windows"]))
    tokens = sum(batch.numel() for batch in values["few"])
    assert round(tokens, -2) == 200
    says("with four short stories, about {} tokens. At {} bits the KL gets", 200, 3)
    for seed in (11, 12, 13):  # "two or three times as bad as with no data at all"
        stories = [document.text for document in documents(4, seed=seed)]
        assert 1.5 < values["calibrated"](3, list(token_windows(stories, lm.tokenizer))) / kl[3][0] < 4
    squares = " ".join(str(n * n) for n in range(1500))
    windows = list(token_windows([squares], lm.tokenizer, tokens=4096))
    says("From {:,} tokens of square numbers", sum(batch.numel() for batch in windows))
    says('("{} {} {} {} {} …") nothing was left', *squares.split()[:5])
    assert values["calibrated"](3, windows) / kl[3][0] > 0.95


def test_what_was_measured_beforehand(lesson, values):
    says, kept, lm = lesson.says, gptq_measured.kept(), values["lm"]
    nearest = kept["nearest"]["3"]
    assert nearest == pytest.approx(values["kl"][3][0], rel=0.01)
    worse = max(int(count) for count, found in kept["tokens"].items() if min(found) > nearest)
    says("Up to {:,} tokens each of them makes Pebble worse", worse)
    for count, found in kept["tokens"].items():
        says(f"{int(count):,} tokens: {{:.3f}} to {{:.3f}}", min(found), max(found))
    says("without data {:.3f}", nearest)
    gain = [nearest - now for now in kept["tokens"]["8192"]]
    left = [nearest - now for now in kept["in one go"]]
    assert np.mean(left) < np.mean(gain) / 2  # "more than half of the gain was gone"
    assert np.mean(kept["damping"]["0.1"]) > np.mean(kept["damping"]["0.01"])  # "no better"
    three, four = (np.divide(kept["order"]["activation"][b], kept["order"]["natural"][b]) for b in ("3", "4"))
    says("at {} bits it was worse on average, at {} bits better with two of three texts", 3, 4)
    assert three.mean() > 1 and (four < 1).sum() == 2
    says("With {:,} tokens all are seen.", 1024)
    assert np.linalg.matrix_rank(values["seen"][:512]) == 512 and np.linalg.matrix_rank(values["seen"][:1024]) == 768
    error, few = values["output_error"], values["H_1024"]
    assert 1.7 < error(values["short"], values["H_new"]) / error(values["short"], few) < 2  # "nearly twice"
    better = 0
    for layer, inputs in values["read"].items():
        weight = lm.model.get_submodule(layer).weight.detach()
        made = library.quantize(weight, library.hessian(inputs[:1024]), 3, 128, order="natural", search=False)
        h_new = library.hessian(inputs[len(inputs) // 2 :])
        better += library.output_error(weight, made, h_new) < values["of_outputs"][layer][0]
    says("(all {} are!)", better)
    assert better == len(values["read"])


def test_the_numbers_of_the_settings(lesson, values):
    says, rows = lesson.says, values["rows"]
    says("Left {} bits, right {} bits", 3, 4)
    for name, found in rows.items():
        for bits, group, _, error in found:
            says(f"{name} {bits} bits, groups of {group}: {{:.0%}}", error)
    for a, b in zip(*rows.values(), strict=True):
        assert b[3] < a[3]  # "GPTQ lowers every point"
    says("With groups of {}, that's", 128)
    shares, damped = values["shares"], values["damped"]
    few, many = damped.values()
    at = int(np.argmin(many))
    says("lowest at {:g} ({:.0%})", shares[at], many[at])
    says("a lot of it still brings {:.0%}.", min(few))
    says("with {:,} tokens and with {:,} tokens", *damped)
    nearest = values["output_error"](values["nearest"], values["H_new"])
    assert few[0] > nearest > min(few) and max(many[:-2]) < 1.1 * min(many) < many[-1]
    says("In the KL of the whole model {} was no better than {}.", 0.1, 0.01)
    says("Leave gptqmodel's at {} to {}", 0.01, 0.05)
    says("the larger inputs ({:.0f} against {:.0f} on the diagonal", 18, 15)
    searched = []
    for layer, inputs in values["read"].items():
        weight = values["lm"].model.get_submodule(layer).weight.detach()
        h, h_new = (library.hessian(half) for half in inputs.chunk(2))
        found = library.quantize(weight, h, 3, 128, order="natural", search=True)
        searched.append(library.output_error(weight, found, h_new))
    plain = [errors[1] for errors in values["of_outputs"].values()]
    assert 0.13 < 1 - np.mean(searched) / np.mean(plain) < 0.17
    says("takes away another {:.0%} of the outputs' error, on average over the {} matrices", 0.15, len(plain))


def test_every_number_in_the_prose_is_computed_again(lesson, values):
    says = lesson.says
    says("rounds the matrix of a layer to {} bits", 3)
    says("in {} and {} bits. (For llama.cpp", 4, 8)
    says("{} inputs make {} words, for {} outputs", 768, 96, 256)
    says("eight codes of {} bits share a word of {}", 4, 32)
    says("Eight codes of {} bits lie in one word of {} bits", 4, 32)
    says(f"Eight cells with the codes {', '.join(map(str, values['codes']))};")
    says("the bits of the word {}.", values["value"])
    says("down to the words of {} bits", 32)
    says("The file keeps words of {} bits", 32)
    says("Bars: weight 256 × 768")
    says("a {} means that code {} stands for {}", 7, 8, 0)
    assert hex(int(values["tensors"]["qzeros"][0, 0]) & 0xFFFFFFFF) == "0x77777777"
    W, tensors = values["W"], values["tensors"]
    total = sum(array.nbytes for array in tensors.values())
    says("In place of one matrix of {:,} bytes a GPTQ file has four tensors of {:,} together", 2 * W.size, total)
    for name, array in tensors.items():
        says(f"{name} {' × '.join(map(str, array.shape))}")
    sample = json.loads((resources.files("llmnotes") / "gptqmodel_sample.json").read_text("utf-8"))
    says("Each group has a scale of {} bits", 16)
    theirs, plain = sample["KL of GPTQConfig's"], sample["KL of plain rounding"]
    says("the KL was {:.4f}, and {:.4f} for plain rounding", theirs, plain)
    says("with the same logits to {:.3f}", sample["largest difference of logits"])
    says("we ran these lines on Pebble at {} bits", 3)
    lesson.finish(
        r"n − 1 weights",
        r"Three words hold 32 codes",
        r"gptq_v2",
        r"Qwen3-8B",
        r"K-quant of lesson 14",
        r"codes of 3 bits",
        r"int32",
    )
