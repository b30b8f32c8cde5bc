"""Train the small LLaVA: `python -m recipes.vision`."""
