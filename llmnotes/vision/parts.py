"""The parts of a small LLaVA before they learn anything: shapes, processors, and how pictures become numbers."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

from llmnotes.pebble import weights_dir
from llmnotes.vision.pictures import SIZE, Scene, draw

if TYPE_CHECKING:
    import numpy as np
    import torch
    from transformers import CLIPImageProcessorPil, CLIPModel, PreTrainedTokenizerBase

PATCH = 10  # pixels on each side: 6 x 6 patches
TOKENS = (SIZE // PATCH) ** 2  # what a picture takes up in the language model
LAYER = -2  # the projector sees the encoder's last layer but one, as in LLaVA
IMAGE = "<image>"
CAPTION = 24  # tokens of a caption at most
# What Pebble's own template writes, and for a picture its token in front of the question. llama.cpp gives a message as
# one text, in which a mark such as <__media__> stands for the picture.
TEMPLATE = """{{- bos_token -}}
{%- for message in messages -%}
{%- if message['role'] not in ['user', 'assistant'] -%}
{{- raise_exception("Pebble knows two roles, user and assistant.") -}}
{%- endif -%}
{{- '<|' + message['role'] + '|>' -}}
{%- if message['content'] is string and message['content'].startswith('<__media_') -%}
{%- set cut = message['content'].split('__>', 1) -%}
{{- cut[0] + '__> ' + cut[1].strip() -}}
{%- elif message['content'] is string -%}
{{- ' ' + message['content'].strip() -}}
{%- else -%}
{%- for part in message['content'] if part['type'] == 'image' -%}{{- '<image>' -}}{%- endfor -%}
{%- for part in message['content'] if part['type'] == 'text' -%}{{- ' ' + part['text'].strip() -}}{%- endfor -%}
{%- endif -%}
{{- '<|end|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}
"""


def new_encoder(width: int = 128, layers: int = 4, text_layers: int = 2, seed: int = 0) -> CLIPModel:
    """Return an untrained CLIP: an encoder of pictures and one of captions, in transformers' `CLIPModel`.

    (Radford et al., Learning Transferable Visual Models From Natural Language Supervision, 2021, section 2.)
    """
    import torch
    from transformers import CLIPConfig, CLIPModel

    config = CLIPConfig(
        vision_config={
            "hidden_size": width,
            "intermediate_size": 4 * width,
            "num_hidden_layers": layers,
            "num_attention_heads": max(1, width // 32),
            "image_size": SIZE,
            "patch_size": PATCH,
            "projection_dim": width,
        },
        text_config={
            "hidden_size": width,
            "intermediate_size": 2 * width,
            "num_hidden_layers": text_layers,
            "num_attention_heads": max(1, width // 32),
            "vocab_size": 2048,
            "max_position_embeddings": CAPTION,
            "bos_token_id": 0,
            "eos_token_id": 1,
            "pad_token_id": 2,
            "projection_dim": width,
        },
        projection_dim=width,
    )
    torch.manual_seed(seed)
    return CLIPModel(config).eval()


def image_processor() -> CLIPImageProcessorPil:
    """Return what brings a picture to the encoder's size and its colours to [-1, 1]."""
    from transformers import CLIPImageProcessorPil

    half = [0.5, 0.5, 0.5]
    return CLIPImageProcessorPil(
        size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE}, image_mean=half, image_std=half
    )


def tokenizer(image: bool) -> PreTrainedTokenizerBase:
    """Return pebble-chat's tokenizer, with `image` that one with a token for pictures."""
    from transformers import AutoTokenizer

    found = AutoTokenizer.from_pretrained(weights_dir("pebble-chat"))
    if image:
        found.add_tokens([IMAGE], special_tokens=True)
    return found


def read_captions(captions: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> dict[str, torch.Tensor]:
    """Return the tokens of captions as CLIP reads them, each with its end: input_ids and attention_mask (rows, tokens).

    Does not look at the tokens behind the first `CAPTION`.
    """
    import torch

    rows = [[*tokenizer(text)["input_ids"][: CAPTION - 1], 1] for text in captions]
    width = max(map(len, rows))
    ids = torch.tensor([row + [2] * (width - len(row)) for row in rows])
    return {
        "input_ids": ids,
        "attention_mask": (torch.arange(width) < torch.tensor([[len(row)] for row in rows])).long(),
    }


def pixels(scenes: Sequence[Scene], rng: random.Random) -> np.ndarray:
    """Return a drawn picture of each scene as bytes: (pictures, 3, SIZE, SIZE)."""
    import numpy as np

    return np.stack([np.asarray(draw(scene, rng)).transpose(2, 0, 1) for scene in scenes])


def scaled(bytes_: np.ndarray) -> torch.Tensor:
    """Return colours from 0 to 255 as the image processor gives them, from -1 to 1."""
    import torch

    return torch.from_numpy(bytes_).float() / 127.5 - 1
