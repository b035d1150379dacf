"""Values checked against a pydantic model, their mistakes told in one line that names the nearest known key."""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from wsi_maxmin.errors import InputError


class Strict(BaseModel):
    """A section of a config: immutable, and every key that it does not know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


M = TypeVar("M", bound=BaseModel)


def parse(model: type[M], values: Mapping[str, Any], *, source: str) -> M:
    """Check `values` against a pydantic model.

    Raises
    ------
    InputError
        With one line a problem: the key, what was got, what was expected, and for an unknown key its nearest neighbour.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problems = [_describe(model, problem) for problem in error.errors()]
        raise InputError(f"{source}: " + " | ".join(problems)) from None


def _describe(model: type[BaseModel], problem: Any) -> str:
    location = ".".join(str(part) for part in problem["loc"]) or "the config"
    if problem["type"] != "extra_forbidden":
        return f"{location}: got {problem['input']!r}; expected: {problem['msg']}"
    known = _fields_at(model, problem["loc"][:-1])
    close = difflib.get_close_matches(str(problem["loc"][-1]), known, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"known here: {', '.join(known)}"
    return f"{location}: unknown key; {hint}"


def _fields_at(model: type[BaseModel], location: Iterable[Any]) -> list[str]:
    for part in location:
        annotation = model.model_fields[part].annotation if part in model.model_fields else None
        choices = [kind for kind in (annotation, *get_args(annotation)) if isinstance(kind, type)]
        nested = [kind for kind in choices if issubclass(kind, BaseModel)]
        if not nested:
            return []
        model = nested[0]
    return list(model.model_fields)
