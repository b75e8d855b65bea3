#!/usr/bin/env python3
"""f32 speed of Pillion beside sentence-transformers (PyTorch) and ONNX Runtime on texts of 128 tokens.

    compare.py BUILD MODELS_DIR [--rounds N] [--tokens N] [--models NAME ...]

Every engine is a process that stays alive, has all cores, and embeds the same texts when told. They run one after the
other in every round, with the machine's limit measured between them, so that a change of clock or a neighbour hits all
alike; the table has medians. Run by bench/run.sh."""
import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import common

HERE = Path(__file__).resolve().parent
TEXTS = {"minilm": 256, "mpnet": 48, "e5-multilingual": 128, "xlmr-base": 48}


class Engine:
    """A process that prints a JSON line when ready, and one for each line "run" it is given."""

    def __init__(self, name, command, env):
        self.name, self.seconds = name, []
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env,
                                        stderr=subprocess.DEVNULL)
        self.ready = self.answer()

    def answer(self):
        line = self.process.stdout.readline()
        return json.loads(line) if line else {"error": "the process ended"}

    def run(self):
        try:
            self.process.stdin.write("run\n")
            self.process.stdin.flush()
            return self.answer()
        except BrokenPipeError:
            return {"error": "the process ended"}

    def close(self):
        self.process.stdin.close()
        self.process.wait(30)


def measure(model, o, threads):
    model_dir = Path(o.models_dir) / model
    texts = common.texts_of(model_dir, o.tokens, TEXTS[model])
    operations = common.operations(model, [o.tokens] * len(texts))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "texts"
        path.write_text("\n".join(texts) + "\n")
        env = dict(os.environ, PEER_CACHE=str(Path(o.build) / "bench" / "onnx"), HF_HUB_OFFLINE="1",
                   XDG_CACHE_HOME=str(Path(o.build) / "bench" / "cache"), TOKENIZERS_PARALLELISM="true")
        arguments = [str(model_dir), str(path), str(threads)]
        engines = [
            Engine("Pillion", [f"{o.build}/bench/throughput", *arguments], env),
            Engine("ONNX Runtime", [sys.executable, str(HERE / "peer_onnx.py"), *arguments, "plain"], env),
            Engine("ONNX Runtime, fused", [sys.executable, str(HERE / "peer_onnx.py"), *arguments, "fused"], env),
            Engine("sentence-transformers", [sys.executable, str(HERE / "peer_torch.py"), *arguments], env),
        ]
        limits = []
        for engine in engines:
            if "error" not in engine.ready:
                engine.ready.update(engine.run())  # warm-up, not counted
        for _ in range(o.rounds):
            for engine in engines:
                if "error" in engine.ready:
                    continue
                before = common.limit(f"{o.build}/bench/limit", threads)
                answer = engine.run()
                after = common.limit(f"{o.build}/bench/limit", threads)
                if "error" in answer:
                    engine.ready = answer
                    continue
                engine.seconds.append((answer["s"], (before + after) / 2))
                limits += [before, after]
        for engine in engines:
            engine.close()
    rows = []
    for engine in engines:
        if "error" in engine.ready:
            rows.append({"engine": engine.name, "error": engine.ready["error"]})
            continue
        rates = [len(texts) / s for s, _ in engine.seconds]
        shares = [operations / s / (limit * 1e9) for s, limit in engine.seconds]
        rows.append({"engine": engine.name, "version": engine.ready.get("version"),
                     "kernels": engine.ready.get("kernels"), "texts_per_s": common.spread(rates),
                     "share_of_limit": common.spread(shares)})
    return {"model": model, "tokens": o.tokens, "texts": len(texts), "operations": operations, "rounds": o.rounds,
            "limit_gflops": common.spread(limits), "engines": rows}


def markdown(data):
    lines = ["# f32 speed", "", f"Texts of {data['tokens']} tokens, {data['threads']} threads; "
             f"{common.machine_line(data['machine'])}.",
             "Made by `make bench`. The share is of the machine's f32 limit, measured before and after every run with",
             f"register-only multiply-adds (`bench/limit.c`); medians of {data['rounds']} rounds in turns, lowest and "
             "highest in brackets.", ""]
    for m in data["models"]:
        limit = m["limit_gflops"]
        lines += [f"## {m['model']}: {m['texts']} texts; limit {limit['median']:.0f} GFLOP/s "
                  f"({limit['min']:.0f}–{limit['max']:.0f})", "",
                  "| engine | texts/s | tokens/s | share of the limit |", "| --- | --- | --- | --- |"]
        for e in m["engines"]:
            if "error" in e:
                lines.append(f"| {e['engine']} | failed: {e['error']} | | |")
                continue
            r, s = e["texts_per_s"], e["share_of_limit"]
            version = e["version"] if not e["kernels"] else f"{e['version']}, {e['kernels']}"
            lines.append(f"| {e['engine']} ({version}) | {r['median']:.1f} ({r['min']:.1f}–{r['max']:.1f}) | "
                         f"{r['median'] * m['tokens']:.0f} | {100 * s['median']:.0f} % "
                         f"({100 * s['min']:.0f}–{100 * s['max']:.0f}) |")
        lines.append("")
    return "\n".join(lines)


def main():
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("build")
    options.add_argument("models_dir")
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--tokens", type=int, default=128)
    options.add_argument("--models", nargs="+", default=["minilm", "mpnet"])
    o = options.parse_args()
    threads = len(os.sched_getaffinity(0))
    data = {"machine": common.machine(), "threads": threads, "tokens": o.tokens, "rounds": o.rounds,
            "models": [measure(model, o, threads) for model in o.models]}
    common.write_results("f32", data, markdown(data))


if __name__ == "__main__":
    main()
