"""Compare two forms of one model: tokens, logits, greedy text, and the metadata that was lost."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

from llmnotes import formats
from llmnotes.errors import NotConvertible, UnknownName
from llmnotes.llama_cpp.child import Child
from llmnotes.llama_cpp.trial import checked_file
from llmnotes.models.opening import LanguageModel, open_model, path_of

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

TEXT = "Once upon a time there was a little girl. She had 2 red cats, and they said: Hello! What is your name?\n"
STRINGS = (
    TEXT,
    " two  spaces\tand a tab\n\nnew",
    "Grüße, 世界 🙂",
    "1234567890 3.14",
    "don't WE'LL it's",
    "<s> </s> [INST]",
)
CONTEXT = 512  # tokens of a prompt and its continuation in llama.cpp
PROMPTS = ("Once upon a time", "The cat")
# What a config says about its own history, not about the model.
HISTORY = ("_name_or_path", "transformers_version", "dtype", "torch_dtype", "architectures", "use_cache")
END = "eos_token_id"


@dataclass(frozen=True)
class Parity:
    """What comparing `a` with `b` found. None means that one side could not be asked.

    `largest_logit_difference` is the largest absolute difference of two logits, `kl` the mean KL(a ‖ b) in nats per
    token (`metrics.kl_divergence`). `lost` has a sentence for each piece of metadata that differs.
    """

    a: str
    b: str
    strings: int
    same_tokens: int
    largest_logit_difference: float | None
    kl: float | None
    prompts: int
    same_text: int
    lost: tuple[str, ...]

    @property
    def same(self) -> bool:
        """Whether tokens and greedy texts are all equal and no metadata was lost; logits may differ by rounding."""
        return self.same_tokens == self.strings and self.same_text == self.prompts and not self.lost

    def as_dict(self) -> dict:
        """Return the findings as plain data."""
        return asdict(self) | {"same": self.same}

    def __str__(self) -> str:
        def number(value: float | None) -> str:
            return "not asked" if value is None else f"{value:.3g}"

        rows = [
            ("same tokens", f"{self.same_tokens} of {self.strings} strings"),
            ("largest logit difference", number(self.largest_logit_difference)),
            ("KL divergence", number(self.kl) + (" nats per token" if self.kl is not None else "")),
            ("same greedy text", f"{self.same_text} of {self.prompts} prompts"),
            ("metadata lost", "; ".join(self.lost) or "nothing"),
        ]
        return "\n".join([f"{self.a} against {self.b}", *(f"  {name:<26}{value}" for name, value in rows)])


@dataclass(frozen=True)
class Side:
    """One form of the model.

    `tokens` turns a string into tokens, `greedy(ids, count)` continues them by `count` tokens. llama.cpp has neither a
    `model`, which gives the logits of a whole text, nor a `tokenizer`, which knows the special tokens.
    """

    name: str
    tokens: Callable[[str], list[int]]
    greedy: Callable[[list[int], int], list[int]]
    model: "PreTrainedModel | OnnxModel | None" = None
    tokenizer: "PreTrainedTokenizerBase | None" = None


def parity(
    a: str | Path | LanguageModel,
    b: str | Path | LanguageModel,
    *,
    text: str = TEXT,
    strings: Sequence[str] = STRINGS,
    prompts: Sequence[str] = PROMPTS,
    tokens: int = 64,
    engine: str | None = None,
) -> Parity:
    """Compare two forms of one model and return a `Parity`, which prints as a short table.

    `a` and `b` are what `open_model` takes, an opened `LanguageModel`, or an `.onnx` file, which has no tokenizer and
    borrows the other's. A GGUF file is opened through its own numbers (dequantized); with `engine="llama.cpp"` it is
    run by llama.cpp instead, which gives tokens and text and no logits for a whole text. `strings` are cut into tokens
    by both; logits and KL are taken on the tokens that `a` makes of `text`; the greedy continuations of `prompts` have
    `tokens` tokens, or end earlier at the end token.

    Raises what `open_model` raises, `NotConvertible` for two ONNX files and for two models of which one has no row for
    a token that the other makes, `UnknownName` for another engine or a text of fewer than two tokens, `MissingPart`
    without onnxruntime or xllamacpp.

    Does not decide whether a difference matters: a quantized model differs, and KL says by how much. Does not compare
    weights, and says nothing about texts that were not asked.

    >>> print(parity("pebble", "pebble").same)
    True
    """
    from llmnotes.evaluation import kl_divergence

    if engine not in (None, "llama.cpp"):
        raise UnknownName(f"There is no engine {engine}; give llama.cpp, or none for PyTorch.")
    kinds = _kind(a), _kind(b)
    if kinds == ("ONNX", "ONNX"):
        raise NotConvertible("Neither ONNX file has a tokenizer; compare each with the folder it was made from.")
    if kinds[0] == "ONNX":  # it borrows the tokenizer of the other, which is opened first
        right = _side(b, kinds[1], engine)
        left = _onnx_side(a, right)
    else:
        left = _side(a, kinds[0], engine)
        right = _onnx_side(b, left) if kinds[1] == "ONNX" else _side(b, kinds[1], engine)
    asked = [token for string in (text, *prompts) for token in left.tokens(string)]
    _check_rows(right, max(asked, default=0))
    same_tokens = sum(left.tokens(string) == right.tokens(string) for string in strings)
    difference = kl = None
    if left.model and right.model and left.tokenizer:
        difference = _largest_difference(left.model, right.model, left.tokenizer, text)
        if difference is not None:
            kl = kl_divergence(left.model, right.model, left.tokenizer, text)
    tokenizer = left.tokenizer or right.tokenizer
    end = cast("int | None", tokenizer.eos_token_id) if tokenizer else None
    same_text = 0
    for prompt in prompts:
        ids = left.tokens(prompt)
        same_text += _until(left.greedy(ids, tokens), end) == _until(right.greedy(ids, tokens), end)
    lost = _lost(left, right)
    return Parity(left.name, right.name, len(strings), same_tokens, difference, kl, len(prompts), same_text, lost)


def _kind(form: str | Path | LanguageModel) -> str:
    if isinstance(form, LanguageModel):
        return "opened"
    path = path_of(str(form))
    return formats.identify(path).format if path.is_file() else "folder"


def _side(form: str | Path | LanguageModel, kind: str, engine: str | None) -> Side:
    if kind == "GGUF" and engine:
        child = Child(checked_file(path_of(str(form))), n_ctx=CONTEXT)
        return Side(child.model.path.name, child.tokenize, child.greedy)
    lm = form if isinstance(form, LanguageModel) else open_model(form, say=lambda line: None)
    return Side(
        lm.name,
        lambda string: list(lm.tokenizer(string)["input_ids"]),
        lambda ids, count: _greedy(lm.model, ids, count),
        lm.model,
        lm.tokenizer,
    )


def _onnx_side(form: str | Path | LanguageModel, other: Side) -> Side:
    """Open an ONNX file with the tokenizer of `other`; logits are compared only where `other` has some, too."""
    path = path_of(str(form))
    model = OnnxModel(path)
    return Side(
        path.name,
        other.tokens,
        lambda ids, count: _greedy(model, ids, count),
        model if other.tokenizer else None,
        other.tokenizer,
    )


def _check_rows(side: Side, token: int) -> None:
    """Raise `NotConvertible` where the model of `side` has no row for `token`; ONNX and llama.cpp are not asked."""
    config = side.model.config if side.model else None
    rows = getattr(config.get_text_config(), "vocab_size", None) if config is not None else None
    if rows is not None and token >= rows:
        raise NotConvertible(
            f"{side.name} has {rows:,} rows of embeddings and none for token {token:,}, so these are not two forms of "
            "one model; compare a model with what was made from it."
        )


class OnnxModel:
    """An ONNX file that can be called like a model of transformers."""

    device = "cpu"
    config = None

    def __init__(self, path: Path):
        from llmnotes.formats.onnx.export import onnx_session

        self.session = onnx_session(path)

    def __call__(self, ids: "torch.Tensor") -> SimpleNamespace:
        """Return an answer whose `logits` are (1, tokens, vocabulary), for `ids` of (1, tokens)."""
        import torch

        from llmnotes.formats.onnx.export import onnx_logits

        logits = torch.from_numpy(onnx_logits(self.session, ids[0].tolist()))
        return SimpleNamespace(logits=logits[None])


def _greedy(model: "PreTrainedModel | OnnxModel", ids: list[int], count: int) -> list[int]:
    """Return the `count` most probable tokens after `ids`, the whole text run again for each."""
    import torch

    row = torch.tensor([ids], device=model.device)
    with torch.no_grad():
        for _ in range(count):
            row = torch.cat([row, model(row).logits[:, -1].argmax(-1, keepdim=True)], 1)
    return row[0, len(ids) :].tolist()


def _until(ids: list[int], end: int | None) -> list[int]:
    """Return `ids` before the end token, which some engines return and others do not."""
    return ids[: ids.index(end)] if end in ids else ids


def _largest_difference(
    a: "PreTrainedModel | OnnxModel",
    b: "PreTrainedModel | OnnxModel",
    tokenizer: "PreTrainedTokenizerBase",
    text: str,
) -> float | None:
    """Return the largest absolute difference of logits on `text`, None where the vocabularies differ in size."""
    import torch

    ids = torch.tensor([tokenizer(text)["input_ids"][:256]])
    with torch.no_grad():
        left, right = (model(ids.to(model.device)).logits.float().cpu() for model in (a, b))
    return (left - right).abs().max().item() if left.shape == right.shape else None


def _lost(a: Side, b: Side) -> tuple[str, ...]:
    """Return a sentence for each piece of metadata in which `b` differs from `a`."""
    lost = []
    if a.tokenizer and b.tokenizer and a.tokenizer is not b.tokenizer:
        left, right = _conventions(a.tokenizer), _conventions(b.tokenizer)
        lost += [
            f"{name}: {_short(left[name])} became {_short(right[name])}" for name in left if left[name] != right[name]
        ]
    if a.model and b.model and not isinstance(a.model, OnnxModel) and not isinstance(b.model, OnnxModel):
        left, right = _settings(a.model), _settings(b.model)
        keys = [key for key in left if key not in HISTORY and left[key] != right.get(key)]
        lost += [f"config {key}: {_short(left[key])} became {_short(right.get(key))}" for key in keys]
    return tuple(lost)


def _settings(model: "PreTrainedModel") -> dict:
    """Return a model's config with all tokens that end an answer, also those that only its generation config names."""
    ends = getattr(model.generation_config, END, None)
    return model.config.to_dict() | {END: sorted(ends) if isinstance(ends, list) else [] if ends is None else [ends]}


def _conventions(tokenizer: "PreTrainedTokenizerBase") -> dict:
    """Return a tokenizer's special tokens, the ones it adds by itself, and its chat template."""
    ids = tokenizer("a")["input_ids"]
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    special = {name: getattr(tokenizer, name) for name in ("bos_token", "eos_token", "unk_token", "pad_token")}
    return special | {
        "added special tokens": sorted(map(str, tokenizer.all_special_tokens)),
        "tokens before a text": ids[: ids.index(bare[0])] if bare and bare[0] in ids else None,
        "tokens after a text": ids[len(ids) - ids[::-1].index(bare[-1]) :] if bare and bare[-1] in ids else None,
        "chat template": tokenizer.chat_template,
        "vocabulary": len(tokenizer),
    }


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
