"""Every number that notebook 05 says in words is computed again."""

import math

import numpy as np

from llmnotes.attention import CausalAttention, inside, next_without, rotary_frequencies
from llmnotes.pebble.lore import ANIMALS
from tests.numbers.prose import WORDS, Prose


def _stay_with_means(lm, texts) -> list[int]:
    """Return how many of the next tokens stay with means for heads 2, 3 of layer 2, and for heads 0, 1 of layer 1."""
    usual, counts = next_without(lm.model, texts), []
    for layer, heads in ((2, (2, 3)), (1, (0, 1))):

        def average(module, given, heads=heads):
            rows = given[0].clone()
            for head in heads:
                own = slice(64 * head, 64 * (head + 1))
                rows[..., own] = rows[..., own].mean(dim=0, keepdim=True)
            return (rows,)

        hook = lm.model.model.layers[layer].self_attn.o_proj.register_forward_pre_hook(average)
        counts.append(int((next_without(lm.model, texts) == usual).sum()))
        hook.remove()
    return counts


def test_every_number_in_the_prose_is_computed_again():
    lesson = Prose("05")
    values = lesson.run()
    says, config = lesson.says, values["lm"].model.config
    heads, size, animals = config.num_attention_heads, config.head_dim, len(ANIMALS)
    pairs = size // 2

    exploded = values["scores_from"](1000)
    assert exploded.min() > 10_000 and values["softmax"](exploded / np.sqrt(2))[0] < 0.001  # "baby" gets nothing
    turned = values["turned_scores"]
    swapped, plain = turned([1, 0], 0), turned([0, 1], 0)
    says('"cat" scores {:.2f} next to "a", and {:.2f} one place further away', plain[1], swapped[0])
    says("when it's nearer: {:.2f} against {:.2f}", swapped[1], plain[0])
    says("turned by {} radians times its position", 0.1)
    assert np.allclose(turned([0, 1], 10), plain)

    says("2π, about {:.2f} radians", 2 * math.pi)
    assert abs(44 - 7 * 2 * math.pi) < 0.02
    says("{} radians are almost exactly {} full turns ({} · {:.3f} = {:.2f})", 44, 7, 7, 2 * math.pi, 14 * math.pi)
    says("The column “one hand” below says {:.4f}", values["one_hand"][44])
    says("{} positions apart. What happens", 44)
    says("{} positions away it fits as well", 44)
    assert values["all_hands"][10:].max() < 0.7 and len(values["speeds"]) == pairs
    says("A query of Pebble has {} numbers, so it is {} arrows", size, pairs)
    says("Pebble's base is {:,.0f}", config.rope_parameters["rope_theta"])
    says("Four of the {} pairs in a head of Pebble, at positions 0, 1, 10 and 100", pairs)
    speeds = rotary_frequencies(size)
    assert np.allclose(values["speeds"], speeds) and np.isclose(speeds[8], 0.1) and np.isclose(speeds[16], 0.01)

    says("all {} heads of all {} layers", WORDS[heads], WORDS[config.num_hidden_layers])
    small = values["small"].model.config
    says("SmolLM2 has {} layers, and in each {}", small.num_hidden_layers, small.num_attention_heads)
    says("heads that share {} sets", small.num_key_value_heads)
    assert small.num_hidden_layers * small.num_attention_heads == 270  # in the claim
    assert small.rope_parameters["rope_theta"] != config.rope_parameters["rope_theta"]

    says("Does it hold for all {} animals", animals)
    real = values["weights_of_1"][:, -1]
    assert real.argmax(axis=1).tolist() == [2, 2, 3, 3] and real.max(axis=1).min() > 0.98
    assert (np.array(values["looks"]) > 0.8).all()
    stay, texts, tokenizer = values["stay"], values["sentences"], values["lm"].tokenizer
    tokens = len(texts[0])
    assert {len(ids) for ids in texts} == {tokens}  # every animal is one token
    right = [tokenizer(f"A baby {animal} is a {young}")["input_ids"][tokens] for animal, young, *_ in ANIMALS]
    assert values["usual"].tolist() == right
    says("of the {} next tokens stay right", animals)
    own = np.mean([inside(values["lm"].model, ids)[1][:, :, -1] for ids in texts], axis=0).reshape(4, 2, 2, 6)
    most, places = own.mean(axis=2).argmax(axis=2), ["‹›", "A", "␣baby", "␣…", "␣is", "␣a"]
    pairs_of_heads = [(layer, pair) for layer in range(4) for pair in range(2)]
    assert sum(most[at] == 3 for at in pairs_of_heads) == 3  # "three pairs look at the animal"
    said = "; ".join(
        f"layer {layer}, heads {2 * pair} and {2 * pair + 1}: mostly {places[most[layer, pair]]}, {stay[layer, pair]}"
        for layer, pair in pairs_of_heads
    )
    says("with how many of {} stay right: {}", animals, said)
    says("without those two heads, all {} stay right", stay[1, 1])
    says("as well, only {} do", stay[2, 1])
    says("which look at baby, only {} stay right", stay[1, 0])
    goes_on, young = values["goes_on"], list(values["young"])
    assert goes_on(0, []) == young  # six tokens are enough for every word
    cat = values["names"].index("cat")
    assert [words[cat] for words in values["without"]] == ["cat", "piglet"]
    assert values["back"] > animals / 2 and values["other_young"] > animals / 2
    says("With the mean over the {} sentences", animals)
    says("{} stay right. But without heads 0 and 1 of layer 1 all {} do", *_stay_with_means(values["lm"], texts))

    model, wrong = values["lm"].model, small.rope_parameters["rope_theta"]
    reads, own = inside(model, tokenizer(values["longer"])["input_ids"])
    gaps = [np.abs(CausalAttention(values["W"], i, base=wrong).weights(reads[i]) - own[i]).max() for i in range(4)]
    says("off by up to {:.2f}", max(gaps))
    bump = values["all_hands"]
    assert bump[43] < bump[44] > bump[45] and bump[44] < 0.65

    drawn = 8  # numbers of a head, in the picture of the layouts
    says("A head of {} numbers is {} arrows", drawn, drawn // 2)
    says("Two rows of {} cells", drawn)

    lesson.finish(
        r"position 1,023",  # GPT-2's config says n_positions 1024
        r"0\.1 for each place",
        r"1 radian for each position|Pair 0 tells",
        r"the rows (?:0, 2, 4|1, 3, 5)|order 0 2 1 3,\s+4 6 5 7|heads of 4|from row 0|along axis 1",
        r"[Hh]eads [02] and [13]|[Ll]ayer [012]|become 0|near 1|sums to 1",
        r"between 1 and minus 1|falls from 1",
    )
