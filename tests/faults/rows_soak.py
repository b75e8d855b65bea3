"""K: nothing grows, however long it goes on."""
import socket
import time

import watch
from harness import SLOW, Asker, row
from rows_worker import TEXTS, load, wait_faults, wait_flowing


@row("K3", "CN", "connects and disconnects, and deaths of workers: descriptors, threads, mappings, children are flat")
def k3_nothing_piles_up(run):
    connects, kills = run.count(3000, 100000), run.count(60, 10000)
    book = run.book(TEXTS)
    slack = {"mappings": 64}
    with run.serve() as s:
        s.wait_workers()
        load(run, s, book).run(100)
        wait_faults(run, s, 2, 0.05)
        s.wait_workers()
        time.sleep(0.5)
        before, memory = watch.Inventory(s.pid), watch.anonymous_bytes(s.pid)
        for i in range(connects):
            with socket.create_connection(s.address) as c:
                if i % 3 == 1:
                    c.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
                elif i % 3 == 2:
                    c.sendall(b"POST /embed HTTP/1.1\r\nHost: localhost\r\nContent-Le")
        ledger = load(run, s, book).start()
        wait_flowing(run, s, ledger)
        wait_faults(run, s, kills, 0.04)
        run.book_of(ledger.stop())
        s.wait_workers()
        s.wait(lambda: not before.growth(watch.Inventory(s.pid), slack), 30 * SLOW, 0.1)
        grown = before.growth(watch.Inventory(s.pid), slack)
        run.figure("connects", connects)
        run.figure("kills", s.kills)
        run.figure("server_grew_mib", (watch.anonymous_bytes(s.pid) - memory) / (1 << 20))
        run.check(not grown, f"the server holds more: {grown}")
        run.causes(s)
