"""What lies in the bucket that the ingestion pipeline reads: three days of transactions, as untidy as exports are."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import boto3

BUCKET = "data-lake-raw"
PREFIX = "daily-exports/"

_CATEGORIES = ("Groceries", "  travel", "RENT ", "Salary", "books", " Coffee ")
_FIRST_DAY = datetime(2025, 3, 7)  # a Friday: the days after it are a weekend
_ROWS = 200
_REPEATED = 15


def daily_exports() -> dict[str, list[dict[str, Any]]]:
    """Rows by object key. Amounts are text, categories are written in many ways, and some rows come twice in a file.

    Times are UTC.
    """
    chance = random.Random(20250307)
    exports = {}
    for day in range(3):
        date = _FIRST_DAY + timedelta(days=day)
        rows = [
            {
                "transaction_id": f"t-{day}-{number}",
                "timestamp": (date + timedelta(seconds=chance.randrange(86_400))).isoformat(),
                "amount": f"{chance.uniform(0.5, 900):.2f}",
                "category": chance.choice(_CATEGORIES),
            }
            for number in range(_ROWS)
        ]
        rows += chance.sample(rows, _REPEATED)
        exports[f"{PREFIX}{date:%Y-%m-%d}.json"] = rows
    return exports


def fill_bucket(environment: Mapping[str, str]) -> None:
    """Makes the bucket and puts the exports into it. environment: as `services.s3()` gives it."""
    client = boto3.client(
        "s3",
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        region_name=environment["AWS_DEFAULT_REGION"],
    )
    client.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "us-west-2"})
    for key, rows in daily_exports().items():
        client.put_object(Bucket=BUCKET, Key=key, Body=json.dumps(rows).encode())
