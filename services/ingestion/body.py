"""Bodies as they come over the wire: bounded reading, inflating, content types."""

import zlib
from collections.abc import Mapping

from starlette.types import Receive

from rondo_common.problems import Problem

JSON_TYPES = frozenset({"", "application/json", "text/plain"})
"""What the Segment endpoints take; text/plain is what a browser's sendBeacon sends."""

_GZIP = 31  # zlib's wbits for a gzip header and trailer


def too_large(limit: int) -> Problem:
    """413 with the limit in words."""
    return Problem(413, "too-large", "The request is too large", f"At most {limit} bytes after inflating")


class Gone(Exception):
    """The client went away before its body was there."""


async def read(receive: Receive, limit: int, declared: str = "") -> bytes:
    """The body as sent. Problem 413 beyond `limit` bytes, before more is read; `declared` is the
    Content-Length header."""
    if declared.isdigit() and int(declared) > limit:
        raise too_large(limit)
    message = await receive()
    body: bytes = message.get("body", b"")
    if message["type"] == "http.disconnect":
        raise Gone
    if not message.get("more_body"):
        if len(body) > limit:
            raise too_large(limit)
        return body
    parts = [body]
    size = len(body)
    while message.get("more_body"):
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Gone
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > limit:
            raise too_large(limit)
    return b"".join(parts)


def inflated(body: bytes, encoding: str, limit: int) -> bytes:
    """The body without its Content-Encoding. At most `limit` bytes are ever inflated, so a bomb costs
    no more than a plain body: Problem 413. Broken or cut gzip: 400. Another encoding: 415."""
    if encoding in ("", "identity"):
        return body
    if encoding not in ("gzip", "x-gzip"):
        raise Problem(
            415, "unsupported-media-type", "The content encoding is not supported", f"Send gzip or none, not {encoding}"
        )
    out = bytearray()
    rest = body
    try:
        while rest:
            member = zlib.decompressobj(_GZIP)
            out += member.decompress(rest, limit + 1 - len(out))
            if len(out) > limit:
                raise too_large(limit)
            if not member.eof:
                raise _broken("it ends too early")
            rest = member.unused_data
    except zlib.error as e:
        raise _broken(str(e)) from None
    return bytes(out)


def _broken(why: str) -> Problem:
    return Problem(400, "malformed", "The request can't be read", f"Not gzip: {why}")


def media_type(header: str) -> str:
    """The type of a Content-Type header without its parameters, in lower case."""
    return header.partition(";")[0].strip().lower()


def check_type(header: str, allowed: frozenset[str] = JSON_TYPES) -> None:
    """Problem 415 unless the Content-Type is one of `allowed`."""
    kind = media_type(header)
    if kind not in allowed:
        wanted = ", ".join(sorted(allowed - {""}))
        raise Problem(
            415, "unsupported-media-type", "The content type is not supported", f"Send {wanted}, not {kind[:100]}"
        )


def header(headers: Mapping[bytes, bytes], name: bytes) -> str:
    """A header as text; empty when absent."""
    return headers.get(name, b"").decode("latin-1")
