"""The child side of sandbox.py: gives up what it can, then becomes the program.

Run by path with `python -I -S` and never imported, so it holds standard library only. A child of
its own, because code between fork and exec is unsafe in a process that has threads. Each step
reports whether it held: what a kernel refuses is told, and never assumed.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import struct
import sys
from typing import Any

NEWNS, NEWIPC, NEWUSER, NEWPID, NEWNET = 0x00020000, 0x08000000, 0x10000000, 0x20000000, 0x40000000
MS_BIND, MS_REC, MS_PRIVATE = 4096, 16384, 1 << 18
AT_FDCWD, AT_RECURSIVE, MOUNT_ATTR_RDONLY = -100, 0x8000, 1
PR_SET_PDEATHSIG, PR_SET_KEEPCAPS, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT = 1, 8, 38, 47
CAP_DAC_OVERRIDE, CAP_FOWNER = 1, 3
CAPABILITY_VERSION_3 = 0x20080522
# These numbers are the same on every Linux architecture (all are newer than the unified table).
SYS_MOUNT_SETATTR, SYS_LANDLOCK_CREATE, SYS_LANDLOCK_ADD, SYS_LANDLOCK_RESTRICT = 442, 444, 445, 446
LANDLOCK_READ = 1 << 0 | 1 << 2 | 1 << 3  # execute, read a file, read a folder
LANDLOCK_FILE = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 14 | 1 << 15  # what a rule on a file may grant
LANDLOCK_TRUNCATE_ABI, LANDLOCK_NET_ABI, LANDLOCK_SCOPE_ABI = 3, 4, 6
# Users that systemd hands out and nobody owns: a fresh one a run, so that the count of its
# processes starts at none.
FIRST_UID, UIDS = 61184, 4096
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
SYSTEM = (
    *("/usr", "/bin", "/sbin", "/lib", "/lib64", "/nix/store", "/gnu/store"),
    *("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives"),
    *("/etc/passwd", "/etc/group", "/etc/nsswitch.conf", "/etc/hosts", "/etc/localtime"),
    *("/etc/ssl", "/etc/pki", "/etc/mime.types", "/etc/locale.alias"),
)
CHAIN = 3  # this process, the first of its namespace, and the program
LINUX = sys.platform == "linux"
libc = ctypes.CDLL(None, use_errno=True)


def main(job_file: str) -> None:
    """Run the job described in `job_file`; does not return."""
    with open(job_file, encoding="utf-8") as file:
        job: dict[str, Any] = json.load(file)
    die_with_parent()
    if os.getppid() != job["parent"]:
        os._exit(1)
    uid = FIRST_UID + os.getpid() % UIDS
    namespaces = enter_namespaces()
    sealed = namespaces is not None and seal_mounts({job["cwd"], job["scratch"]})
    if namespaces is not None:
        continue_in_child()  # the first process of the new process namespace: when it ends, all end
        continue_in_child()  # the program itself: a first process would ignore its own signals
    held = {"network": namespaces is not None, "memory": False, "file_size": False}
    others = processes_of(os.geteuid()) if namespaces is None else CHAIN
    held["filesystem"] = confine_paths(job, net=namespaces is None) and sealed
    dropped = os.geteuid() == 0 and namespaces != "user" and drop_root(uid, chmod=sealed)
    # The count starts anew with a new user, as it does in a new user namespace.
    counted = set_limits(job["limits"], CHAIN if dropped else others, held)
    held["processes"] = counted and namespaces is not None
    held["environment"] = not readable(f"/proc/{job['parent']}/environ")
    with os.fdopen(job["report_fd"], "w") as report:
        json.dump(held, report)
    become(job)


def die_with_parent() -> None:
    """Make the kernel kill this process when its parent goes."""
    if LINUX:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def enter_namespaces() -> str | None:
    """Return who this process is in namespaces of its own: `root`, `user`, or None without any.

    Own network (empty), process table, mounts and shared memory. Root needs no user namespace.
    """
    if not LINUX:
        return None
    uid, gid, wanted = os.geteuid(), os.getegid(), NEWNS | NEWIPC | NEWPID | NEWNET
    if libc.unshare(wanted) == 0:
        return "root"
    if libc.unshare(wanted | NEWUSER) != 0:
        return None
    try:
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"{uid} {uid} 1"),
            ("gid_map", f"{gid} {gid} 1"),
        ):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
    except OSError:  # an identity that maps to nobody still has its files, through its old uid
        pass
    return "user"


def seal_mounts(writable: set[str]) -> bool:
    """Return whether everything but the folders `writable` became read-only for this process.

    Landlock does not judge chmod, chown or touch; a read-only mount does. Sockets of services
    under /run are hidden too: to connect to one is no write.
    """
    if libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None) != 0:
        return False
    if os.path.isdir("/run") and not any(path.startswith("/run/") for path in writable):
        libc.mount(b"none", b"/run", b"tmpfs", 0, None)
    folders = [os.fsencode(path) for path in sorted(writable)]
    if any(libc.mount(path, path, None, MS_BIND, None) != 0 for path in folders):
        return False
    read_only = struct.pack("=QQQQ", MOUNT_ATTR_RDONLY, 0, 0, 0)
    writing = struct.pack("=QQQQ", 0, MOUNT_ATTR_RDONLY, 0, 0)
    if libc.syscall(SYS_MOUNT_SETATTR, AT_FDCWD, b"/", AT_RECURSIVE, read_only, 32) != 0:
        return False
    return all(libc.syscall(SYS_MOUNT_SETATTR, AT_FDCWD, f, 0, writing, 32) == 0 for f in folders)


def continue_in_child() -> None:
    """Return in a new child only; this process waits for it and ends as it did."""
    child = os.fork()
    if child == 0:
        die_with_parent()
        return
    while True:
        pid, status = os.wait()  # orphans come here too
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            os._exit(code if code >= 0 else 128 - code)


def confine_paths(job: dict[str, Any], *, net: bool) -> bool:
    """Return whether Landlock now refuses every path but the job's own and the system's.

    `net`: refuse TCP as well, for kernels that gave no network namespace.
    """
    if not LINUX:
        return False
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    abi = libc.syscall(SYS_LANDLOCK_CREATE, None, 0, 1)
    if abi < 1:
        return False
    everything = (1 << {1: 13, 2: 14, 3: 15, 4: 15}.get(abi, 16)) - 1
    attributes = struct.pack(
        "=QQQ",
        everything,
        3 if net and abi >= LANDLOCK_NET_ABI else 0,
        3 if abi >= LANDLOCK_SCOPE_ABI else 0,
    )
    size = 24 if abi >= LANDLOCK_SCOPE_ABI else 16 if abi >= LANDLOCK_NET_ABI else 8
    ruleset = libc.syscall(SYS_LANDLOCK_CREATE, attributes[:size], size, 0)
    if ruleset < 0:
        return False
    for path in (job["cwd"], job["scratch"]):
        allow(ruleset, path, everything)
    for path in (*SYSTEM, *job["reads"]):
        allow(ruleset, path, LANDLOCK_READ)
    for path in DEVICES:
        allow(ruleset, path, LANDLOCK_FILE & everything)
    restricted: bool = libc.syscall(SYS_LANDLOCK_RESTRICT, ruleset, 0) == 0
    os.close(ruleset)
    return restricted and abi >= LANDLOCK_TRUNCATE_ABI


def allow(ruleset: int, path: str, rights: int) -> None:
    """Grant `rights` below `path`; a path that is not there needs no rule."""
    try:
        target = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    if not os.path.isdir(path):
        rights &= LANDLOCK_FILE
    libc.syscall(SYS_LANDLOCK_ADD, ruleset, 1, struct.pack("=Qi", rights, target), 0)
    os.close(target)


def drop_root(uid: int, *, chmod: bool) -> bool:
    """Return whether this process is now an unprivileged user who still reaches its own folder.

    Root is exempt from the limit on processes. The one power kept is to pass file modes, since
    the folders above the workspace are often closed to others; mounts and Landlock bound it.
    """
    kept = [CAP_DAC_OVERRIDE, CAP_FOWNER] if chmod else [CAP_DAC_OVERRIDE]
    bits = sum(1 << capability for capability in kept)
    header = struct.pack("=Ii", CAPABILITY_VERSION_3, 0)
    owned = ctypes.create_string_buffer(24)
    if libc.capget(header, owned) != 0 or struct.unpack_from("=III", owned)[1] & bits != bits:
        return False
    try:
        libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0)
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    except OSError:
        return False
    if libc.capset(header, struct.pack("=IIIIII", bits, bits, bits, 0, 0, 0)) != 0:
        os._exit(126)  # not root any more, and with powers nobody meant it to have
    for capability in kept:
        libc.prctl(PR_CAP_AMBIENT, 2, capability, 0, 0)
    die_with_parent()  # a change of user clears it
    return True


def set_limits(limits: dict[str, Any], others: int, held: dict[str, bool]) -> bool:
    """Set the limits, note those that hold, and return whether the number of processes is one.

    `others`: how many processes the same count already holds.
    """
    mebi = 1 << 20
    seconds = int(limits["time_s"]) + 2
    limit(resource.RLIMIT_CORE, 0)
    limit(resource.RLIMIT_CPU, seconds)
    limit(resource.RLIMIT_NOFILE, limits["open_files"])
    held["file_size"] = limit(resource.RLIMIT_FSIZE, int(limits["file_mb"] * mebi))
    held["memory"] = limit(resource.RLIMIT_AS, int(limits["memory_mb"] * mebi))
    return limit(resource.RLIMIT_NPROC, limits["processes"] + others) and os.geteuid() != 0


def limit(which: int, value: int) -> bool:
    """Return whether the limit could be set, for good."""
    try:
        hard = resource.getrlimit(which)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(which, (value, value))
    except (OSError, ValueError):
        return False
    return True


def processes_of(uid: int) -> int:
    """Return how many tasks `uid` runs now: without a namespace they share one count."""
    count = 0
    for name in os.listdir("/proc") if os.path.isdir("/proc") else []:
        try:
            if name.isdigit() and os.stat(f"/proc/{name}").st_uid == uid:
                count += len(os.listdir(f"/proc/{name}/task"))
        except OSError:  # gone, or hidden
            continue
    return count


def readable(path: str) -> bool:
    """Return whether this process can open `path`."""
    try:
        with open(path, "rb"):
            return True
    except OSError:
        return False


def become(job: dict[str, Any]) -> None:
    """Replace this process by the program."""
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # the interpreter ignores these two
        signal.signal(number, signal.SIG_DFL)
    try:
        os.chdir(job["cwd"])
        os.execve(job["argv"][0], job["argv"], job["env"])
    except OSError as error:
        os.write(2, f"cannot start {job['argv'][0]}: {error.strerror}\n".encode())
        os._exit(126)


if __name__ == "__main__":
    main(sys.argv[1])
