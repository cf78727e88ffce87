"""The text of PDF files, by pypdf. A leaf: imported only when a scenario has one."""

from __future__ import annotations

import logging
from pathlib import Path

import pypdf
from pypdf.errors import PyPdfError

_LOGGER = logging.getLogger("pypdf")


class UnreadablePdf(Exception):
    """Says in half a sentence why a file gave no text; `remedy` says what to do."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.remedy = remedy


def pdf_text(path: Path) -> str:
    """The text of all pages, with blank lines between them. Raises UnreadablePdf."""
    level = _LOGGER.level
    # What pypdf repairs in passing is of no use to the user; what it cannot read is raised.
    _LOGGER.setLevel(logging.CRITICAL)
    try:
        return _text(path)
    except (PyPdfError, OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        reason = str(error) or type(error).__name__
        raise UnreadablePdf(f"the PDF is damaged: {reason}", "Save it again, or convert it to text.") from error
    finally:
        _LOGGER.setLevel(level)


def _text(path: Path) -> str:
    with path.open("rb") as file:
        reader = pypdf.PdfReader(file)
        # Many files are encrypted with an empty password, which every viewer tries.
        if reader.is_encrypted and not reader.decrypt(""):
            raise UnreadablePdf("the PDF is encrypted", "Remove its password.")
        text = "\n\n".join(page.extract_text() for page in reader.pages)
    if not text.strip():
        what = "the PDF holds no text, only images"
        raise UnreadablePdf(what, "Run text recognition (OCR) over it, or remove it.")
    return text
