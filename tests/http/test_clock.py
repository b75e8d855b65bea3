"""The wall clock jumps by a year and back: nothing expires, nobody is killed, nothing runs in circles. (Row L7.)"""
import os
import struct
import sys
import tempfile
import time
import unittest
from email.utils import parsedate_to_datetime
from pathlib import Path

from raw import SKIPPED, SLOW, Server, environment, main

YEAR = 365 * 24 * 3600
CLOCK = os.environ.get("PILLION_FAKE_CLOCK", "")


class Jumps(unittest.TestCase):
    def test_a_server_serves_on_whatever_the_time_is(self):
        with tempfile.TemporaryDirectory(prefix="pillion-clock-") as scratch:
            file = Path(scratch) / "offset"
            file.write_bytes(struct.pack("=q", 0))
            with Server(env=environment(LD_PRELOAD=CLOCK, PIL_CLOCK_FILE=file)) as s, s.connect() as kept:
                vectors = s.embed(["the same"])
                workers = sorted(s.workers())
                for offset in (YEAR, 0, -YEAR, -YEAR - 1, -YEAR - 2, 0, 10 * YEAR, 3600, -1, 0):
                    with open(file, "r+b") as f:
                        f.write(struct.pack("=q", offset))
                    kept.request("GET", "/livez")
                    answer = kept.answer()
                    shift = parsedate_to_datetime(answer.headers["date"]).timestamp() - time.time()
                    self.assertLess(abs(shift - offset), 60)  # it really sees another time
                    self.assertEqual(s.embed(["the same"]), vectors)
                    self.assertEqual(sorted(s.workers()), workers)
                self.assertLess(self.seconds_of(s, 2), 1)
                self.assertEqual(s.get("/health").json()["restarts"], 0)
                self.assertEqual(s.stop()[0], 0)

    def seconds_of(self, server, seconds):
        """Processor time of an idle server while this long passes."""
        def used():
            fields = Path(f"/proc/{server.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

        before = used()
        time.sleep(seconds)
        return used() - before


if __name__ == "__main__":
    if not CLOCK or SLOW > 1:
        print("skipped: the wall clock can be moved for the program without sanitizers only")
        sys.exit(SKIPPED)
    main()
