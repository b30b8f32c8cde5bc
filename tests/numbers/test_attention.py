"""Every number that notebook 04 says in words is computed again."""

import numpy as np

from llmnotes.attention import rotary_frequencies
from llmnotes.pebble.lore import ANIMALS
from tests.numbers.prose import WORDS, Prose


def test_every_number_in_the_prose_is_computed_again():
    lesson = Prose("04")
    values = lesson.run()
    says, config = lesson.says, values["lm"].model.config
    heads, key_heads = config.num_attention_heads, config.num_key_value_heads
    size, tokens, animals = config.hidden_size // heads, len(values["two"][0]), len(ANIMALS)
    pairs = size // 2

    says("The same {} numbers twice", config.hidden_size)
    x, scores, shares = values["x"], values["scores"], values["shares"]
    assert len(values["words"]) == x.shape[1] == 3  # three of the words, with three numbers each
    says("the largest score, {}, ends up as {:.0f}", scores.max(), (scores / scores.sum())[scores.argmax()])
    says('"a" gives {:.1%} to itself', shares[2])
    says("exp({:.0f}) is", values["large"].max())
    says("the largest power is exp({:.0f}) = {:.0f}", 0, values["lower"].max())
    says("for all {} animals of its world", animals)

    weights, d = values["a_weights"], values["q"].shape[1]
    says('"a" looks at "cat" with weight {:.2f}, at "baby" with {:.2f}', weights[1], weights[0])
    says("have d = {} numbers. Pebble's have {}", d, size)
    sizes, spread = values["sizes"], []
    rng = np.random.default_rng(0)
    for wide in sizes:  # the column "score", drawn as the lesson does
        asking, offering = rng.normal(size=(2000, 1, wide)), rng.normal(size=(2000, wide, 3))
        spread.append((asking @ offering).std())
    assert sizes[0] == 2 and sizes[3] == 128
    says("when d goes from {} to {}, which is {} times as many", sizes[0], sizes[3], sizes[3] // sizes[0])
    says("c about {} times", sizes[3] // sizes[0])
    says("b about {:.0f} times", (sizes[3] / sizes[0]) ** 0.5)
    says("√{} = {:.0f}", sizes[3] // sizes[0], (sizes[3] / sizes[0]) ** 0.5)
    says("from {:.1f} to {:.1f}", spread[0], spread[3])
    all_scores = values["softmax"](values["all_scores"])
    says("With d = {} the division does little", d)
    says('the weight of "cat" goes from {:.2f} to {:.2f}', weights[1], all_scores[2, 1])
    says('"baby" gives {:.2f} to "cat"', all_scores[0, 1])
    says('The row of "baby" now sums to {:.2f}', values["late"][0].sum())

    received = values["received"]
    says('it hears {:.1f} of "furry", and of "small" only {:.1f}', *received[0, 2])
    says("Pebble's {} heads of {}", WORDS[heads], size)
    says("the {} tokens of", WORDS[tokens])
    says("Head 0 owns the first {} columns", size)
    says("Left: {} heads with keys and values of their own", heads)
    assert heads == 2 * key_heads and values["both"].shape[0] == 2  # as the picture and the prose have it
    says("Pebble's numbers have {} bytes, the others' 2", next(iter(values["W"].values())).itemsize)
    swapped, plain = values["turned_scores"]([1, 0], 0), values["turned_scores"]([0, 1], 0)
    says('"cat" scores {:.2f} next to "a", and {:.2f} one place further away', plain[1], swapped[0])
    says("turned by {} radians times its position", 0.1)
    says("A query of Pebble has {} numbers, so it is {} arrows", size, pairs)
    says("Four of the {} pairs in a head of Pebble, at positions 0 to 5", pairs)
    assert np.isclose(rotary_frequencies(size)[8], 0.1) and config.rope_parameters["rope_theta"] == 10_000
    says("Pebble has {} layers with {} heads each", WORDS[config.num_hidden_layers], WORDS[heads])
    says("Does it hold for all {} animals", animals)
    real = values["real"][1, :, -1]
    assert real.argmax(axis=1).tolist() == [2, 2, 3, 3] and real.max(axis=1).min() > 0.98
    assert (np.array(values["looks"]) > 0.8).all()
    stay, texts, tokenizer = values["stay"], values["sentences"], values["lm"].tokenizer
    assert {len(ids) for ids in texts} == {tokens}  # every animal is one token
    right = [tokenizer(f"A baby {animal} is a {young}")["input_ids"][tokens] for animal, young, *_ in ANIMALS]
    assert values["usual"].tolist() == right
    says("of the {} next tokens stay right", animals)
    says("without those two heads, all {} stay right", stay[1, 1])
    says("as well, only {} do", stay[2, 1])
    says("In all {} sentences there are only {} different", animals, len({i for ids in texts for i in ids}))
    assert values["half"].round(2).tolist() == [0.5, 0.5, 0]
    turned = values["turned_scores"]
    says("when it's nearer: {:.2f} against {:.2f}", turned([1, 0], 0)[1], turned([0, 1], 0)[0])

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
        r"[Hh]eads? [013]|columns 0 to 3",
        r"[Ll]ayer [12]|heads 2 and 3|become 0|query \[3 3\]",
    )
