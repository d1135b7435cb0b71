"""What is wrong with settings, in sentences that name the key."""

from pydantic import BaseModel, ValidationError


def _fields_at(model: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    """Return the keys that are known where ``path`` points."""
    for part in path:
        if isinstance(part, int):
            continue
        field = model.model_fields.get(part)
        if field is None:
            return []
        kinds = [field.annotation, *getattr(field.annotation, "__args__", ())]
        inner = next((k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)), None)
        if inner is None:
            return []
        model = inner
    return list(model.model_fields)


def sentences(error: ValidationError, model: type[BaseModel], prefix: str = "") -> str:
    """Turn pydantic's findings into sentences that name the key."""
    lines = []
    for finding in error.errors(include_url=False, include_context=False):
        where = ".".join(str(p) for p in ([prefix] if prefix else []) + list(finding["loc"]))
        if finding["type"] == "extra_forbidden":
            known = ", ".join(_fields_at(model, finding["loc"][:-1]))
            place = where.rpartition(".")[0] or "the recipe"
            lines.append(f"Unknown key {finding['loc'][-1]!r} in {place}. Known keys: {known}.")
        elif finding["type"] == "missing":
            lines.append(f"Key {where!r} is missing.")
        elif finding["type"] == "value_error":
            lines.append(f"{where}: {finding['msg'].removeprefix('Value error, ')}")
        else:
            lines.append(f"{where}: {finding['msg']}, found {finding['input']!r}.")
    return " ".join(lines)
