"""Which of several engines owns an instance: a hash that every language computes alike, engines included.

FNV-1a over 32 bits, finished with the mixing steps of MurmurHash3 (fmix32): FNV's lowest bit alone is the parity of
its input, which would put keys like `11`, `22`, `33` all on one of two engines.
"""

from __future__ import annotations

_OFFSET = 0x811C9DC5
_PRIME = 0x01000193
_MASK = 0xFFFFFFFF


def instance_hash(namespace: str, agent: str, key: str) -> int:
    """32 bits that depend on the UTF-8 bytes of the three names, each followed by a zero byte but the last."""
    value = _OFFSET
    for byte in f"{namespace}\x00{agent}\x00{key}".encode("utf-8", "surrogatepass"):
        value = (value ^ byte) * _PRIME & _MASK
    value = (value ^ value >> 16) * 0x85EBCA6B & _MASK
    value = (value ^ value >> 13) * 0xC2B2AE35 & _MASK
    return value ^ value >> 16


def owner_of(namespace: str, agent: str, key: str, engines: int) -> int:
    """The number of the engine, of `engines`, that owns `agent/key`. The key is the one in force, e.g. `default`."""
    return instance_hash(namespace, agent, key) % engines
