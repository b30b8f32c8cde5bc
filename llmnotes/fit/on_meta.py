"""Count a model by building it: transformers' own class on the meta device, where a tensor has a shape and no memory.

What the class says holds: the defaults of settings that a config.json leaves out, tied embeddings, experts, layers
that share weights. One token then runs through it, and the cache that it leaves says what each layer keeps of a text.
"""

import contextlib
import json
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from llmnotes.cache_name import cache_name
from llmnotes.errors import ModelBroken
from llmnotes.fit.pieces import Cache, Pieces, Weights
from llmnotes.fit.shapes import LAYERS_LIMIT, Shape

if TYPE_CHECKING:
    import torch

# The types that are counted; a test compares each with a model that really runs. With an image encoder: IMAGE.
TEXT = """
    apertus arcee bamba cohere cohere2 ernie4_5 exaone4 falcon falcon_h1 gemma gemma2 gemma3_text gemma4_text glm4
    glm4_moe gpt2 gpt_neox gpt_oss gptj granite granitemoe granitemoehybrid lfm2 llama ministral3 mistral mixtral olmo
    olmo2 olmo3 olmoe opt phi phi3 phimoe qwen2 qwen2_moe qwen3 qwen3_5_moe_text qwen3_5_text qwen3_moe qwen3_next
    seed_oss smollm3 stablelm starcoder2 zamba2
""".split()
IMAGE = """
    gemma3 gemma4 idefics3 internvl lfm2_vl llava llava_next mistral3 paligemma qwen2_5_vl qwen2_vl qwen3_5 qwen3_vl
    smolvlm
""".split()
INNER = ("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size")  # the width of an MLP, by its names


def count(name: str, config: Mapping) -> tuple[Pieces, Shape]:
    """Return the pieces of the model that a config.json describes, and the widths of its language model.

    No weights are made, nothing is downloaded and no code of a model's author runs. Raises `ModelBroken` for a type of
    model that is not in `TEXT` and `IMAGE`, and for settings that its class does not build.

    >>> settings = dict(model_type="llama", hidden_size=64, intermediate_size=128, num_hidden_layers=2)
    >>> pieces, shape = count("a Llama", settings | dict(num_attention_heads=4, vocab_size=100))
    >>> pieces.parameters, pieces.caches[0]
    (95040, Cache(width=128, window=None, state=0, exact=0))
    """
    kind = config.get("model_type", "llama")
    if kind not in (*TEXT, *IMAGE):
        raise ModelBroken(
            f"llmnotes does not count models of the type {str(kind)[:40]}; it counts language models of these types: "
            f"{', '.join(sorted((*TEXT, *IMAGE)))}."
        )
    settings = {key: value for key, value in config.items() if key not in ("auto_map", "quantization_config")}
    many = next((key for key, value in _counts(settings) if value > LAYERS_LIMIT), None)
    if many is not None:
        raise ModelBroken(f"The config of {name} sets {many} to more than {LAYERS_LIMIT:,}; give that of a real model.")
    try:
        with _quietly():
            model = _built(kind, settings)
            return _pieces(model), _shape(model.config.get_text_config(decoder=True))
    except Exception as error:
        first = str(error).strip().partition("\n")[0][:100]
        raise ModelBroken(
            f"transformers builds no {kind} from the config of {name} ({type(error).__name__}: {first}); copy the "
            "model's folder again."
        ) from None


def _counts(settings: Mapping) -> Iterator[tuple[str, int]]:
    """Yield the settings that say how many modules there are, from all depths."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _counts(value)
        elif type(value) is int and str(key).endswith(("layers", "layer", "depth", "experts")):
            yield key, value


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Keep the warnings of transformers from the terminal."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity(50)  # nothing but what ends a program
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(before)


def _built(kind: str, settings: dict) -> Any:
    """Return the model on the meta device."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

    with TemporaryDirectory() as folder:  # only from a file does transformers read all that it writes
        Path(folder, "config.json").write_text(json.dumps(settings | {"model_type": kind}), encoding="utf-8")
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
    maker = AutoModelForImageTextToText if kind in IMAGE else AutoModelForCausalLM
    with torch.device("meta"):
        return maker.from_config(config, dtype=torch.bfloat16).eval()


def _pieces(model: Any) -> Pieces:
    """Return the pieces of a model on the meta device."""
    import torch

    decoder, table, head = model.get_decoder(), model.get_input_embeddings(), model.get_output_embeddings()
    names = {id(module): name for name, module in model.named_modules()}
    layers = next(
        module
        for module in decoder.children()
        if isinstance(module, torch.nn.ModuleList) and len(module) == decoder.config.num_hidden_layers
    )
    tied = head.weight is table.weight
    seen: set[int] = set()
    embedding = _weights(table, seen).numbers
    counted = tuple(_weights(layer, seen) for layer in layers)
    outside = _weights(decoder, seen).numbers + _weights(head, seen).numbers
    vision = _weights(model, seen)

    def children(parent: Any) -> list[str]:
        """Return the names of a module's parts that have no name yet."""
        inside = {id(layers), id(table), id(head), *(id(part) for part in decoder.modules())}
        return [names[id(part)] for part in parent.children() if id(part) not in inside]

    rest = [names[id(part)] for part in decoder.children() if part is not layers and part is not table]
    around = [part for part in model.modules() if part is not decoder and decoder in part.children()]
    others = [name for parent in {id(part): part for part in (model, *around)}.values() for name in children(parent)]
    others = [name for name in others if not any(names[id(part)] == name for part in around)]
    others += [f"{names[id(part)]}.{name}" for part in around for name, _ in part.named_parameters(recurse=False)]
    return Pieces(
        embedding,
        counted,
        _caches(decoder, len(layers)),
        outside,
        vision,
        tied,
        {
            "layers": names[id(layers)],
            "embedding": names[id(table)],
            "output": rest + [names[id(head)]] * (not tied),
            "tied": names[id(head)] if tied else None,
            "vision": others,
        },
    )


def _weights(module: Any, seen: set[int]) -> Weights:
    """Count what a module holds beyond what was `seen`, and remember it; linear layers are those of bitsandbytes."""
    import torch
    from transformers.pytorch_utils import Conv1D

    found = Weights()
    for part in module.modules():
        for name, parameter in part.named_parameters(recurse=False):
            if id(parameter) in seen:
                continue
            seen.add(id(parameter))
            if name == "weight" and (type(part) is torch.nn.Linear or isinstance(part, Conv1D)):
                out, inside = parameter.shape if type(part) is torch.nn.Linear else reversed(parameter.shape)
                found = found.with_linear(out, inside)
            else:
                found = found._replace(others=found.others + parameter.numel())
    return found


def _caches(decoder: Any, layers: int) -> tuple[Cache, ...]:
    """Return what each layer keeps, as one token shows that runs through all of them."""
    import torch

    with torch.no_grad(), torch.device("meta"):
        out = decoder(input_ids=torch.ones(1, 1, dtype=torch.long), use_cache=True)
    found = []
    for layer in out[cache_name()].layers:
        states = [*tensors(getattr(layer, "conv_states", None)), *tensors(getattr(layer, "recurrent_states", None))]
        exact = sum(state.numel() for state in states if state.dtype == torch.float32)
        found.append(
            Cache(
                sum(part.numel() for name in ("keys", "values") for part in tensors(getattr(layer, name, None))),
                getattr(layer, "sliding_window", None),
                sum(state.numel() for state in states) - exact,
                exact,
            )
        )
    return tuple(found + [Cache()] * (layers - len(found)))


def tensors(held: Any) -> "list[torch.Tensor]":
    """Return the tensors in what a cache holds: one, several by name, or none yet."""
    import torch

    if isinstance(held, torch.Tensor):
        return [held]
    return [one for one in held.values() if isinstance(one, torch.Tensor)] if isinstance(held, Mapping) else []


def _shape(text: Any) -> Shape:
    """Return the widths of a language model from its settings in transformers; that of the MLP is what one token meets.

    The tensors in a layer are those of a Llama; `Pieces` has those of this model.
    """

    def setting(name: str) -> int:
        try:
            return getattr(text, name, None) or 0
        except Exception:  # transformers has an error of its own for what differs from layer to layer
            return 0

    hidden, heads = text.hidden_size, text.num_attention_heads
    inner = max(map(setting, INNER)) or 4 * hidden
    if setting("num_experts_per_tok"):
        each = setting("moe_intermediate_size") or inner
        inner = max(setting("num_experts_per_tok") * each, setting("shared_expert_intermediate_size"))
    groups, head = setting("num_key_value_heads") or heads, setting("head_dim") or hidden // heads
    return Shape(hidden, inner, text.num_hidden_layers, heads, groups, head, text.vocab_size, False)
