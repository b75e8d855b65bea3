"""The cage around real workers, seen from outside: what the kernel says of them, and that they do their work in it."""
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "http"))
from raw import SLOW, Server, children, main  # noqa: E402


def status(pid):
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {k: v.strip() for k, _, v in (line.partition(":") for line in lines)}


class Workers(unittest.TestCase):
    def test_every_worker_is_caged_before_it_is_ready(self):
        with Server("--workers", "2") as s:
            def are_all_ready():  # the server is when the first of them is
                health = s.get("/health").json()
                return health["workers_ready"] == health["workers"]

            self.assertTrue(s.wait(are_all_ready, 60 * SLOW, 0.01))
            sandbox = s.get("/health").json()["sandbox"]
            self.assertTrue(sandbox == "full" or sandbox.startswith(("partial: ", "none")), sandbox)
            workers = s.workers()
            self.assertGreaterEqual(len(workers), 2)
            self.assertEqual(sorted(workers), sorted(children(s.process.pid)))
            for w in workers:
                self.check(w, sandbox)
            self.assertEqual(len(s.embed(["one", "two"])), 2)
            own = status(s.process.pid)
            self.assertEqual(own["Seccomp"], "0")  # the server itself listens and starts processes

    def check(self, worker, sandbox):
        found = status(worker)
        self.assertEqual(found["Threads"], "1")
        self.assertEqual(found["NoNewPrivs"], "1")
        for name in ("CapPrm", "CapEff", "CapInh", "CapAmb"):
            self.assertEqual(int(found[name], 16), 0, name)
        if sandbox == "full":
            self.assertEqual(found["Seccomp"], "2")
        self.assertEqual(Path(f"/proc/{worker}/environ").read_bytes().strip(b"\0"), b"")
        limits = Path(f"/proc/{worker}/limits").read_text()
        self.assertRegex(limits, r"Max core file size +0 +0 ")
        self.assertRegex(limits, r"Max open files +\d{1,2} ")


if __name__ == "__main__":
    main()
