"""L: the server and those who start it: a host that dies, two starts at once, one version after another."""
import json
import os
import subprocess
import sys
import threading
import time

import test_upgrade
import watch
from harness import BIN, MODELS, SLOW, Server, environment, row

STARTER = ("import subprocess,sys,time\nnone=subprocess.DEVNULL\n"
           "p=subprocess.Popen(sys.argv[1:],stdin=subprocess.PIPE,stdout=none,stderr=none)\n"
           "print(p.pid,flush=True)\ntime.sleep(1000)")


@row("L2", "CN", "the program that started the server is killed: the server ends as well, and leaves nothing")
def l2_parent(run):
    rounds, ends = run.count(10, 100), []
    for i in range(rounds):
        how = ("--with-parent", "--with-stdin")[i % 2]
        file = run.scratch / f"h{i}.json"
        command = [BIN, "serve", "--port", "0", how, "--handshake", file]
        parent = subprocess.Popen([sys.executable, "-c", STARTER, *command], stdout=subprocess.PIPE, env=environment())
        with parent:
            pid = int(parent.stdout.readline())
            run.check(Server.wait(file.exists, 30 * SLOW), f"round {i}: no server")
            time.sleep(run.random.uniform(0, 0.05))
            processes = [pid, *watch.workers(pid)]
            parent.kill()
        began = time.monotonic()
        gone = Server.wait(lambda: not any(map(watch.is_alive, processes)), 30 * SLOW)
        run.check(gone, f"round {i}: {how}: {processes} live on")
        ends.append(time.monotonic() - began)
        run.check(not list(run.scratch.iterdir()), f"round {i}: {how}: files are left")
    run.figure("rounds", rounds)
    run.figure("seconds", max(ends))
    run.check(max(ends) <= 2 * SLOW or run.tier == "commit", f"{max(ends):.2f} s are more than 2")


@row("L5", "CN", "two starts in the same moment, with one handshake file or one port: one wins, the other names it")
def l5_race(run):
    rounds = run.count(25, 250)
    for i in range(rounds):
        file = run.scratch / "h.json"
        port = "0" if i % 2 == 0 else str(20000 + run.random.randrange(10000))
        barrier, servers = threading.Barrier(2), [None, None]

        def start(k):
            args = ("--handshake", file) if port == "0" else ()
            barrier.wait()
            servers[k] = Server(*args, ready=False, listen=("--port", port))

        threads = [threading.Thread(target=start, args=(k,)) for k in (0, 1)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        try:
            Server.wait(lambda: any(s.process.poll() is not None for s in servers), 30 * SLOW)
            lost = [s for s in servers if s.process.poll() is not None]
            foreign = port != "0" and len(lost) == 2  # somebody else has that port
            if foreign:
                continue
            run.check(len(lost) == 1, f"round {i}: {len(lost)} of two starts have ended")
            won = next(s for s in servers if s is not lost[0])
            run.check(lost[0].process.returncode == 98, f"round {i}: status {lost[0].process.returncode}")
            run.check(f"pid {won.process.pid}" in lost[0].stderr(), f"round {i}: {lost[0].stderr()}")
            if port == "0":
                Server.wait(file.exists, 30 * SLOW)
                run.check(json.loads(file.read_text())["pid"] == won.process.pid, f"round {i}: the file names another")
            run.check(won.stop()[0] == 0, f"round {i}: the winner did not end well")
        finally:
            for s in servers:
                s.__exit__()
    run.check(not list(run.scratch.iterdir()), "files are left")
    run.figure("races", rounds)


@row("L9", "CN", "upgrades under load, two of three broken or killed: no request fails, the old server goes on")
def l9_upgrade(run):
    upgrades, broken = run.count(30, 300), 0  # a third of them succeeds
    bad = run.scratch / "bad.safetensors"
    model = MODELS / "minilm"
    bad.write_bytes(b"\x08\0\0\0\0\0\0\0{}      ")
    servers = [Server()]
    port = str(servers[0].address[1])
    try:
        with test_upgrade.Load(servers[0].address, clients=8) as load:
            for i in range(upgrades):
                seen = load.answers
                Server.wait(lambda: load.answers > seen + 8 or load.failures, 60 * SLOW)
                if i % 3 == 2:
                    broken += 1
                    with Server("--replace", "--model", bad, ready=False, listen=("--port", port)) as new:
                        status = new.process.wait(60 * SLOW)
                        run.check(status == 4, f"upgrade {i}: a broken model ended with status {status}")
                    run.check(servers[-1].process.poll() is None, f"upgrade {i}: the old server is gone")
                    continue
                if i % 3 == 1 and model.exists():  # killed while it compiles
                    broken += 1
                    new = Server("--replace", "--model", model, ready=False, wait=False, listen=("--port", port),
                                 env=environment(XDG_CACHE_HOME=run.scratch / f"cache{i}"))
                    time.sleep(run.random.uniform(0.01, 0.1))
                    new.process.kill()
                    new.__exit__()
                    run.check(servers[-1].process.poll() is None, f"upgrade {i}: the old server is gone")
                    continue
                servers.append(Server("--replace", listen=("--port", port)))
                status = servers[-2].process.wait(60 * SLOW)
                run.check(status == 0, f"upgrade {i}: the old server ended with status {status}")
        run.check(not load.failures, f"{len(load.failures)} requests failed: {load.failures[:3]}")
        run.check(servers[-1].stop()[0] == 0, "the last server did not end well")
    finally:
        for s in servers:
            s.__exit__()
    run.figure("upgrades", upgrades - broken)
    run.figure("broken", broken)
    run.figure("answers", load.answers)
    run.check(not [p for p in os.listdir("/proc") if p.isdigit() and watch.state(int(p))[1] in
                   [s.process.pid for s in servers]], "children are left")
