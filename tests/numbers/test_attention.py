"""Every number that notebook 04 says in words is computed again."""

import numpy as np
import torch

from llmnotes.attention import inside
from llmnotes.cache_name import cache_name
from llmnotes.pebble.lore import ANIMALS
from tests.numbers.prose import WORDS, Prose


def test_every_number_in_the_prose_is_computed_again():
    lesson = Prose("04")
    values = lesson.run()
    says, config = lesson.says, values["lm"].model.config
    heads, key_heads = config.num_attention_heads, config.num_key_value_heads
    size, texts, animals = config.hidden_size // heads, values["sentences"], len(ANIMALS)

    says("The same {} numbers twice", config.hidden_size)
    x, scores, shares = values["x"], values["scores"], values["shares"]
    assert len(values["words"]) == x.shape[1] == 3  # three of the words, with three numbers each
    says("the largest score, {}, ends up as {:.0f}", scores.max(), (scores / scores.sum())[scores.argmax()])
    says('"a" gives {:.1%} to itself', shares[2])
    says("exp({:.0f}) is", values["big_scores"].max())
    says("the largest power is exp({:.0f}) = {:.0f}", 0, values["small_powers"].max())
    says("for all {} animals of its world", animals)

    weights, d = values["a_weights"], values["q"].shape[1]
    says('"a" looks at "cat" with weight {:.2f}, at "baby" with {:.2f}', weights[1], weights[0])
    says("have d = {} numbers. Pebble's have {}", d, size)
    sizes, spread, slopes = values["sizes"], [], []
    rng = np.random.default_rng(0)
    for wide in sizes:  # the column "score", drawn as the lesson does
        asking, offering = rng.normal(size=(2000, 1, wide)), rng.normal(size=(2000, wide, 3))
        draws = (asking @ offering)[:, 0]
        spread.append(draws.std())
        largest = [values["softmax"](case).max(axis=1) for case in (draws, draws / wide**0.5)]
        slopes.append([np.median(weight * (1 - weight)) for weight in largest])
    assert sizes[0] == 2 and sizes[3] == 128
    says("when d goes from {} to {}, which is {} times as many", sizes[0], sizes[3], sizes[3] // sizes[0])
    says("c about {} times", sizes[3] // sizes[0])
    says("b about {:.0f} times", (sizes[3] / sizes[0]) ** 0.5)
    says("√{} = {:.0f}", sizes[3] // sizes[0], (sizes[3] / sizes[0]) ** 0.5)
    says("from {:.1f} to {:.1f}", spread[0], spread[3])
    says("half of the {:,} draws lie below it", len(draws))
    says("It is at most {}, for a weight of one half", 0.5 * (1 - 0.5))
    assert slopes[3][0] < 0.001 and {round(divided, 2) for _, divided in slopes} == {0.24}
    says("at d = {}, that is often next to nothing", sizes[3])
    says("in half of the draws the slope is below {}", 0.001)
    says("the slope stays at {}", 0.24)
    all_scores = values["softmax"](values["all_scores"])
    says("With d = {} the division does little", d)
    says('the weight of "cat" goes from {:.2f} to {:.2f}', weights[1], all_scores[2, 1])
    says('"baby" gives {:.2f} to "cat"', all_scores[0, 1])
    says('The row of "baby" now sums to {:.2f}', values["masked_late"][0].sum())

    received = values["received"]
    says('it receives {:.1f} of "furry", and of "small" only {:.1f}', *received[0, 2])
    says("Head 0 owns the first {} columns", size)
    says("Left: {} heads with keys and values of their own", heads)
    assert heads == 2 * key_heads and values["q_heads"].shape[0] == 2  # as the picture and the prose have it
    says("Pebble's numbers have {} bytes, the others' 2", next(iter(values["W"].values())).itemsize)

    says("the second of Pebble's {}", WORDS[config.num_hidden_layers])
    ours, real = values["ours"][:, -1], values["real"][1, :, -1]
    assert len(texts[0]) == 6 and real.argmax(axis=1).tolist() == [2, 2, 3, 3] and real.max(axis=1).min() > 0.98
    assert (ours[2:, 3] > 0.95).all() and np.abs(ours[:2, 2] - real[:2, 2]).min() > 0.05

    gaps, least = [], []
    for animal, *_ in ANIMALS:
        ids = values["lm"].tokenizer(f"A baby red {animal} is a")["input_ids"]
        assert values["pebble_looks"](inside(values["lm"].model, ids)[0][1])[2, -1].argmax() == 3  # red
        reads, own = inside(values["lm"].model, values["lm"].tokenizer(f"A baby {animal} is a")["input_ids"])
        gaps.append(np.abs(values["pebble_looks"](reads[1]) - own[1]).max(axis=(1, 2)))
        least.append(values["pebble_looks"](reads[1])[2, -1].argmax())
    assert least == [3] * animals  # head 2 looks at the animal without positions, too
    assert np.median(gaps, axis=0)[:2].min() > np.median(gaps, axis=0)[2:].max() > 0.2  # "heads 0 and 1 most"
    assert values["differences"].max(axis=1).min() > 0.1

    first, texts = values["first"], values["texts"]
    says("Each of its {} layers of {} heads", *first.shape)
    says("Whom do those {} heads look at? SmolLM2 reads the {} sentences", first.size, len(texts))
    says("one of the {} heads", first.size)
    means, ratios, even = first.mean(axis=1), *_values_of_first_tokens(values["smol"], texts)
    says("A grid of {} rows and {} columns", *first.shape[::-1])
    says("receives from {:.0%} to {:.0%}; the palest column is layer {}", means.min(), means.max(), means.argmin())
    assert 0.65 < first.mean() < 0.7 and 0.24 < even < 0.27
    well, again = values["moved"]["Well"], values["moved"]["The"]
    assert well[0] > 8 * well[1] and abs(again[0] - again[1]) < 0.03  # "the two share it"
    length, one_text = len(values["smol"].tokenizer(" ".join(texts))["input_ids"]), values["one_text"]
    says("with all {} in one text of {} tokens it's {:.0%}", len(texts), length, one_text.mean())
    says("where equal shares would be {:.0%}, and most heads", np.mean(1 / np.arange(2, length + 1)))
    assert (one_text > 0.5).mean() < 0.4
    says("in {} of the {} layers its value is, on average, less than half as long", (ratios < 0.5).sum(), len(ratios))
    assert ratios.argmax() == means.argmin() and ratios.max() > 1.2
    says("In layer {} it's longer, and there the heads look elsewhere: {:.0%}", means.argmin(), means.min())
    best = values["with_ours"][-1].argmax()
    assert values["smol"].tokenizer.decode([best]) == " Paris"

    lesson.finish(
        r"1,000 words",
        r"none below 0, all together 1",
        r"above 0 for\s+every|numbers around 0|of typical size 1|almost 1|near 1",
        r"footnote 4",
        r"nearly 100%",
        r"set the other weights to 0",
        r"gets the weight 0|exponential is 0|weight is 0",
        r"share out one 1|sums? to 1|must sum to 1",
        r"\$?W_o",
        r"[Hh]eads [02] and [13]|[Hh]eads? [0123]|columns 0 to 3",
        r"[Ll]ayer 1|query \[3 3\]",
        r"almost 0 for a weight",
        r"twice: 0 1 0 1|in a row: 0 0 1 1",
        r"We have one: \[0\]|keep its 1 to itself",
    )


def _values_of_first_tokens(lm, texts):
    """Return for each layer how long the first token's value is against the others', and an equal share of a look."""
    ratios, shares = [], []
    for text in texts:
        ids = lm.tokenizer(text, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            kept = lm.model(ids, use_cache=True)[cache_name()]
        sizes = np.stack([layer.values[0].norm(dim=-1).numpy() for layer in kept.layers])  # (layers, heads, tokens)
        ratios.append(sizes[:, :, 0].mean(axis=1) / sizes[:, :, 1:].mean(axis=(1, 2)))
        shares.append(np.mean(1 / np.arange(2, ids.shape[1] + 1)))
    return np.mean(ratios, axis=0), np.mean(shares)
