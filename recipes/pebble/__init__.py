"""Train Pebble: `python -m recipes.pebble`."""
