"""AMX Engine: the server. Packages are layers; imports between them only point down (see CONTRIBUTING.md)."""

import os

# Before gRPC is imported: its fork handlers can crash the child of an agent of this process that starts a program on
# uvloop, between fork and exec. Nothing here uses gRPC in a forked child, which is all they are for.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
