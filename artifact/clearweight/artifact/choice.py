"""The smallest form of one tensor, written out: what is predicted closely is encoded and compared (SPEC.md 3.6)."""

from dataclasses import dataclass
from typing import Literal

from clearweight.artifact.coded import CodedTensor
from clearweight.artifact.layout import Candidate, Content, candidates, content_of, range_forms
from clearweight.artifact.payload import encode_payload
from clearweight.artifact.record import Form

Coder = Literal["huffman", "range"]
SMALL_PAYLOAD = 1 << 16  # below, close candidates are written out; above, the index is too small to matter


@dataclass(frozen=True, eq=False)
class Choice:
    """A tensor in the form that takes the fewest bytes, among the forms that store element by element.

    Parameters
    ----------
    parts : the payload, to be written one part behind the other
    found : all candidates, smallest first by their predicted size
    """

    content: Content
    form: Form
    parts: list[bytes]
    found: list[Candidate]

    @property
    def size(self) -> int:
        """Bytes of the payload."""
        return sum(map(len, self.parts))


def choose(tensor: CodedTensor, coder: Coder) -> Choice:
    """Write a tensor in its smallest form; with ``coder`` "range", in range code where that is smaller."""
    content = content_of(tensor)
    found = candidates(content)
    forms = _finalists(found)
    if coder == "range":
        forms += range_forms(content, found[0].form)
    best, parts = min(
        ((form, encode_payload(content, form)) for form in forms),
        key=lambda written: sum(len(part) for part in written[1]),
    )
    return Choice(content, best, parts, found)


def _finalists(found: list[Candidate]) -> list[Form]:
    # Sizes are predicted to within the stream index, at most ten bits a stream off; where that could
    # decide, the forms are written out and compared.
    least = found[0].size
    margin = 8 + least // 500
    few = found[:3] if least < SMALL_PAYLOAD else found[:1]
    return [candidate.form for candidate in few if candidate.size <= least + margin]
