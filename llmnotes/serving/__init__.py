"""Run a model with llama.cpp on this machine: in Python, behind a port, or as a chat in the terminal.

Importing it loads nothing heavy; llama.cpp itself comes with the package xllamacpp.

>>> from llmnotes.serving import Client, load, serve

Other servers that speak OpenAI's protocol are an address away: `Client(url)`, or `llmnotes chat URL`. These are their
settings for the file of `llmnotes convert pebble-chat pebble-chat.gguf --type Q8_0`. They are programs of their own
and were not started here: only the addresses and the template are tested.

text-generation-webui, with the file in user_data/models:

    python server.py --api --nowebui --loader llama.cpp --model pebble-chat.gguf --ctx-size 512
    llmnotes chat http://127.0.0.1:5000/v1

Ollama, with a file named Modelfile (it adds the first token by itself, and does not read the file's own template):

    FROM ./pebble-chat.gguf
    TEMPLATE "{{ range .Messages }}<|{{ .Role }}|> {{ .Content }}<|end|>{{ end }}<|assistant|>"
    PARAMETER stop "<|end|>"
    PARAMETER num_ctx 512

    ollama create pebble-chat -f Modelfile
    llmnotes chat http://127.0.0.1:11434/v1 --name pebble-chat:latest

LM Studio:

    lms import pebble-chat.gguf
    lms load pebble-chat --context-length 512
    lms server start --port 1234
    llmnotes chat http://127.0.0.1:1234/v1

The package gpt4all (2.8.2, tested) opens our GGUF. It does not read its template either:

    model = GPT4All("pebble-chat.gguf", model_path=".", allow_download=False, device="cpu", n_ctx=512)
    with model.chat_session("", "<|user|> {0}<|end|><|assistant|>"):
        model.generate("What does the goose say?", temp=0, repeat_penalty=1.0)

It ends the whole process with "arguments to stringsOverlap must not be empty" as soon as a model writes a token that
has no text, such as the unused ones with which a vocabulary is filled up: a model that was not trained may do so. It
compares what was written so far with the words to stop at, and takes no empty text. Ours has no such tokens.
"""

from importlib import import_module

LATER = {
    "Client": "client",
    "Runtime": "runtime",
    "load": "runtime",
    "serve": "server",
}

__all__ = sorted([*LATER, "about"])


def __getattr__(name: str):
    if name == "about":
        from llmnotes.llama_cpp.model_file import about

        return about
    if name not in LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"llmnotes.serving.{LATER[name]}"), name)
