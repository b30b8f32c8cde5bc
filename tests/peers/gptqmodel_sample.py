"""What transformers and gptqmodel make of Pebble at 3 bits, as JSON: `python gptqmodel_sample.py` in their environment.

It quantizes Pebble with `GPTQConfig`, and loads a folder that llmnotes wrote. `llmnotes/gptqmodel_sample.json` is what
it printed, and notebook 15 shows that.
"""

import copy
import json
import os
import sys
import tempfile
import warnings
from contextlib import redirect_stdout
from pathlib import Path

os.environ |= {"GPTQMODEL_CPU_WORKERS": "2", "HF_HUB_OFFLINE": "1", "OMP_WAIT_POLICY": "PASSIVE"}
sys.path.insert(0, str(Path(__file__).parents[2]))
warnings.simplefilter("ignore")


def main() -> dict:
    """Return the figures by what they are."""
    import gptqmodel
    import torch
    import transformers
    from transformers import AutoModelForCausalLM, AutoTokenizer, GPTQConfig

    from llmnotes.evaluation import held_out_text, kl_divergence, with_weights
    from llmnotes.formats import gptq as folders
    from llmnotes.pebble import weights_dir
    from llmnotes.pebble.corpus import documents
    from llmnotes.quantization.grouped import round_to_nearest
    from llmnotes.quantization.models import gptq, layerwise

    pebble = weights_dir("pebble")
    tokenizer = AutoTokenizer.from_pretrained(pebble)
    original = AutoModelForCausalLM.from_pretrained(pebble, dtype=torch.float32)
    stories, text = [document.text for document in documents(400, seed=11)], held_out_text()
    windows = list(layerwise.token_windows(stories, tokenizer, tokens=8192))

    def kl(model):
        return float(f"{kl_divergence(original, model, tokenizer, text):.3g}")

    texts = [tokenizer.decode(row) for batch in windows for row in batch]
    config = GPTQConfig(bits=3, group_size=128, dataset=texts, tokenizer=tokenizer, model_seqlen=256)
    theirs = AutoModelForCausalLM.from_pretrained(
        pebble, quantization_config=config, device_map="cpu", dtype=torch.float32
    )
    rounded = with_weights(original, lambda weight: round_to_nearest(weight, 3).dequantize().numpy())
    ours = copy.deepcopy(original)
    layers = gptq.quantize_model(ours, windows, 3)
    with tempfile.TemporaryDirectory() as folder:
        saved = folders.save(pebble, layers, Path(folder) / "pebble-gptq-3bit")
        loaded = AutoModelForCausalLM.from_pretrained(saved, dtype=torch.float32)
        with torch.no_grad():
            gap = (loaded(windows[0]).logits - ours(windows[0]).logits).abs().max().item()
    return {
        "transformers": transformers.__version__,
        "gptqmodel": gptqmodel.__version__,
        "KL of plain rounding": kl(rounded),
        "KL of GPTQConfig's": kl(theirs),
        "KL of ours": kl(ours),
        "largest difference of logits": float(f"{gap:.1g}"),
        "class of a layer": type(loaded.model.layers[0].mlp.up_proj).__name__,
    }


if __name__ == "__main__":
    with redirect_stdout(sys.stderr):  # gptqmodel speaks on both
        found = main()
    print(json.dumps(found, indent=1))
