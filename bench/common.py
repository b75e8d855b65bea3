"""What the benchmarks share: the machine, its limit, texts of an exact number of tokens, writing of results."""
import json
import os
import platform
import random
import statistics
import subprocess
import sys
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"
sys.path.insert(0, str(ROOT / "tests" / "golden"))

# multiply-adds of an encoder for one text of n tokens: products with weights, and attention; times two for operations
SHAPES = {"minilm": (6, 384), "mpnet": (12, 768), "e5-multilingual": (12, 384), "xlmr-base": (12, 768)}


def operations(name, lengths):
    layers, d = SHAPES[name]
    return sum(layers * (24 * d * d * n + 4 * d * n * n) for n in lengths)


def machine():
    cpu = "unknown"
    flags = ""
    for line in open("/proc/cpuinfo"):
        if line.startswith(("model name", "CPU implementer")) and cpu == "unknown":
            cpu = line.split(":")[1].strip()
        if line.startswith(("flags", "Features")) and not flags:
            flags = line.split(":")[1]
    known = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "asimd", "i8mm")
    extensions = [f for f in known if f in flags.split()]
    memory_kib = int(next(line for line in open("/proc/meminfo") if line.startswith("MemTotal")).split()[1])
    return {"cpu": cpu, "cores": os.cpu_count(), "extensions": extensions, "memory_gib": round(memory_kib / 2**20, 1),
            "system": f"{platform.system()} {platform.release()}", "date": date.today().isoformat()}


def limit(program, threads, seconds=0.3):
    """The f32 limit in GFLOP/s at this moment; it moves with clock and neighbours, so it is measured in every round."""
    out = subprocess.run([program, str(threads), str(seconds)], check=True, capture_output=True, text=True).stdout
    return json.loads(out)["f32_gflops"]


def texts_of(model_dir, tokens, count, seed=5):
    """Distinct texts of exactly so many tokens (special ones included) for this model's tokenizer."""
    import texts as corpus
    from tokenizers import Tokenizer
    tokenizer = Tokenizer.from_file(str(Path(model_dir) / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    words = " ".join(corpus.SENTENCES[:5]).split()
    rng = random.Random(seed)
    out = []
    while len(out) < count:
        text = " ".join(words[int(rng.random() * len(words))] for _ in range(tokens))
        while len(tokenizer.encode(text).ids) > tokens:
            text = text.rsplit(" ", 1)[0]
        while len(tokenizer.encode(text).ids) < tokens:
            text += " a"
        out.append(text)
    return out


def spread(values):
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "all": values}


def write_results(name, data, markdown):
    """data: with its "machine". Results of other instruction sets are kept apart by the widest that the machine has."""
    kind = (data["machine"]["extensions"] or [platform.machine()])[-1]
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{name}-{kind}.json").write_text(json.dumps(data, indent=1) + "\n")
    (RESULTS / f"{name}-{kind}.md").write_text(markdown)
    print(markdown)


def machine_line(m):
    return (f"{m['cpu']}, {m['cores']} cores, {m['memory_gib']} GiB, {' '.join(m['extensions'])}, {m['system']}, "
            f"{m['date']}")
