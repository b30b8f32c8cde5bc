"""A model as its GGUF's header describes it: what it holds is in the list of tensors, what it keeps in the keys."""

from array import array

from llmnotes.errors import ModelBroken, NotConvertible
from llmnotes.fit.pieces import Cache, Pieces, Weights
from llmnotes.fit.shapes import Shape, shape_of
from llmnotes.formats.gguf.kinds import only_a_model
from llmnotes.formats.gguf.requantize import types_of
from llmnotes.formats.results import Inspection

# The names in GGUF of what a config calls by another name
KEYS = {
    "block_count": "num_hidden_layers",
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "vocab_size": "vocab_size",
}
# The architectures whose cache is counted; a test compares each with llama.cpp's log. Every layer keeps all tokens:
FULL = """
    apertus arcee command-r gpt2 granite granitemoe llama mistral3 olmo olmoe phi2 phi3 qwen2 qwen2moe
    qwen3 qwen3moe seed_oss smollm3 stablelm starcoder2
""".split()
# ... all layers but each n-th keep a window; layers without keys, or all, keep a state
WINDOWS = {"gemma2": 2, "gemma3": 6, "gpt-oss": 2, "olmo2": 4}
STATES = ("falcon-h1", "granitehybrid", "lfm2")


def described(found: Inspection) -> tuple[Pieces, Shape, tuple[Cache, ...], int | None]:
    """Return the pieces of a GGUF's model, its widths, what llama.cpp keeps of a text, and the longest context.

    Raises `ModelBroken` for a file that holds no model, whose keys say too little, or whose architecture is not known.
    """
    only_a_model(found, ModelBroken)
    name = str(found.architecture)
    if name not in (*FULL, *WINDOWS, *STATES):
        known = ", ".join(sorted((*FULL, *WINDOWS, *STATES)))
        raise ModelBroken(f"llmnotes does not count a GGUF of the architecture {name[:40]}; it counts {known}.")
    keys = {key.removeprefix(f"{name}."): value for key, value in found.metadata.items()}
    config = {ours: keys[key] for key, ours in KEYS.items() if key in keys}
    tensors = {tensor.name: tensor for tensor in found.tensors}
    table = tensors.get("token_embd.weight")
    if table is None or len(table.shape) != 2:
        raise ModelBroken(f"{found.path.name} has no table of embeddings; use another copy of the model.")
    config["vocab_size"] = table.shape[0]
    config["tie_word_embeddings"] = "output.weight" not in tensors
    heads = config.get("num_key_value_heads", config.get("num_attention_heads"))
    for key, value in config.items():
        if isinstance(value, list | array) and len(value) and all(type(number) is int for number in value):
            config[key] = max(value)  # one number for each layer
    if keys.get("expert_used_count") and "intermediate_size" in config:  # one token meets so many experts
        inner, used = keys.get("expert_feed_forward_length", config["intermediate_size"]), keys["expert_used_count"]
        config["intermediate_size"] = used * inner if type(used) is type(inner) is int else None
    shape = shape_of(config)
    each: list[int] = list(heads) if isinstance(heads, list | array) else [shape.kv_heads] * shape.layers
    if len(each) != shape.layers or not all(type(count) is int and 0 <= count < 1 << 20 for count in each):
        raise ModelBroken(f"{found.path.name} does not say the heads of each of its layers; use another copy.")
    return _pieces(found, shape), shape, tuple(_caches(name, keys, shape, each)), config.get("max_position_embeddings")


def why_no_other(found: Inspection) -> str:
    """Return why `llmnotes convert` makes no GGUF of another type of this one, "" if it does."""
    try:
        types_of(found, "Q8_0", False)
    except NotConvertible as error:
        return str(error)
    return ""


def _pieces(found: Inspection, shape: Shape) -> Pieces:
    """Return the numbers in each piece, as transformers would hold them: matrices in layers are quantized."""
    layers = [Weights()] * shape.layers
    embedding = output = 0
    for tensor in found.tensors:
        number = tensor.name.removeprefix("blk.").partition(".")[0]
        if tensor.name.startswith("blk.") and number.isdigit() and len(number) < 6 and int(number) < shape.layers:
            piece = layers[int(number)]
            if len(tensor.shape) == 2:
                layers[int(number)] = piece.with_linear(*tensor.shape)
            else:
                layers[int(number)] = piece._replace(others=piece.others + tensor.elements)
        elif tensor.name.startswith("token_embd."):
            embedding += tensor.elements
        else:
            output += tensor.elements
    names = {"layers": "model.layers", "embedding": "model.embed_tokens", "vision": []}
    names |= {"output": ["model.norm", "model.rotary_emb"], "tied": "lm_head"}
    tied = all(tensor.name != "output.weight" for tensor in found.tensors)
    if not tied:
        names |= {"output": ["model.norm", "model.rotary_emb", "lm_head"], "tied": None}
    return Pieces(embedding, tuple(layers), (Cache(),) * shape.layers, output, Weights(), tied, names)


def _caches(name: str, keys: dict, shape: Shape, each: list[int]) -> list[Cache]:
    """Return what llama.cpp keeps in each layer; `each` is the number of heads with keys and values in it."""

    def number(key: str, otherwise: int = 0) -> int:
        value = keys.get(key, otherwise)
        if type(value) is not int or not 0 <= value < 1 << 31:
            raise ModelBroken(f"The GGUF's {name}.{key} is no whole number that is possible; use another copy.")
        return value

    both = number("attention.key_length", shape.head) + number("attention.value_length", shape.head)
    window, period = number("attention.sliding_window") or None, WINDOWS.get(name, 1)
    turns = number("ssm.conv_kernel", 1) - 1  # a convolution keeps all tokens that it sees but the last
    state = turns * (number("ssm.inner_size") + 2 * number("ssm.group_count") * number("ssm.state_size"))
    state += (number("shortconv.l_cache", 1) - 1) * shape.hidden
    exact = number("ssm.inner_size") * number("ssm.state_size")
    caches = []
    for layer, heads in enumerate(each):
        cache = Cache(both * heads, window if (layer + 1) % period else None)
        recurrent = name in STATES and (not cache.width or name == "falcon-h1")
        caches.append(cache._replace(state=state, exact=exact) if recurrent else cache)
    return caches
