"""For tests of trajectories: a neutral judge of documents, beside our own rules."""

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from oanix.lib.atif import check

SCHEMA = Path(__file__).parents[2] / "docs/atif-v1.4.schema.json"


@lru_cache
def validator() -> Draft202012Validator:
    """Read the schema, once it is one."""
    schema = json.loads(SCHEMA.read_text())
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def valid(text: bytes | str) -> Any:
    """Give a document, once the schema and the rules beside it have nothing against it."""
    found = json.loads(text)
    errors = [f"{error.json_path}: {error.message}" for error in validator().iter_errors(found)]
    assert not errors, errors
    check(found)
    assert found["final_metrics"]["total_steps"] == len(found["steps"])
    return found
