"""The checks that are written into a scenario's `scorers.py`: whether an answer holds what a row demands of it.

The functions are copied from here as they stand, so each uses nothing but its arguments and the modules in MODULES.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from evals.scorers.ngrams import Bleu, Chrf, RougeL
from evals.task import Sample

MODULES = {
    "json": "import json",
    "jsonschema": "import jsonschema",
    "re": "import re",
    "Any": "from typing import Any",
    "Bleu": "from evals.scorers.ngrams import Bleu",
    "Chrf": "from evals.scorers.ngrams import Chrf",
    "RougeL": "from evals.scorers.ngrams import RougeL",
    "Sample": "from evals.task import Sample",
}
"""What a function may use, and how it is imported."""


def equals(output: str, value: Any) -> bool:
    """The same text, spaces at the ends aside; the same JSON value where an object or a list is wanted."""
    if isinstance(value, str):
        return output.strip() == value.strip()
    try:
        return bool(json.loads(output) == value)
    except (ValueError, RecursionError):
        return False


def contains(output: str, value: Any) -> bool:
    """The text occurs in the answer."""
    return str(value) in output


def icontains(output: str, value: Any) -> bool:
    """The text occurs in the answer, in whatever case."""
    return str(value).lower() in output.lower()


def contains_all(output: str, value: Any) -> bool:
    """All texts occur in the answer."""
    return all(str(one) in output for one in value)


def contains_any(output: str, value: Any) -> bool:
    """At least one of the texts occurs in the answer."""
    return any(str(one) in output for one in value)


def icontains_all(output: str, value: Any) -> bool:
    """All texts occur in the answer, in whatever case."""
    return all(str(one).lower() in output.lower() for one in value)


def icontains_any(output: str, value: Any) -> bool:
    """At least one of the texts occurs in the answer, in whatever case."""
    return any(str(one).lower() in output.lower() for one in value)


def starts_with(output: str, value: Any) -> bool:
    """The answer begins with the text."""
    return output.startswith(str(value))


def regex(output: str, value: Any) -> bool:
    """The pattern matches somewhere in the answer (Python's `re`)."""
    return re.search(str(value), output) is not None


def is_json(output: str, value: Any) -> bool:
    """The answer is JSON, and follows the schema where there is one."""
    import jsonschema

    try:
        jsonschema.validate(json.loads(output), value or {})
    except (ValueError, RecursionError, jsonschema.ValidationError):
        return False
    return True


def contains_json(output: str, value: Any) -> bool:
    """An object or a list of JSON occurs in the answer, and follows the schema where there is one."""
    import jsonschema

    decoder = json.JSONDecoder()
    for found in list(re.finditer(r"[{\[]", output))[:200]:
        try:
            jsonschema.validate(decoder.raw_decode(output, found.start())[0], value or {})
        except (ValueError, RecursionError, jsonschema.ValidationError):
            continue
        return True
    return False


def rouge_l(output: str, value: Any) -> bool:
    """ROUGE-L with the text reaches `at_least`."""
    return RougeL(at_least=value["at_least"])(output, Sample("", "", value["text"])).value == 1


def bleu(output: str, value: Any) -> bool:
    """BLEU with the text reaches `at_least`."""
    return Bleu(at_least=value["at_least"])(output, Sample("", "", value["text"])).value == 1


def chrf(output: str, value: Any) -> bool:
    """The character F-score with the text reaches `at_least`."""
    return Chrf(at_least=value["at_least"])(output, Sample("", "", value["text"])).value == 1


def fuzzy(output: str, value: Any) -> bool:
    """Twice the longest common subsequence of characters over both lengths reaches `at_least`."""
    wanted = value["text"]
    row = [0] * (len(wanted) + 1)
    for letter in output:
        before = row
        row = [0]
        for place, other in enumerate(wanted):
            row.append(before[place] + 1 if letter == other else max(row[place], before[place + 1]))
    total = len(output) + len(wanted)
    return total == 0 or 2 * row[-1] / total >= value["at_least"]


def levenshtein(output: str, value: Any) -> bool:
    """At most so many characters are inserted, left out or changed."""
    wanted = value["text"]
    row = list(range(len(wanted) + 1))
    for count, letter in enumerate(output, start=1):
        before, row = row, [count]
        for place, other in enumerate(wanted):
            row.append(min(before[place] + (letter != other), before[place + 1] + 1, row[place] + 1))
    return bool(row[-1] <= value["at_most"])


FUNCTIONS: dict[str, Callable[[str, Any], bool]] = {
    function.__name__: function
    for function in (
        *(equals, contains, icontains, contains_all, contains_any, icontains_all, icontains_any, starts_with, regex),
        *(is_json, contains_json, rouge_l, bleu, chrf, fuzzy, levenshtein),
    )
}
"""All checks by the name a row gives them."""
