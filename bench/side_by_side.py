"""Started by side_by_side.sh: interleaved pairs of one measurement, and what their ratios say."""
import argparse
import itertools
import json
import math
import os
import statistics
import subprocess
import sys
import time

from mmkd import LOSSES, ROOT, VOCABULARY, data_folder, make_peer_weights, peers_folder, work_folder


def measure(command, env):
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout[-2000:]}{done.stderr[-4000:]}exit code {done.returncode}")
    return json.loads(lines[-1])


def interval(ratios, confidence=0.95):
    """Of the median. Order statistics: the narrowest pair [k-th, k-th from the end] that covers it with this
    probability whatever the distribution, P = 1 - 2 * Binomial(n, 1/2)(< k). Under 6 pairs even the extremes cover
    less; they are given with their coverage."""
    values, n = sorted(ratios), len(ratios)
    best = (values[0], values[-1], 1 - 2 * 0.5**n)
    for k in range(1, (n + 1) // 2 + 1):
        coverage = 1 - 2 * sum(math.comb(n, i) for i in range(k)) / 2**n
        if coverage >= confidence:
            best = (values[k - 1], values[n - k], coverage)
    return best


def pairs(a):
    def command(script, dtype, ranks, *more):
        return [sys.executable, script, "--what", a.what, "--scale", a.scale, "--dtype", dtype, "--batch", str(a.batch),
                "--ranks", str(ranks), "--threads", str(a.threads), "--min-seconds", str(a.min_seconds), "--repeat", "1",
                *more]

    ours = command(os.path.join(ROOT, "bench/mmkd.py"), a.dtype, a.ranks, *(["--pin"] if a.pin else []),
                   *(word for setting in a.set for word in ("--set", setting)))
    if a.peer == "mmkd":
        script, more = os.path.join(ROOT, "bench/mmkd.py"), []
    else:
        script, more = os.path.join(peers_folder(), "bench.py"), ["--peer", a.peer]
    theirs = command(script, a.peer_dtype or a.dtype, a.peer_ranks or a.ranks, *more)
    # seed_style has no teacher cache: its distillation computes the teacher in each step. What it has in the place of
    # packing is its loader, and no peer has sweeps: five jobs are five times one.
    stand_in = {("seed_style", "student_cached"): "student_online", ("seed_style", "pack"): "loader"}
    if a.peer != "mmkd":
        stand_in[(a.peer, "sweep")] = "e2e"
    theirs[theirs.index(a.what)] = stand_in.get((a.peer, a.what), a.what)
    env = {"VOCAB": VOCABULARY, **os.environ, "MEDPIX_DIR": data_folder()}
    for i in range(a.pairs):
        order = [("mmkd", ours), ("peer", theirs)]
        if i % 2 == 1:
            order.reverse()
        yield {name: measure(command, env) for name, command in order}


def figure(line, what):
    """One number of a line: rates up, seconds and milliseconds down."""
    if "sizes" in line:
        return line["sizes"]["26MB"]["ms"]["median"]
    return line["median"] * (len(LOSSES) if what == "sweep" and line["what"] == "e2e" else 1)


def memory(line):
    """MB of all of a program's processes, where it says so."""
    return line.get("rss_tree_mb", line.get("rss_mb"))


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--table", action="store_true", help="all rows of docs/performance.md")
    p.add_argument("--what")
    p.add_argument("--scale", choices=["small", "medium"], default="small")
    p.add_argument("--dtype", choices=["fp32", "bf16"], default="fp32")
    p.add_argument("--batch", type=int, default=16)
    p.add_argument("--ranks", type=int, default=1)
    p.add_argument("--threads", type=int, default=0)
    p.add_argument("--pairs", type=int, default=5)
    p.add_argument("--min-seconds", type=float, default=4.0)
    p.add_argument("--peer", choices=["tuned", "seed_style", "mmkd"], default="tuned",
                   help="mmkd: itself, with --peer-ranks or --peer-dtype")
    p.add_argument("--peer-dtype", choices=["fp32", "bf16"], help="where the peer's best variant is another")
    p.add_argument("--peer-ranks", type=int)
    p.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a key of mmkd's configuration")
    p.add_argument("--pin", action="store_true", help="OMP_PROC_BIND=true for mmkd too")
    p.add_argument("--out", default=os.path.join(work_folder(), "side_by_side.jsonl"), help="lines are appended")
    a = p.parse_args()
    os.makedirs(os.path.dirname(os.path.abspath(a.out)), exist_ok=True)
    if not a.table:
        if not a.what:
            p.error("--what or --table is needed")
        print(json.dumps(compare(a)))
        return
    print("| scale | what | batch | mmkd | peer | ratio [interval] | peak MB, mmkd / peer | other CPU, at most |\n"
          "|---|---|---:|---:|---:|---:|---:|---:|", flush=True)
    for scale, what, batch, dtype, peer_dtype, *rest in rows_of_table():
        row = argparse.Namespace(**{**vars(a), "scale": scale, "what": what, "batch": batch, "dtype": dtype,
                                    "peer_dtype": peer_dtype, "peer": "tuned", **dict(rest)})
        row.pairs = min(a.pairs, MOST_PAIRS.get(what, a.pairs))
        done = compare(row)
        others = "not recorded" if done["other_cpu"] is None else f"{100 * done['other_cpu']:.0f} %"
        megabytes = "" if None in done["rss_mb"] else "{:.0f} / {:.0f}".format(*done["rss_mb"])
        ranks = f", {row.ranks} ranks" if row.ranks > 1 else ""
        ranks += "".join(f", {setting.split('.')[-1]}" for setting in row.set)
        print(f"| {scale} | {what}{ranks}, {done['unit']} | {batch} | {done['mmkd']:.4g} ({dtype}) "
              f"| {done['peer_figure']:.4g} ({row.peer} {peer_dtype}) | {done['times_as_fast']:.2f} "
              f"[{done['interval'][0]:.2f}, {done['interval'][1]:.2f}] | {megabytes} | {others} |", flush=True)


# Whole jobs take minutes.
MOST_PAIRS = {"e2e": 5, "sweep": 3}
# Scale, measurement, batch, our type, and the type in which the peer is fastest there; then what else is not usual.
TABLE = [
    ("medium", "student_cached", 16, "bf16", "bf16"),
    ("medium", "student_cached", 64, "bf16", "bf16"),
    ("medium", "teacher", 16, "bf16", "bf16"),
    ("medium", "student_cached", 16, "fp32", "fp32"),
    ("medium", "teacher", 16, "fp32", "fp32"),
    *(("medium", what, 16, "bf16", "bf16", ("set", ["training.gradient_checkpointing=true"]))
      for what in ("student_cached", "teacher")),
    ("medium", "cache_build", 16, "bf16", "bf16"),
    ("medium", "eval", 16, "bf16", "bf16"),
    ("small", "student_cached", 16, "fp32", "fp32"),
    ("small", "student_cached", 16, "bf16", "fp32"),
    ("small", "teacher", 16, "fp32", "fp32"),
    ("small", "teacher", 16, "bf16", "fp32"),
    ("small", "cache_build", 16, "bf16", "bf16"),
    ("small", "eval", 16, "bf16", "bf16"),
    ("small", "loader", 16, "fp32", "fp32"),
    ("small", "startup", 16, "fp32", "fp32"),
    ("medium", "pack", 16, "fp32", "fp32", ("peer", "seed_style")),
    *((scale, "student_cached", 16, dtype, dtype, ("peer", "mmkd"), ("ranks", 2), ("peer_ranks", 1))
      for scale in ("medium", "small") for dtype in ("bf16", "fp32")),
    ("small", "e2e", 16, "bf16", "fp32"),
    ("small", "sweep", 16, "bf16", "fp32"),
]


def rows_of_table():
    """Those of this machine: on one without instructions for bfloat16 both programs are fastest in float32."""
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        has_bfloat16 = "avx512_bf16" in file.read()
    if has_bfloat16:
        return TABLE
    float32 = [tuple("fp32" if word == "bf16" else word for word in row) for row in TABLE]
    return [row for i, row in enumerate(float32) if row not in float32[:i]]


def compare(a):
    """All pairs of one measurement; the lines go to a.out, the summary is returned."""
    make_peer_weights(a.scale, 0)
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    ratios, ours, theirs, others, sizes = [], [], [], [], []
    with open(a.out, "a", encoding="utf-8") as out:
        for number, pair in zip(itertools.count(1), pairs(a)):
            for name, line in pair.items():
                program = a.peer if name == "peer" else name
                out.write(json.dumps({"time": stamp, "pair": number, "program": program, **line}) + "\n")
            out.flush()
            mine, peer = figure(pair["mmkd"], a.what), figure(pair["peer"], a.what)
            unit = pair["mmkd"]["unit"]
            ratios.append(peer / mine if unit in ("s", "ms") else mine / peer)
            ours.append(mine)
            theirs.append(peer)
            sizes.append((memory(pair["mmkd"]), memory(pair["peer"])))
            others += [line["other_cpu"] for line in pair.values() if "other_cpu" in line]
            print(f"pair {number}: mmkd {mine:.4g}, {a.peer} {peer:.4g} {unit}, ratio {ratios[-1]:.3f}",
                  file=sys.stderr)
        low, high, coverage = interval(ratios)
        summary = {"time": stamp, "summary": True, "peer": a.peer, "scale": a.scale, "what": a.what, "ranks": a.ranks,
                   "dtype": a.dtype, "peer_dtype": a.peer_dtype or a.dtype, "peer_ranks": a.peer_ranks or a.ranks,
                   "batch": a.batch, "threads": a.threads, "pairs": a.pairs, "unit": unit,
                   "mmkd": round(statistics.median(ours), 3), "peer_figure": round(statistics.median(theirs), 3),
                   "rss_mb": [None if None in column else statistics.median(column) for column in zip(*sizes)],
                   "times_as_fast": round(statistics.median(ratios), 3), "interval": [round(low, 3), round(high, 3)],
                   "coverage": round(coverage, 3), "other_cpu": max(others, default=None)}
        if others and max(others) > 0.08:
            print(f"others had up to {max(others):.0%} of the machine: these ratios say little", file=sys.stderr)
        if a.pin:
            summary["pin"] = "yes"
        out.write(json.dumps(summary) + "\n")
    return summary


if __name__ == "__main__":
    main()
