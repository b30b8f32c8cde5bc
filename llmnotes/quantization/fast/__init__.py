"""The compiled kernels of GGML's types: numba, byte-identical to llama.cpp, used where a tensor is large enough."""
