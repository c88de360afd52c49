"""The content store: values by the hash of their bytes, each stored once, hot, warm or cold. See docs/memory.md."""

from amx_server.memory.content.address import ADDRESS_BYTES, Data, address_of, node_address_of
from amx_server.memory.content.chains import Chains
from amx_server.memory.content.collection import Collected
from amx_server.memory.content.compaction import Compacted
from amx_server.memory.content.contents import Damage
from amx_server.memory.content.options import ContentOptions, Owner, Quotas
from amx_server.memory.content.reconciliation import Reconciled
from amx_server.memory.content.references import Node
from amx_server.memory.content.snapshots import Snapshots
from amx_server.memory.content.statistics import Stats, TierStats
from amx_server.memory.content.steps import Steps
from amx_server.memory.content.store import ContentStore
from amx_server.memory.content.verification import Verified

__all__ = [
    "ADDRESS_BYTES",
    "Chains",
    "Collected",
    "Compacted",
    "ContentOptions",
    "ContentStore",
    "Damage",
    "Data",
    "Node",
    "Owner",
    "Quotas",
    "Reconciled",
    "Snapshots",
    "Stats",
    "Steps",
    "TierStats",
    "Verified",
    "address_of",
    "node_address_of",
]
