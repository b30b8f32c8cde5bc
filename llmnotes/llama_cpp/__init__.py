"""Everything in llmnotes that knows llama.cpp: its server, its C library, what it reports about memory.

Importing it loads nothing heavy. llama.cpp itself comes with the package xllamacpp, or with llama-cpp-python.
"""
