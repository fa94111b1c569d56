"""PIQ: masks decoded from codes that belong to the target class."""

from audiointerp.interpreters.piq.codebook import ClassCodebook
from audiointerp.interpreters.piq.model import PIQ

__all__ = ["PIQ", "ClassCodebook"]
