"""What the installed transformers calls a model's cache of keys and values."""

from functools import cache


@cache
def cache_name() -> str:
    """Return the word for the cache of keys and values, in a model's call and in what it returns.

    transformers renamed it in version 5.24: before, it is "past_key_values", since then "cache"; the old word warns,
    and leaves in 5.40.

    >>> cache_name() in ("past_key_values", "cache")
    True
    """
    from transformers.modeling_outputs import CausalLMOutputWithPast

    return "cache" if "cache" in CausalLMOutputWithPast.__dataclass_fields__ else "past_key_values"
