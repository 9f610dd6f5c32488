"""The events files of a run, read by TensorBoard's own reader: the values are those of metrics.csv."""
import csv
import importlib.util
import struct
import sys
from pathlib import Path

if importlib.util.find_spec("tensorboard") is None:
    print("skipped: this Python has no tensorboard")
    sys.exit(0)

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def float32(value):
    return struct.unpack("<f", struct.pack("<f", value))[0]


def check(log_dir, stage, metrics):
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


def main(log_dir):
    values = check(log_dir, "teacher", "teacher_metrics.csv") + check(log_dir, "student", "metrics.csv")
    print(f"tensorboard: {values} values are those of the metrics files")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
