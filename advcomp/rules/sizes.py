"""How much a submission may come to: files, bytes packed, bytes unpacked."""

MAX_MEMBERS = 20_000
"""Files and folders of a submission."""

MAX_PACKED_BYTES = 8 << 30
MAX_UNPACKED_BYTES = 16 << 30
"""The sizes of 2017."""

_ANY_RATIO_BYTES = 32 << 20
"""What an archive may unpack to, however well it is packed."""
_MAX_RATIO = 100


def unpacked_limit(packed_bytes: int) -> int:
    """Bytes that an archive may unpack to, the copies made for its links included."""
    return min(MAX_UNPACKED_BYTES, max(_ANY_RATIO_BYTES, _MAX_RATIO * packed_bytes))


def too_large(limit: int) -> str:
    """What is told of an archive that unpacks to more than `limit` bytes."""
    return (
        f"expected at most {limit:,} bytes unpacked, a link counting like a copy: "
        f"{MAX_UNPACKED_BYTES >> 30} GiB, and {_MAX_RATIO} times what was packed where that is "
        f"more than {_ANY_RATIO_BYTES >> 20} MiB; got more"
    )
