"""Quantization that runs a model: calibration, importance matrices, smoothing, training with rounding, the cache."""
