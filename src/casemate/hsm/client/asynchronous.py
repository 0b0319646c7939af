"""The same partition for `asyncio` programs: every call awaits instead of blocking the loop.

Requests wait in threads that do nothing but wait; the partition works on them side by side, so
gathering many of them pays:

>>> async with casemate.connect_async("web") as web:                            # doctest: +SKIP
...     key = await web.find("tls")
...     await asyncio.gather(*(web.run(key.sign, message) for message in messages))
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import ParamSpec, TypeVar

from casemate.formats.pkcs11 import Mechanism, ObjectClass
from casemate.formats.pkcs11_wire import Parameters
from casemate.hsm.client.algorithms import Algorithm
from casemate.hsm.client.keys import Key, KeyPair
from casemate.hsm.client.partition import Partition, connect

P = ParamSpec("P")
R = TypeVar("R")


class AsyncPartition:
    """An asynchronous view of a `Partition`; `run` awaits any other of its calls."""

    def __init__(self, partition: str, *, pin: str | bytes | None = None, threads: int = 8) -> None:
        """Name the partition; the connection is made on entry."""
        self._name = partition
        self._pin = pin
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=f"casemate-{partition}")
        self._partition: Partition | None = None

    @property
    def partition(self) -> Partition:
        """The partition itself, for `run`; raises `RuntimeError` outside `async with`."""
        if self._partition is None:
            raise RuntimeError("not connected: use `async with casemate.connect_async(...)`")
        return self._partition

    async def __aenter__(self) -> AsyncPartition:
        self._partition = await self.run(connect, self._name, pin=self._pin)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.run(self.partition.close)
        self._partition = None
        self._threads.shutdown(wait=False)

    async def run(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Await a blocking call: `await web.run(key.encrypt, data, associated=b"...")`."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, lambda: call(*args, **kwargs))

    async def find(
        self,
        label: str | None = None,
        *,
        id: bytes | None = None,
        object_class: ObjectClass | None = None,
    ) -> Key:
        """As `Partition.find`."""
        return await self.run(self.partition.find, label, id=id, object_class=object_class)

    async def generate(
        self, algorithm: Algorithm, *, label: str, id: bytes = b"", stored: bool = False
    ) -> KeyPair:
        """As `Partition.generate`."""
        return await self.run(self.partition.generate, algorithm, label=label, id=id, stored=stored)

    async def sign(
        self,
        key: Key,
        data: bytes,
        *,
        mechanism: Mechanism | None = None,
        parameters: Parameters | None = None,
    ) -> bytes:
        """As `Key.sign`."""
        return await self.run(key.sign, data, mechanism=mechanism, parameters=parameters)

    async def sign_many(
        self,
        key: Key,
        messages: Sequence[bytes],
        *,
        mechanism: Mechanism | None = None,
        parameters: Parameters | None = None,
    ) -> list[bytes]:
        """As `Key.sign_many`."""
        return await self.run(key.sign_many, messages, mechanism=mechanism, parameters=parameters)

    async def encrypt_many(
        self, key: Key, messages: Sequence[bytes], *, associated: bytes | Sequence[bytes] = b""
    ) -> list[bytes]:
        """As `Key.encrypt_many`."""
        return await self.run(key.encrypt_many, messages, associated=associated)

    async def random(self, size: int) -> bytes:
        """As `Partition.random`."""
        return await self.run(self.partition.random, size)


def connect_async(
    partition: str, *, pin: str | bytes | None = None, threads: int = 8
) -> AsyncPartition:
    """Return a partition for `async with`; at most `threads` requests wait at once."""
    return AsyncPartition(partition, pin=pin, threads=threads)
