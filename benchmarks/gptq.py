"""GPTQ of the whole of Pebble: time and loss, here and in gptqmodel, on the same tokens with the same settings.

python benchmarks/gptq.py [--rounds 3] [--tokens 8192]   (needs gptqmodel)

3 bits, groups of 128, symmetric, columns ordered within their groups (gptqmodel's default), two threads. Each
measurement is a process of its own, ours and theirs in turn; imports and the loading of the model are not counted.
gptqmodel's time includes packing; ours is measured with packing as well.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from report import renew

SETTINGS = {"bits": 3, "group_size": 128, "order": "group", "damp": 0.01}
TOOLS = ("llmnotes", "llmnotes with search", "gptqmodel")


def measure(tool: str, tokens: int) -> dict:
    """Return seconds, and KL against the original on held-out text, of one run in this process."""
    import copy

    import torch

    from llmnotes.evaluation import held_out_text, kl_divergence
    from llmnotes.models import open_model
    from llmnotes.pebble import weights_dir
    from llmnotes.pebble.corpus import documents
    from llmnotes.quantization import gptq_layout
    from llmnotes.quantization.models import gptq, layerwise

    torch.set_num_threads(2)
    lm = open_model("pebble", say=lambda line: None)
    texts = (document.text for document in documents(3000, seed=11))
    windows = list(layerwise.token_windows(texts, lm.tokenizer, tokens))
    model = copy.deepcopy(lm.model)
    if tool == "gptqmodel":
        from gptqmodel import GPTQModel, QuantizeConfig

        settings = QuantizeConfig(
            bits=3, group_size=128, act_group_aware=True, damp_percent=0.01, sym=True, offload_to_disk=False
        )
        peer = GPTQModel.load(str(weights_dir("pebble")), settings, dtype=torch.float32)
        data = [{"input_ids": row.tolist(), "attention_mask": [1] * len(row)} for part in windows for row in part]
        clock = time.perf_counter(), time.process_time()
        peer.quantize(data, batch_size=8)
    else:
        clock = time.perf_counter(), time.process_time()
        found = gptq.quantize_model(model, windows, **SETTINGS, search="search" in tool)
        for layer in found.values():
            gptq_layout.pack(layer)
    seconds, cpu = time.perf_counter() - clock[0], time.process_time() - clock[1]
    if tool == "gptqmodel":
        for name, layer in peer.model.named_modules():
            if hasattr(layer, "qweight"):
                parts = {key: getattr(layer, key).numpy() for key in ("qweight", "qzeros", "scales", "g_idx")}
                weight = gptq_layout.unpack(parts, 3, layer.qzero_format()).dequantize()
                model.get_submodule(name).weight.data.copy_(weight)
    kl = kl_divergence(lm.model, model, lm.tokenizer, held_out_text(0))
    return {"tool": tool, "seconds": seconds, "cpu_seconds": cpu, "kl": kl}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--one", choices=TOOLS, help="measure once, in this process, and print JSON")
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(measure(asked.one, asked.tokens)))
        return 0
    rows = []
    settings = {"GPTQMODEL_CPU_WORKERS": "2", "OMP_WAIT_POLICY": "PASSIVE", "HF_HUB_OFFLINE": "1"}
    for _ in range(asked.rounds):
        for tool in TOOLS:
            command = [sys.executable, __file__, "--one", tool, "--tokens", str(asked.tokens)]
            done = subprocess.run(command, env=os.environ | settings, capture_output=True, text=True, check=True)
            rows.append(json.loads(done.stdout.strip().splitlines()[-1]))
    medians = {
        tool: {
            key: statistics.median(row[key] for row in rows if row["tool"] == tool) for key in rows[0] if key != "tool"
        }
        for tool in TOOLS
    }
    lines = ["| GPTQ of Pebble | wall s | processor s | KL, nats per token |", "|---|---:|---:|---:|"]
    for tool, row in medians.items():
        lines.append(f"| {tool} | {row['seconds']:.1f} | {row['cpu_seconds']:.1f} | {row['kl']:.4f} |")
    print("\n".join(lines))
    renew("gptq", "\n".join(lines))
    result = Path(__file__).parent / "results" / "gptq.json"
    result.write_text(json.dumps({"tokens": asked.tokens, "medians": medians, "rows": rows}, indent=1) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
