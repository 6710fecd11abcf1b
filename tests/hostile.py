"""What strangers write to stop, blind or mislead whoever reads it: values for every place where text or JSON is decoded.

Each is something that an API server would store, or a kernel would show.
"""

import builtins

OBJECT_LIMIT = 1_500_000
"""Bytes of one object: the API server's own limit of a request is 3 MiB, etcd's of what is stored 1.5 MiB."""
ANNOTATIONS_LIMIT = 256 * 1024
"""Bytes of all annotations of one object together (k8s.io/apimachinery/pkg/api/validation)."""
DEPTH_LIMIT = 10_000
"""Levels of nesting that the API server's decoder takes."""

NUMBERS = (
    "9" * 5_000,
    "-1",
    "9223372036854775808",
    "1e999999999",
    "0x10",
    "1_0",
    "\u0661\u0662",
    "NaN",
    " 7 ",
    "",
)
"""Where digits are expected; Python refuses to read more than 4,300 of them, by an exception."""

TEXTS = (
    *NUMBERS,
    "\x00",
    "\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16"),
    "\u202e\u200b\ufeff",
    "<script>alert(1)</script>",
    "'; DROP TABLE plans; --",
    "../../../etc/passwd",
    "{" * 5_000,
    "[" * 5_000,
    '{"a":' * 5_000,
    "," * 50_000,
    ":" * 50_000,
    ";" * 50_000,
    "a," * 100_000,
    "GPU-x,NVIDIA," + "9" * 5_000 + ",0:;",
    "GPU-x,NVIDIA,1,1:" * 10_000 + ";",
    "GPU-x,NVIDIA,1,1:;" * 10_000,
    "x" * ANNOTATIONS_LIMIT,
    "9999-12-31T23:59:59-23:59",
    "0000-00-00T00:00:00Z",
    "2026-02-30T25:61:61Z",
)
"""For an annotation, a label's value, a name."""

YAML = (
    "a: &a [x, x]\nb: &b [*a, *a, *a]\nc: [*b, *b, *b]\n",
    "nvidia: " + "[" * 5_000,
    "nvidia: {resourceCountName: " + "x" * 300_000 + "}",
    "nvidia: {memoryFactor: " + "9" * 5_000 + "}",
    "nvidia: {memoryFactor: [1], defaultGPUNum: true, resourceCountName: 7}",
    "!!python/object/apply:os.system ['true']",
    "? {a: b}\n: c",
    "\t- x",
    "nvidia: &x {y: *x}",
    "- " * 5_000 + "x",
)
"""For HAMi's device configuration."""


def deep_values() -> tuple[bytes, ...]:
    """JSON as deep as is stored, narrow and wide."""
    wide = b"[]," * 200_000
    return (
        b"[" * 600 + b"]" * 600,
        b"[" * (DEPTH_LIMIT - 10) + b"]" * (DEPTH_LIMIT - 10),
        b'{"a":' * (DEPTH_LIMIT - 10) + b"1" + b"}" * (DEPTH_LIMIT - 10),
        b"[" * 5_000 + wide + b"[]" + b"]" * 5_000,
    )


def exceptions() -> list[type[Exception]]:
    """Every class of exception that Python has built in, but the groups, which want members."""
    found = dict.fromkeys(kind for kind in vars(builtins).values() if isinstance(kind, type))
    return [k for k in found if issubclass(k, Exception) and not issubclass(k, BaseExceptionGroup)]


def raised(kind: type[Exception]) -> Exception:
    """One of them."""
    if issubclass(kind, UnicodeEncodeError):
        return kind("utf-8", "x", 0, 1, "hostile")
    if issubclass(kind, UnicodeDecodeError):
        return kind("utf-8", b"x", 0, 1, "hostile")
    if issubclass(kind, UnicodeTranslateError):
        return kind("x", 0, 1, "hostile")
    return kind("hostile")
