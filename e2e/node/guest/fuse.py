"""The kernel's FUSE and CUSE protocol, as much as the shaped node needs of it (<linux/fuse.h>, protocol 7.31).

One thread serves one mount or one device, so that a call which hangs in the kernel holds up nothing else.
"""

import ctypes
import errno
import os
import struct
import threading
from collections.abc import Callable

IN = struct.Struct("=IIQQIIIHH")  # length, opcode, unique, node, uid, gid, pid, extensions, padding
OUT = struct.Struct("=IiQ")  # length, error, unique
ATTR = struct.Struct("=QQQQQQIIIIIIIIII")
ENTRY = struct.Struct("=QQQQII")
READ_OR_WRITE = struct.Struct("=QQIIQII")
LOOKUP, FORGET, GETATTR, SETATTR, READLINK, OPEN, READ, WRITE, STATFS, RELEASE = (
    1,
    2,
    3,
    4,
    5,
    14,
    15,
    16,
    17,
    18,
)
FLUSH, INIT, OPENDIR, READDIR, RELEASEDIR, INTERRUPT, DESTROY, BATCH_FORGET = 25, 26, 27, 28, 29, 36, 38, 42
CUSE_INIT = 4096
UNANSWERED = {FORGET, INTERRUPT, BATCH_FORGET}
DIRECT_IO = 1  # FOPEN_DIRECT_IO: sizes in sysfs and proc say nothing
MAJOR, MINOR = 7, 31
LARGEST_WRITE = 65536
ROOT = 1

Answer = Callable[[int, int, bytes], bytes]
"""(opcode, node, what follows the header) → what follows the answer's header. Raises OSError."""


def attributes(found: os.stat_result, node: int) -> bytes:
    """fuse_attr of what `os.lstat` found."""
    times = [int(found.st_atime), int(found.st_mtime), int(found.st_ctime), 0, 0, 0]
    owner = [found.st_mode, found.st_nlink, found.st_uid, found.st_gid, found.st_rdev or 0, 4096, 0]
    return ATTR.pack(node, found.st_size, 0, *times, *owner)


def entry(node: int, attr: bytes) -> bytes:
    """fuse_entry_out; nothing may be kept by the kernel: the folder below changes by itself."""
    return ENTRY.pack(node, 0, 0, 0, 0, 0) + attr


def attr_answer(attr: bytes) -> bytes:
    return struct.pack("=QII", 0, 0, 0) + attr


def open_answer(handle: int, flags: int = DIRECT_IO) -> bytes:
    return struct.pack("=QII", handle, flags, 0)


def directory(names: list[tuple[str, int]], offset: int, room: int) -> bytes:
    """fuse_dirent of (name, type) from `offset` on, as many as have room."""
    answer = b""
    for index, (name, kind) in enumerate(names[offset:], start=offset + 1):
        raw = name.encode()
        one = struct.pack("=QQII", index, index, len(raw), kind) + raw
        one += b"\0" * (-len(one) % 8)
        if len(answer) + len(one) > room:
            break
        answer += one
    return answer


def mount(folder: str) -> int:
    """Mounts FUSE on `folder`. Returns the descriptor to serve. Raises OSError."""
    fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    options = f"fd={fd},rootmode=40000,user_id=0,group_id=0,allow_other".encode()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"shape", folder.encode(), b"fuse.shape", 0, options) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), folder)
    return fd


def unmount(folder: str) -> None:
    ctypes.CDLL(None).umount2(folder.encode(), 2)  # MNT_DETACH


def serve(fd: int, answer: Answer, device: bytes = b"", number: tuple[int, int] = (0, 0)) -> threading.Thread:
    """Answers in a thread until the mount or the device is gone. `device` is what CUSE is told of itself."""

    def reply_to(opcode: int, node: int, rest: bytes) -> bytes:
        if opcode == INIT:
            _, _, read_ahead, _ = struct.unpack_from("=IIII", rest)
            sizes = struct.pack("=HHIIHHI28x", 12, 9, LARGEST_WRITE, 1, 16, 0, 0)
            return struct.pack("=IIII", MAJOR, MINOR, read_ahead, 0) + sizes
        if opcode == CUSE_INIT:
            sizes = struct.pack("=IIII", 0, 0, LARGEST_WRITE, LARGEST_WRITE)
            return struct.pack("=II", MAJOR, MINOR) + sizes + struct.pack("=II40x", *number) + device
        if opcode in (FLUSH, DESTROY, RELEASEDIR):
            return b""
        return answer(opcode, node, rest)

    def run() -> None:
        while True:
            try:
                request = os.read(fd, LARGEST_WRITE + 8192)
            except InterruptedError:
                continue
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.EAGAIN):
                    continue  # the request was taken back
                return  # ENODEV: unmounted
            _, opcode, unique, node, *_ = IN.unpack_from(request)
            if opcode in UNANSWERED:
                continue
            code, body = 0, b""
            try:
                body = reply_to(opcode, node, request[IN.size :])
            except OSError as error:
                code = -(error.errno or errno.EIO)
            except Exception:  # noqa: BLE001 - whoever asks must not hang for a mistake here
                code = -errno.EIO
            try:
                os.write(fd, OUT.pack(OUT.size + len(body), code, unique) + body)
            except OSError:
                continue  # nobody waits any more

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread
