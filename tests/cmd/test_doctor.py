"""pillion doctor: what it finds on this machine, on broken ones, and its exit status."""
import json
import os
import resource
import shutil
import socket
import subprocess
import sys
import unittest
from pathlib import Path

import cli

FINDINGS = ["processor", "memory", "limits", "cache", "sandbox", "worker", "documents", "tools", "pdfinfo", "pdftotext",
            "pdftoppm", "tesseract", "languages", "address", "model"]


class Doctor(cli.Case):
    def doctor(self, *args, status=cli.OK, **kw):
        """The findings by name."""
        with socket.socket() as free:  # another test may have the usual port
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        r = cli.pillion("doctor", "--json", "--port", port, *args, **kw)
        self.assertEqual(r.stderr, b"")
        told = json.loads(r.stdout)
        self.assertEqual(r.returncode, status, [f for f in told["findings"] if f["state"] != "ok"])
        self.assertEqual(told["ok"], status == cli.OK)
        self.told = told
        return {f["name"]: f for f in told["findings"]}

    def test_every_finding_has_a_state_and_a_reason(self):
        found = self.doctor()
        self.assertEqual(list(found), FINDINGS)
        for f in found.values():
            self.assertIn(f["state"], ("ok", "warning", "failure"))
            self.assertTrue(f["detail"])
        self.assertRegex(self.told["version"], r"^\d+\.\d+\.\d+$")
        self.assertIn("is free", found["address"]["detail"])

    def test_the_page_is_one_page_and_says_the_same(self):
        text = self.ok("doctor", "--port", "0", env=cli.environment(PATH="/nowhere")).decode()
        self.assertLessEqual(text.count("\n"), 66)
        for name in FINDINGS:
            self.assertRegex(text, rf"(?m)^  (ok|WARNING|FAILURE) +{name} ")
        self.assertRegex(text, r"\nIt can work here: \d+ warnings, 0 failures\n$")

    def test_every_denial_of_the_cage_is_tried(self):
        found = self.doctor()
        wanted = ["read a file", "create a file in the home folder", "make an internet socket",
                  "connect an inherited socket", "make a process", "execute a program", "trace a sibling",
                  "signal the parent", "aim a descriptor's signals",
                  "read another process in /proc"]  # row X11 of the reliability sheet
        checks = {c["attempt"]: c for c in self.told["sandbox"]["worker"]}
        for attempt in wanted:
            self.assertFalse(checks[attempt]["expected"], attempt)
            if found["sandbox"]["state"] == "ok":
                self.assertFalse(checks[attempt]["allowed"], attempt)
        if found["sandbox"]["state"] == "ok":
            for role, checks in self.told["sandbox"].items():
                self.assertEqual([c["attempt"] for c in checks if c["allowed"] != c["expected"]], [], role)
                self.assertEqual(found[{"documents": "documents", "tools": "tools"}.get(role, role)]["state"], "ok")

    def test_missing_tools_and_folders_are_warnings(self):
        found = self.doctor(env=cli.environment(PATH="/nowhere", HOME="", XDG_CACHE_HOME=""))
        for name in ("pdfinfo", "pdftotext", "pdftoppm", "tesseract", "languages", "cache"):
            self.assertEqual(found[name]["state"], "warning", found[name])
        self.assertIn("package poppler-utils", found["pdfinfo"]["detail"])
        self.assertIn("XDG_CACHE_HOME", found["cache"]["detail"])
        found = self.doctor(env=cli.environment(XDG_CACHE_HOME="/proc/nothing"))
        self.assertEqual(found["cache"]["state"], "warning")
        (self.dir / "pillion").write_text("a file where a folder should be")
        found = self.doctor(env=cli.environment(XDG_CACHE_HOME=self.dir))
        self.assertEqual(found["cache"]["state"], "warning")
        self.assertEqual(os.listdir(self.dir), ["pillion"])

    def test_names_with_blanks_and_other_letters_are_shown(self):
        place = self.dir / "två ord — 語"
        found = self.doctor(env=cli.environment(XDG_CACHE_HOME=place))
        self.assertIn(str(place), found["cache"]["detail"])
        self.assertEqual(os.listdir(place / "pillion"), [])
        place = self.dir / os.fsdecode(b"caf\xe9")
        found = self.doctor(env=cli.environment(XDG_CACHE_HOME=place))
        self.assertIn(f"{self.dir}/caf?/pillion:", found["cache"]["detail"])

    def test_an_address_that_somebody_else_has_is_a_failure(self):
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            found = self.doctor("--port", other.getsockname()[1], status=cli.FAILURE)
            self.assertEqual(found["address"]["state"], "failure")
            self.assertIn(f"pid {os.getpid()}", found["address"]["detail"])
            text = cli.pillion("doctor", "--port", other.getsockname()[1]).stdout.decode()
            self.assertIn("\nIt cannot work here: ", text)

    def test_an_address_that_no_server_can_have_is_a_failure(self):
        for host, reason in (("192.0.2.1", "Cannot assign requested address"),  # for documentation: RFC 5737
                             ("no.such.host.invalid", "no such host")):
            address = self.doctor("--host", host, status=cli.FAILURE)["address"]
            self.assertEqual(address["state"], "failure")
            self.assertIn(f"a server cannot listen there: {reason}", address["detail"])

    def test_an_address_of_ipv6_is_tried_too(self):
        try:
            other = socket.create_server(("::1", 0), family=socket.AF_INET6)
        except OSError:
            self.skipTest("no IPv6 here")
        with other:
            found = self.doctor("--host", "::1", "--port", other.getsockname()[1], status=cli.FAILURE)
            self.assertIn(f"[::1]:{other.getsockname()[1]} is in use by", found["address"]["detail"])
            self.assertIn(f"pid {os.getpid()}", found["address"]["detail"])
        self.assertIn("is free", self.doctor("--host", "::1")["address"]["detail"])
        found = self.doctor("--host", "2001:db8::1", status=cli.FAILURE)  # for documentation: RFC 3849
        self.assertIn("a server cannot listen there: Cannot assign", found["address"]["detail"])

    def test_a_port_that_needs_rights_is_a_failure_without_them(self):
        with open("/proc/sys/net/ipv4/ip_unprivileged_port_start") as f:
            if int(f.read()) <= 80:
                self.skipTest("everybody may have port 80 here")
        shutil.copy(cli.BIN, self.dir / "pillion")  # another user may not be allowed to where it was built
        self.dir.chmod(0o755)
        nobody = {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}
        r = subprocess.run([self.dir / "pillion", "doctor", "--json", "--port", "80"], capture_output=True, check=False,
                           env=cli.environment(HOME="/nonexistent"), **nobody)
        address = next(f for f in json.loads(r.stdout)["findings"] if f["name"] == "address")
        self.assertEqual(address["state"], "failure")
        self.assertIn("127.0.0.1:80: a server cannot listen there: Permission denied", address["detail"])

    def test_a_server_of_ours_on_the_address_is_fine(self):
        handshake = self.dir / "h.json"
        server = subprocess.Popen([cli.BIN, "serve", "--port", "0", "--handshake", handshake, "--with-stdin"],
                                  stdin=subprocess.PIPE, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
                                  env=cli.environment())
        with server:
            server.stderr.readline()  # where it listens
            port = json.loads(handshake.read_text())["port"]
            found = self.doctor("--port", port)
            self.assertEqual(found["address"]["state"], "ok")
            self.assertIn(f"is served by pillion, pid {server.pid}", found["address"]["detail"])
            server.stdin.close()

    def test_few_descriptors_are_a_warning(self):
        found = self.doctor(env=cli.environment())
        self.assertEqual(found["limits"]["state"], "ok" if resource.getrlimit(resource.RLIMIT_NOFILE)[1] >= 3072
                         or resource.getrlimit(resource.RLIMIT_NOFILE)[1] == -1 else "warning")
        r = subprocess.run(["/bin/sh", "-c", 'ulimit -n 256; exec "$0" doctor --json --port 1', cli.BIN],
                           capture_output=True, env=cli.environment(), check=False)
        limits = next(f for f in json.loads(r.stdout)["findings"] if f["name"] == "limits")
        self.assertEqual(limits["state"], "warning")


if __name__ == "__main__":
    if b"__tsan_init" in Path(cli.BIN).read_bytes():
        print("skipped: ThreadSanitizer keeps a thread of its own, and a cage is for a process with one")
        sys.exit(cli.SKIPPED)
    cli.main()
