"""Every error that a user can cause. Each is one sentence that ends in the remedy."""


def visible(text: str) -> str:
    """Return `text` with every character escaped that a terminal would obey, or that UTF-8 has no bytes for.

    >>> visible("a\\x1b[2Jb")
    'a\\\\x1b[2Jb'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class LLMNotesError(Exception):
    """The base of all errors below; the command line prints its sentence and exits with 2."""

    def __str__(self) -> str:
        return visible(super().__str__())  # a name in the sentence may come from a file that nobody trusts


class ModelNotFound(LLMNotesError):
    """There is no model at the path or under the name that was given."""


class ModelBroken(LLMNotesError):
    """A model was found, and its files cannot be used: a config or a tokenizer is missing, weights are cut short."""


class ModelGated(LLMNotesError):
    """The hub asks who the reader is before it hands out this model."""


class ClaimFailed(LLMNotesError, AssertionError):
    """A statement of the course does not hold here."""


class UnknownName(LLMNotesError):
    """A word that the course does not know: an exercise, a notebook, a word without a vector."""


class MissingPart(LLMNotesError):
    """A package that this step needs is not installed; the sentence gives the command."""


class FileUnreadable(LLMNotesError):
    """A path leads to no file, to a link without an end, or to something that may not be read."""


class FileBroken(LLMNotesError):
    """A file is cut short, damaged, or claims what cannot be true; nothing of it was believed."""


class UnknownFormat(LLMNotesError):
    """Nothing in a file says which format it is."""


class NotConvertible(LLMNotesError):
    """llmnotes cannot convert this format or architecture to that one; the sentence names what it can do."""


class CannotWrite(LLMNotesError):
    """A target exists already, the disk is full, or the folder may not be written; nothing was changed."""


class NotQuantizable(LLMNotesError):
    """Numbers that cannot get fewer bits as they are: not finite, of the wrong kind, or in rows that fit no block."""


class AdapterUnfit(LLMNotesError):
    """An adapter, its settings or its files do not fit the model, or are of a kind that is not done here."""


class BadSettings(LLMNotesError):
    """A file of settings is not readable, names a key that does not exist, or a value that is not possible."""


class TrainingFailed(LLMNotesError):
    """Training cannot go on: the loss is no number any more, or no checkpoint can be used."""


class DoesNotFit(LLMNotesError):
    """What is asked for needs more memory than there is."""


class ProcessDied(LLMNotesError):
    """A process that was started for a step ended early, was killed, or was not done in time."""


class ServerFailed(LLMNotesError):
    """A server does not answer, says no, or cannot be started; `kind` is what an OpenAI server calls its error."""

    def __init__(self, sentence: str, kind: str = ""):
        super().__init__(sentence)
        self.kind = kind
