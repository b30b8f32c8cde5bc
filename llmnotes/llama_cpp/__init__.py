"""Everything that knows llama.cpp: its server in a child process, its C library through ctypes, what it reports.

Nothing is loaded on import; llama.cpp itself comes with the package xllamacpp.
"""
