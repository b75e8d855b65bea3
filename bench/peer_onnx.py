"""ONNX Runtime in f32, exported from the same directory, answering like throughput.c:
    peer_onnx.py MODEL_DIR TEXTS THREADS [plain|fused]

plain is the exported graph under ONNX Runtime's own optimisations; fused went through its transformer optimiser as
well. Tokenizing (the tokenizers package), mean pooling and normalising are counted, as for everyone."""
import json
import os
import sys
import time
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
model_dir, texts_path, threads, kind = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]
answers = os.dup(1)
os.dup2(2, 1)


def say(value):
    os.write(answers, (json.dumps(value) + "\n").encode())


def export(path):
    """Token ids and mask to the last hidden state; batch and length are free."""
    import torch
    from transformers import AutoModel
    network = AutoModel.from_pretrained(model_dir, attn_implementation="eager").eval()

    class Hidden(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network

        def forward(self, input_ids, attention_mask):
            return self.network(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state

    ids = torch.randint(5, 1000, (2, 16))
    mask = torch.ones_like(ids)
    mask[1, 10:] = 0
    axes = {0: "batch", 1: "length"}
    torch.onnx.export(Hidden(), (ids, mask), str(path), input_names=["input_ids", "attention_mask"],
                      output_names=["hidden"], opset_version=17, dynamo=False, do_constant_folding=True,
                      dynamic_axes={"input_ids": axes, "attention_mask": axes, "hidden": axes})


def fuse(path, fused):
    from onnxruntime.transformers import optimizer
    from onnxruntime.transformers.fusion_options import FusionOptions
    config = json.loads((model_dir / "config.json").read_text())
    optimizer.optimize_model(str(path), model_type="bert", num_heads=config["num_attention_heads"], opt_level=0,
                             hidden_size=config["hidden_size"],
                             optimization_options=FusionOptions("bert")).save_model_to_file(str(fused))


cache = Path(os.environ["PEER_CACHE"])
cache.mkdir(parents=True, exist_ok=True)
plain, fused = cache / f"{model_dir.name}.onnx", cache / f"{model_dir.name}.fused.onnx"
if not plain.exists():
    export(plain)
if kind == "fused" and not fused.exists():
    fuse(plain, fused)

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

options = onnxruntime.SessionOptions()
options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
session = onnxruntime.InferenceSession(str(fused if kind == "fused" else plain), options,
                                       providers=["CPUExecutionProvider"])
types = {i.name: {"tensor(int64)": np.int64, "tensor(int32)": np.int32}[i.type] for i in session.get_inputs()}
tokenizer = Tokenizer.from_file(str(model_dir / "tokenizer.json"))
tokenizer.no_padding()
limit = json.loads((model_dir / "sentence_bert_config.json").read_text())["max_seq_length"]
tokenizer.enable_truncation(limit)
pad = json.loads((model_dir / "config.json").read_text()).get("pad_token_id", 0)
with open(texts_path, encoding="utf-8") as f:
    texts = f.read().splitlines()


def encode(batch=32):
    ids = [e.ids for e in tokenizer.encode_batch(texts)]
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    for at in range(0, len(order), batch):
        rows = [ids[i] for i in order[at:at + batch]]
        shape = (len(rows), max(map(len, rows)))
        tokens, mask = np.full(shape, pad, types["input_ids"]), np.zeros(shape, types["attention_mask"])
        for row, (to, on) in zip(rows, zip(tokens, mask)):
            to[:len(row)], on[:len(row)] = row, 1
        hidden = session.run(None, {"input_ids": tokens, "attention_mask": mask})[0]
        pooled = (hidden * mask[:, :, None]).sum(1) / mask.sum(1)[:, None]
        pooled /= np.linalg.norm(pooled, axis=1, keepdims=True)


say({"ready": True, "version": f"onnxruntime {onnxruntime.__version__}"})
for line in sys.stdin:
    if line.strip() != "run":
        break
    start = time.perf_counter()
    encode()
    say({"s": time.perf_counter() - start})
