"""JSON Schemas that users write: checked, and validated with, without ever leaving the schema for a reference."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    # Takes a tenth of a second, and few scenarios need it.
    from jsonschema import Draft202012Validator
    from referencing import Resource

_REFERENCES = ("$ref", "$dynamicRef")
REMEDY = 'Write references within the schema, such as {"$ref": "#/$defs/NAME"}.'


def validator(schema: Mapping[str, Any]) -> Draft202012Validator:
    """Validates values under a schema. A reference to elsewhere raises an error, and nothing is fetched for it."""
    from jsonschema import Draft202012Validator
    from referencing import Registry

    return Draft202012Validator(schema, registry=Registry())


def reference_fault(schema: Mapping[str, Any]) -> str | None:
    """What is wrong with the first reference that does not lead to a schema within this one; None when all do.

    The schema must hold against the metaschema already; what references lead to is held against it here.
    """
    from referencing import Registry
    from referencing.jsonschema import DRAFT202012

    root: Resource[Any] = DRAFT202012.create_resource(schema)
    waiting = [(root, Registry().resolver_with_root(root))]
    seen: set[int] = set()
    while waiting:
        resource, resolver = waiting.pop()
        if not isinstance(resource.contents, Mapping) or id(resource.contents) in seen:
            continue
        seen.add(id(resource.contents))
        for reference in _references(resource.contents):
            found = _followed(reference, resolver)
            if isinstance(found, str):
                return found
            waiting.append((DRAFT202012.create_resource(found.contents), found.resolver))
        waiting += [(part, resolver.in_subresource(part)) for part in resource.subresources()]
    return None


def _references(schema: Mapping[str, Any]) -> Iterator[str]:
    return (schema[keyword] for keyword in _REFERENCES if keyword in schema)


def _followed(reference: str, resolver: Any) -> Any:
    """What a reference leads to, or in words why it leads nowhere."""
    from jsonschema import Draft202012Validator, SchemaError
    from referencing.exceptions import Unresolvable

    if not reference.startswith("#"):
        return f"the reference {reference!r} leads out of the schema, and nothing is fetched"
    try:
        found = resolver.lookup(reference)
        Draft202012Validator.check_schema(found.contents)
    except Unresolvable:
        return f"the reference {reference!r} leads nowhere in the schema"
    except SchemaError as error:
        return f"the reference {reference!r} leads to what is no JSON Schema: {error.message}"
    return found
