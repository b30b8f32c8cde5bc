"""The exercises of notebook 06: RMSNorm, the gated MLP, the block, and how many weights a config means."""

from llmnotes.exercises.exercise import Exercise
from llmnotes.exercises.one_token_checks import check_block, check_count, check_mlp, check_rms_norm

_CLASS = """class {name}:
    def __init__(self, W, layer{extra}):
        {head}

    def __call__(self, x):
        {body}"""
_MLP = (
    _CLASS.replace("{name}", "MLP")
    .replace("{extra}", "")
    .replace(
        "{head}",
        """names = [f"model.layers.{layer}.mlp.{part}_proj.weight"
                 for part in ("gate", "up", "down")]
        self.gate, self.up, self.down = (W[name] for name in names)""",
    )
)
_BLOCK = (
    _CLASS.replace("{name}", "Block")
    .replace("{extra}", ", base=10_000.0, eps=1e-6, size=64")
    .replace(
        "{head}",
        """name = f"model.layers.{layer}."
        self.norm1 = W[name + "input_layernorm.weight"]
        self.norm2 = W[name + "post_attention_layernorm.weight"]  # before the MLP
        self.attention = CausalAttention(W, layer, size, base)
        self.mlp = MLP(W, layer)
        self.eps = eps""",
    )
)
_NORM = '''def rms_norm(x, g, eps=1e-6):
    """Norm every row of x, (tokens, 256)."""
    {}'''
_COUNT = '''def count(config):
    """Return the number of weights: table, blocks, last norm."""
    {}'''

EXERCISES = [
    Exercise(
        id="06.1",
        title="Write the norm",
        level="easy",
        minutes=5,
        task="The code above norms one row. Yours takes all rows at once, x of shape (tokens, 256), and each row has "
        "its own rms. The check compares your norm with three of the real model's, number by number. If yours is "
        "right, the lesson goes on with it.",
        clue="`np.mean(x**2, axis=-1)` takes the mean along each row. With `keepdims=True` it keeps the shape "
        "(tokens, 1), so that each row can be divided by its own number.",
        name="rms_norm",
        stub=_NORM.format("..."),
        solution=_NORM.format("rms = np.sqrt(np.mean(x**2, axis=-1, keepdims=True) + eps)\n    return x / rms * g"),
        check=check_rms_norm,
        hints={
            "keepdims": "np.mean(x**2, axis=-1) has the shape (tokens,), and that doesn't line up with (tokens, 256). "
            "With keepdims=True it stays (tokens, 1).",
            "whole": "there is one mean for all rows together, so an early row depends on later ones. The mean along "
            "each row is np.mean(x**2, axis=-1, keepdims=True).",
            "columns": "this takes the mean down each column, over the tokens. A row should be normed by its own "
            "numbers: axis=-1.",
            "no_g": "the rows have the right size now, but the factors g are missing.",
            "no_root": "the root is missing: this divides by the mean of the squares.",
            "layernorm": "this is LayerNorm: it subtracts the mean of each row first. RMSNorm only divides.",
            "length": "this divides by the length, the root of the sum of the squares. The rms is the root of "
            "their mean.",
            "no_eps": "right for Pebble, but eps is missing: add it to the mean of the squares, under the root.",
            "eps_outside": "eps belongs under the root, added to the mean of the squares.",
            "fixed_eps": "right for Pebble, but your norm doesn't use the eps it is given: another model may need "
            "another one.",
        },
        kept=True,
        given="import numpy as np",
    ),
    Exercise(
        id="06.2",
        title="Write the MLP",
        level="easy",
        minutes=5,
        task="The first half of the class is there. Write what it does with x, (tokens, 256), and use `silu`. Two "
        "lines are enough. The check compares yours with three of the real model's MLPs.",
        clue="For one row of block 3 the lesson wrote `silu(heard @ gate.T) * (heard @ up.T)`. The same line does many "
        "rows at once, because `@` treats each row by itself. Here the matrices are the object's own: `self.gate`, "
        "`self.up`, and, at the end, `self.down`.",
        name="MLP",
        stub=_MLP.replace("{body}", "..."),
        solution=_MLP.replace("{body}", "h = silu(x @ self.gate.T) * (x @ self.up.T)\n        return h @ self.down.T"),
        check=check_mlp,
        hints={
            "lesson": "this uses the lesson's own gate, up and down: those of block 3, whatever the layer. Write "
            "self.gate, self.up and self.down.",
            "lesson_gate": "this uses the lesson's own gate and up: those of block 3, whatever the layer. Write "
            "self.gate and self.up.",
            "lesson_down": "down is the lesson's own here, that of block 3, whatever the layer. Write self.down.",
            "relu": "this bends with ReLU. Pebble uses its smooth cousin, silu.",
            "both_bent": "both sides are bent here. Only gate is; what up says is taken as it is.",
            "up_bent": "the bend sits on the gate, and yours sits on up.",
            "no_bend": "the bend is missing: put silu around what gate says.",
            "no_up": "this is gate without up.",
            "no_gate": "this is the older MLP, without a gate: up, a bend, down.",
            "sum": "gate and up are multiplied with each other, not added.",
            "late": "here the bend comes after the product. It belongs to the gate alone.",
            "with_x": "this adds x already. The MLP returns only what is to be added; the block does the adding.",
        },
        kept=True,
        given="import numpy as np\n\nfrom llmnotes.pebble.numpy_model import silu",
    ),
    Exercise(
        id="06.3",
        title="Write the block",
        level="easy",
        minutes=5,
        task="Everything is prepared. Write the two lines, and give both norms `self.eps`. (Write `x = x + …`. The "
        "shorter `x += …` changes the array itself, and others still need it.) The check compares yours with "
        "three of the real model's blocks.",
        clue="The first line is `x = x + self.attention(…)`, and between the brackets stands the normed x. The second "
        "line is built alike, and it reads the new x.",
        name="Block",
        stub=_BLOCK.replace("{body}", "..."),
        solution=_BLOCK.replace(
            "{body}",
            "x = x + self.attention(rms_norm(x, self.norm1, self.eps))\n"
            "        return x + self.mlp(rms_norm(x, self.norm2, self.eps))",
        ),
        check=check_block,
        hints={
            "swapped": "the two norms are swapped: norm1 belongs to attention, norm2 to the MLP.",
            "norm_after": "here the norms come after the additions. Each part reads a normed copy; x is left alone.",
            "mlp_first": "here the MLP comes first. Attention does.",
            "replaced": "the two additions are missing: here each part replaces x.",
            "unnormed": "the norms are missing.",
            "bare_attention": "the first norm is missing. Attention reads a copy of x, normed with norm1.",
            "bare_mlp": "the second norm is missing. The MLP reads a copy of the new x, normed with norm2.",
            "parallel": "your MLP reads the old x. It should read the rows with attention's addition in them.",
            "one_norm": "norm1 is used twice. The MLP has norm2.",
            "first_only": "this is the first line only. The MLP comes next.",
            "lost": "the second addition is missing: what the MLP returns must be added to x.",
            "on_the_copy": "here x itself is normed. Each part reads a normed copy, and x keeps its size.",
            "default_eps": "right for Pebble, but the norms don't get self.eps, and another model has another one.",
        },
        kept=True,
        given="from llmnotes.attention import CausalAttention\nfrom llmnotes.pebble.numpy_model import MLP, rms_norm",
    ),
    Exercise(
        id="06.4",
        title="Will it fit?",
        level="medium",
        minutes=10,
        task="*A task from work.* Somebody hands you a `config.json` and asks whether the model fits into 8 GB. "
        "First you need the number of its weights; the bytes follow. Write `count(config)` for a model built like "
        "Pebble, with one table. It gets a dictionary with the names that we've just printed. The check tries Pebble, "
        "SmolLM2-135M and a very small model. The picture of the block has the shapes. Mind the width of k and v.",
        clue="Count one block: q and o are both hidden × hidden, k and v both hidden × (numbers of a head × "
        "key-value heads), then three matrices of the MLP and two norms. A model has `num_hidden_layers` of them, one "
        "table, and one last norm.",
        name="count",
        stub=_COUNT.format("..."),
        solution=_COUNT.format(
            """d, inner = config["hidden_size"], config["intermediate_size"]
    kv = d // config["num_attention_heads"] * config["num_key_value_heads"]
    attention = 2 * d * d + 2 * d * kv  # q and o, k and v
    block = attention + 3 * d * inner + 2 * d  # the last are two norms
    return config["vocab_size"] * d + config["num_hidden_layers"] * block + d"""
        ),
        check=check_count,
        hints={
            "bytes": "that's the number of bytes. The number of weights is wanted; the bytes come after it.",
            "kv_wide": "here k and v are as wide as q. They have fewer heads: num_key_value_heads.",
            "kv_one": "here k and v have one head each. They have num_key_value_heads.",
            "no_o": "one square matrix is missing in each block: q and o are both hidden × hidden.",
            "two_matrices": "the gated MLP has three matrices: gate, up and down.",
            "no_norms": "the two norms of each block are missing, hidden_size factors each.",
            "no_last_norm": "the last norm is missing, after the blocks.",
            "no_norm_at_all": "all that is missing now are the norms: two in each block, and one at the end.",
            "one_layer": "here the model has one block. It has num_hidden_layers of them.",
            "float": "the number is right, but it's a float: / makes one. Write // for numbers that are whole.",
            "two_tables": "the table is counted twice, and it is one and the same at both ends.",
            "no_table": "the table is missing: vocab_size rows of hidden_size numbers.",
        },
        kept=True,
    ),
]
