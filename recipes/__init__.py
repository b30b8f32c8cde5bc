"""What trained the models in the box. Comes with the clone only; `make pebble` and `make vision` run it."""
