"""The training step of mmkd-bench's synth and synth_teacher in PyTorch, on one device: one JSON line, with the fields of
the peers' bench.py.
python bench/peers_gpu.py --what synth_teacher --mode compile --batch 128 --device cuda --scale large
Sizes, model, losses and optimizer are those of bench/peers/common.py, and of bench/<scale>.yaml: AdamW in one fused
kernel, autocast, scaled_dot_product_attention, teacher outputs given; --mode compile: the model through torch.compile.
As in mmkd, attention probabilities are not dropped. Batches lie in page-locked memory as bytes; every step copies one to
the device and normalises it there.
--stdin: builds the model, warms up at the first line of the standard input and measures at every further one; a JSON
line says that each is done.
--what peak: the rate of large matrix products instead."""
import argparse
import contextlib
import json
import os
import statistics
import sys
import time

os.environ.setdefault("MEDPIX_DIR", "")  # common.py wants it set; made-up data need none
os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "peers"))

import torch

import common
from bench import spread

# ViT-L/16 and BERT-base, ViT-B/16 and DistilBERT: bench/large.yaml.
common.CFG["large"] = {
    "image": 224, "fusion_dim": 512, "fusion_layers": 1, "fusion_heads": 8, "dropout": 0.1,
    "teacher": {"vision": {"d": 1024, "L": 24, "h": 16, "patch": 16}, "text": {"arch": "bert", "d": 768, "L": 12, "h": 12}},
    "student": {"vision": {"d": 768, "L": 12, "h": 12, "patch": 16}, "text": {"arch": "distilbert", "d": 768, "L": 6, "h": 12}},
}
CLASSES = (4, 5)  # of the demo data set's tasks


class Student(torch.nn.Module):
    """The student with the projections that are trained with it."""

    def __init__(self, scale):
        super().__init__()
        self.student = common.TwoTower(scale, "student", *CLASSES, attn="sdpa")
        self.projections = common.Projections(scale)

    def forward(self, pixels, ids, mask, img_raw, txt_raw):
        return (self.student(pixels, ids, mask), *self.projections(img_raw, txt_raw))


def keep_attention(model):
    for module in model.modules():
        if isinstance(module, torch.nn.MultiheadAttention):
            module.dropout = 0.0
        elif type(module).__name__.endswith("SelfAttention") and isinstance(getattr(module, "dropout", None), torch.nn.Dropout):
            module.dropout.p = 0.0


def synchronize(device):
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Step:
    def __init__(self, a):
        self.batch, self.device = a.batch, torch.device(a.device)
        self.bf16 = a.dtype == "bf16"
        self.of_teacher = a.what == "synth_teacher"
        torch.manual_seed(a.seed)
        with self.device:
            model = common.TwoTower(a.scale, "teacher", *CLASSES, attn="sdpa") if self.of_teacher else Student(a.scale)
        keep_attention(model)
        model.train()
        train = common.TRAIN
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=train["lr"], betas=train["betas"], eps=train["eps"],
                                           weight_decay=train["weight_decay"], fused=True)
        self.model = torch.compile(model, dynamic=False) if a.mode == "compile" else model
        self.parameters = sum(p.numel() for p in model.parameters())
        sizes, random = common.CFG[a.scale], torch.Generator().manual_seed(a.seed)
        image, widths = sizes["image"], sizes["teacher"]
        self.data = {
            "pixels": torch.randint(0, 256, (a.batch, 3, image, image), dtype=torch.uint8, generator=random),
            "ids": torch.randint(1000, 30000, (a.batch, a.seq), generator=random),
            "mask": torch.ones(a.batch, a.seq, dtype=torch.bool),
            "mod": torch.arange(a.batch) % CLASSES[0],
            "loc": torch.arange(a.batch) % CLASSES[1],
        }
        if not self.of_teacher:
            for name, width in (("t_mod", CLASSES[0]), ("t_loc", CLASSES[1]), ("t_img_raw", widths["vision"]["d"]),
                                ("t_txt_raw", widths["text"]["d"])):
                self.data[name] = torch.randn(a.batch, width, generator=random)
        if self.device.type == "cuda":
            self.data = {name: tensor.pin_memory() for name, tensor in self.data.items()}

    def autocast(self):
        return torch.autocast(self.device.type, torch.bfloat16) if self.bf16 else contextlib.nullcontext()

    def run(self):
        d = {name: tensor.to(self.device, non_blocking=True) for name, tensor in self.data.items()}
        inputs = (d["pixels"].float().mul_(1 / 127.5).sub_(1), d["ids"], d["mask"])
        with self.autocast():
            if self.of_teacher:
                outputs = self.model(*inputs)
            else:
                outputs, img, txt = self.model(*inputs, d["t_img_raw"], d["t_txt_raw"])
        with self.device:  # where the losses make their targets
            if self.of_teacher:
                loss = common.task_loss(outputs, d["mod"], d["loc"])
            else:
                known = {"mod": d["t_mod"], "loc": d["t_loc"]}
                loss = common.combined_loss(outputs, known, img, txt, d["mod"], d["loc"])
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss


class Windows:
    """Three steps of warm-up, one that decides how many steps a window has; then windows on demand."""

    def __init__(self, step, min_seconds):
        self.step = step
        for _ in range(3):
            self.loss = step.run()
        synchronize(step.device)
        start = time.perf_counter()
        step.run()
        synchronize(step.device)
        self.steps = int(min(400, max(2, min_seconds / (time.perf_counter() - start))))

    def measure(self, repeat):
        rates, milliseconds, others = [], [], []
        for _ in range(repeat):
            synchronize(self.step.device)
            before, start = common.cpu_seconds(), time.perf_counter()
            for _ in range(self.steps):
                self.loss = self.step.run()
            synchronize(self.step.device)
            seconds, after = time.perf_counter() - start, common.cpu_seconds()
            rates.append(self.steps * self.step.batch / seconds)
            milliseconds.append(1e3 * seconds / self.steps)
            others.append(max(0.0, after[0] - before[0] - (after[1] - before[1])) / (seconds * os.cpu_count()))
        line = {"unit": "samples/s", **spread(rates), "steps_per_window": self.steps,
                "step_ms": round(statistics.median(milliseconds), 2), "other_cpu": round(max(others), 3),
                "windows_redone": 0, "rss_mb": round(common.rss_mb()[0], 1), "loss": round(self.loss.item(), 4)}
        if self.step.device.type == "cuda":
            line["gpu_mb"] = round(torch.cuda.max_memory_allocated() / 1e6)
            torch.cuda.empty_cache()  # another program is measured next
        return line


def peak(device, size):
    """What matrix products of size^3 in bfloat16 reach, with the names of the device."""
    device = torch.device(device)
    a, b = (torch.randn(size, size, device=device).bfloat16() for _ in range(2))
    times = []
    for i in range(5):
        synchronize(device)
        start = time.perf_counter()
        for _ in range(10):
            a @ b
        synchronize(device)
        if i > 0:
            times.append((time.perf_counter() - start) / 10)
    line = {"what": "peak", "size": size, "tflops": round(2 * size**3 / statistics.median(times) / 1e12, 3),
            "torch": torch.__version__}
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        line.update(name=properties.name, memory_gb=round(properties.total_memory / 1e9, 1),
                    bf16=properties.major >= 8)
    return line


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--what", choices=["synth", "synth_teacher", "peak"], required=True)
    p.add_argument("--mode", choices=["eager", "compile"], default="eager")
    p.add_argument("--scale", choices=["small", "medium", "large"], default="large")
    p.add_argument("--device", choices=["cpu", "cuda"], default="cuda")
    p.add_argument("--dtype", choices=["fp32", "bf16"], default="bf16")
    p.add_argument("--batch", type=int, default=16)
    p.add_argument("--seq", type=int, default=32, help="tokens per text")
    p.add_argument("--threads", type=int, default=0, help="0 = cores")
    p.add_argument("--repeat", type=int, default=3)
    p.add_argument("--min-seconds", type=float, default=4.0)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--size", type=int, default=8192, help="of the matrices of --what peak")
    p.add_argument("--stdin", action="store_true")
    a = p.parse_args()
    threads = a.threads or len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    if a.what == "peak":
        print(json.dumps(peak(a.device, a.size)), flush=True)
        return
    step = Step(a)
    if a.stdin:
        print(json.dumps({"built": True, "parameters": step.parameters}), flush=True)
        if not sys.stdin.readline():
            return
    start = time.time()
    windows = Windows(step, a.min_seconds)
    head = {"peer": a.mode, "scale": a.scale, "what": a.what, "ranks": 1, "device": a.device, "dtype": a.dtype,
            "batch": a.batch, "threads": threads, "torch": torch.__version__}
    if a.stdin:
        if step.device.type == "cuda":
            torch.cuda.empty_cache()
        print(json.dumps({"ready": True, "warm_up_s": round(time.time() - start, 1)}), flush=True)
    for _ in sys.stdin if a.stdin else [""]:
        line = {**head, **windows.measure(a.repeat), "seq": a.seq, "parameters": step.parameters}
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
