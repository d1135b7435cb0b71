import builtins
import re

from clearweight.artifact import errors

ROOTS = {"ArtifactError", "ContainerError", "ManifestError", "DirectoryError"}


def tree() -> dict[str, type[Exception]]:
    return {
        name: thing
        for name, thing in vars(errors).items()
        if isinstance(thing, type) and issubclass(thing, errors.ArtifactError)
    }


def test_the_drawing_shows_exactly_the_classes_and_the_builtins_they_resemble():
    drawn = dict(re.findall(r"^[│├└─ ]*(\w+Error)\b *(\w+Error)?", errors.__doc__ or "", flags=re.MULTILINE))

    assert set(tree()) == set(drawn)
    for name, builtin in drawn.items():
        if name in ROOTS:
            assert builtin == ""
        else:
            assert issubclass(tree()[name], getattr(builtins, builtin)), name


def test_messages_of_key_errors_are_sentences_not_reprs():
    for name in ("UnknownTensorError", "UnknownFieldError", "MissingFieldError"):
        assert str(tree()[name]("No tensor 'a'.")) == "No tensor 'a'."
