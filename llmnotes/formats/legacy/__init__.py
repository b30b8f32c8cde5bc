"""Formats that few people still write: TensorFlow, Keras and HDF5, GGML and its relatives, llama2.c."""
