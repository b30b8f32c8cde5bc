"""Run llama.cpp's own converter of CLIP: `python llama_cpp_mmproj.py LLAMA_CPP`, with jobs as JSON on standard input.

A job is [LLaVA folder, folder to write into, F32 or F16]. convert_hf_to_gguf.py --mmproj refuses a LLaVA with CLIP
("Unsupported model type: clip_vision_model"); for that llama.cpp keeps
tools/mtmd/legacy-models/convert_image_encoder_to_gguf.py. It wants the vision tower in a folder of its own and the
projector as a file of PyTorch: both are taken out of the LLaVA folder here. It was written for a transformers whose
CLIPVisionModel has everything inside `vision_model`: it gets one that looks so.
"""

import json
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import torch
import transformers

LEGACY = Path(sys.argv[1]) / "tools/mtmd/legacy-models/convert_image_encoder_to_gguf.py"


class Tower:
    """A vision tower with its parts under the names of older versions."""

    def __init__(self, tower):
        self.tower = tower
        self.vision_model = SimpleNamespace(encoder=tower.encoder)

    def state_dict(self):
        """Return the weights; the converter has cut the last layers off by now."""
        return {f"vision_model.{name}": value for name, value in self.tower.state_dict().items()}


for model, out, kind in json.load(sys.stdin):
    config = json.loads((Path(model) / "config.json").read_text(encoding="utf-8"))
    llava = transformers.LlavaForConditionalGeneration.from_pretrained(model, dtype=torch.float32).model
    folder = Path(out) / Path(model).name  # whose name becomes general.name
    folder.mkdir(parents=True)
    vision = config["vision_config"] | {"vision_feature_layer": config["vision_feature_layer"]}
    (folder / "config.json").write_text(json.dumps(vision), encoding="utf-8")
    projector = llava.multi_modal_projector.state_dict()
    torch.save({f"multi_modal_projector.{name}": value for name, value in projector.items()}, folder / "projector")
    transformers.CLIPVisionModel.from_pretrained = lambda folder, tower=llava.vision_tower: Tower(tower)
    sys.argv = [
        str(LEGACY),
        "-m",
        str(folder),
        "--clip-model-is-vision",
        "--llava-projector",
        str(folder / "projector"),
    ]
    sys.argv += ["-o", out] + ["--use-f32"] * (kind == "F32")
    runpy.run_path(str(LEGACY), run_name="__main__")
