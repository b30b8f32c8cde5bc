"""Typical wrong answers to the exercises of notebook 25: {exercise: {key of its hint: source}}."""

_PATCHES = '''def patches(picture, size):
    """Return the patches of picture (3, height, width) as rows (patches, 3 * size * size), in reading order."""
    channels, height, width = picture.shape
    {first}
    return {last}'''
_BLOCKS = "blocks = picture.reshape(channels, height // size, size, width // size, size)"
_ROWS = "blocks.transpose({order}).reshape(-1, channels * size * size)"


def _patches_source(order: str = "1, 3, 0, 2, 4", first: str = _BLOCKS, last: str = _ROWS) -> str:
    return _PATCHES.format(first=first, last=last.format(order=order))


_LOSS = '''import numpy as np


def contrastive_loss(images, texts, temperature):
    """Return CLIP's loss; images and texts are (pairs, dim), the i-th rows of both belong together."""
    {unit}
    scores = {scores}
    by_picture = {by_picture}
    by_caption = {by_caption}
    return {last}'''
_UNIT = "images, texts = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (images, texts))"
_BY_PICTURE = "np.log(np.exp(scores).sum(axis=1)) - scores.diagonal()"
_BY_CAPTION = "np.log(np.exp(scores).sum(axis=0)) - scores.diagonal()"


def _loss_source(
    last: str = "(by_picture.mean() + by_caption.mean()) / 2",
    scores: str = "images @ texts.T / temperature",
    unit: str = _UNIT,
    by_picture: str = _BY_PICTURE,
    by_caption: str = _BY_CAPTION,
) -> str:
    return _LOSS.format(unit=unit, scores=scores, by_picture=by_picture, by_caption=by_caption, last=last)


_SPLICE = '''import numpy as np


def splice(ids, table, rows, image):
    """Return the embeddings of ids (tokens), with rows (n, dim) where the token `image` stands."""
    at = ids.index(image)
    before, after = table[ids[:at]], table[ids[at + 1:]]
    return np.concatenate([{parts}])'''


def _splice_source(parts: str = "before, rows, after") -> str:
    return _SPLICE.format(parts=parts)


_BYTES = '''def picture_bytes(config):
    """Return the bytes that one picture takes in the key-value cache of a LLaVA with this config, in 16 bits."""
    vision, text = config["vision_config"], config["text_config"]
    tokens = {tokens}
    head = text["hidden_size"] // text["num_attention_heads"]
    return {product}'''
_TOKENS = '(vision["image_size"] // vision["patch_size"]) ** 2'
_PRODUCT = '2 * text["num_hidden_layers"] * tokens * text["num_key_value_heads"] * head * 2'


def _bytes_source(tokens: str = _TOKENS, product: str = _PRODUCT) -> str:
    return _BYTES.format(tokens=tokens, product=product)


WRONG = {
    "25.1": {
        "reshaped": _patches_source(last="picture.reshape(-1, channels * size * size)"),
        "channels_last": _patches_source("1, 3, 2, 4, 0"),
        "columns_first": _patches_source("3, 1, 0, 2, 4"),
        "turned": _patches_source("1, 3, 0, 4, 2"),
        "overlapping": _patches_source(
            first="places = [(y, x) for y in range(height - size + 1) for x in range(width - size + 1)]",
            last="[picture[:, y:y + size, x:x + size].ravel() for y, x in places]",
        ),
        "one_channel": _patches_source(last=_ROWS + "[:, :size * size]"),
        "grid": _patches_source(last="blocks.transpose({order}).reshape(height // size, width // size, -1)"),
        "other": _patches_source(last=_ROWS + "[::-1]"),
    },
    "25.2": {
        "lengths": _loss_source(unit="pairs = len(images)"),
        "pictures_only": _loss_source("by_picture.mean()"),
        "captions_only": _loss_source("by_caption.mean()"),
        "multiplied": _loss_source(scores="images @ texts.T * temperature"),
        "added": _loss_source("by_picture.mean() + by_caption.mean()"),
        "summed": _loss_source("(by_picture.sum() + by_caption.sum()) / 2"),
        "all_pairs": _loss_source("np.log(np.exp(scores).sum()) - scores.diagonal().mean()"),
        "sign": _loss_source("-(by_picture.mean() + by_caption.mean()) / 2"),
        "cold": _loss_source(scores="images @ texts.T"),
        "other": _loss_source("1 - scores.diagonal().mean()"),
    },
    "25.3": {
        "kept": _splice_source("before, table[[image]], rows, after"),
        "front": _splice_source("rows, before, after"),
        "end": _splice_source("before, after, rows"),
        "one_row": _splice_source("before, rows[:1], after"),
        "mean": _splice_source("before, rows.mean(axis=0, keepdims=True), after"),
        "backwards": _splice_source("before, rows[::-1], after"),
        "repeated": _splice_source("before, table[[image] * len(rows)], after"),
        "cut": _splice_source("before, rows"),
        "nothing": _splice_source("before, after"),
        "other": _splice_source("after, rows, before"),
    },
    "25.4": {
        "keys_alone": _bytes_source(product=_PRODUCT.removeprefix("2 * ")),
        "class_token": _bytes_source(tokens=_TOKENS + " + 1"),
        "one_side": _bytes_source(tokens='vision["image_size"] // vision["patch_size"]'),
        "all_heads": _bytes_source(product=_PRODUCT.replace("num_key_value_heads", "num_attention_heads")),
        "one_layer": _bytes_source(product=_PRODUCT.replace('text["num_hidden_layers"] * ', "")),
        "encoder_layers": _bytes_source(product=_PRODUCT.replace('text["num_hidden', 'vision["num_hidden')),
        "pixels": _bytes_source(tokens='vision["image_size"] ** 2'),
        "bits": _bytes_source(product=_PRODUCT.removesuffix("2") + "16"),
        "one_byte_in_four": _bytes_source(product=_PRODUCT.removesuffix("2") + "4"),
        "other": _bytes_source(product="tokens * head"),
    },
}
