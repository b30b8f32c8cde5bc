"""Every error that a user can cause. Each is one sentence that ends in the remedy."""


class LLMNotesError(Exception):
    """The base of all errors below; the command line prints its sentence and exits with 2."""


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
