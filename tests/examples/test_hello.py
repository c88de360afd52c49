"""The smallest example says what it should."""

from __future__ import annotations

import pytest

from examples import hello


async def test_greeter_counts_each_name_for_itself(capsys: pytest.CaptureFixture[str]) -> None:
    await hello.main()
    assert capsys.readouterr().out.splitlines() == [
        "Hello, Ada! (time 1)",
        "Hello, Grace! (time 1)",
        "Hello, Ada! (time 2)",
    ]
