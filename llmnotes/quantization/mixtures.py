"""Which tensor of a model gets which type: llama.cpp's mixtures, such as Q4_K_M.

A file type has a name and a type for most matrices. Some matrices get more bits, because errors in them cost more: the
output layer (or the embeddings, where they are the output layer too), the values of attention, and the way down in the
feed-forward part, in all layers or in those where measurements said so. (llama.cpp, src/llama-quant.cpp; "K" stands for
the K-quants, "S", "M" and "L" for small, medium and large.)
"""

# Name of the file type -> (llama.cpp's number for it, the type of most matrices)
FILE_TYPES = {
    "F32": (0, "F32"),
    "F16": (1, "F16"),
    "BF16": (32, "BF16"),
    "Q8_0": (7, "Q8_0"),
    "Q6_K": (18, "Q6_K"),
    "Q5_K_M": (17, "Q5_K"),
    "Q5_K_S": (16, "Q5_K"),
    "Q5_1": (9, "Q5_1"),
    "Q5_0": (8, "Q5_0"),
    "Q4_K_M": (15, "Q4_K"),
    "Q4_K_S": (14, "Q4_K"),
    "Q4_1": (3, "Q4_1"),
    "Q4_0": (2, "Q4_0"),
    "Q3_K_L": (13, "Q3_K"),
    "Q3_K_M": (12, "Q3_K"),
    "Q3_K_S": (11, "Q3_K"),
    "Q2_K": (10, "Q2_K"),
}
ALIASES = {"Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M"}  # as llama-quantize reads them
FLOATS = ("F32", "F16", "BF16")
KEPT = ("_norm.weight", ".ffn_gate_inp.weight")  # matrices that are never quantized

# The types of some matrices in a mixture of eight experts, by file type.
EIGHT = {stem: dict.fromkeys(FILE_TYPES, "Q8_0") for stem in ("attn_k", "attn_v", "attn_qkv")}
EIGHT["attn_output"] = dict.fromkeys(("Q2_K", "Q3_K_S", "Q3_K_M", "Q4_K_S", "Q4_K_M"), "Q5_K")

# What a row gets that a block of 256 does not fit
SMALLER = {"Q2_K": "Q4_0", "Q3_K": "Q4_0", "Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}
BLOCK = {"F32": 1, "F16": 1, "BF16": 1} | dict.fromkeys(SMALLER, 256)  # all others have blocks of 32


def types(
    file_type: str,
    shapes: dict[str, tuple[int, ...]],
    groups: int = 1,
    big: bool = False,
    weighted: bool = False,
    eight: bool = False,
) -> tuple[dict[str, str], dict[str, str]]:
    """Return ({tensor: its type}, {tensor: its type, where the one meant for it does not fit its rows}).

    `shapes` are those of all tensors of a model under their names in GGUF, rows last; `groups` is the number of heads
    that share one head of keys and values, `big` is true for a 70B model (`is_70b`), `weighted` where there is an
    importance matrix, `eight` for a mixture of eight experts, whose keys and values are few beside them and get more
    bits. Vectors, norms, biases and the router of experts are F32.

    Raises `KeyError` for a file type that is not in `FILE_TYPES`.

    >>> types("Q4_K_M", {"blk.0.attn_v.weight": (256, 256), "token_embd.weight": (2048, 96)})
    ({'blk.0.attn_v.weight': 'Q6_K', 'token_embd.weight': 'Q8_0'}, {})
    """
    tied = "output.weight" not in shapes
    layers = 1 + max((_layer(name) for name in shapes), default=0)
    found, fallbacks = {}, {}
    for name, shape in shapes.items():
        if len(shape) < 2 or not name.endswith(".weight") or name.endswith(KEPT):
            found[name] = "F32"
            continue
        kind = FILE_TYPES[file_type][1]
        if file_type not in FLOATS:
            stem = name.removesuffix(".weight").rpartition(".")[2]
            if stem == "output" or (tied and stem == "token_embd"):
                kind = "Q8_0" if kind == "Q8_0" or shape[-1] % BLOCK.get(kind, 32) else "Q6_K"
            else:
                stem = stem.removesuffix("_exps")
                if eight and stem in EIGHT:
                    kind = EIGHT[stem].get(file_type, kind)
                else:
                    kind = _layers_type(file_type, stem, _layer(name), layers, groups, big, weighted) or kind
        found[name] = _fitting(kind, shape[-1])
        if found[name] != kind:
            fallbacks[name] = found[name]
    return found, fallbacks


def is_70b(architecture: str, layers: int, groups: int) -> bool:
    """Return whether llama.cpp takes a model for one of 70 billion parameters, whose few values get more bits.

    >>> is_70b("llama", 80, 8), is_70b("llama", 80, 1), is_70b("qwen3", 80, 8)
    (True, False, False)
    """
    return layers == 80 and (architecture == "qwen2" or (architecture == "llama" and groups > 1))


def _layers_type(
    file_type: str, stem: str, layer: int, layers: int, groups: int, big: bool, weighted: bool
) -> str | None:
    """Return the type of one matrix of a layer where it differs from that of most matrices."""
    picked = layer < layers // 8 or layer >= 7 * layers // 8 or (layer - layers // 8) % 3 == 2
    if stem in ("attn_v", "attn_qkv"):
        kind = {
            "Q2_K": "Q4_K" if groups >= 4 else "Q3_K",
            "Q3_K_S": "Q3_K",
            "Q3_K_M": "Q5_K" if layer < 2 else "Q4_K",
            "Q3_K_L": "Q5_K",
            "Q4_K_S": "Q5_K" if layer < 4 else "Q4_K",
            "Q4_K_M": "Q6_K" if picked else "Q4_K",
            "Q5_K_M": "Q6_K" if picked else "Q5_K",
        }.get(file_type)
        return "Q5_K" if big and kind in ("Q3_K", "Q4_K") else kind
    if stem == "ffn_down":
        first = layer < layers // 8
        return {
            "Q2_K": "Q3_K",
            "Q3_K_M": "Q5_K" if layer < layers // 16 else "Q4_K",
            "Q3_K_L": "Q5_K",
            "Q4_K_S": "Q5_K" if first else None,
            "Q4_K_M": "Q6_K" if picked else None,
            "Q5_K_M": "Q6_K" if picked else None,
            "Q4_0": "Q4_1" if first and weighted else None,
            "Q5_0": "Q5_1" if first and weighted else None,
        }.get(file_type)
    if stem == "attn_output":
        return {"Q2_K": "Q3_K", "Q3_K_M": "Q4_K", "Q3_K_L": "Q5_K"}.get(file_type)
    return None


def _fitting(kind: str, columns: int) -> str:
    """Return `kind`, or what a row of `columns` weights gets instead."""
    if columns % BLOCK.get(kind, 32) == 0:
        return kind
    kind = SMALLER.get(kind, "F16")
    return "F16" if columns % 32 else kind


def _layer(name: str) -> int:
    """Return the number of the layer in a tensor's name, 0 where there is none."""
    number = name.removeprefix("blk.").partition(".")[0]
    return int(number[:9]) if name.startswith("blk.") and number.isdigit() else 0
