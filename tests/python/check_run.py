"""What a run leaves, read by the real Python libraries: TensorBoard events, weights, towers."""
import csv
import importlib.util
import struct
import sys
from pathlib import Path

for package in ("torch", "safetensors", "transformers", "tensorboard"):
    if importlib.util.find_spec(package) is None:
        print(f"skipped: this Python has no {package}")
        sys.exit(0)

import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import AutoModel, AutoTokenizer


def float32(value):
    return struct.unpack("<f", struct.pack("<f", value))[0]


def check_events(log_dir, stage, metrics):
    """The values of the event files are those of the metrics files."""
    events = EventAccumulator(str(log_dir / "tensorboard" / stage), size_guidance={"scalars": 0})
    events.Reload()
    found = {
        (tag.removeprefix(stage + "/"), event.step): event.value
        for tag in events.Tags()["scalars"]
        for event in events.Scalars(tag)
    }
    with open(log_dir / metrics, newline="") as file:
        rows = list(csv.DictReader(file))
    wanted = {
        (key, int(row["epoch"])): float32(float(value))
        for row in rows
        for key, value in row.items()
        if value != "" and key not in ("epoch", "learning_rate")
    }
    assert len(rows) > 1 and any(key == "train_loss" for key, _ in wanted), rows
    assert found.keys() == wanted.keys(), found.keys() ^ wanted.keys()
    for key, value in wanted.items():
        assert found[key] == value, (key, found[key], value)
    return len(wanted)


def check_weights(log_dir):
    """A plain state dict; the exported towers are its parts."""
    for name in ("student_best", "student_final", "teacher"):
        state = torch.load(log_dir / f"{name}.pth", weights_only=True)
        stored = load_file(log_dir / f"{name}.safetensors")
        assert state.keys() == stored.keys(), name
        assert all(torch.equal(state[key], stored[key]) for key in state), name
    best = load_file(log_dir / "student_best.safetensors")
    for tower in ("vision", "text"):
        model = AutoModel.from_pretrained(log_dir / "student_hf" / tower, add_pooling_layer=False)
        exported = load_file(log_dir / "student_hf" / tower / "model.safetensors")
        assert len(list(model.parameters())) == len(exported), tower
        assert all(torch.equal(value, best[f"{tower}.{key}"]) for key, value in exported.items())
    assert AutoTokenizer.from_pretrained(log_dir / "student_hf" / "text")("a text")["input_ids"]


def main(log_dir):
    values = check_events(log_dir, "teacher", "teacher_metrics.csv") + check_events(log_dir, "student", "metrics.csv")
    check_weights(log_dir)
    print(f"run: {values} TensorBoard values are those of the metrics files; weights and towers load")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
