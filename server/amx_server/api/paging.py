"""Page tokens: where a listing goes on. Opaque to callers; what no listing gave is refused by name."""

from __future__ import annotations

import base64
import binascii

from amx_server.core.errors import AmxError, invalid


def page_token(*parts: str) -> str:
    """The token of the page that begins after `parts`."""
    return base64.urlsafe_b64encode("\x00".join(parts).encode()).decode()


def token_parts(text: str, parts: int) -> list[str]:
    """What a token was made of; as many empty texts for the first page. Raises AmxError INVALID_PAGE_TOKEN."""
    if not text:
        return [""] * parts
    try:
        found = base64.b64decode(text.encode(), altchars=b"-_", validate=True).decode().split("\x00")
    except (binascii.Error, UnicodeError, ValueError):
        found = []
    if len(found) != parts:
        raise _unknown_token()
    return found


def token_number(text: str) -> int:
    """A part of a token that is a number; 0 for the first page. Raises AmxError INVALID_PAGE_TOKEN."""
    if not text:
        return 0
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise _unknown_token()
    return int(text)


def _unknown_token() -> AmxError:
    return invalid(
        "INVALID_PAGE_TOKEN", "the page token is not one that this call has given; start from the first page"
    )
