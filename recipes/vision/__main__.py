"""``python -m recipes.vision``: train the small LLaVA from nothing but pebble-chat, measure it, write its card."""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path


def main() -> None:
    """Train the encoder, the projector and the language model's adapter, each where it is not there yet."""
    parser = argparse.ArgumentParser(
        prog="python -m recipes.vision",
        description=main.__doc__,
        epilog="example: python -m recipes.vision --out build/vision   (goes on with the next stage if stopped)",
    )
    parser.add_argument("--out", type=Path, default=Path("build/vision"), help="folder for the weights and the card")
    parser.add_argument("--install", action="store_true", help="replace the weights in the package at the end")
    parser.add_argument("--shrink", type=int, default=1, help="divide the steps by this, for a smoke test")
    parser.add_argument("--threads", type=int, default=0, help="threads for torch; 0 leaves its own choice")
    options = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import torch

    from recipes.pebble.card import write
    from recipes.vision import card, training

    if options.threads:
        torch.set_num_threads(options.threads)
    recipe, n = training.Recipe(), options.shrink
    if n > 1:
        fewer = {name: getattr(recipe, name) for name in ("encoder", "projector", "language")}
        fewer = {name: replace(plan, steps=max(1, plan.steps // n)) for name, plan in fewer.items()}
        recipe = replace(recipe, **fewer)
    seconds = training.run(recipe, options.out)
    figures = card.measure(recipe, options.out, seconds)
    write(figures, card.text(figures), options.out)
    if options.install:
        training.install(options.out)
    print(card.text(figures))


if __name__ == "__main__":
    main()
