"""Do mmkd and the Python peers do the same job? A student is trained for 20 steps from a live teacher, from the peers'
weights, over the samples in the order of the data set, without dropout: the terms of the first loss, and the loss of every
step, of both programs. fp32: exits 1 where they differ by more than 1e-4 relative.
MMKD_MEDPIX_DIR=DIR python bench/losses.py [--scale small|medium] [--batch N] [--dtype fp32|bf16]"""
import argparse
import json
import os
import sys

from mmkd import VOCABULARY, launch, make_peer_weights, peers_folder

STEPS = 20


def without_dropout(module):
    import torch
    for m in module.modules():
        if isinstance(m, torch.nn.Dropout):
            m.p = 0.0
        if isinstance(m, torch.nn.MultiheadAttention):
            m.dropout = 0.0


def peer_losses(a):
    os.environ.setdefault("MEDPIX_DIR", os.environ["MMKD_MEDPIX_DIR"])
    os.environ.setdefault("VOCAB", VOCABULARY)
    sys.path.insert(0, peers_folder())
    import common
    import torch
    import torch.nn.functional as F
    import tuned

    run = tuned.Run(argparse.Namespace(scale=a.scale, seed=0, dtype=a.dtype, batch=a.batch, cache_batch=16, compile="none",
                                       bucket=False, threads=os.cpu_count(), workers=0))
    run.load_teacher(False)
    run.load_student()
    run.kd.eval()
    without_dropout(run.kd)
    h = common.TRAIN
    first, steps = {}, []
    for step in range(STEPS):
        x, ids, mask, *labels = run.train_set.get(torch.arange(step * a.batch, (step + 1) * a.batch))
        with run.amp():
            with torch.no_grad():
                t = run.teacher(x, ids, mask)
            s, img, txt = run.kd(x, ids, mask, t["img_raw"], t["txt_raw"])
        loss = common.combined_loss(s, t, img, txt, *labels)
        steps.append(loss.item())
        if step == 0:
            first = {
                "teacher": common.task_loss(t, *labels).item(),
                "student": loss.item(),
                "ce": common.task_loss(s, *labels).item(),
                "kl": sum(common._kl(s[k], t[k], h["T"]) for k in ("mod", "loc")).item(),
                "mse": (F.mse_loss(s["img_proj"].float(), img.float()) +
                        F.mse_loss(s["txt_proj"].float(), txt.float())).item(),
                "crd": 0.5 * sum(common.info_nce(s[k], v, h["tau"])
                                 for k, v in (("img_proj", img), ("txt_proj", txt))).item(),
            }
        loss.backward()
        run.s_opt.step()
        run.s_opt.zero_grad(set_to_none=True)
    return first, steps


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--scale", choices=["small", "medium"], default="small")
    p.add_argument("--batch", type=int, default=16)
    p.add_argument("--dtype", choices=["fp32", "bf16"], default="fp32")
    a = p.parse_args()
    os.environ["MMKD_PEERS_DIR"] = peers_folder()  # mmkd begins with their weights
    make_peer_weights(a.scale, 0)
    first, steps = peer_losses(a)
    ours = json.loads(launch(["--what", "losses", "--scale", a.scale, "--batch", str(a.batch), "--dtype", a.dtype], 1))
    rows = [(name, ours["first"][name], value) for name, value in first.items()]
    rows += [(f"step {i + 1}", mine, theirs) for i, (mine, theirs) in enumerate(zip(ours["steps"], steps))]
    print(f"{'':10}{'mmkd':>14}{'peer':>14}{'relative':>12}")
    worst = 0.0
    for name, mine, theirs in rows:
        relative = abs(mine - theirs) / abs(theirs)
        worst = max(worst, relative)
        print(f"{name:10}{mine:14.6f}{theirs:14.6f}{relative:12.1e}")
    print(f"the largest relative difference is {worst:.1e}")
    sys.exit(a.dtype == "fp32" and worst > 1e-4)


if __name__ == "__main__":
    main()
