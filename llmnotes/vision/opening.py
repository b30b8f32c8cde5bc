"""Open a LLaVA: the one in the box, a folder, or a name on the hub."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from llmnotes.errors import CannotWrite, ModelBroken, ModelNotFound, UnknownName
from llmnotes.formats.gguf.llava import is_llava
from llmnotes.formats.safe_write import new_folder
from llmnotes.home import place_for
from llmnotes.models import open_model, path_of
from llmnotes.models.opening import quiet
from llmnotes.models.temporary import let_go, temporary_folder
from llmnotes.vision import parts

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import (
        CLIPImageProcessorPil,
        CLIPModel,
        LlavaForConditionalGeneration,
        LlavaProcessor,
        PreTrainedTokenizerBase,
    )

NAME = "pebble-llava"
WEIGHTS = Path(__file__).parent / "weights"
ENCODER, ADAPTER = "encoder.safetensors", "adapter"
STAGES = (0, 1, 2)


def load(
    name: str | Path = NAME, stage: int = 2, **kwargs: Any
) -> tuple[LlavaForConditionalGeneration, LlavaProcessor]:
    """Return (model, processor): transformers' `LlavaForConditionalGeneration` and the processor that belongs to it.

    `name` is "pebble-llava", a folder with a LLaVA in it, or a name on the hub such as "llava-hf/llava-1.5-7b-hf".
    `stage` is for the one in the box alone: after stage 1 its projector is trained, after stage 2 its language model
    as well (LoRA, merged into the weights); at 0 the projector is random. `kwargs` go to `from_pretrained`, such as
    `quantization_config` or `device_map`; without any, the one in the box is float32.

    Raises `ModelNotFound`, `ModelGated` and `ModelBroken` as `open_model` does, also where there is no LLaVA under
    the name, and `UnknownName` for another stage. Does not run code that comes with a model.

    >>> model, processor = load()
    >>> type(model).__name__, model.config.vision_feature_layer
    ('LlavaForConditionalGeneration', -2)
    """
    name = str(name)
    if name == NAME:
        if stage not in STAGES:
            raise UnknownName(
                f"There is no stage {stage!r}; choose 1 (the projector) or 2 (the language model as well)."
            )
        model, processor = assemble(stage)
        if not kwargs:
            return model, processor
        with temporary_folder() as folder:
            save(model, processor, folder)
            model, processor = _from_folder(folder, NAME, kwargs)
            let_go(model)
            return model, processor
    if name in ("pebble", "pebble-chat", "smollm2"):
        raise ModelNotFound(f"{name} has no encoder for pictures; take {NAME}, which has one in front of pebble-chat.")
    return _from_folder(path_of(name), name, kwargs)


def encoder(folder: str | Path = WEIGHTS) -> tuple[CLIPModel, CLIPImageProcessorPil, PreTrainedTokenizerBase]:
    """Return (the CLIP model as trained on pictures and captions, its image processor, its tokenizer).

    `parts.read_captions` makes the tokens that it reads. Raises `ModelBroken` where `folder` has no such weights.

    >>> clip, images, tokenizer = encoder()
    >>> type(clip).__name__
    'CLIPModel'
    """
    clip = parts.new_encoder()
    clip.load_state_dict(read_tensors(Path(folder) / ENCODER, clip))
    return clip.eval(), parts.image_processor(), parts.tokenizer(image=False)


def assemble(stage: int, folder: str | Path = WEIGHTS) -> tuple[LlavaForConditionalGeneration, LlavaProcessor]:
    """Return (model, processor) of the LLaVA whose trained parts lie in `folder`, as they are after a stage."""
    from llmnotes.finetuning import adapter_files, lora

    folder = Path(folder)
    clip, _, _ = encoder(folder)
    model, processor = join(clip)
    if stage:
        projector = model.model.multi_modal_projector
        projector.load_state_dict(read_tensors(folder / f"projector_{stage}.safetensors", projector))
    if stage == 2:
        adapter_files.load(model, folder / ADAPTER)
        lora.detach(lora.merge(model, keep=False))
    return model.eval().requires_grad_(False), processor


def join(clip: CLIPModel, seed: int = 0) -> tuple[LlavaForConditionalGeneration, LlavaProcessor]:
    """Return (model, processor): a CLIP's encoder and pebble-chat, with a random projector between them.

    The language model's vocabulary grows by the token of a picture, which is never an answer.
    """
    import torch
    from transformers import GenerationConfig, LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor

    pebble = open_model("pebble-chat", say=lambda line: None)
    language, tokenizer = pebble.model, parts.tokenizer(image=True)
    rows, token = len(tokenizer), cast(int, tokenizer.convert_tokens_to_ids(parts.IMAGE))
    text = language.config.to_dict() | {"vocab_size": rows}
    config = LlavaConfig(
        vision_config=clip.config.to_dict()["vision_config"],
        text_config=text,
        image_token_index=token,
        image_seq_length=parts.TOKENS,
        projector_hidden_act="gelu",
        vision_feature_layer=parts.LAYER,
        vision_feature_select_strategy="default",
        tie_word_embeddings=True,
    )
    torch.manual_seed(seed)
    model = LlavaForConditionalGeneration(config).float()
    model.model.vision_tower.load_state_dict(clip.vision_model.state_dict())
    weights = language.model.state_dict()
    old = weights["embed_tokens.weight"]
    padding = old[tokenizer.pad_token_id].expand(rows - len(old), -1)  # a token that is never an answer either
    model.model.language_model.load_state_dict(weights | {"embed_tokens.weight": torch.cat([old, padding])})
    model.tie_weights()
    model.generation_config = GenerationConfig.from_dict(language.generation_config.to_dict())
    processor = LlavaProcessor(
        image_processor=parts.image_processor(),
        tokenizer=tokenizer,
        patch_size=parts.PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=parts.TEMPLATE,
    )
    return model.eval(), processor


def save(model: LlavaForConditionalGeneration, processor: LlavaProcessor, folder: str | Path) -> None:
    """Write a LLaVA as a Hugging Face folder, which `load` and transformers' `AutoModelForImageTextToText` open."""
    with quiet():
        model.save_pretrained(folder)
    processor.save_pretrained(folder)


def folder() -> Path:
    """Return the Hugging Face folder of "pebble-llava", put together once and kept in ~/.llmnotes/models (18 MB).

    Raises `CannotWrite` where there is no room, and what `assemble` raises.

    >>> folder().name
    'pebble-llava'
    """
    state = hashlib.sha256(b"".join(file.read_bytes() for file in sorted(WEIGHTS.rglob("*")) if file.is_file()))
    place = place_for("models", NAME) / f"{NAME}-{state.hexdigest()[:12]}"
    target = place / NAME
    if target.exists():
        return target
    place.mkdir(exist_ok=True)
    model, processor = assemble(STAGES[-1])
    try:
        with temporary_folder() as temporary, new_folder(target) as new:
            save(model, processor, temporary)
            for file in sorted(temporary.iterdir()):
                with new.file(file.name) as copy:
                    copy.write(file.read_bytes())
    except CannotWrite:
        if not target.exists():  # it exists if another process was faster
            raise
    for old in place.parent.glob(f"{NAME}-*"):
        if old != place:
            shutil.rmtree(old, ignore_errors=True)
    return target


def read_tensors(path: Path, model: nn.Module) -> dict[str, torch.Tensor]:
    """Return the tensors of a file as float32, after it is clear that they are those of `model`."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        found = load_file(path)
    except FileNotFoundError:
        raise ModelBroken(
            f"There is no {path.name} in {path.parent}; train it with: python -m recipes.vision"
        ) from None
    except (SafetensorError, OSError):
        raise ModelBroken(f"{path} is damaged; copy it again, or train it with: python -m recipes.vision") from None
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    if shapes != {name: tuple(value.shape) for name, value in found.items()}:
        raise ModelBroken(
            f"{path} holds tensors of another model; copy it again, or train it with: python -m recipes.vision"
        )
    return {name: value.float() for name, value in found.items()}


def _from_folder(folder: Path, name: str, kwargs: dict) -> tuple[LlavaForConditionalGeneration, LlavaProcessor]:
    from transformers import AutoProcessor, LlavaForConditionalGeneration

    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        raise ModelBroken(
            f"{name} has no config.json that can be read; give the folder of a LLaVA, or {NAME}."
        ) from None
    if not isinstance(config, dict) or not is_llava(config):
        raise ModelNotFound(f"{name} holds no LLaVA but another model; give the folder of a LLaVA, or {NAME}.")
    safe = {"local_files_only": True, "trust_remote_code": False}
    try:
        processor = AutoProcessor.from_pretrained(folder, **safe)
        with quiet():
            model = LlavaForConditionalGeneration.from_pretrained(folder, use_safetensors=True, **safe, **kwargs)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelBroken(
            f"{name} has files that do not make a LLaVA ({type(error).__name__}); copy or download the folder again."
        ) from error
    return model.eval(), processor
