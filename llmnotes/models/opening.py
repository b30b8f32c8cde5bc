"""Open a model: "pebble", "pebble-chat", "smollm2", a folder, an adapter, or a name on the hub."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from llmnotes import formats
from llmnotes.errors import FileBroken, FileUnreadable, ModelBroken, UnknownFormat, reason
from llmnotes.formats import beside, huggingface
from llmnotes.formats.results import Inspection
from llmnotes.models.adapters import whole
from llmnotes.models.loading import loaded
from llmnotes.models.paths import path_of
from llmnotes.models.temporary import let_go
from llmnotes.pebble import VARIANTS

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase
    from transformers._typing import GenerativePreTrainedModel

    from llmnotes.models.layerwise import Make

VARIABLE = "LLMNOTES_MODEL"


@dataclass(frozen=True)
class LanguageModel:
    """An opened model: its name, the transformers model in evaluation mode, and its tokenizer."""

    name: str
    model: "PreTrainedModel"
    tokenizer: "PreTrainedTokenizerBase"

    @property
    def is_pebble(self) -> bool:
        """Whether this is the model in the box, so that statements about Pebble's world apply."""
        return self.name in VARIANTS


def chosen() -> str:
    """Return the model that the course runs with: the environment variable LLMNOTES_MODEL, by default "pebble".

    >>> chosen()
    'pebble'
    """
    return os.environ.get(VARIABLE) or "pebble"


def open_model(
    name: str | Path | None = None,
    *,
    attention: str | None = None,
    say: Callable[[str], object] = print,
    make: "Make | None" = None,
    dtype: "torch.dtype | None" = None,
) -> LanguageModel:
    """Open a causal language model; first print what it is and how much memory its weights take.

    `name` is "pebble", "pebble-chat", "smollm2", a folder in the Hugging Face layout, a GGUF file, the output of a
    fine-tuning or another adapter's folder, or a name on the hub; None means `chosen()`. A GGUF's blocks become
    floating-point numbers again, and an adapter is merged into its base (`adapters.merge`). transformers chooses
    the attention that the architecture has; `attention="eager"` is what `output_attentions=True` needs. The weights
    become `dtype`, by default float32 on a CPU and what they are in their files on a GPU.
    With `make`, which takes a linear layer and returns another one, such as `qlora.NF4Linear`, each linear layer but
    the output head is replaced as soon as it is read, so that the model in floats is never in memory as a whole, and
    float16 becomes bfloat16. Where an architecture's files have other tensors than its layers, no layer is replaced.
    `say` receives the line that announces the model, and one where its config.json has no place for some weights.

    Raises `ModelNotFound` (wrong path, unknown name, no network), `ModelGated` (the hub wants to know who asks),
    `ModelBroken` (no config, no tokenizer, weights missing or cut short, an architecture that transformers lacks),
    `AdapterUnfit` (an adapter of another model).

    Does not run code that comes with a model, does not read pickled weights, and does not ask whether the model
    fits into memory.

    >>> lm = open_model("pebble")                                          # doctest: +ELLIPSIS
    pebble: ...
    """
    name = str(name) if name is not None else chosen()
    path = path_of(name)
    with whole(path, name) as folder:
        lm = _open(folder, name, attention, say, make, dtype)
        if folder != path:  # it is removed now
            let_go(lm.model)
    return lm


def _open(
    folder: Path,
    name: str,
    attention: str | None,
    say: Callable[[str], object],
    make: "Make | None",
    dtype: "torch.dtype | None",
) -> LanguageModel:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if huggingface.is_original(folder):
        raise ModelBroken(f"{name} holds weights for Mistral's or Meta's own programs; {huggingface.ELSEWHERE}.")
    try:
        beside.refuse_pointers(folder)
    except FileBroken as error:
        raise ModelBroken(f"{name} cannot be opened: {error}") from None
    config = _read_config(folder, name)
    found = _inspect(folder, name)
    gpu = torch.cuda.is_available()
    dtype = dtype or (_file_dtype(found) if gpu else torch.float32)
    label = Path(name).name
    parameters = found.parameters
    memory = f"{_size(parameters * dtype.itemsize)} of memory as {str(dtype).removeprefix('torch.')}"
    say(
        f"{label}: {config.get('model_type')} with {parameters / 1e6:.2f} million parameters in "
        f"{config.get('num_hidden_layers', '?')} layers; {memory}"
    )
    with quiet():
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        except Exception as error:  # the library in Rust has no type of its own for what it cannot read
            if reason(error) == _refused_config(folder):  # which it reads first
                raise ModelBroken(
                    f"transformers does not accept the config.json of {label} ({reason(error)}); write there what it "
                    "expects, or take the model's config.json from where the model came from."
                ) from error
            raise ModelBroken(
                f"{label} has no tokenizer that can be read ({reason(error)}); put its tokenizer.json and "
                "tokenizer_config.json beside config.json."
            ) from error
        device = "cuda" if gpu else "cpu"
        model = None
        if make is not None:
            from llmnotes.models import layerwise

            dtype = torch.bfloat16 if dtype == torch.float16 else dtype
            model = layerwise.load(folder, found, make, dtype, device, attention)
        if model is None:
            model = loaded(AutoModelForCausalLM, folder, label, found, say, dtype=dtype, attn_implementation=attention)
            cast("torch.nn.Module", model).to(device)  # transformers' own `to` has a wrong type
    return LanguageModel(label, model.eval(), tokenizer)


def complete(lm: LanguageModel, prompts: list[str], max_new_tokens: int = 20) -> list[str]:
    """Return the greedy continuation of each prompt, without the prompt and without special tokens.

    Prompts are run in one batch, padded on the left, so that a prompt's answer does not depend on its neighbours
    beyond rounding; prompt and continuation together are the whole text. Greedy decoding has no randomness: at each
    step the most probable token is taken.

    >>> complete(open_model("pebble", say=lambda line: None), ["Once upon a time"])[0] != ""
    True
    """
    import torch

    tokenizer = lm.tokenizer
    count = cast("torch.nn.Embedding", lm.model.get_input_embeddings()).weight.shape[0]
    pad = next(at for at in (tokenizer.pad_token_id, tokenizer.eos_token_id, 0) if isinstance(at, int) and at < count)
    rows = [tokenizer(prompt)["input_ids"] for prompt in prompts]
    highest = max((token for row in rows for token in row), default=0)
    if highest >= count:
        raise ModelBroken(
            f"The tokenizer of {lm.name} makes token {highest:,} of a prompt, and the embedding's {count:,} rows count "
            "from 0; use the tokenizer that the model was trained with."
        )
    width = max(map(len, rows))
    ids = torch.tensor([[pad] * (width - len(row)) + row for row in rows])  # (prompts, tokens)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    model = cast("GenerativePreTrainedModel", lm.model)  # every causal language model of transformers can generate
    with torch.no_grad(), quiet():
        out = model.generate(
            ids.to(lm.model.device),
            attention_mask=mask.to(lm.model.device),
            do_sample=False,
            max_new_tokens=max_new_tokens,
            pad_token_id=pad,
        )
    texts = []
    for row, new in zip(rows, out[:, width:].tolist(), strict=True):
        before = str(tokenizer.decode(row, skip_special_tokens=True))
        whole = str(tokenizer.decode(row + new, skip_special_tokens=True))
        texts.append(whole.removeprefix(before))  # decoding `new` alone could lose the space before its first token
    return texts


def _read_config(folder: Path, name: str) -> dict:
    try:
        return json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelBroken(
            f"{name} has no config.json, so nobody knows what the weights mean; copy it from where the model came from."
        ) from None
    except (ValueError, OSError):
        raise ModelBroken(
            f"{name} has a config.json that is not valid JSON; copy it again from where the model came from."
        ) from None


def _refused_config(folder: Path) -> str:
    """Return why transformers does not read a folder's config.json, or "" where it does."""
    from transformers import AutoConfig

    try:
        AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # a class of settings raises what its checks raise
        return reason(error)
    return ""


def _inspect(folder: Path, name: str) -> Inspection:
    """Return what the headers of the weights say."""
    try:
        found = formats.inspect(folder)
    except (FileBroken, FileUnreadable, UnknownFormat) as error:
        raise ModelBroken(f"{name} cannot be opened: {error}") from None
    if any((folder / weights).exists() for weights in ("model.safetensors", "model.safetensors.index.json")):
        return found
    if any(tensor.path and tensor.path.suffix == ".safetensors" for tensor in found.tensors):
        raise ModelBroken(
            f"{name} has its weights in shards without an index, which transformers does not open; write them into one "
            "file with `llmnotes convert NAME NEW --to safetensors`, and open that folder."
        )
    raise ModelBroken(
        f"{name} has its weights in a pickle, which is not opened; write them as safetensors with "
        "`llmnotes convert`, and open that folder."
    )


def _file_dtype(found: Inspection) -> "torch.dtype":
    import torch

    kinds = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
    largest = max(found.tensors, key=lambda tensor: tensor.elements, default=None)
    return kinds.get(largest.dtype, torch.float32) if largest else torch.float32


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' progress bars and notices out of the reader's page while a model is opened."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
