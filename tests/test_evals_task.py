"""What a sample says about itself."""

from __future__ import annotations

import pytest

from evals.task import Sample


@pytest.mark.parametrize(("said", "meant"), [(["a", 2], ("a", "2")), ("d1.txt", ("d1.txt",)), (None, ()), ([], ())])
def test_gold_documents_are_a_list_of_ids_or_one_id(said: object, meant: tuple[str, ...]) -> None:
    assert Sample("s", "input", "target", {"supporting_doc_ids": said}).gold_documents == meant
    assert Sample("s", "input", "target").gold_documents == ()
