"""An agent may start programs: gRPC's fork handlers, which can crash the child, stay out of it."""

from __future__ import annotations

import subprocess
import sys

import pytest

# A process with a busy connection that starts a program many times on uvloop, as a tool-using agent does. Where gRPC's
# fork handlers run, they say so on standard error each time they find its threads at work.
PROGRAM = """
import asyncio, contextlib
from amx_engine import run
from amx_engine._transport import _grpc

async def main():
    grpc = _grpc()
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")

    async def keep_busy():
        while True:
            with contextlib.suppress(grpc.aio.AioRpcError):
                await channel.unary_unary("/no.Such/Method")(b"")

    busy = [asyncio.create_task(keep_busy()) for _ in range(8)]
    codes = []
    for _ in range(20):
        program = await asyncio.create_subprocess_exec("true")
        codes.append(await program.wait())
    print(codes)
    for task in busy:
        task.cancel()
    await channel.close()
    await server.stop(None)

run(main())
"""


@pytest.mark.process
def test_program_started_beside_a_busy_connection_is_not_touched_by_grpc() -> None:
    pytest.importorskip("uvloop", reason="uvloop forks by itself; asyncio's own loop does not run fork handlers")
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str([0] * 20)
    assert "fork" not in done.stderr
