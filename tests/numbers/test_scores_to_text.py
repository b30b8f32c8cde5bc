"""Notebook 07: every number in its words, computed again; and the multiplications, counted where they happen."""

import numpy as np
import pytest

from llmnotes.attention import softmax
from llmnotes.fit import models
from llmnotes.pebble.corpus import documents
from tests.numbers.prose import Prose

# What the reader sets, and what cannot be otherwise.
SETTINGS = (
    r"[Tt]emperatures?(?: of)? \d(?:\.\d)?(?:, 1 and 2)?",
    r"T = \d(?:\.\d)?(?: to \d\.\d)?",
    r"(?:top-p|min-p|Top-p with p =) 0\.\d+(?: to 0\.\d)?",
    r"k = 5\b",
    r"(?:from|above|below) [01]\b(?: to 1\b)?",
    r"close to 0\b",
    r"sum to 1\b",
    r"(?:share of|reaches) (?:90%|0\.7)",
    r"0\.4 and 0\.25 hold 0\.65 together",
    r"token 1 must have its number in place 1",
    r"a about 2%|c about 75%",
    r"\b1\s+for\s+the\s+token\s+with\s+the\s+best\s+score,\s+and\s+0\s+for",
    r"after 3 its best token is 4, after 9 it is 0",
    r"the end of a turn, is token 2",
    r"keeps 50 by default",
    r"line of length 1\b",
    r"at least one in 20|[Aa]t least one of 20",
    r"cache at 8,192 tokens",
    r"within 50 tokens",
    r"start together at 1\b",
    r"close to 100%",
)


def _neighbours(text):
    words = text.replace(".", " .").replace(",", " ,").replace('"', ' " ').split()
    return list(zip(words, words[1:], strict=False))


@pytest.fixture(scope="module")
def lesson():
    """The lesson and the names that its code leaves."""
    prose = Prose("07")
    return prose, prose.run()


def test_every_number_in_the_prose_is_computed_again(lesson):
    prose, n = lesson
    p, scores, fears, best = n["p"], n["scores"], n["fears"], n["best"]
    top_p, min_p, top_k, probabilities = n["top_p"], n["min_p"], n["top_k"], n["probabilities"]
    says, good = prose.says, list(fears)
    says("{:,} scores, and the model is done", len(scores))
    says("people are afraid of {} things", len(n["listed"](n["FEARS"])))
    says("the model says {:.0%}", p[best[0]])
    says("We try all {} animals", len(n["ANIMALS"]))
    says("The same {} animals", len(n["starts"]))
    bee = " The home of a bee is the hive."
    means = []
    for times in range(3):
        chances = []
        for start, (_, young, *_) in zip(n["starts"], n["ANIMALS"], strict=True):
            before, after = (n["encode"](f"{start} {young}." + count * bee) for count in (times, times + 1))
            rows = softmax(n["pebble"](after))
            chances.append(np.prod([rows[i - 1, after[i]] for i in range(len(before), len(after))]))
        means.append(np.mean(chances))
    says("{:.3%} right after the animal, {:.3%} when it stands there once, and {:.3%} when twice", *means)
    says("mean over the {} animals", len(n["starts"]))
    bees = [[n["pebble"](n["encode"](f"{start} {young}." + count * bee))[-1].argmax() for count in range(3)]
            for start, (_, young, *_) in zip(n["starts"], n["ANIMALS"], strict=True)]  # fmt: skip
    assert all(len(set(chosen)) == 1 for chosen in bees)  # "the same choice, again and again"
    says("once in about {:,} times", int(round(1 / means[0], -3)))
    says("If geese has {:.0%}, then {} of 100", p[best[0]], round(100 * p[best[0]]))
    ratio = p[best[0]] / p[best[1]]
    says("Geese are {:.1f} times as likely as frogs", ratio)
    says("a {:.1f} times", ratio**2)
    says("b {:.1f} times", 2 * ratio)
    says("c still {:.1f} times", ratio)
    says("a. {:.1f} times. Dividing by 0.5 doubles the lead", ratio**2)
    says("{0:.2f} × {0:.2f} = {1:.2f}. At T = 2 it is the square root, {2:.2f}", ratio, ratio**2, ratio**0.5)
    heated = {T: probabilities(scores, T) for T in (0.5, 1, 2)}
    assert np.allclose(heated[0.5][best[0]] / heated[0.5][best[1]], ratio**2, rtol=1e-4)
    equal = [2 ** float(-np.sum(q * np.log2(q))) for q in (heated[1].astype(float), heated[2].astype(float))]
    assert 9.5 < equal[0] < 11
    says("among about {:.0f}, and there", round(equal[1], -1))
    junk = float(1 - heated[1][good].sum())
    says("it's {:.1%}, spread over", junk)
    says("{:.1%} of junk at each token", junk)
    several = 1 - (1 - junk) ** 20
    says("We draw 20 tokens")
    says("b about {:.0%}", several)
    assert 20 * junk > 0.3 and not 0.015 < several < 0.025
    says("all 20 are right is {:.4f} multiplied by itself 20 times. That's {:.2f}, so {:.0%} of the texts",
         1 - junk, 1 - several, several)  # fmt: skip
    says("until together they hold a share, say 90%")
    assert [int((top_p(q, 0.9) > 0).sum()) for _, q, _ in n["places"]] == [8, 1]  # "One token …, eight where"
    assert [int((min_p(q, 0.1) > 0).sum()) for _, q, _ in n["places"]] == [8, 1]
    wide = top_p(heated[2], 0.9)
    says("top-p keeps {} tokens at our place", int((wide > 0).sum()))
    says("a share of 90%. Min-p keeps {}", int((min_p(heated[2], 0.1) > 0).sum()))
    says("{:,} of the documents", 20_000)
    llama, older = models()["llama-3.1-8b"]["config"], models()["llama-2-7b"]["config"]
    assert 4 * n["cache_bytes"](llama, 1) == n["cache_bytes"](older, 1)  # "a quarter"
    says("{} key heads where there were {}", llama["num_key_value_heads"], older["num_key_value_heads"])
    says("Llama 2 was made for {:,} tokens; the 8,192", older["max_position_embeddings"])
    says("for a text of 8,192 tokens")
    attention = n["pebble"].blocks[0].attention
    says("costs {0} for the score and {0} for the sum, in {1} heads and {2} blocks",
         attention.size, attention.heads, len(n["pebble"].blocks))  # fmt: skip
    tokens = len(n["generate"](n["CachedPebble"](n["W"]), n["ids"], np.argmax, most=200)) - 1
    says("After {} tokens the story is over", tokens)
    says("a real model with {:.0f} million parameters", models()["smollm2-135m"]["parameters"] / 1e6)
    read = {pair for document in documents(20_000) for pair in _neighbours(document.text)}
    greedy = n["ten_texts"](0, None)
    assert len(set(greedy)) == 1
    says("Greedy has {:.0%} broken here", np.mean([pair not in read for pair in _neighbours(greedy[0])]))
    # captions
    says("A model gives {:,} scores, one for each token", len(scores))
    says("taken {} times, is no longer small", 20)
    assert int((top_k(p, 5) > 0).sum()) == 5 and good
    says(
        "At {} tokens, the cache makes {} times fewer multiplications for the last token",
        512,
        n["multiplications"](512, 512) // n["multiplications"](1, 512),
    )
    places = [n["top_p"](probabilities(np.log(q), 2), 0.9) for _, q, _ in n["places"]]
    assert int((places[0] > 0).sum()) > 900  # "reaches deep into the junk"
    prose.finish(*SETTINGS)


def test_the_multiplications_are_those_that_happen(lesson):
    _, n = lesson
    count = 0

    class Counted(np.ndarray):
        def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
            nonlocal count
            plain = [np.asarray(x) for x in inputs]
            if ufunc is np.matmul:
                count += int(np.prod(np.broadcast_shapes(plain[0].shape[:-2], plain[1].shape[:-2]), dtype=int)) * (
                    plain[0].shape[-2] * plain[0].shape[-1] * plain[1].shape[-1]
                )
            if out := kwargs.get("out"):
                kwargs["out"] = tuple(np.asarray(x) for x in out)
            result = getattr(ufunc, method)(*plain, **kwargs)
            return result.view(Counted) if isinstance(result, np.ndarray) else result

        def __array_function__(self, function, types, args, kwargs):
            result = super().__array_function__(function, types, args, kwargs)
            return result.view(Counted) if isinstance(result, np.ndarray) else result

    weights = {name: w.view(Counted) for name, w in n["W"].items()}
    long = n["long"][:40]
    n["Pebble"](weights)(long)
    assert count == n["multiplications"](40, 40)
    cached = n["CachedPebble"](weights)
    cached(long[:39])
    count = 0
    cached(long)
    assert count == n["multiplications"](1, 40)


def test_a_cache_refuses_another_text_and_a_stream_ends_with_half_a_character(lesson):
    _, n = lesson
    cached = n["CachedPebble"](n["W"])
    cached([0, 5, 6])
    for other in ([0, 7, 6, 8], [0, 5], [0, 5, 6]):
        with pytest.raises(AssertionError, match="one text"):
            cached(other)
    assert cached([0, 5, 6, 8]).shape[0] == 1
    half = n["encode"]("Zoë")[-2]
    assert list(n["stream"](n["pebble"], n["ids"], lambda row: half, most=1)) == ["\ufffd"]
    ends = np.full(2048, 1 / 2048, "float32")

    class Last:
        def random(self):
            return 1 - 2**-53

    assert n["draw"](ends, Last()) == 2047
