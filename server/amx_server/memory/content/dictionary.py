"""Training of compression dictionaries from samples of the store's own small objects."""

from __future__ import annotations

import random
import threading
from typing import Final

import zstandard

SAMPLE_BYTES: Final = 8 << 10
"""Objects above this size gain little from a dictionary and are not sampled."""
_SAMPLES: Final = 768
_LEAST_SAMPLES: Final = 128
_LEAST_BYTES: Final = 96 << 10
_GROWTH: Final = 4  # train again when this many times as much was seen
_GAIN: Final = 0.97  # a new dictionary must pack held-out samples into this share of what the current one needs


class Trainer:
    """A uniform sample of the small objects that were packed, and when to learn from it.

    `offer` costs little and is called for every packed object; `train` takes up to a few tenths of a second, without
    the interpreter's lock, and is for a background thread.
    """

    def __init__(self, dictionary_bytes: int, level: int) -> None:
        self._size = dictionary_bytes
        self._level = level
        self._lock = threading.Lock()
        self._samples: list[bytes] = []
        self._seen = 0
        self._next = _LEAST_SAMPLES
        self._random = random.Random(0)  # a sample, not a secret

    def offer(self, data: bytes | memoryview) -> None:
        """Considers a packed object as a sample."""
        size = len(data)
        if not self._size or not 0 < size <= SAMPLE_BYTES:
            return
        with self._lock:
            self._seen += 1
            if len(self._samples) < _SAMPLES:
                self._samples.append(bytes(data))
            elif (place := self._random.randrange(self._seen)) < _SAMPLES:
                self._samples[place] = bytes(data)

    @property
    def due(self) -> bool:
        """Whether enough was seen since the last training."""
        return self._seen >= self._next

    def train(self, current: bytes | None) -> bytes | None:
        """A dictionary better than `current`, or None. A third of the samples is held out to judge it."""
        with self._lock:
            samples = list(self._samples)
            if sum(map(len, samples)) < _LEAST_BYTES:
                self._next = self._seen * 2
                return None
            self._next = self._seen * _GROWTH
        held_out, learned = samples[::3], [sample for at, sample in enumerate(samples) if at % 3]
        size = min(self._size, sum(map(len, learned)) // 4)
        try:
            trained = zstandard.train_dictionary(size, [*learned], level=self._level).as_bytes()
        except zstandard.ZstdError:
            return None  # the samples have too little in common
        return trained if self._packed(held_out, trained) < self._packed(held_out, current) * _GAIN else None

    def _packed(self, samples: list[bytes], dictionary: bytes | None) -> int:
        data = zstandard.ZstdCompressionDict(dictionary) if dictionary else None
        pack = zstandard.ZstdCompressor(level=self._level, dict_data=data, write_dict_id=False).compress
        return sum(min(len(pack(sample)), len(sample)) for sample in samples)
