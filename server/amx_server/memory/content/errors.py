"""The errors of the content store: each names the content, the owner or the file, and what to do next."""

from __future__ import annotations

from amx_server.core.errors import FAILED_PRECONDITION, AmxError, exhausted, invalid, not_found, unavailable

DATA_LOSS = 15  # google.rpc.Code


def content_not_found(address: bytes) -> AmxError:
    """No content has this address, or it was collected."""
    return not_found(
        "CONTENT_NOT_FOUND",
        f"no content has the address {address.hex()}; put it again, and retain or pin what must outlive a collection",
        address=address.hex(),
    )


def content_corrupted(address: bytes, where: str, why: str) -> AmxError:
    """What is stored under this address is not what its address says."""
    return AmxError(
        DATA_LOSS,
        "CONTENT_CORRUPTED",
        f"content {address.hex()} is damaged ({where}: {why}); what was read is kept in the folder quarantine;"
        " put the same content again to heal every reference to it, or restore the store from a backup",
        metadata={"address": address.hex(), "where": where},
    )


def content_not_a_node(address: bytes) -> AmxError:
    """A value was read as a node."""
    return invalid(
        "CONTENT_NOT_A_NODE",
        f"content {address.hex()} is a value, not a node with links; read it with get, or pass what put_node returned",
        address=address.hex(),
    )


def content_too_large(size: int, limit: int) -> AmxError:
    """One value is larger than the store takes."""
    return invalid(
        "CONTENT_TOO_LARGE",
        f"a value of {size} bytes is larger than the {limit} bytes that content may have;"
        " split it, or raise max_value_bytes",
    )


def content_not_retained(address: bytes, owner: str) -> AmxError:
    """More was released than had been retained."""
    return AmxError(
        FAILED_PRECONDITION,
        "CONTENT_NOT_RETAINED",
        f"{owner} releases content {address.hex()} more often than it is retained; nothing was changed;"
        " release exactly what was retained, or reconcile the store with the true references",
        metadata={"address": address.hex()},
    )


def quota_exceeded(owner: str, held: int, wanted: int, limit: int) -> AmxError:
    """An owner would hold more than its quota."""
    return exhausted(
        "CONTENT_QUOTA_EXCEEDED",
        f"{owner} holds {held} bytes of content and asks for {wanted} more, its quota is {limit};"
        " release what it no longer needs, or raise the quota",
        retry_delay_ms=1000,
        owner=owner,
        limit=str(limit),
    )


def memory_full(held: int, budget: int, why: str) -> AmxError:
    """No memory is left for content and none can be freed now."""
    return exhausted(
        "CONTENT_MEMORY_FULL",
        f"content takes {held} of {budget} bytes of memory and none can be freed: {why};"
        " release content and collect, or raise the memory budget",
        retry_delay_ms=1000,
    )


def disk_full(path: str, why: str) -> AmxError:
    """The disk, or the budget of the cold tier, has no room."""
    return exhausted(
        "CONTENT_DISK_FULL",
        f"content cannot be written to {path}: {why}; free space or raise the budget of the cold tier,"
        " what was asked for can then be repeated",
        retry_delay_ms=1000,
        path=path,
    )


def disk_failed(path: str, why: str) -> AmxError:
    """The disk did not do what it was told, so nothing further can be promised."""
    return unavailable(
        "CONTENT_DISK_FAILED",
        f"{path} failed: {why}; content can still be read, nothing can be made durable until the store is opened"
        " again: check the disk, then restart",
        path=path,
    )


def store_closed(path: str) -> AmxError:
    """The store was closed."""
    return unavailable("CONTENT_CLOSED", f"the content store {path} is closed; open it again")
