"""Typical wrong answers to the exercises of notebook 06: {exercise: {key of its hint: source}}."""

from llmnotes.exercises.one_token import EXERCISES

_NORM, _MLP, _BLOCK, _COUNT = (exercise.solution for exercise in EXERCISES)
_RMS = "np.sqrt(np.mean(x**2, axis=-1, keepdims=True) + eps)"
_H, _DOWN = "silu(x @ self.gate.T) * (x @ self.up.T)", "return h @ self.down.T"
_FIRST = "x = x + self.attention(rms_norm(x, self.norm1, self.eps))"
_SECOND = "return x + self.mlp(rms_norm(x, self.norm2, self.eps))"
_BLOCK_3 = """from llmnotes.exercises.one_token_checks import measured

gate, up, down = (measured()[0][f"model.layers.3.mlp.{part}_proj.weight"] for part in ("gate", "up", "down"))

"""


def _changed(source: str, old: str, new: str) -> str:
    assert old in source, old
    return source.replace(old, new)


def _block(*lines: str) -> str:
    return _changed(_BLOCK, f"{_FIRST}\n        {_SECOND}", "\n        ".join(lines))


WRONG: dict[str, dict[str, str]] = {
    "06.1": {
        "keepdims": _changed(_NORM, ", keepdims=True", ""),
        "whole": _changed(_NORM, _RMS, "np.sqrt(np.mean(x**2) + eps)"),
        "columns": _changed(_NORM, "axis=-1, keepdims=True", "axis=0"),
        "no_g": _changed(_NORM, "/ rms * g", "/ rms"),
        "no_root": _changed(_NORM, _RMS, "(x**2).mean(axis=-1, keepdims=True) + eps"),
        "layernorm": _changed(_NORM, "rms = np", "x = x - x.mean(axis=-1, keepdims=True)\n    rms = np"),
        "length": _changed(_NORM, _RMS, "np.linalg.norm(x, axis=-1, keepdims=True)"),
        "no_eps": _changed(_NORM, " + eps", ""),
        "eps_outside": _changed(_NORM, "True) + eps)", "True)) + eps"),
        "fixed_eps": _changed(_NORM, " + eps", " + 1e-6"),
    },
    "06.2": {
        "lesson": _BLOCK_3 + _changed(_changed(_MLP, _H, _H.replace("self.", "")), "self.down.T", "down.T"),
        "lesson_gate": _BLOCK_3 + _changed(_MLP, _H, _H.replace("self.", "")),
        "lesson_down": _BLOCK_3 + _changed(_MLP, "self.down.T", "down.T"),
        "relu": _changed(_MLP, "silu(x @ self.gate.T)", "np.maximum(x @ self.gate.T, 0)"),
        "both_bent": _changed(_MLP, "(x @ self.up.T)", "silu(x @ self.up.T)"),
        "up_bent": _changed(_MLP, _H, "(x @ self.gate.T) * silu(x @ self.up.T)"),
        "no_bend": _changed(_MLP, "silu(x @ self.gate.T)", "(x @ self.gate.T)"),
        "no_up": _changed(_MLP, _H, "silu(x @ self.gate.T)"),
        "no_gate": _changed(_MLP, _H, "silu(x @ self.up.T)"),
        "sum": _changed(_MLP, ") * (", ") + ("),
        "late": _changed(_MLP, _H, "silu((x @ self.gate.T) * (x @ self.up.T))"),
        "with_x": _changed(_MLP, _DOWN, "return x + h @ self.down.T"),
    },
    "06.3": {
        "swapped": _block(_FIRST.replace("norm1", "norm2"), _SECOND.replace("norm2", "norm1")),
        "norm_after": _block(
            "x = rms_norm(x + self.attention(x), self.norm1, self.eps)",
            "return rms_norm(x + self.mlp(x), self.norm2, self.eps)",
        ),
        "mlp_first": _block(
            "x = x + self.mlp(rms_norm(x, self.norm2, self.eps))",
            "return x + self.attention(rms_norm(x, self.norm1, self.eps))",
        ),
        "replaced": _block(_FIRST.replace("x + ", ""), _SECOND.replace("x + ", "")),
        "unnormed": _block("x = x + self.attention(x)", "return x + self.mlp(x)"),
        "bare_attention": _block("x = x + self.attention(x)", _SECOND),
        "bare_mlp": _block(_FIRST, "return x + self.mlp(x)"),
        "parallel": _block(_FIRST.replace("x = ", "y = "), _SECOND.replace("x + ", "y + ")),
        "one_norm": _block(_FIRST, _SECOND.replace("norm2", "norm1")),
        "first_only": _block(_FIRST, "return x"),
        "lost": _block(_FIRST, _SECOND.replace("x + ", "")),
        "on_the_copy": _block(
            "x = rms_norm(x, self.norm1, self.eps)",
            "x = x + self.attention(x)",
            "x = rms_norm(x, self.norm2, self.eps)",
            "return x + self.mlp(x)",
        ),
        "default_eps": _block(_FIRST.replace(", self.eps", ""), _SECOND.replace(", self.eps", "")),
    },
    "06.4": {
        "bytes": _changed(_changed(_COUNT, "return config", "return 4 * (config"), "* block + d", "* block + d)"),
        "kv_wide": _changed(_COUNT, 'd // config["num_attention_heads"] * config["num_key_value_heads"]', "d"),
        "kv_one": _changed(_COUNT, ' * config["num_key_value_heads"]', ""),
        "no_o": _changed(_COUNT, "2 * d * d + 2", "d * d + 2"),
        "two_matrices": _changed(_COUNT, "3 * d * inner", "2 * d * inner"),
        "no_norms": _changed(_COUNT, " + 2 * d  #", "  #"),
        "no_last_norm": _changed(_COUNT, "* block + d", "* block"),
        "no_norm_at_all": _changed(_changed(_COUNT, " + 2 * d  #", "  #"), "* block + d", "* block"),
        "one_layer": _changed(_COUNT, 'config["num_hidden_layers"] * block', "block"),
        "float": _changed(_COUNT, "d // config", "d / config"),
        "two_tables": _changed(_COUNT, 'config["vocab_size"] * d', '2 * config["vocab_size"] * d'),
        "no_table": _changed(_COUNT, 'config["vocab_size"] * d + ', ""),
    },
}
