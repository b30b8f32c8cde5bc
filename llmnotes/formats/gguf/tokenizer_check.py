"""Look again at a GGUF's tokenizer: does it find what the folder's tokenizer.json finds, special tokens and words?"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llmnotes.errors import FileBroken, NotConvertible, reason
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
FEW = 20  # of these, for the text that AutoTokenizer reads


def differences(folder: Path, keys: dict[str, Any], told: bool) -> list[str]:
    """Return sentences if texts become other tokens by the `keys` of a GGUF than by the folder's tokenizer.json, and if
    what AutoTokenizer makes of the folder gives others than its tokenizer.json, or than its tokenizer.model alone.

    Nothing is said of the first where the reason is `told` already, nor of a folder with neither file. Raises
    `NotConvertible` where most texts differ or an added token is not found, `FileBroken` for a tokenizer.json that the
    library tokenizers cannot read. What llama.cpp itself does otherwise than its names say does not show here.
    """
    plain = {key: value.value if isinstance(value, Typed) else value for key, value in keys.items()}
    if not (folder / "tokenizer.json").is_file():
        alone = (folder / "tokenizer.model").is_file()
        return _of_transformers(folder, list(TEXTS), _of_keys(plain, folder.name), "tokenizer.model") if alone else []
    files = tokenizer_files.read(folder, {})
    theirs, ours = _of_folder(files), _of_keys(plain, folder.name)
    size = len(plain["tokenizer.ggml.tokens"])
    added = tokenizer_files.complete(files, theirs.get_vocab())
    for at, (number, entry) in enumerate(added.items()):
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
    marks = [f"a{entry.text}b" for entry in list(added.values())[:FEW]]
    lost = _of_transformers(folder, [*TEXTS, *marks], theirs, "tokenizer.json")
    if not wrong or told:
        return lost
    return [f"Some texts become other tokens in llama.cpp than by tokenizer.json: {wrong[0][:40]!r} is one.", *lost]


def _of_transformers(folder: Path, texts: list[str], theirs: Any, file: str) -> list[str]:
    """Return a sentence if AutoTokenizer finds other tokens than the `file` of the folder that was read as `theirs`.

    It goes by the name of a class in tokenizer_config.json, or by the architecture, and some classes put their own way
    to cut a text in the place of the file's, add BOS or do not, or take special tokens in a text for words.
    """
    from transformers import AutoTokenizer
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        auto = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        found = [auto(text)["input_ids"] for text in texts]
    except BaseException as error:
        if not _of_a_library(error):
            raise
        return [
            f"AutoTokenizer does not open this folder ({reason(error)[:120]}), so its tokens could not be compared "
            f"with those of {file}, which the GGUF has."
        ]
    finally:
        logging.set_verbosity(level)
    wrong = [text for text, ids in zip(texts, found, strict=True) if ids != theirs.encode(text).ids]
    if not wrong:
        return []
    return [
        f"AutoTokenizer takes {type(auto).__name__} for this folder, which makes other tokens of some texts than "
        f"{file}, {wrong[0][:40]!r} for one. The GGUF follows that file: if the model was trained on the "
        "others, save that tokenizer into the folder and convert again."
    ]


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
        if not _of_a_library(error):
            raise
        why = f"tokenizer.json is damaged: {str(error)[:80]}; copy the folder again from its source."
        raise FileBroken(why) from None


def _of_a_library(error: BaseException) -> bool:
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"
