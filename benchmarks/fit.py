"""What `llmnotes.fit` says a model needs, beside what llama.cpp reports: Pebble and 250 million parameters.

    .venv/bin/python benchmarks/fit.py      five types and three contexts each, results/fit.json

Pebble is really converted; the larger model is a Llama whose weights are zeros, which take as much memory as others.
"""

import json
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from llmnotes.fit import fit  # noqa: E402
from llmnotes.fit.empty_gguf import write_empty  # noqa: E402
from llmnotes.fit.shapes import Shape  # noqa: E402
from llmnotes.formats import convert  # noqa: E402
from llmnotes.llama_cpp.memory import reported_buffers  # noqa: E402
from llmnotes.pebble import weights_dir  # noqa: E402

TYPES = ("F32", "F16", "Q8_0", "Q4_K_M", "Q4_0")
CONTEXTS = (512, 2048, 8192)
LARGER = Shape(1024, 2816, 16, 16, 8, 64, 32000, False)


def main() -> int:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for kind in TYPES:
            pebble, larger = (Path(folder) / f"{name}-{kind}.gguf" for name in ("pebble", "larger"))
            convert(weights_dir("pebble"), pebble, type=kind)
            write_empty(larger, pebble, LARGER, kind)
            for name, file in (("Pebble", pebble), ("250M", larger)):
                for context in CONTEXTS:
                    said = fit(file, ram="64GB", context=context).options[0].parts
                    real = reported_buffers(file, context)
                    off = {part: said[part] / size - 1 for part, size in real.items()}
                    rows.append({"model": name, "type": kind, "context": context, "reported": real, "off": off})
                    print(
                        name, kind, context, {part: f"{100 * error:+.2f}%" for part, error in off.items()}, flush=True
                    )
            larger.unlink()
    worst = max(abs(error) for row in rows for error in row["off"].values())
    print(f"at most {100 * worst:.2f}% off")
    results = {"worst": worst, "rows": rows}
    (HERE / "results" / "fit.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return int(worst > 0.03)


if __name__ == "__main__":
    sys.exit(main())
