"""Which tensor names the format accepts (SPEC.md section 3.2); one check for reader and writer."""

from clearweight.artifact.errors import TensorNameError

MAX_NAME = 200


def check_tensor_name(name: str) -> None:
    """Refuse a name that is empty, long, unprintable or shaped like a path trick.

    Names are keys, never paths; but a later tool may write one file per tensor, and a name that
    climbs out of its folder must not have been accepted here.

    Raises
    ------
    TensorNameError
        The name breaks a rule of SPEC.md section 3.2.
    """
    if not 0 < len(name) <= MAX_NAME:
        raise TensorNameError(f"Tensor name of {len(name)} characters, expected 1 to {MAX_NAME}.")
    if not all("!" <= character <= "~" for character in name):
        raise TensorNameError(
            f"Tensor name {name!r} holds a character outside printable ASCII without space."
        )
    if "\\" in name or any(part in {"", ".", ".."} for part in name.split("/")):
        raise TensorNameError(
            f"Tensor name {name!r} is shaped like a path trick: no backslash, no empty part, "
            "no '.' or '..' between slashes."
        )
