"""Writes the fixtures of torch_file_test.cpp anew: python generate.py FOLDER. They are small files of torch.save()."""
import collections
import sys
from pathlib import Path

import torch


def state():
    base = torch.arange(12, dtype=torch.float32).reshape(3, 4)
    shared = torch.arange(6, dtype=torch.float32)
    tensors = collections.OrderedDict()
    tensors["plain"] = base
    tensors["transposed"] = base.t()
    tensors["column"] = base[:, 1]
    tensors["parameter"] = torch.nn.Parameter(torch.tensor([1.5, -2.0]))
    tensors["first"] = shared[:2]
    tensors["rest"] = shared[2:]
    tensors["half"] = torch.tensor([0.5, 2.0], dtype=torch.float16)
    tensors["brain"] = torch.tensor([0.5, 3.0], dtype=torch.bfloat16)
    tensors["double"] = torch.tensor(2.5, dtype=torch.float64)
    tensors["long"] = torch.tensor([1, -2, 3])
    tensors["flag"] = torch.tensor([True, False])
    tensors["empty"] = torch.empty(0, 3)
    tensors._metadata = collections.OrderedDict([("", {"version": 1})])
    return tensors


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)


def main(folder):
    torch.save(state(), folder / "zip.pt")
    torch.save(state(), folder / "legacy.pt", _use_new_zipfile_serialization=False)
    torch.save({"state_dict": state(), "epoch": 3, "name": "x", "rate": 0.5}, folder / "nested.pt")
    torch.save({"epoch": 3}, folder / "no_tensors.pt")
    torch.save(Model(), folder / "object.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
