"""Whether a request to a server comes from a page of another site."""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import urlsplit

_LOCAL = re.compile(r"(127\.0\.0\.1|localhost)(:[0-9]{1,5})?", re.IGNORECASE)  # any port: it may be forwarded

__all__ = ["is_foreign", "public_address"]


def is_foreign(hosts: Sequence[str], origins: Sequence[str], fetch_site: str = "", public: str = "") -> bool:
    """Whether a page of another site sent a request, or a name that leads to this computer only by its DNS entry.

    Browsers send Host always, Origin with every POST; programs such as curl may leave them out.

    Args:
        hosts, origins: values of all headers Host and Origin.
        fetch_site: value of the header Sec-Fetch-Site.
        public: address under which a web server in front of this one is open, such as "https://listen.example.org".

    >>> is_foreign(["127.0.0.1:8000"], ["http://127.0.0.1:8000"]), is_foreign(["evil.example"], [])
    (False, True)
    >>> is_foreign(["a.example"], ["https://a.example"], "", "https://a.example/test/")
    False
    """
    if len(hosts) > 1 or len(origins) > 1 or fetch_site.strip() == "cross-site":
        return True
    host = hosts[0].strip() if hosts else ""
    if public:
        own = urlsplit(public)
        if host.lower() == own.netloc.lower():
            return bool(origins) and origins[0].strip().lower() != f"{own.scheme}://{own.netloc}".lower()
    if hosts and not _LOCAL.fullmatch(host):
        return True
    return bool(origins) and origins[0].strip() != f"http://{host}"


def public_address(text: str) -> str:
    """A public address, checked; empty stays empty.

    >>> public_address("https://listen.example.org/test/")
    'https://listen.example.org/test/'

    Raises:
        ValueError: if it is no address of a web server.
    """
    if not text:
        return ""
    try:
        parts = urlsplit(text)
        good = parts.scheme in ("http", "https") and parts.hostname and not parts.query and not parts.fragment
        if not good or parts.username is not None or parts.port == 0:
            raise ValueError
    except ValueError:
        raise ValueError(
            f"address is {text!r}; give the address that listeners open, such as https://listen.example.org/"
        ) from None
    return text
