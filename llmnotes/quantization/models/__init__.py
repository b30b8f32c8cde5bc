"""Quantization that runs a model: GPTQ, importance matrices, smoothing, quantization-aware training, the KV cache."""
