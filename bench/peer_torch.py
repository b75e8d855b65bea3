"""sentence-transformers on PyTorch in f32, as its users call it, answering like throughput.c:
    peer_torch.py MODEL_DIR TEXTS THREADS"""
import json
import os
import sys
import time

os.environ["HF_HUB_OFFLINE"] = "1"
model_dir, texts_path, threads = sys.argv[1:]
answers = os.dup(1)
os.dup2(2, 1)  # what libraries print must not be taken for an answer


def say(value):
    os.write(answers, (json.dumps(value) + "\n").encode())


import torch
from sentence_transformers import SentenceTransformer, __version__

torch.set_num_threads(int(threads))
model = SentenceTransformer(model_dir, device="cpu")
with open(texts_path, encoding="utf-8") as f:
    texts = f.read().splitlines()
say({"ready": True, "version": f"sentence-transformers {__version__}, torch {torch.__version__}"})
for line in sys.stdin:
    if line.strip() != "run":
        break
    start = time.perf_counter()
    model.encode(texts, batch_size=32, normalize_embeddings=True)
    say({"s": time.perf_counter() - start})
