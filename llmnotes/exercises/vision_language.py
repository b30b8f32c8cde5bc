"""The exercises of notebook 25: patches of a picture, the contrastive loss, splicing, and the cache of a picture."""

import numpy as np

from llmnotes.exercises.exercise import Answer, Exercise, recognize

RNG = np.random.default_rng(10)
PICTURE = RNG.random((3, 8, 12))
IMAGES, TEXTS = RNG.normal(size=(5, 6)), RNG.normal(size=(5, 6))
TABLE, ROWS = RNG.normal(size=(9, 4)), RNG.normal(size=(3, 4))
IDS, IMAGE = [2, 5, 8, 1, 7, 1], 8
CONFIG = {
    "vision_config": {"image_size": 56, "patch_size": 8, "num_hidden_layers": 5, "num_attention_heads": 6},
    "text_config": {"hidden_size": 96, "num_hidden_layers": 9, "num_attention_heads": 12, "num_key_value_heads": 4},
}


def check_patches(answer: Answer) -> str | None:
    """Return None for the patches in reading order, or which mistake the numbers look like."""
    size = 4
    blocks = PICTURE.reshape(3, 2, size, 3, size)  # channel, row of patches, y, column of patches, x
    right = blocks.transpose(1, 3, 0, 2, 4).reshape(6, -1)
    windows = np.lib.stride_tricks.sliding_window_view(PICTURE, (3, size, size))[0]
    mistakes = {
        "reshaped": PICTURE.reshape(6, -1),
        "channels_last": blocks.transpose(1, 3, 2, 4, 0).reshape(6, -1),
        "columns_first": blocks.transpose(3, 1, 0, 2, 4).reshape(6, -1),
        "turned": blocks.transpose(1, 3, 0, 4, 2).reshape(6, -1),
        "overlapping": windows.reshape(-1, right.shape[1]),
        "one_channel": right[:, : size * size],
        "grid": right.reshape(2, 3, -1),
    }
    return recognize(answer(PICTURE.copy(), size), right, mistakes)


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _missed(scores: np.ndarray) -> np.ndarray:
    """Return minus the log-probability of each row's own column."""
    return np.log(np.exp(scores).sum(axis=1)) - scores.diagonal()


def check_contrastive_loss(answer: Answer) -> str | None:
    """Return None for CLIP's loss, or which mistake the number looks like."""
    temperature = 0.5
    cosines = _unit(IMAGES) @ _unit(TEXTS).T
    scores = cosines / temperature
    images, texts = _missed(scores), _missed(scores.T)
    right = (images.mean() + texts.mean()) / 2
    raw, hot = IMAGES @ TEXTS.T / temperature, cosines * temperature
    mistakes = {
        "lengths": (_missed(raw).mean() + _missed(raw.T).mean()) / 2,
        "pictures_only": images.mean(),
        "captions_only": texts.mean(),
        "multiplied": (_missed(hot).mean() + _missed(hot.T).mean()) / 2,
        "added": images.mean() + texts.mean(),
        "summed": (images.sum() + texts.sum()) / 2,
        "all_pairs": np.log(np.exp(scores).sum()) - scores.diagonal().mean(),
        "sign": -right,
        "cold": (_missed(cosines).mean() + _missed(cosines.T).mean()) / 2,
    }
    return recognize(answer(IMAGES.copy(), TEXTS.copy(), temperature), right, mistakes)


def check_splice(answer: Answer) -> str | None:
    """Return None for the picture's rows in their place, or which mistake the rows look like."""
    at = IDS.index(IMAGE)
    before, after = TABLE[IDS[:at]], TABLE[IDS[at + 1 :]]
    mistakes = {
        "kept": np.concatenate([before, TABLE[[IMAGE]], ROWS, after]),
        "front": np.concatenate([ROWS, before, after]),
        "end": np.concatenate([before, after, ROWS]),
        "one_row": np.concatenate([before, ROWS[:1], after]),
        "mean": np.concatenate([before, ROWS.mean(axis=0, keepdims=True), after]),
        "backwards": np.concatenate([before, ROWS[::-1], after]),
        "repeated": np.concatenate([before, TABLE[[IMAGE] * len(ROWS)], after]),
        "cut": np.concatenate([before, ROWS]),
        "nothing": np.concatenate([before, after]),
    }
    right = np.concatenate([before, ROWS, after])
    return recognize(answer(list(IDS), TABLE.copy(), ROWS.copy(), IMAGE), right, mistakes)


def check_picture_bytes(answer: Answer) -> str | None:
    """Return None for the bytes that a picture takes in the cache, or which mistake the number looks like."""
    vision, text = CONFIG["vision_config"], CONFIG["text_config"]
    side = vision["image_size"] // vision["patch_size"]
    head = text["hidden_size"] // text["num_attention_heads"]
    row = text["num_key_value_heads"] * head
    right = 2 * text["num_hidden_layers"] * side**2 * row * 2
    mistakes = {
        "keys_alone": right // 2,
        "class_token": right // side**2 * (side**2 + 1),
        "one_side": right // side,
        "all_heads": right // row * text["hidden_size"],
        "one_layer": right // text["num_hidden_layers"],
        "encoder_layers": right // text["num_hidden_layers"] * vision["num_hidden_layers"],
        "pixels": right // side**2 * vision["image_size"] ** 2,
        "bits": right * 8,
        "one_byte_in_four": right * 2,
    }
    return recognize(answer({key: dict(part) for key, part in CONFIG.items()}), right, mistakes)


EXERCISES = [
    Exercise(
        id="25.1",
        title="Cut a picture into patches",
        level="easy",
        minutes=10,
        task="""Write `patches(picture, size)` with NumPy, without a convolution. `picture` is `(3, height, width)`, and
both sides are multiples of `size`. Return `(patches, 3 * size * size)`: one row for each square, from left to right and
then from top to bottom, as one reads. Within a row all of red comes first, then green, then blue, line by line.""",
        clue="`picture.reshape(3, height // size, size, width // size, size)` copies nothing, and gives each number "
        "five places. Which two of them should come first?",
        name="patches",
        stub='''def patches(picture, size):
    """Return the patches of picture (3, height, width) as rows (patches, 3 * size * size), in reading order."""
    ...''',
        solution='''def patches(picture, size):
    """Return the patches of picture (3, height, width) as rows (patches, 3 * size * size), in reading order."""
    channels, height, width = picture.shape
    blocks = picture.reshape(channels, height // size, size, width // size, size)
    return blocks.transpose(1, 3, 0, 2, 4).reshape(-1, channels * size * size)''',
        check=check_patches,
        hints={
            "reshaped": "the shape is right, and no row is a square: reshape alone takes numbers as they lie, lines of "
            "the whole picture.",
            "channels_last": "each square has the three colours of a pixel side by side. All of red comes first here, "
            "as a convolution's weights have it.",
            "columns_first": "the squares go down before they go right. One reads from left to right first.",
            "turned": "each square lies on its side: its columns are listed where its lines should be.",
            "overlapping": "these squares overlap. The next one begins where this one ends.",
            "one_channel": "this is red alone. A row has all three colours.",
            "grid": "the rows are right, and stand in a grid. Asked for is one long list of them.",
            "other": "the numbers differ. The first row must be the upper left square: picture[:, :size, :size].",
        },
    ),
    Exercise(
        id="25.2",
        title="The contrastive loss",
        level="medium",
        minutes=15,
        task="""Write `contrastive_loss(images, texts, temperature)` with NumPy: `images` and `texts` are
`(pairs, dim)`, of any length, and the rows with the same number belong together. Bring all rows to length 1, take all
cosines, divide them by the temperature. Each picture then gives its captions probabilities by softmax, each caption its
pictures; return the mean of what the right ones miss, `-log(probability)`, over both directions.""",
        clue="`scores.diagonal()` are the right pairs. -log(softmax) of a row is log(sum(exp(row))) less the "
        "right score.",
        name="contrastive_loss",
        stub='''def contrastive_loss(images, texts, temperature):
    """Return CLIP's loss; images and texts are (pairs, dim), the i-th rows of both belong together."""
    ...''',
        solution='''import numpy as np


def contrastive_loss(images, texts, temperature):
    """Return CLIP's loss; images and texts are (pairs, dim), the i-th rows of both belong together."""
    images, texts = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (images, texts))
    scores = images @ texts.T / temperature
    by_picture = np.log(np.exp(scores).sum(axis=1)) - scores.diagonal()
    by_caption = np.log(np.exp(scores).sum(axis=0)) - scores.diagonal()
    return (by_picture.mean() + by_caption.mean()) / 2''',
        check=check_contrastive_loss,
        hints={
            "lengths": "these are dot products of rows as they come. A long row would win every comparison: bring "
            "them to length 1 first.",
            "pictures_only": "each picture chooses a caption. Each caption has to choose a picture, too.",
            "captions_only": "each caption chooses a picture. Each picture has to choose a caption, too.",
            "multiplied": "multiplied by the temperature. A small temperature makes large scores.",
            "added": "the two directions are added. Asked for is their mean.",
            "summed": "summed over the pairs. The mean does not grow with the batch.",
            "all_pairs": "one softmax over the whole table. Each row has its own, and each column.",
            "sign": "right but for the sign: a loss falls when the pairs become more probable.",
            "cold": "the temperature is left out.",
            "other": "the number differs. If all cosines are equal, the loss is log(pairs). Is it?",
        },
    ),
    Exercise(
        id="25.3",
        title="Splice",
        level="easy",
        minutes=10,
        task="""Write `splice(ids, table, rows, image)` with NumPy: `ids` is a list of tokens in which the token `image`
stands once, `table` is `(vocabulary, dim)`, the embeddings of all tokens, and `rows` is `(n, dim)`, a picture after the
projector. Return what the language model reads: `(len(ids) - 1 + n, dim)`.""",
        clue="`table[ids[:at]]` are the embeddings of the tokens before place `at`; `np.concatenate([...])` puts rows "
        "under rows.",
        name="splice",
        stub='''def splice(ids, table, rows, image):
    """Return the embeddings of ids (tokens), with rows (n, dim) where the token `image` stands."""
    ...''',
        solution='''import numpy as np


def splice(ids, table, rows, image):
    """Return the embeddings of ids (tokens), with rows (n, dim) where the token `image` stands."""
    at = ids.index(image)
    before, after = table[ids[:at]], table[ids[at + 1:]]
    return np.concatenate([before, rows, after])''',
        check=check_splice,
        hints={
            "kept": "the embedding of the token `image` itself is still there. The rows take its place.",
            "front": "the picture stands before everything. It belongs where the token `image` is.",
            "end": "the picture stands after everything. It belongs where the token `image` is.",
            "one_row": "one row of the picture. All of them are read, one after the other.",
            "mean": "the mean of the rows. All of them are read: the places in the picture would be lost.",
            "backwards": "the rows are in reverse order.",
            "repeated": "the place is as long as it should be, and holds the token's own embedding, again and again.",
            "cut": "the words after the picture are lost.",
            "nothing": "the token is gone, and the picture did not come.",
            "other": "the rows differ. How many are there before the token `image`, and after it?",
        },
    ),
    Exercise(
        id="25.4",
        title="What a picture costs",
        level="medium",
        minutes=10,
        task="""Write `picture_bytes(config)`: how many bytes one picture takes in the key-value cache of the language
model, in 16 bits. `config` is that of a LLaVA, with `vision_config` (`image_size`, `patch_size`) and `text_config`
(`num_hidden_layers`, `hidden_size`, `num_attention_heads`, `num_key_value_heads`). The encoder's class token is not
passed on.""",
        clue="How many rows is the picture? Each row leaves a key and a value in each layer of the language model, one "
        "of each for every key-value head, and a head is hidden_size / num_attention_heads wide.",
        name="picture_bytes",
        stub='''def picture_bytes(config):
    """Return the bytes that one picture takes in the key-value cache of a LLaVA with this config, in 16 bits."""
    ...''',
        solution='''def picture_bytes(config):
    """Return the bytes that one picture takes in the key-value cache of a LLaVA with this config, in 16 bits."""
    vision, text = config["vision_config"], config["text_config"]
    tokens = (vision["image_size"] // vision["patch_size"]) ** 2
    head = text["hidden_size"] // text["num_attention_heads"]
    return 2 * text["num_hidden_layers"] * tokens * text["num_key_value_heads"] * head * 2''',
        check=check_picture_bytes,
        hints={
            "keys_alone": "half of it is missing: keys, and values.",
            "class_token": "one token too many: the class token is not passed on.",
            "one_side": "that is one line of patches. A picture has as many lines as patches in a line.",
            "all_heads": "a key for each attention head. Some share: count the key-value heads.",
            "one_layer": "one layer. Each layer keeps its own keys and values.",
            "encoder_layers": "these are the encoder's layers. It keeps nothing: the cache is the language model's.",
            "pixels": "that counts pixels. The language model reads a row for each patch.",
            "bits": "these are bits.",
            "one_byte_in_four": "32 bits for each number. Here they have 16.",
            "other": "the number differs. For LLaVA-1.5-7B it is 302 MB.",
        },
    ),
]
