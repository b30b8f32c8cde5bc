"""Quantization: how weights are stored in fewer bits. Arrays in, arrays out; `models/` has what needs to run a model.

number_formats   floats and whole numbers of 4 to 32 bits, bit by bit
integers         absmax, zero points, calibrated ranges, LLM.int8()
blocks           the block types of GGUF (Q4_0, Q4_K, ...): `quantize(x, "Q4_K")`, in three layers that make the
                 same bytes: plain (NumPy to read), ggml (llama.cpp's C), fast (compiled kernels)
nf4              NF4 and FP4, as bitsandbytes stores them
grouped, gptq    matrices with a scale for each group, rounded to the nearest or by GPTQ; gptq_layout packs them
mixtures         which tensor of a model gets which type in a file type such as Q4_K_M
bounds, pruning  what no quantizer can beat; weights set to zero
"""
