"""Count the models of `llmnotes fit` again, after a config in llmnotes/fit/catalogue.json has changed or come in.

    python -m kit.fit_catalogue

A model is an entry with "also", its other names, and "config". What transformers' class holds is written beside it, so
that `fit` answers for a listed name without importing torch; tests/test_fit_catalogue.py counts again.
"""

import json
from pathlib import Path

from llmnotes.fit import on_meta
from llmnotes.fit.pieces import written
from llmnotes.fit.shapes import TYPES

FILE = Path(on_meta.__file__).with_name("catalogue.json")


def counted(name: str, entry: dict) -> dict:
    """Return an entry with what its class holds: "parameters", "pieces", and "shape" for layers that are no Llama's."""
    pieces, shape = on_meta.count(name, entry["config"])
    text = entry["config"].get("text_config", entry["config"])
    more = {} if text.get("model_type", "llama") in TYPES else {"shape": list(shape)[:8]}
    return (
        {"also": entry["also"], "parameters": pieces.parameters, "config": entry["config"]}
        | more
        | {"pieces": written(pieces)}
    )


def main() -> None:
    """Write the file anew, one entry a line."""
    data = json.loads(FILE.read_text(encoding="utf-8"))
    data["models"] = {name: counted(name, entry) for name, entry in data["models"].items()}
    parts = []
    for part, entries in data.items():
        lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(entry)}" for name, entry in entries.items())
        parts.append(f" {json.dumps(part)}: {{\n{lines}\n }}")
    FILE.write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
