"""What /proc says about a server and its workers: who lives, what they hold, and who is left when it should be over.

Only Python's standard library is used."""
import os
import re
from pathlib import Path


def children(pid):
    """Ids of the children of a process, zombies included; [] when it is gone."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and state(name)[1] == pid]


def state(pid):
    """(letter, parent); ("X", 0) when it is gone."""
    try:
        rest = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return rest[0], int(rest[1])
    except (OSError, IndexError):
        return "X", 0


def born(pid):
    """When a process was started, in the kernel's ticks: with its id it is that process and no later one."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19])
    except (OSError, IndexError):
        return 0


def is_alive(pid):
    return state(pid)[0] not in "XZ"


def command(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def workers(pid):
    """Living workers of a server."""
    return [c for c in children(pid) if is_alive(c) and b"--role=worker" in command(c)]


def zombies(pid):
    return [c for c in children(pid) if state(c)[0] == "Z"]


def descriptors(pid):
    """{number: what it is}"""
    found = {}
    try:
        for name in os.listdir(f"/proc/{pid}/fd"):
            try:
                found[int(name)] = os.readlink(f"/proc/{pid}/fd/{name}")
            except OSError:
                pass
    except OSError:
        pass
    return found


def threads(pid):
    try:
        return len(os.listdir(f"/proc/{pid}/task"))
    except OSError:
        return 0


def maps(pid):
    try:
        return Path(f"/proc/{pid}/maps").read_bytes().count(b"\n")
    except OSError:
        return 0


def cpu_seconds(pid):
    """Processor time of a process and of its children that have ended."""
    try:
        rest = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return sum(map(int, rest[11:13])) / os.sysconf("SC_CLK_TCK")
    except OSError:
        return 0.0


def anonymous_bytes(pid):
    """RssAnon and VmSwap: memory that is this process's own."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return 1024 * sum(int(n) for n in re.findall(r"^(?:RssAnon|VmSwap):\s+(\d+)", text, re.M))


def tree_bytes(pid):
    """Anonymous memory of a server and all its children."""
    return sum(map(anonymous_bytes, [pid, *children(pid)]))


def pss_bytes(pid):
    """Proportional share of memory of a server and all its children."""
    total = 0
    for p in [pid, *children(pid)]:
        try:
            found = re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{p}/smaps_rollup").read_text(), re.M)
            total += 1024 * int(found[1]) if found else 0
        except OSError:
            pass
    return total


class Inventory:
    """What must not grow: descriptors, threads, mappings and children of a server, and files that all processes share.

    A server's event loop may keep one or two descriptors more after its first work than before it, so take the first
    inventory after a warm-up."""

    def __init__(self, pid):
        self.pid = pid
        self.n = {"descriptors": len(descriptors(pid)), "threads": threads(pid), "mappings": maps(pid),
                  "children": len(children(pid)), "zombies": len(zombies(pid)),
                  "shm": len(os.listdir("/dev/shm")) if os.path.isdir("/dev/shm") else 0}

    def growth(self, later, slack=None):
        """What `later` has more of than this one, beyond the slack: {} is good."""
        slack = slack or {}
        return {k: later.n[k] - n for k, n in self.n.items() if later.n[k] - n > slack.get(k, 0)}
