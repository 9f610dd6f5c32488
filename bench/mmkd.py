"""One named measurement of mmkd -> one JSON line, with the names and the fields of the Python peers' bench.py.
MMKD_MEDPIX_DIR=DIR [MMKD_PEERS_DIR=DIR] python bench/mmkd.py --scale medium --what student_cached --ranks 2
python bench/mmkd.py --scale large --what synth_teacher --device cuda --dtype bf16 --batch 128 --seq 128   # no data set
With MMKD_PEERS_DIR training starts from the peers' weights. MMKD_BIN: the programs (default build/bin);
MMKD_BENCH_WORK: packed data and scratch (default build/bench)."""
import argparse
import glob
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VOCABULARY = os.path.join(ROOT, "config/tokenizers/bert-uncased/vocab.txt")
# Those of launch/run.sh.
MPIRUN = ["mpirun", "--bind-to", "none", "--oversubscribe", "--mca", "btl_vader_single_copy_mechanism", "none",
          "--mca", "mpi_yield_when_idle", "1"]


def program(name):
    path = os.path.join(os.environ.get("MMKD_BIN", os.path.join(ROOT, "build/bin")), name)
    if not os.access(path, os.X_OK):
        raise SystemExit(f"{path} is missing: build it (cmake --build --preset release --target {name})")
    return path


def work_folder():
    return os.environ.get("MMKD_BENCH_WORK", os.path.join(ROOT, "build/bench"))


def data_folder():
    if not os.environ.get("MMKD_MEDPIX_DIR"):
        raise SystemExit("MMKD_MEDPIX_DIR is not set: it names the folder of MedPix 2.0")
    return os.path.abspath(os.environ["MMKD_MEDPIX_DIR"])


def peers_folder():
    """The Python peers (bench.py, common.py); they keep weights/ and cache/ there."""
    return os.path.abspath(os.environ.get("MMKD_PEERS_DIR") or os.path.join(ROOT, "bench/peers"))


def make_peer_weights(scale, seed):
    """The peers write their initial weights on first use."""
    if not os.environ.get("MMKD_PEERS_DIR"):
        return
    folder = os.path.join(peers_folder(), "weights")
    files = [os.path.join(folder, f"{scale}-{role}-seed{seed}.safetensors") for role in ("teacher", "student")]
    if all(map(os.path.exists, files)):
        return
    env = {"VOCAB": VOCABULARY, **os.environ, "MEDPIX_DIR": data_folder()}
    code = f"import common; common.make_weights({scale!r}, {seed})"
    subprocess.run([sys.executable, "-c", code], cwd=peers_folder(), env=env, check=True)


def run(command, env):
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout[-2000:]}{done.stderr[-4000:]}exit code {done.returncode}")
    return done.stdout


def launch(arguments, ranks, pin=False):
    """One mmkd-bench; its JSON line."""
    env = dict(os.environ)
    if pin:
        env["OMP_PROC_BIND"] = "true"
    command = [program("mmkd-bench"), "--source", ROOT, "--work", work_folder(), *arguments]
    if ranks > 1:
        as_root = ["--allow-run-as-root"] if os.getuid() == 0 else []
        command = [*MPIRUN, *as_root, "-n", str(ranks), *command]
    env["MMKD_BENCH_T0"] = repr(time.time())
    return [line for line in run(command, env).splitlines() if line.startswith("{")][-1]


def spread(values):
    return {"median": round(statistics.median(values), 3), "min": round(min(values), 3), "max": round(max(values), 3),
            "n": len(values)}


def startup(a, arguments):
    """A process each time; the first one packs the data and warms the page cache, and is not counted."""
    launch([*arguments, "--what", "loader", "--repeat", "1"], a.ranks, a.pin)
    lines = [json.loads(launch([*arguments, "--what", "startup"], a.ranks, a.pin)) for _ in range(a.repeat)]
    return {**lines[0], **spread([line["median"] for line in lines])}


def end_to_end(a):
    """Programs as a user starts them, nothing prepared: pack, teacher, cache, student, test."""
    walls, runs = [], []
    for seed in range(a.seed, a.seed + a.repeat):
        make_peer_weights(a.scale, seed)
        with tempfile.TemporaryDirectory() as folder:
            command = [os.path.join(ROOT, "launch/run.sh"), "-n", str(a.ranks),
                       os.path.join(ROOT, "bench", a.scale + ".yaml"), *settings_of_job(a, seed, folder)]
            start = time.time()
            run(command, dict(os.environ, MMKD_BIN=os.path.dirname(program("mmkd-ddp"))))
            walls.append(time.time() - start)
            with open(f"{folder}/log/results.json", encoding="utf-8") as file:
                runs.append({"seed": seed, "wall": round(walls[-1], 1), **f1_scores(json.load(file))})
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return {"peer": "mmkd", "scale": a.scale, "what": "e2e", "ranks": a.ranks, "dtype": a.dtype, "batch": a.batch,
            "unit": "s", **spread(walls), "rss_mb": round(peak, 1), "epochs": a.epochs, "runs": runs}


LOSSES = ["vanilla", "combined", "crd", "rkd", "mmd"]


def settings_of_job(a, seed, folder):
    """`folder` None: of a sweep, whose file says the folders."""
    settings = {"data.root": data_folder(), "data.batch_size": a.batch, "data.num_workers": a.workers,
                "teacher.tokenizer": VOCABULARY, "student.tokenizer": VOCABULARY, "training.precision": a.dtype,
                "training.seed": seed, "training.teacher_epochs": a.epochs[0], "training.student_epochs": a.epochs[1],
                "device": a.device}
    if folder:
        settings |= {"logging.log_dir": f"{folder}/log", "artifacts.root": f"{folder}/artifacts"}
    if os.environ.get("MMKD_PEERS_DIR"):
        for role in ("teacher", "student"):
            settings[f"{role}.weights"] = f"{peers_folder()}/weights/{a.scale}-{role}-seed{seed}.safetensors"
    words = [f"{key}={value}" for key, value in settings.items()] + a.set
    return [word for pair in words for word in ("--set", pair)]


def sweep(a):
    """`mmkd sweep run` over five losses, nothing prepared: one pack, teacher and cache, five students with their tests."""
    make_peer_weights(a.scale, 0)
    walls = []
    for _ in range(a.repeat):
        with tempfile.TemporaryDirectory() as folder:
            file = f"{folder}/losses.yaml"
            with open(file, "w", encoding="utf-8") as out:
                out.write(f"base: {ROOT}/bench/{a.scale}.yaml\nlogs: {folder}/logs\nartifacts: {folder}/artifacts\n"
                          f"grid:\n  loss.type: [{', '.join(LOSSES)}]\n")
            command = [program("mmkd"), "sweep", "run", file, "-n", str(a.ranks),
                       "-j", str(max(1, os.cpu_count() // a.ranks)), *settings_of_job(a, 0, None)]
            start = time.time()
            run(command, dict(os.environ))
            walls.append(time.time() - start)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return {"peer": "mmkd", "scale": a.scale, "what": "sweep", "ranks": a.ranks, "dtype": a.dtype, "batch": a.batch,
            "unit": "s", **spread(walls), "rss_mb": round(peak, 1), "epochs": a.epochs, "runs": len(LOSSES)}


def pack(a):
    """mmkd-pack over all splits: pictures decoded, resized and stored, texts tokenized, per second."""
    rates = []
    for _ in range(a.repeat + 1):  # the first one warms the page cache, and is not counted
        with tempfile.TemporaryDirectory() as folder:
            settings = settings_of_job(a, 0, folder)
            command = [program("mmkd-pack"), os.path.join(ROOT, "bench", a.scale + ".yaml"), *settings]
            start = time.time()
            run(command, dict(os.environ))
            seconds = time.time() - start
            manifests = glob.glob(f"{folder}/artifacts/pack/*/manifest.json")
            with open(manifests[0], encoding="utf-8") as file:
                counts = json.load(file)["counts"]
            rates.append(sum(counts.values()) / seconds)
    return {"peer": "mmkd", "scale": a.scale, "what": "pack", "ranks": 1, "unit": "samples/s", **spread(rates[1:])}


def f1_scores(results):
    """The flat macro F1 values of results.json, whichever section they stand in."""
    found = {}

    def walk(value, path):
        if isinstance(value, dict):
            for key, inner in value.items():
                walk(inner, [*path, key])
        elif path and "f1" in path[-1] and isinstance(value, (int, float)) and "history" not in path:
            found[".".join(path)] = round(value, 4)

    walk(results, [])
    return {"f1": found}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--what", required=True)
    p.add_argument("--scale", choices=["small", "medium", "large"], default="small",
                   help="large: made-up data alone (synth, synth_teacher)")
    p.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    p.add_argument("--dtype", choices=["fp32", "bf16"], default="fp32")
    p.add_argument("--batch", type=int, default=16, help="global, per step")
    p.add_argument("--ranks", type=int, default=1)
    p.add_argument("--threads", type=int, default=0, help="per rank; 0 = cores / ranks")
    p.add_argument("--workers", type=int, default=2, help="loader threads per rank")
    p.add_argument("--repeat", type=int, default=3)
    p.add_argument("--min-seconds", type=float, default=4.0)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--seq", type=int, default=32, help="tokens per text in synth")
    p.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="another key of the configuration")
    p.add_argument("--epochs", type=int, nargs=2, default=[3, 5], help="e2e: of teacher and student")
    p.add_argument("--pin", action="store_true", help="OMP_PROC_BIND=true, as the tuned peer has")
    a = p.parse_args()
    if a.scale == "large":
        if not a.what.startswith("synth"):
            p.error("--scale large has made-up data alone: --what synth or synth_teacher")
        os.environ.pop("MMKD_PEERS_DIR", None)  # it has no weights of this scale
    else:
        data_folder()
    own = {"e2e": end_to_end, "sweep": sweep, "pack": pack}
    if a.what in own:
        out = own[a.what](a)
    else:
        make_peer_weights(a.scale, a.seed)
        arguments = []
        for name in ("scale", "device", "dtype", "batch", "threads", "workers", "min_seconds", "seed", "seq"):
            arguments += ["--" + name.replace("_", "-"), str(getattr(a, name))]
        for setting in a.set:
            arguments += ["--set", setting]
        if a.what == "startup":
            out = startup(a, arguments)
        else:
            out = json.loads(launch([*arguments, "--what", a.what, "--repeat", str(a.repeat)], a.ranks, a.pin))
    if a.pin:
        out["pin"] = "yes"
    if a.set:
        out["set"] = a.set
    print(json.dumps(out), flush=True)


if __name__ == "__main__":
    main()
