"""Every error that a user can cause. Each is one sentence that ends in the remedy."""


def visible(text: str) -> str:
    """Return `text` with control characters escaped, which a terminal would obey, and those that UTF-8 cannot encode.

    >>> visible("a\\x1b[2Jb")
    'a\\\\x1b[2Jb'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def reason(error: BaseException) -> str:
    """Return a library's own reason in one line: the first words of the error that the others came from.

    >>> reason(ValueError("no such type\\n\\nsee the documentation"))
    'ValueError: no such type'
    """
    while error.__cause__ is not None:
        error = error.__cause__
    words = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {words[:300].rstrip('.:;')}" if words else type(error).__name__


class LLMNotesError(Exception):
    """The base of all errors below; the command line prints its sentence and exits with its `status`."""

    status = 2

    def __str__(self) -> str:
        return visible(super().__str__())  # a name in the sentence may come from a file that nobody trusts


class ModelNotFound(LLMNotesError):
    """There is no model at the path or under the name that was given."""


class ModelBroken(LLMNotesError):
    """A model was found, but its files cannot be used: a config or a tokenizer is missing, or weights are cut short."""


class ModelGated(LLMNotesError):
    """The hub gives this model only to users who are logged in and have accepted its licence."""


class ClaimFailed(LLMNotesError, AssertionError):
    """A claim of the course does not hold on this machine."""


class UnknownName(LLMNotesError):
    """A name that llmnotes does not know: an exercise, a notebook, a model, a word without a vector."""


class MissingPart(LLMNotesError):
    """A package that this step needs is not installed; the sentence gives the command."""


class FileUnreadable(LLMNotesError):
    """A path leads to no file, to a link without an end, or to something that may not be read."""


class FileBroken(LLMNotesError):
    """A file is cut short, damaged, or says what cannot be true; llmnotes used nothing of it."""


class UnknownFormat(LLMNotesError):
    """Nothing in a file says which format it is."""


class NotConvertible(LLMNotesError):
    """llmnotes cannot convert this format or architecture to that one; the sentence names what it can do."""


class CannotWrite(LLMNotesError):
    """A target exists already, the disk is full, or the folder may not be written; nothing was changed."""


class NotQuantizable(LLMNotesError):
    """These numbers cannot be quantized: some are not finite, the type is wrong, or rows do not divide into blocks."""


class AdapterUnfit(LLMNotesError):
    """An adapter, its settings or its files do not fit the model, or llmnotes does not support this kind of adapter."""


class BadSettings(LLMNotesError):
    """Settings cannot be read, have a key that does not exist, or a value that is not possible."""


class TrainingFailed(LLMNotesError):
    """Training cannot continue: the loss is not a number any more, or no checkpoint can be used."""


class TrainingStopped(TrainingFailed):
    """A training was asked to stop by a signal, such as Ctrl-C; `status` is what a shell reports then: 130 or 143."""

    def __init__(self, sentence: str, number: int):
        super().__init__(sentence)
        self.status = 128 + number


class DoesNotFit(LLMNotesError):
    """The model, the training or the context needs more memory than there is."""


class ProcessDied(LLMNotesError):
    """A child process ended early, was killed, or did not finish in time."""


class ServerFailed(LLMNotesError):
    """A server does not answer, refuses the request, or cannot be started; `kind` is the error type of OpenAI's API."""

    def __init__(self, sentence: str, kind: str = ""):
        super().__init__(sentence)
        self.kind = kind
