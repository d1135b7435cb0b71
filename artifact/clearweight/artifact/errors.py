"""The ways an artifact can be wrong; one class for each that a caller would treat differently.

ArtifactError
├── UnsupportedVersionError        ValueError   weights or manifest of another format version
├── ContainerError                 weights.cwt
│   ├── BadMagicError              ValueError
│   ├── TruncatedError             EOFError
│   ├── SurplusBytesError          ValueError
│   ├── ChecksumError              ValueError
│   ├── SizeLimitError             OverflowError
│   ├── TensorNameError            ValueError
│   ├── DuplicateTensorError       ValueError
│   ├── TensorFieldError           ValueError
│   ├── CodeTableError             ValueError
│   ├── CodeStreamError            ValueError
│   ├── PositionError              IndexError
│   ├── CodebookError              ValueError
│   ├── UnknownTensorError         KeyError
│   └── CodedTensorError           ValueError   what the exporter handed over
├── ManifestError                  manifest.json
│   ├── ManifestSyntaxError        ValueError
│   ├── NonCanonicalError          ValueError
│   ├── ManifestDigestError        ValueError
│   ├── UnknownFieldError          KeyError
│   ├── MissingFieldError          KeyError
│   ├── FieldTypeError             TypeError
│   └── FieldValueError            ValueError
├── DirectoryError                 the files of one artifact
│   ├── NotAnArtifactError         FileNotFoundError
│   ├── MissingFileError           FileNotFoundError
│   ├── SurplusFileError           FileExistsError
│   ├── LinkError                  OSError
│   ├── FileNameError              ValueError
│   ├── FileTooLargeError          OverflowError
│   ├── FileSizeError              ValueError
│   ├── FileDigestError            ValueError
│   ├── SignatureError             ValueError
│   ├── UnfinishedError            OSError
│   └── ArtifactExistsError        FileExistsError
├── CanaryError                    ValueError
├── PreprocessingError             ValueError
└── ScoreShapeError                ValueError
"""


class ArtifactError(Exception):
    """Any failure of reading or writing an artifact."""


class UnsupportedVersionError(ArtifactError, ValueError):
    """A format version this reader does not know."""


class ContainerError(ArtifactError):
    """The packed weights, ``weights.cwt``."""


class BadMagicError(ContainerError, ValueError):
    """The file does not begin as packed weights do."""


class TruncatedError(ContainerError, EOFError):
    """The file or a field ends too early."""


class SurplusBytesError(ContainerError, ValueError):
    """Bytes, or bits that must be zero, stand behind the end of a part."""


class ChecksumError(ContainerError, ValueError):
    """The bytes are not those that were written."""


class SizeLimitError(ContainerError, OverflowError):
    """A stated size is beyond what the file may claim."""


class TensorNameError(ContainerError, ValueError):
    """A tensor name that is empty, too long, unprintable or shaped like a path trick."""


class DuplicateTensorError(ContainerError, ValueError):
    """Two tensors of one name."""


class TensorFieldError(ContainerError, ValueError):
    """A field of a tensor record has an impossible value."""


class CodeTableError(ContainerError, ValueError):
    """A Huffman table that is no complete prefix code."""


class CodeStreamError(ContainerError, ValueError):
    """A coded stream does not end where its index says."""


class PositionError(ContainerError, IndexError):
    """A stored value lies outside its tensor, or there are more or fewer than stated."""


class CodebookError(ContainerError, ValueError):
    """A codebook with repeated entries, a zero that must not be there, or an index past its end."""


class UnknownTensorError(ContainerError, KeyError):
    """No tensor of that name."""

    def __str__(self) -> str:
        """Show the sentence, not its repr as ``KeyError`` does."""
        return Exception.__str__(self)


class CodedTensorError(ContainerError, ValueError):
    """A tensor handed to the writer contradicts itself."""


class ManifestError(ArtifactError):
    """The description, ``manifest.json``."""


class ManifestSyntaxError(ManifestError, ValueError):
    """Not JSON, or JSON with NaN, infinities, repeated keys or too deep a nesting."""


class NonCanonicalError(ManifestError, ValueError):
    """JSON, but not in the one accepted spelling."""


class ManifestDigestError(ManifestError, ValueError):
    """``manifest_sha256`` does not match the bytes it covers."""


class UnknownFieldError(ManifestError, KeyError):
    """A field this format version does not have."""

    def __str__(self) -> str:
        """Show the sentence, not its repr as ``KeyError`` does."""
        return Exception.__str__(self)


class MissingFieldError(ManifestError, KeyError):
    """A required field is absent."""

    def __str__(self) -> str:
        """Show the sentence, not its repr as ``KeyError`` does."""
        return Exception.__str__(self)


class FieldTypeError(ManifestError, TypeError):
    """A field of the wrong JSON type."""


class FieldValueError(ManifestError, ValueError):
    """A field of the right type whose value is impossible or contradicts another."""


class DirectoryError(ArtifactError):
    """The files that make up one artifact."""


class NotAnArtifactError(DirectoryError, FileNotFoundError):
    """No ``manifest.json`` where an artifact was looked for."""


class MissingFileError(DirectoryError, FileNotFoundError):
    """The manifest lists a file that is not there."""


class SurplusFileError(DirectoryError, FileExistsError):
    """A file the manifest does not list."""


class LinkError(DirectoryError, OSError):
    """A link, folder or device where a regular file must be."""


class FileNameError(DirectoryError, ValueError):
    """A file, model or version name that is not one of the allowed forms."""


class FileTooLargeError(DirectoryError, OverflowError):
    """A file beyond the limit of its kind."""


class FileSizeError(DirectoryError, ValueError):
    """A file whose size is not the one in the manifest."""


class FileDigestError(DirectoryError, ValueError):
    """A file whose SHA-256 is not the one in the manifest."""


class SignatureError(DirectoryError, ValueError):
    """No signature where one is required, or one that another key made; or a key that is none."""


class UnfinishedError(DirectoryError, OSError):
    """What an interrupted write left behind."""


class ArtifactExistsError(DirectoryError, FileExistsError):
    """The target of a write is already there."""


class CanaryError(ArtifactError, ValueError):
    """Probe tensors that are missing, ill-typed or of different lengths."""


class PreprocessingError(ArtifactError, ValueError):
    """A preprocessing record, or an array that does not fit it."""


class ScoreShapeError(ArtifactError, ValueError):
    """Two batches of maps that cannot be compared."""
