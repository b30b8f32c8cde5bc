"""Settings of Hugging Face's libraries, and of Hydra, that name Python code to import."""

import re
from collections.abc import Iterator
from typing import Any

from llmnotes.formats.scanning.names import judge, leads_to_programs

AUTO_MAP = "has auto_map: trust_remote_code=True runs Python files from this folder"
NAME = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*")
# Libraries whose classes are what a model is built from: their names say nothing bad by themselves.
LIBRARIES = set(
    "audiocraft datasets detectron2 diffusers fairseq fairseq2 flax hydra keras lightning megatron mlflow mmcv "
    "mmdet mmengine monai nemo numpy omegaconf onnxruntime open_clip optax optimum peft pytorch_lightning "
    "sentence_transformers speechbrain tensorflow tf_keras timm tokenizers torch torchaudio torchmetrics torchtune "
    "torchvision transformers trl".split()
)
# Modules of diffusers.pipelines, which stand in model_index.json without what comes before them.
PIPELINES = set(
    "allegro alt_diffusion amused audioldm audioldm2 aura_flow blip_diffusion bria chroma cogvideo cogview3 cogview4 "
    "consisid consistency_models controlnet cosmos deepfloyd_if easyanimate flux flux2 hidream_image hunyuan_video "
    "hunyuandit i2vgen_xl kandinsky kandinsky2_2 kandinsky3 kandinsky5 kolors latent_consistency_models "
    "latent_diffusion latte ledits_pp ltx ltx2 lumina lumina2 marigold mochi musicldm omnigen paint_by_example pia "
    "pixart_alpha qwenimage sana semantic_stable_diffusion shap_e stable_audio stable_cascade stable_diffusion "
    "stable_diffusion_3 stable_diffusion_safe stable_diffusion_xl stable_video_diffusion text_to_video_synthesis "
    "unclip unidiffuser versatile_diffusion visualcloze vq_diffusion wan wuerstchen z_image".split()
)


def programs(about: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield a verdict and a sentence for each thing in one object of a configuration that names code to import.

    >>> list(programs({"parent_library": "os"}))
    [('dangerous', 'has parent_library: os is imported')]
    """
    if about.get("auto_map") and isinstance(about["auto_map"], dict | list | str):
        yield "suspicious", AUTO_MAP
    if about.get("custom_pipelines"):
        yield "suspicious", "has custom_pipelines: trust_remote_code=True runs Python files from this folder"
    for key in ("parent_library", "megatron_core"):  # of PEFT's adapters
        yield from _imported(key, about.get(key))
    for key in ("attn_implementation", "_attn_implementation"):
        if isinstance(about.get(key), str) and "/" in about[key]:
            yield "suspicious", f"has {key}: compiled code is fetched from {about[key][:100]} and run"
    for key in ("model_args", "model_kwargs", "tokenizer_args", "tokenizer_kwargs", "processor_kwargs", "config_args"):
        if isinstance(about.get(key), dict) and about[key].get("trust_remote_code") not in (None, False):
            yield "suspicious", f"has trust_remote_code in {key}: Python files of another folder are run"
    if "_class_name" in about and "_diffusers_version" in about:
        yield from _pipeline(about)
    if isinstance(about.get("types"), dict) and "structure" in about:  # of sentence_transformers' Router
        for name in about["types"].values():
            yield from _module(name)


def targets(about: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield a verdict and a sentence for the `_target_` of Hydra: a name that it imports and calls.

    `target`, as older configurations have it, counts where it is known to run programs. What MLflow and jsonpickle
    import is judged like a `_target_`.
    """
    target = about.get("_target_")
    yield from _imported("_target_", target)
    if isinstance(target, str) and target.startswith("hydra.utils.get_"):
        yield from _imported("path", about.get("path"))
    target = about.get("target")
    if isinstance(target, str) and NAME.fullmatch(target) and leads_to_programs(target, False):
        yield "dangerous", f"has target: {target[:200]} is imported"
    yield from _imported("loader_module", about.get("loader_module"))  # of MLflow
    for key in ("py/object", "py/type", "py/function", "py/class"):  # of jsonpickle
        yield from _imported(key, about.get(key))


def modules(value: Any) -> Iterator[tuple[str, str]]:
    """Yield a verdict and a sentence for each module in sentence_transformers' modules.json that is not its own."""
    for part in value if isinstance(value, list) else ():
        pairs = dict(part) if isinstance(part, list) and all(isinstance(pair, tuple) for pair in part) else {}
        yield from _module(pairs.get("type"))


def _module(name: Any) -> Iterator[tuple[str, str]]:
    if isinstance(name, str) and not name.startswith(("sentence_transformers.", "torch.nn.modules.")) and "." in name:
        module, _, last = name.rpartition(".")
        verdict = "dangerous" if judge(module, last) == "dangerous" else "suspicious"
        yield verdict, f"names the module {name[:200]}, which sentence_transformers imports"


def _imported(key: str, name: Any) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with a name that a library imports."""
    if not isinstance(name, str) or not NAME.fullmatch(name) or name == "__main__":
        return
    module, _, last = name.rpartition(".")
    verdict = judge(module, last) if module else judge(name, "")
    if verdict == "safe" or name.startswith("torch.utils.data."):
        return
    if verdict == "dangerous" or name.split(".")[0] not in LIBRARIES:
        yield verdict, f"has {key}: {name[:200]} is imported"


def _pipeline(about: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with diffusers' model_index.json: components are pairs of a library and a class."""
    for key, value in about.items():
        if not isinstance(value, list) or len(value) != 2 or not isinstance(value[0], str):
            continue
        library, last = value[0], str(value[1])
        words = library.split(".")
        if key == "_class_name":
            yield "suspicious", f"has a pipeline of its own, {library[:100]}.{last[:100]}, whose Python file is run"
        elif words[0] not in LIBRARIES | PIPELINES or set(words) & {"os", "sys", "subprocess", "importlib"}:
            verdict = "dangerous" if judge(library, last) == "dangerous" else "suspicious"
            yield verdict, f"has the component {key[:80]}: {library[:100]}.{last[:100]} is imported"
