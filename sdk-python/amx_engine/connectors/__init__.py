"""Connectors to stores that pipelines read from and write to. Each needs the extra of its name."""

from __future__ import annotations

from amx_engine.connectors._elasticsearch import ElasticsearchConnector
from amx_engine.connectors._s3 import S3Connector

__all__ = ["ElasticsearchConnector", "S3Connector"]
