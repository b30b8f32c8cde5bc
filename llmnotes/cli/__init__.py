"""The command `llmnotes`: one thin function for each subcommand."""

from llmnotes.cli.main import main

__all__ = ["main"]
