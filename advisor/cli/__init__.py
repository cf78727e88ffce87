"""The `advisor` command. Arguments in, public functions called, words out; nothing is decided here."""

from advisor.cli.app import main

__all__ = ["main"]
