"""Images: found in folders (or drawn), decoded once, mapped into memory by every process."""

from gsda.data.decoding import decode
from gsda.data.domain import Domain, Images, Int64, Pair, Subset, UInt8, restrict
from gsda.data.folders import scan, task_listings
from gsda.data.listing import Listing
from gsda.data.load import (
    DataSpec,
    default_cache,
    identity,
    iterate_files,
    load_domains,
    load_pair,
    prepare,
)
from gsda.data.store import Store, open_domain, write_store

__all__ = [
    "DataSpec",
    "Domain",
    "Images",
    "Int64",
    "Listing",
    "Pair",
    "Store",
    "Subset",
    "UInt8",
    "decode",
    "default_cache",
    "identity",
    "iterate_files",
    "load_domains",
    "load_pair",
    "open_domain",
    "prepare",
    "restrict",
    "scan",
    "task_listings",
    "write_store",
]
