"""Objects in S3, or in anything that speaks its protocol. boto3 does the work, in threads."""

from __future__ import annotations

import asyncio
import io
import os
import threading
from collections.abc import Callable
from functools import cached_property
from typing import Any, TypeVar

from amx_engine._errors import NOT_FOUND, PERMISSION_DENIED, UNKNOWN, AmxError
from amx_engine.connectors._errors import extra_missing, store_unavailable

T = TypeVar("T")

_MISSING = frozenset({"NoSuchKey", "NoSuchBucket", "404", "NotFound"})
_DENIED = frozenset({"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "403"})
_BUSY = frozenset({"SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "500", "503"})


class ObjectContent(bytes):
    """The content of an object: bytes that can also be read like a file opened in binary mode.

    So `json.loads(content)` takes it, and so does whatever wants a file: `pandas.read_json(content)`.
    """

    mode = "rb"

    @cached_property
    def _file(self) -> io.BytesIO:
        return io.BytesIO(self)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # what bytes do not have, files do not lend them
            raise AttributeError(name)
        return getattr(self._file, name)


class S3Connector:
    """Lists, reads and writes objects.

    Credentials and region not given are looked for where boto3 does (environment, profile, instance). endpoint_url:
    a server other than AWS; the environment's AWS_ENDPOINT_URL if not given. Raises AmxError CONNECTOR_EXTRA_MISSING
    at the first call without boto3. Methods raise AmxError OBJECT_NOT_FOUND, STORE_ACCESS_DENIED, STORE_UNAVAILABLE
    (retryable) or STORE_FAILED. May be used by several tasks at a time.
    """

    def __init__(
        self,
        aws_access_key_id: str | None = None,
        aws_secret_access_key: str | None = None,
        region_name: str | None = None,
        endpoint_url: str | None = None,
        aws_session_token: str | None = None,
    ) -> None:
        self._options = {
            "aws_access_key_id": aws_access_key_id,
            "aws_secret_access_key": aws_secret_access_key,
            "aws_session_token": aws_session_token,
            "region_name": region_name,
            "endpoint_url": endpoint_url or os.environ.get("AWS_ENDPOINT_URL") or None,
        }
        self._client: Any = None
        self._lock = threading.Lock()

    async def list_objects(self, bucket: str, prefix: str = "") -> list[str]:
        """Keys of all objects whose key begins with `prefix`, in the store's order (bytewise)."""

        def work(client: Any) -> list[str]:
            pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
            return [str(item["Key"]) for page in pages for item in page.get("Contents", ())]

        return await self._run(f"listing s3://{bucket}/{prefix}", work)

    async def get_object(self, bucket: str, key: str) -> ObjectContent:
        """The content of an object, whole: bytes that can also be read like a file."""

        def work(client: Any) -> ObjectContent:
            with client.get_object(Bucket=bucket, Key=key)["Body"] as body:
                return ObjectContent(body.read())

        return await self._run(f"reading s3://{bucket}/{key}", work)

    async def put_object(self, bucket: str, key: str, data: bytes | str, content_type: str = "") -> None:
        """Writes an object, replacing the one of that key. When it returns, the object is stored."""
        body = data.encode() if isinstance(data, str) else data
        extra = {"ContentType": content_type} if content_type else {}

        def work(client: Any) -> None:
            client.put_object(Bucket=bucket, Key=key, Body=body, **extra)

        await self._run(f"writing s3://{bucket}/{key}", work)

    async def _run(self, what: str, work: Callable[[Any], T]) -> T:
        return await asyncio.to_thread(self._guarded, what, work)

    def _guarded(self, what: str, work: Callable[[Any], T]) -> T:
        try:
            import boto3
            from botocore.exceptions import (  # type: ignore[import-not-found,import-untyped,unused-ignore]
                BotoCoreError,
                ClientError,
            )
        except ImportError:
            raise extra_missing("S3Connector", "boto3", "s3") from None
        try:
            with self._lock:  # making clients is not thread-safe in boto3, using them is
                if self._client is None:
                    self._client = boto3.session.Session().client("s3", **self._options)
            return work(self._client)
        except ClientError as error:
            kind = str(error.response.get("Error", {}).get("Code", ""))
            if kind in _MISSING:
                raise AmxError(NOT_FOUND, "OBJECT_NOT_FOUND", f"{what}: {error}") from error
            if kind in _DENIED:
                raise AmxError(PERMISSION_DENIED, "STORE_ACCESS_DENIED", f"{what}: {error}") from error
            if kind in _BUSY:
                raise store_unavailable(what, error) from error
            raise AmxError(UNKNOWN, "STORE_FAILED", f"{what}: {error}") from error
        except BotoCoreError as error:
            raise store_unavailable(what, error) from error
