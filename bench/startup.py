#!/usr/bin/env python3
"""Time from exec of `pillion serve` to the first 200 of POST /embed, and the memory of the whole server.

    startup.py BUILD MODELS_DIR [--starts N]

Once with the built-in model and once with the compiled base model, in turns; files are in the page cache, as on any
machine that has started it before. Memory is the sum of Pss (each shared page divided among those who share it) over
the process tree, after the first vector and after a load of 400 texts of 128 tokens from 4 clients at once. The same
for sentence-transformers and ONNX Runtime as plain processes, from start to first vector, without a server. Run by
bench/run.sh."""
import argparse
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import common

HERE = Path(__file__).resolve().parent
TEXT = "The quick brown fox jumps over the lazy dog."


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def post_embed(port, texts, timeout=60):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("POST", "/embed", json.dumps({"texts": texts}), {"content-type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def first_200(port, deadline):
    """Asks until the answer is 200; returns when it was."""
    while time.perf_counter() < deadline:
        try:
            status, body = post_embed(port, [TEXT])
        except OSError:
            time.sleep(0.0005)
            continue
        if status == 200:
            return time.perf_counter(), len(json.loads(body)["vectors"][0])
        time.sleep(0.002)
    raise SystemExit("the server gave no vector in time")


def tree(pid):
    """The process and all that descend from it."""
    children = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                parent = int(open(f"/proc/{entry}/stat").read().rsplit(")", 1)[1].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(entry))
    found, waiting = [], [pid]
    while waiting:
        found.append(waiting.pop())
        waiting += children.get(found[-1], [])
    return found


def pss_mb(pid):
    total = 0
    for process in tree(pid):
        try:
            for line in open(f"/proc/{process}/smaps_rollup"):
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
        except OSError:
            pass
    return total * 1024 / 1e6


def start(command, env):
    port = free_port()
    began = time.perf_counter()
    process = subprocess.Popen([*command, "--port", str(port)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL, env=env)
    ready, dim = first_200(port, began + 120)
    return process, port, ready - began, dim


def stop(process):
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def load(port, texts, clients=4, batch=10):
    """Every client takes the next batch until all texts are done."""
    batches = [texts[i:i + batch] for i in range(0, len(texts), batch)]
    lock = threading.Lock()
    failures = []

    def client():
        while True:
            with lock:
                if not batches:
                    return
                mine = batches.pop()
            status, _ = post_embed(port, mine, timeout=300)
            if status != 200:
                failures.append(status)

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return failures


def measure_server(o, env, variants):
    rows = {name: {"starts_ms": [], "weights_mb": weights} for name, (_, weights) in variants.items()}
    for name, (command, _) in variants.items():  # the page cache, and the first compilation
        stop(start(command, env)[0])
    for _ in range(o.starts):
        for name, (command, _) in variants.items():
            process, _, seconds, rows[name]["dim"] = start(command, env)
            stop(process)
            rows[name]["starts_ms"].append(1000 * seconds)
    texts = common.texts_of(Path(o.models_dir) / "minilm", 128, 400)
    for name, (command, _) in variants.items():
        process, port, _, _ = start(command, env)
        rows[name]["processes"] = len(tree(process.pid))
        rows[name]["pss_first_mb"] = pss_mb(process.pid)
        failures = load(port, texts)
        rows[name]["pss_loaded_mb"] = pss_mb(process.pid)
        rows[name]["failures"] = failures
        stop(process)
    for row in rows.values():
        row["start_ms"] = common.spread(row.pop("starts_ms"))
    return rows


def measure_peers(o, env):
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "text"
        path.write_text(TEXT + "\n")
        for model in ("minilm", "mpnet"):
            for name, script, *rest in (("ONNX Runtime", "peer_onnx.py", "plain"),
                                        ("sentence-transformers", "peer_torch.py")):
                seconds = []
                for _ in range(4):
                    began = time.perf_counter()
                    command = [sys.executable, str(HERE / script), f"{o.models_dir}/{model}", str(path),
                               str(len(os.sched_getaffinity(0))), *rest]
                    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                               stderr=subprocess.DEVNULL, env=env)
                    process.stdout.readline()
                    process.stdin.write("run\n")
                    process.stdin.flush()
                    if process.stdout.readline():
                        seconds.append(time.perf_counter() - began)
                        memory = pss_mb(process.pid)
                    process.stdin.close()
                    process.wait()
                if len(seconds) > 1:
                    rows[f"{name}, {model}"] = {"start_ms": common.spread([1000 * s for s in seconds[1:]]),
                                                "pss_first_mb": memory}
    return rows


def markdown(data):
    lines = ["# Start-up and memory", "", f"{common.machine_line(data['machine'])}. Made by `make bench`.",
             f"Start: exec to the first 200 of POST /embed, median of {data['starts']} (lowest–highest), files in the",
             "page cache. Memory: sum of Pss over the process tree, in MB of 10^6 bytes.", "",
             "| what | start, ms | memory after the first vector | after 400 texts, 4 clients | weights |",
             "| --- | --- | --- | --- | --- |"]
    for name, r in data["pillion"].items():
        s = r["start_ms"]
        failed = f" ({len(r['failures'])} failures)" if r["failures"] else ""
        lines.append(f"| pillion serve, {name} | {s['median']:.0f} ({s['min']:.0f}–{s['max']:.0f}) | "
                     f"{r['pss_first_mb']:.0f} | {r['pss_loaded_mb']:.0f}{failed} | {r['weights_mb']:.0f} |")
    for name, r in data["peers"].items():
        s = r["start_ms"]
        lines.append(f"| {name}, a process without a server | {s['median']:.0f} ({s['min']:.0f}–{s['max']:.0f}) | "
                     f"{r['pss_first_mb']:.0f} | | |")
    return "\n".join(lines) + "\n"


def main():
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("build")
    options.add_argument("models_dir")
    options.add_argument("--starts", type=int, default=15)
    options.add_argument("--no-peers", action="store_true")
    o = options.parse_args()
    env = dict(os.environ, HF_HUB_OFFLINE="1", PEER_CACHE=str(Path(o.build) / "bench" / "onnx"),
               XDG_CACHE_HOME=str(Path(o.build) / "bench" / "cache"), TOKENIZERS_PARALLELISM="true")
    env.pop("EMBED_MODEL", None)
    serve = [f"{o.build}/pillion", "serve"]
    weights = {m: (Path(o.models_dir) / m / "model.safetensors").stat().st_size / 1e6 for m in ("minilm", "mpnet")}
    variants = {"built-in model": (serve, weights["minilm"]),
                "base model (mpnet)": (serve + ["--model", f"{o.models_dir}/mpnet"], weights["mpnet"])}
    data = {"machine": common.machine(), "starts": o.starts, "pillion": measure_server(o, env, variants),
            "peers": {} if o.no_peers else measure_peers(o, env)}
    common.write_results("startup", data, markdown(data))


if __name__ == "__main__":
    main()
