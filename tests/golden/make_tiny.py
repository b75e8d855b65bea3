#!/usr/bin/env python3
"""Makes tiny.txt: what sentence-transformers makes of the tiny models of tests/compile/test_reference.c.

    make_tiny.py PROGRAM >tiny.txt      PROGRAM is build/tests/compile_test_reference, which writes the models

One line for each model and text: number of the model, number of the text, the values of its vector."""
import subprocess
import sys
import tempfile

import torch
from sentence_transformers import SentenceTransformer

TEXTS = [
    "Hello world, the CAT sat on the mat!",
    "x",
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen",
    "",
    "café ☕ naïve cats",
]
VARIANTS = 10

torch.manual_seed(0)
with tempfile.TemporaryDirectory() as folder:
    subprocess.run([sys.argv[1], "--write", folder], check=True)
    for variant in range(VARIANTS):
        model = SentenceTransformer(f"{folder}/{variant}", device="cpu", model_kwargs={"dtype": torch.float32})
        for i, text in enumerate(TEXTS):
            vector = model.encode([text])[0]
            print(variant, i, *(f"{float(v):.9g}" for v in vector))
