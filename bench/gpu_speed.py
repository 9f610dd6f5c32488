"""Started by gpu_check.sh: training throughput and model FLOP utilisation of mmkd, of PyTorch and of PyTorch with
torch.compile, one after the other in every round, for a teacher and a student (docs/performance.md, "On GPUs").
python bench/gpu_speed.py --out gpu.json [--seconds 400] [--rounds 3]
Prints a table and PASS, FAIL and SKIP lines; exits 1 after a failure. MMKD_BIN: the programs (default build/bin)."""
import argparse
import json
import os
import queue
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

from mmkd import ROOT

# Dense bfloat16 with float32 sums, 10^12 FLOP/s, by the data sheets; the first whose words are all in the device's name.
PEAKS = [("H100 PCIe", 756), ("H100 NVL", 835), ("H100", 989), ("H200", 989), ("A100", 312), ("L40S", 362), ("L4", 121)]
MODELS = {"synth_teacher": {"large": "teacher ViT-L/16 + BERT-base"}, "synth": {"large": "student ViT-B/16 + DistilBERT"}}
PROGRAMS = ("mmkd", "eager", "compile")


class Failure(Exception):
    pass


class OutOfTime(Exception):
    pass


def listed_peak(name):
    words = set(re.split(r"[\s\-]+", name))
    return next((peak for known, peak in PEAKS if words.issuperset(known.split())), None)


class Process:
    """A program in a session of its own, whose lines of JSON are waited for with a limit."""

    def __init__(self, command):
        self.errors = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors,
                                        text=True, start_new_session=True)
        self.lines = queue.Queue()
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            if line.startswith("{"):
                self.lines.put(json.loads(line))
        self.lines.put(None)

    def ask(self):
        try:
            self.process.stdin.write("\n")
            self.process.stdin.flush()
        except OSError:
            pass  # it has ended; line() says how

    def line(self, deadline):
        try:
            line = self.lines.get(timeout=max(0.0, deadline - time.time()))
        except queue.Empty:
            raise OutOfTime from None
        if line is None:
            code = self.process.wait()
            self.errors.seek(0)
            raise Failure(f"exit code {code}; the end of its output:\n{self.errors.read()[-2000:]}")
        return line

    def close(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Program:
    """`measure` gives one line. A resident peer keeps its model, and what was compiled, between the rounds."""

    def __init__(self, name, command, resident):
        self.name, self.command, self.resident = name, command, resident
        self.process = None
        self.longest = 0.0  # seconds of a measurement

    def start(self):
        if self.process is None:
            self.process = Process(self.command + (["--stdin"] if self.resident else []))

    def wait_until_ready(self, deadline):
        """A resident peer is built; now its first steps, which compile. They need memory, so one peer at a time."""
        if self.resident:
            self.process.line(deadline)
            self.process.ask()
            self.process.line(deadline)

    def measure(self, deadline):
        start = time.time()
        self.start()
        if self.resident:
            self.process.ask()
        try:
            line = self.process.line(deadline)
        finally:
            if not self.resident:
                self.close()
        self.longest = max(self.longest, time.time() - start)
        return line

    def close(self):
        if self.process is not None:
            self.process.close()
            self.process = None


def once(command, deadline):
    process = Process(command)
    try:
        return process.line(deadline)
    finally:
        process.close()


class Speed:
    def __init__(self, a):
        self.a = a
        self.failures = 0
        self.deadline = time.time() + a.seconds
        self.result = {"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "scale": a.scale, "seq": a.seq,
                       "dtype": "bf16", "rows": [], "lines": []}

    def fail(self, text):
        self.failures += 1
        print(f"FAIL  {text}", flush=True)

    def peer(self, *arguments):
        return [sys.executable, os.path.join(ROOT, "bench/peers_gpu.py"), "--device", self.a.device, *arguments]

    def device(self):
        """Its name and peak rate; False: it cannot take part."""
        size = 8192 if self.a.device == "cuda" else 512
        line = once(self.peer("--what", "peak", "--size", str(size)), min(self.deadline, time.time() + 120))
        name = line.get("name", self.a.device)
        listed = listed_peak(name)
        self.result["device"] = name
        self.result["memory_gb"] = line.get("memory_gb", 0)
        self.result["torch"] = line["torch"]
        self.result["peak_tflops"] = {"listed": listed, "measured": line["tflops"], "of": f"{size}^3 in bf16"}
        self.peak = 1e12 * (listed or line["tflops"])
        print(f"      {name}: bf16 matrix products of {size}^3 reach {line['tflops']:.4g} TFLOP/s; MFU is relative to "
              + (f"{listed} TFLOP/s, the data sheet's peak" if listed else "that rate, since no peak is listed for it"),
              flush=True)
        return line.get("bf16", True)

    def batch(self, what):
        """What fits beside two idle peers: 128 and 256 samples in 80 GB."""
        chosen = self.a.batch_teacher if what == "synth_teacher" else self.a.batch_student
        if chosen:
            return chosen
        full = 128 if what == "synth_teacher" else 256
        memory = self.result["memory_gb"]
        return full if memory >= 70 else full // 2 if memory >= 38 else full // 8

    def programs(self, what):
        common = ["--what", what, "--scale", self.a.scale, "--batch", str(self.batch(what)), "--seq", str(self.a.seq),
                  "--min-seconds", str(self.a.min_seconds), "--repeat", "1"]
        resident = self.result["memory_gb"] >= 70 or self.a.device == "cpu"
        made = []
        if "mmkd" in self.a.programs:
            made.append(Program("mmkd", [sys.executable, os.path.join(ROOT, "bench/mmkd.py"), "--device", self.a.device,
                                         "--dtype", "bf16", "--workers", str(self.a.workers), *common], False))
        made += [Program(mode, self.peer("--mode", mode, *common), resident) for mode in ("eager", "compile")
                 if mode in self.a.programs]
        return made

    def measure(self, what, deadline):
        """Rounds of one model; what was measured goes into a row for each program."""
        programs = self.programs(what)
        rounds = []
        try:
            self.start(programs, what, deadline)
            for number in range(self.a.rounds):
                if time.time() + 1.2 * sum(program.longest for program in programs) > deadline or not programs:
                    if programs:
                        print(f"SKIP  {what}: {self.a.rounds - number} of {self.a.rounds} rounds, out of time", flush=True)
                    break
                first = number % len(programs)
                rounds.append({})
                for program in programs[first:] + programs[:first]:
                    line = self.attempt(program, what, deadline)
                    if line is None:
                        programs.remove(program)
                        continue
                    rounds[-1][program.name] = line
                    self.result["lines"].append({"round": number + 1, "program": program.name, **line})
        finally:
            for program in programs:
                program.close()
        self.rows(what, rounds)

    def start(self, programs, what, deadline):
        """Peers build their models at the same time and warm up one after the other, before the rounds."""
        for program in programs:
            if program.resident:
                program.start()
        for program in list(programs):
            # At least a quarter of the time is left to measure in.
            until = time.time() + 0.75 * (deadline - time.time())
            if self.guard(program, what, lambda: program.wait_until_ready(until) or True) is None:
                programs.remove(program)

    def attempt(self, program, what, deadline):
        return self.guard(program, what, lambda: program.measure(deadline))

    def guard(self, program, what, work):
        try:
            return work()
        except Failure as failure:
            self.fail(f"{what}, {program.name}: {failure}")
        except OutOfTime:
            print(f"SKIP  {what}, {program.name}: out of time", flush=True)
        program.close()
        return None

    def rows(self, what, rounds):
        flops = next((r["mmkd"]["step_flops_per_sample"] for r in rounds if "step_flops_per_sample" in r.get("mmkd", {})), None)
        for name in PROGRAMS:
            lines = [r[name] for r in rounds if name in r]
            if not lines:
                continue
            rate = statistics.median(line["median"] for line in lines)
            ratios = [r["mmkd"]["median"] / r[name]["median"] for r in rounds if name in r and "mmkd" in r]
            self.result["rows"].append({
                "what": what, "program": name, "batch": lines[0]["batch"], "rounds": len(lines),
                "samples_per_s": round(rate, 3), "min": min(line["median"] for line in lines),
                "max": max(line["median"] for line in lines),
                "step_ms": round(statistics.median(line["step_ms"] for line in lines), 2),
                "step_gflop_per_sample": flops and round(flops / 1e9, 3),
                "tflops": flops and round(rate * flops / 1e12, 3), "mfu": flops and round(rate * flops / self.peak, 4),
                "mmkd_times_as_fast": round(statistics.median(ratios), 3) if ratios and name != "mmkd" else None})

    def table(self):
        print("\n| model | program | batch | samples/s [min, max] | step, ms | TFLOP/s | MFU | mmkd is so many times as fast | rounds |\n"
              "|---|---|---:|---:|---:|---:|---:|---:|---:|")
        shown = lambda value, form: "–" if value is None else format(value, form)
        for row in self.result["rows"]:
            model = MODELS[row["what"]].get(self.a.scale, row["what"])
            print(f"| {model} | {row['program']} | {row['batch']} | {row['samples_per_s']:.4g} [{row['min']:.4g}, {row['max']:.4g}] "
                  f"| {row['step_ms']:.4g} | {shown(row['tflops'], '.4g')} | {shown(row['mfu'], '.1%')} "
                  f"| {shown(row['mmkd_times_as_fast'], '.2f')} | {row['rounds']} |")
        print(flush=True)

    def write(self):
        with open(self.a.out, "w", encoding="utf-8") as file:
            json.dump(self.result, file, indent=1)
            file.write("\n")

    def run(self):
        try:
            able = self.device()
        except OutOfTime:
            print("SKIP  speed: out of time", flush=True)
            return
        except Failure as failure:
            return self.fail(f"speed: the peak rate: {failure}")
        if not able:
            print("SKIP  speed: this GPU does not compute in bfloat16", flush=True)
            return
        for number, what in enumerate(self.a.what):
            self.measure(what, time.time() + (self.deadline - time.time()) / (len(self.a.what) - number))
            self.write()
        self.table()
        if self.result["rows"]:
            print(f"PASS  speed: {len(self.result['rows'])} rows, written to {self.a.out}", flush=True)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", required=True, help="JSON: rows, and every line that was measured")
    p.add_argument("--seconds", type=float, default=400, help="for everything; what does not fit is skipped")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--what", nargs="+", choices=list(MODELS), default=list(MODELS))
    p.add_argument("--programs", nargs="+", choices=PROGRAMS, default=list(PROGRAMS))
    p.add_argument("--scale", choices=["small", "medium", "large"], default="large")
    p.add_argument("--device", choices=["cpu", "cuda"], default="cuda")
    p.add_argument("--seq", type=int, default=128, help="tokens per text")
    p.add_argument("--batch-teacher", type=int, default=0, help="0: by the memory of the device")
    p.add_argument("--batch-student", type=int, default=0)
    p.add_argument("--min-seconds", type=float, default=2.0, help="of a window")
    p.add_argument("--workers", type=int, default=8, help="loader threads of mmkd")
    a = p.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # so that the programs end, too
    speed = Speed(a)
    speed.run()
    sys.exit(1 if speed.failures else 0)


if __name__ == "__main__":
    main()
