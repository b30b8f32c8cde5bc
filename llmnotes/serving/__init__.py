"""Run a model with llama.cpp on this machine: in Python, behind a port, or as a chat in the terminal.

Importing it loads nothing heavy; llama.cpp itself comes with the package xllamacpp.

>>> from llmnotes.serving import Client, load, serve

Other programs that speak OpenAI's protocol can be asked, too: with `Client(url)`, or with `llmnotes chat URL`. Below
are their settings for a file made with `llmnotes convert pebble-chat pebble-chat.gguf --type Q8_0`. Our tests check
the addresses and the templates, but do not run these programs, except gpt4all.

text-generation-webui, with the file in user_data/models:

    python server.py --api --nowebui --loader llama.cpp --model pebble-chat.gguf --ctx-size 512
    llmnotes chat http://127.0.0.1:5000/v1

Ollama, with a file named Modelfile. It adds the first token itself, but does not read the template in the GGUF:

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

The package gpt4all (2.8.2, tested) opens our GGUF. It does not read the template in it either:

    model = GPT4All("pebble-chat.gguf", model_path=".", allow_download=False, device="cpu", n_ctx=512)
    with model.chat_session("", "<|user|> {0}<|end|><|assistant|>"):
        model.generate("What does the goose say?", temp=0, repeat_penalty=1.0)

gpt4all aborts the whole process with "arguments to stringsOverlap must not be empty" when a model writes a token that
has no text. The unused tokens that fill up a vocabulary are such tokens, and an untrained model may write one. (gpt4all
compares the text so far with the stop words, and cannot compare an empty text.) Pebble's vocabulary has none of them.
"""

from llmnotes.llama_cpp.model_file import ModelFile
from llmnotes.serving.client import Client
from llmnotes.serving.loading import gguf_of, load
from llmnotes.serving.runtime import Runtime
from llmnotes.serving.server import serve

__all__ = ["Client", "ModelFile", "Runtime", "gguf_of", "load", "serve"]
