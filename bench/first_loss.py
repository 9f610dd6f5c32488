"""Do mmkd and the Python peers compute the same function? The losses of the first training samples, from the peers'
weights, without dropout and before any step, of both programs. Exits 1 if a term differs by more than 1e-3 relative.
MMKD_PEERS_DIR=DIR MMKD_MEDPIX_DIR=DIR python bench/first_loss.py [--scale small|medium] [--batch N]"""
import argparse
import json
import os
import sys

from mmkd import VOCABULARY, launch, peers_folder


def peer_losses(scale, batch):
    os.environ.setdefault("MEDPIX_DIR", os.environ["MMKD_MEDPIX_DIR"])
    os.environ.setdefault("VOCAB", VOCABULARY)
    sys.path.insert(0, peers_folder())
    import common
    import torch
    import torch.nn.functional as F
    import tuned

    data = tuned.Split("train", common.CFG[scale]["image"])
    x, ids, mask, *labels = data.get(torch.arange(batch))
    teacher = common.load(scale, "teacher", attn="sdpa").eval()
    student, projections = common.load(scale, "student", attn="sdpa")
    student.eval()
    h = common.TRAIN
    with torch.no_grad():
        t, s = teacher(x, ids, mask), student(x, ids, mask)
        img, txt = projections(t["img_raw"], t["txt_raw"])
        return {
            "teacher": common.task_loss(t, *labels).item(),
            "student": common.combined_loss(s, t, img, txt, *labels).item(),
            "ce": common.task_loss(s, *labels).item(),
            "kl": sum(common._kl(s[k], t[k], h["T"]) for k in ("mod", "loc")).item(),
            "mse": (F.mse_loss(s["img_proj"], img) + F.mse_loss(s["txt_proj"], txt)).item(),
            "crd": 0.5 * sum(common.info_nce(s[k], v, h["tau"])
                             for k, v in (("img_proj", img), ("txt_proj", txt))).item(),
        }


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--scale", choices=["small", "medium"], default="small")
    p.add_argument("--batch", type=int, default=16)
    a = p.parse_args()
    theirs = peer_losses(a.scale, a.batch)
    line = launch(["--what", "first_loss", "--scale", a.scale, "--batch", str(a.batch)], ranks=1)
    ours = json.loads(line)["losses"]
    worst = 0.0
    print(f"{'term':10}{'mmkd':>14}{'peer':>14}{'relative':>12}")
    for term, value in theirs.items():
        relative = abs(ours[term] - value) / abs(value)
        worst = max(worst, relative)
        print(f"{term:10}{ours[term]:14.6f}{value:14.6f}{relative:12.1e}")
    sys.exit(worst > 1e-3)


if __name__ == "__main__":
    main()
