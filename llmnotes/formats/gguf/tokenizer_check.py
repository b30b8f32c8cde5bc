"""Look again at a GGUF's tokenizer: does it find what the folder's tokenizer.json finds, special tokens and words?"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llmnotes.errors import FileBroken, NotConvertible
from llmnotes.formats.gguf import hf_tokenizer, tokenizer_files
from llmnotes.formats.gguf.pieces import MARK
from llmnotes.formats.gguf.types import Typed

TEXTS = (
    "Hello World, it's 3.14 o'clock!  I'VE\n\n \n\t\tif (x == 10) {\n    return 'y';\r\n}",
    " Three   spaces    here; trailing ",
    "日本語のテキスト 中文，标点。한국어 нещо ελληνικά éàü 🚀😶\u200d🌫️ ½ €5 \xa0",
    " ".join(f"{number:02}" for number in range(100)) + " 333 4444 1,000,000",
    "/usr/local/bin/ www.example.com/?q=1&r=2 CamelCase_snake-case <a href=\"b\"> ''''''```````......!!!!!!",
)
MOST = 200  # added tokens that are looked for


def differences(folder: Path, keys: dict[str, Any], told: bool) -> list[str]:
    """Return a sentence if texts become other tokens by the `keys` of a GGUF than by the folder's tokenizer.json.

    Nothing is said where the reason is `told` already, nor of a folder without a tokenizer.json. Raises
    `NotConvertible` where most texts differ or an added token is not found, `FileBroken` for a tokenizer.json that the
    library tokenizers cannot read. What llama.cpp itself does otherwise than its names say does not show here.
    """
    if not (folder / "tokenizer.json").is_file():
        return []
    plain = {key: value.value if isinstance(value, Typed) else value for key, value in keys.items()}
    files = tokenizer_files.read(folder, {})
    theirs, ours = _of_folder(files), _of_keys(plain, folder.name)
    size = len(plain["tokenizer.ggml.tokens"])
    for at, (number, entry) in enumerate(tokenizer_files.complete(files, theirs.get_vocab()).items()):
        told_as = theirs.token_to_id(entry.text)
        text = f"a{entry.text if entry.special else entry.text.replace(MARK, ' ')}b"
        if told_as != number:
            raise NotConvertible(
                f"The added token {entry.text[:40]!r} has the number {number:,} in the files of {folder.name}, and "
                f"{told_as} as transformers reads them; correct its number."
            )
        simple = at < MOST and number < size and not entry.single_word and not entry.normalized
        if simple and number in theirs.encode(text).ids and number not in ours.encode(text).ids:
            raise NotConvertible(
                f"The added token {entry.text[:40]!r} would not be found in a text by a GGUF of {folder.name}; "
                "llmnotes cannot convert it."
            )
    wrong = [text for text in TEXTS if ours.encode(text).ids != theirs.encode(text).ids]
    if len(wrong) > len(TEXTS) // 2:
        raise NotConvertible(
            f"A GGUF of {folder.name} would cut texts into other tokens than its tokenizer.json does, "
            f"{wrong[0][:20]!r} for one; llmnotes cannot convert it."
        )
    if not wrong or told:
        return []
    return [f"Some texts become other tokens in llama.cpp than by tokenizer.json: {wrong[0][:40]!r} is one."]


def _of_keys(plain: dict[str, Any], name: str) -> Any:
    """Return the tokenizer for which GGUF's keys stand."""
    from tokenizers import Tokenizer

    made, _ = hf_tokenizer.parts(plain, name)
    if plain["tokenizer.ggml.model"] == "gpt2":
        made["normalizer"] = None  # llama.cpp has none
    return _opened(Tokenizer.from_str, json.dumps(made))


def _of_folder(files: tokenizer_files.Files) -> Any:
    """Return the tokenizer of a folder as transformers completes it."""
    from tokenizers import AddedToken, Tokenizer

    def read(path: Path) -> Any:
        found = Tokenizer.from_str(path.read_text(encoding="utf-8"))  # it opens no path whose letters are no Unicode
        found.no_truncation()
        found.no_padding()
        for _, entry in sorted(tokenizer_files.complete(files, found.get_vocab()).items()):
            settings = {flag: getattr(entry, flag) for flag in tokenizer_files.FLAGS}
            found.add_tokens([AddedToken(entry.text, **settings)])
        return found

    return _opened(read, files.path / "tokenizer.json")


def _opened(opener: Callable[[Any], Any], source: Any) -> Any:
    try:
        return opener(source)
    except BaseException as error:  # `tokenizers` raises nothing narrower, and where its Rust panics not even that
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        why = f"tokenizer.json is damaged: {str(error)[:80]}; copy the folder again from its source."
        raise FileBroken(why) from None
