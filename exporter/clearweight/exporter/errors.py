"""What can go wrong while exporting, as the caller would tell it apart.

::

    ExporterError
    ├── RecipeError (ValueError)         a recipe key or value is wrong; the message names the key
    ├── SourceError (ImportError)        the user's module, callable or weights cannot be had
    ├── DataError (ValueError)           the data cannot be read, or its shape or type is wrong
    ├── SplitError (ValueError)          the data splits overlap or ask for more samples than there are
    ├── StepError (RuntimeError)         a step failed; the message names the steps already done
    ├── ConstraintError (RuntimeError)   a constraint cannot be put on a tensor, or does not hold
    ├── SearchError (RuntimeError)       a search of which no trial could be measured
    └── HanFileError (ValueError)        a compressed network of Song Han's layout that does not hold together
"""


class ExporterError(Exception):
    """Root of every error that the exporter raises on purpose."""


class RecipeError(ExporterError, ValueError):
    """A recipe key or value is wrong."""


class SourceError(ExporterError, ImportError):
    """The user's module, callable or weights cannot be had."""


class DataError(ExporterError, ValueError):
    """The data cannot be read, or its shape or type is wrong."""


class SplitError(ExporterError, ValueError):
    """The data splits overlap or ask for more samples than there are."""


class StepError(ExporterError, RuntimeError):
    """A compression step failed."""


class ConstraintError(ExporterError, RuntimeError):
    """A constraint cannot be put on a tensor, or does not hold."""


class HanFileError(ExporterError, ValueError):
    """A compressed network of Song Han's layout that does not hold together."""


class SearchError(ExporterError, RuntimeError):
    """A search of which no trial could be measured."""
