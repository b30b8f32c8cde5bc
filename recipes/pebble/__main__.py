"""``python -m recipes.pebble``: train Pebble from nothing, measure it, write its card."""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path


def main() -> None:
    """Read the options and run the recipe."""
    parser = argparse.ArgumentParser(
        prog="python -m recipes.pebble",
        description=main.__doc__,
        epilog="example: python -m recipes.pebble --out build/pebble   (runs again from its checkpoint if stopped)",
    )
    parser.add_argument("--out", type=Path, default=Path("build/pebble"), help="folder for checkpoints and results")
    parser.add_argument("--install", action="store_true", help="replace the weights in the package at the end")
    parser.add_argument("--shrink", type=int, default=1, help="divide steps and documents by this, for a smoke test")
    parser.add_argument("--threads", type=int, default=0, help="threads for torch; 0 leaves its own choice")
    parser.add_argument("--chat", action="store_true", help="keep the packaged Pebble and train pebble-chat alone")
    options = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import torch

    from recipes.pebble.recipe import Recipe, run

    if options.threads:
        torch.set_num_threads(options.threads)
    recipe, n = Recipe(), options.shrink
    if n > 1:
        recipe = replace(
            recipe,
            documents=recipe.documents // n,
            chat_documents=recipe.chat_documents // n,
            tokenizer_documents=max(2000, recipe.tokenizer_documents // n),
            steps=recipe.steps // n,
            long_steps=recipe.long_steps // n,
            readings=recipe.readings // n,
            short_steps=recipe.short_steps // n,
            chat_steps=recipe.chat_steps // n,
            sentences=50,
        )
    figures = run(recipe, options.out, options.install, options.chat)
    for name in ("pebble", "pebble-chat"):
        print(
            f"{name}: exam {figures[name]['exam']:.1%}, perplexity {figures[name]['perplexity']:.3f}, "
            f"sampled sentences that parse {figures[name]['parse_rate']:.1%}"
        )


if __name__ == "__main__":
    main()
