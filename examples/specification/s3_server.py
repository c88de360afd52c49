"""An S3 server in memory: moto's, without the other services it knows.

Run it: `python -m examples.specification.s3_server --port 9000`, and set AWS_ENDPOINT_URL to its address.
"""

from __future__ import annotations

import argparse

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server


def serve(port: int) -> None:
    """Serves on a loopback port, any free one for 0, until ended. Prints the port when it is ready."""
    server = make_server("127.0.0.1", port, DomainDispatcherApplication(create_backend_app), threaded=True)
    print(f"S3 on port {server.port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=9000)
    serve(parser.parse_args().port)
