"""What data-parallel training on several GPUs would reach, by a MODEL, from measurements of one GPU and of the network
(docs/performance.md, "Scaling model").
python bench/scaling_model.py --inputs measured.json --gpus 1 8 64
The JSON file has the options' names with underscores; options win. Prints a table, with --json one JSON object."""
import argparse
import json
import math
import sys
from dataclasses import dataclass, fields, replace


@dataclass(frozen=True)
class Inputs:
    step_seconds: float  # of one GPU, without communication
    batch: int  # samples per GPU and step
    gradient_bytes: float
    ranks_per_node: int = 8
    intra_gb_s: float = 300.0  # bus bandwidth of an all-reduce within a node, 10^9 bytes/s
    inter_gb_s: float = 40.0  # bus bandwidth of a node towards the others, all its adapters together
    intra_latency_us: float = 5.0  # of one hop of a ring
    inter_latency_us: float = 15.0
    bucket_mb: float = 25.0  # gradients are reduced in buckets of so many 10^6 bytes
    backward_share: float = 2 / 3  # of step_seconds
    overlap: float = 0.9  # share of the backward pass during which gradients can travel
    loader_rate: float = 0.0  # samples/s that a node can load; 0: never the limit


def ring_seconds(ranks, size, gb_s, latency_us, buckets):
    """All-reduce over a ring: every rank sends and receives 2 (n - 1) / n of the data in 2 (n - 1) hops."""
    if ranks <= 1:
        return 0.0
    return 2 * (ranks - 1) / ranks * size / (1e9 * gb_s) + 2 * (ranks - 1) * 1e-6 * latency_us * buckets


def all_reduce_seconds(x, gpus):
    """Within nodes, then between them: after the scatter of a node, its ranks carry one part each to the other nodes, and
    together the whole over the node's adapters."""
    nodes = math.ceil(gpus / x.ranks_per_node)
    buckets = math.ceil(x.gradient_bytes / (1e6 * x.bucket_mb))
    return (ring_seconds(min(gpus, x.ranks_per_node), x.gradient_bytes, x.intra_gb_s, x.intra_latency_us, buckets)
            + ring_seconds(nodes, x.gradient_bytes, x.inter_gb_s, x.inter_latency_us, buckets))


def predict(x, gpus):
    def rate(n, step):
        computed = n * x.batch / step
        loaded = math.ceil(n / x.ranks_per_node) * x.loader_rate if x.loader_rate > 0 else math.inf
        return min(computed, loaded)

    reducing = all_reduce_seconds(x, gpus)
    last_bucket = reducing * min(1.0, 1e6 * x.bucket_mb / x.gradient_bytes)  # complete when the backward pass is over
    exposed = max(last_bucket, reducing - x.overlap * x.backward_share * x.step_seconds)
    samples = rate(gpus, x.step_seconds + exposed)
    return {"gpus": gpus, "nodes": math.ceil(gpus / x.ranks_per_node), "all_reduce_ms": 1e3 * reducing,
            "exposed_ms": 1e3 * exposed, "step_ms": 1e3 * (x.step_seconds + exposed), "samples_per_s": samples,
            "efficiency": samples / (gpus * rate(1, x.step_seconds))}


def self_test():
    base = Inputs(step_seconds=0.1, batch=128, gradient_bytes=1.6e9)
    tiny = 1e-12
    close = lambda a, b: math.isclose(a, b, rel_tol=1e-9)
    variants = [base, replace(base, overlap=0.0), replace(base, loader_rate=500.0), replace(base, loader_rate=3000.0),
                replace(base, intra_gb_s=1.0, inter_gb_s=0.1), replace(base, ranks_per_node=1),
                replace(base, step_seconds=1e-3, intra_latency_us=50.0)]
    for x in variants:
        assert close(predict(x, 1)["efficiency"], 1.0), x
        for gpus in (1, 2, 8, 9, 64, 1000):
            found = predict(x, gpus)
            assert 0 < found["efficiency"] <= 1 + tiny, (x, found)
            assert found["step_ms"] >= 1e3 * x.step_seconds - tiny, (x, found)
            for name in ("intra_gb_s", "inter_gb_s"):
                faster = predict(replace(x, **{name: 2 * getattr(x, name)}), gpus)
                assert faster["efficiency"] >= found["efficiency"] - tiny, (x, gpus, name)
            for name in ("intra_latency_us", "inter_latency_us", "gradient_bytes"):
                slower = predict(replace(x, **{name: 2 * getattr(x, name)}), gpus)
                assert slower["efficiency"] <= found["efficiency"] + tiny, (x, gpus, name)
            more = predict(replace(x, overlap=min(1.0, x.overlap + 0.1)), gpus)
            assert more["efficiency"] >= found["efficiency"] - tiny, (x, gpus)
    # By hand: 8 ranks, 1.6e9 bytes at 300 GB/s, 64 buckets with 14 hops of 5 us; then 8 nodes at 40 GB/s, hops of 15 us.
    assert close(all_reduce_seconds(base, 8), 1.75 * 1.6 / 300 + 64 * 14 * 5e-6)
    assert close(all_reduce_seconds(base, 64), 1.75 * 1.6 / 300 + 64 * 14 * 5e-6 + 1.75 * 1.6 / 40 + 64 * 14 * 15e-6)
    assert all_reduce_seconds(base, 1) == 0
    assert predict(replace(base, loader_rate=500.0), 64)["samples_per_s"] == 8 * 500.0
    print("the model's invariants hold")


def read_inputs(p, a):
    values = {}
    if a.inputs:
        with open(a.inputs, encoding="utf-8") as file:
            values = json.load(file)
    names = {field.name for field in fields(Inputs)}
    if values.keys() - names:
        p.error(f"{a.inputs}: unknown: {', '.join(sorted(values.keys() - names))}")
    values.update({name: getattr(a, name) for name in names if getattr(a, name) is not None})
    missing = [name for name in ("step_seconds", "batch", "gradient_bytes") if name not in values]
    if missing:
        p.error("needed: " + ", ".join("--" + name.replace("_", "-") for name in missing))
    x = Inputs(**values)
    positive = ("step_seconds", "batch", "gradient_bytes", "ranks_per_node", "intra_gb_s", "inter_gb_s", "bucket_mb")
    if any(getattr(x, name) <= 0 for name in positive):
        p.error(f"above 0: {', '.join(positive)}")
    if not (0 <= x.overlap <= 1 and 0 <= x.backward_share <= 1):
        p.error("in [0, 1]: overlap, backward_share")
    if min(x.intra_latency_us, x.inter_latency_us, x.loader_rate) < 0:
        p.error("not below 0: intra_latency_us, inter_latency_us, loader_rate")
    return x


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--inputs", help="JSON file")
    for field in fields(Inputs):
        p.add_argument("--" + field.name.replace("_", "-"), type=field.type)
    p.add_argument("--gpus", type=int, nargs="+", default=[1, 8, 64])
    p.add_argument("--json", action="store_true")
    p.add_argument("--self-test", action="store_true")
    a = p.parse_args()
    if a.self_test:
        return self_test()
    if min(a.gpus) < 1:
        p.error("--gpus: at least 1")
    x = read_inputs(p, a)
    rows = [predict(x, gpus) for gpus in a.gpus]
    if a.json:
        return print(json.dumps({"model": True, "inputs": vars(x), "predicted": rows}))
    print("Predicted by a model, not measured.\n\n"
          "| GPUs | nodes | all-reduce, ms | not hidden, ms | step, ms | samples/s | efficiency |\n"
          "|---:|---:|---:|---:|---:|---:|---:|")
    for row in rows:
        print(f"| {row['gpus']} | {row['nodes']} | {row['all_reduce_ms']:.1f} | {row['exposed_ms']:.1f} "
              f"| {row['step_ms']:.1f} | {row['samples_per_s']:.0f} | {row['efficiency']:.1%} |")


if __name__ == "__main__":
    sys.exit(main())
