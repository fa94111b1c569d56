"""Whether a request to a server on this computer comes from a page of another site."""

from __future__ import annotations

import re
from collections.abc import Sequence

_LOCAL = re.compile(r"(127\.0\.0\.1|localhost)(:[0-9]{1,5})?", re.IGNORECASE)  # any port: it may be forwarded

__all__ = ["is_foreign"]


def is_foreign(hosts: Sequence[str], origins: Sequence[str], fetch_site: str = "") -> bool:
    """Whether a page of another site sent a request, or a name that leads to this computer only by its DNS entry.

    Browsers send Host always, Origin with every POST; programs such as curl may leave them out.

    Args:
        hosts, origins: values of all headers Host and Origin.
        fetch_site: value of the header Sec-Fetch-Site.

    >>> is_foreign(["127.0.0.1:8000"], ["http://127.0.0.1:8000"]), is_foreign(["evil.example"], [])
    (False, True)
    """
    if len(hosts) > 1 or len(origins) > 1 or fetch_site.strip() == "cross-site":
        return True
    if hosts and not _LOCAL.fullmatch(hosts[0].strip()):
        return True
    return bool(origins) and origins[0].strip() != f"http://{hosts[0].strip() if hosts else ''}"
