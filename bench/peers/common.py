"""What both peers share: configuration, records, the model, the losses, stored initial weights."""
import json, os
from pathlib import Path

import torch
import torch.nn as nn
import torch.nn.functional as F

HERE = Path(__file__).resolve().parent
CFG = json.loads((HERE / "configs.json").read_text())
TASK, TRAIN = CFG["task"], CFG["train"]
DATA = Path(os.environ["MEDPIX_DIR"])  # MedPix 2.0
WEIGHTS = HERE / "weights"
CACHE = HERE / "cache"


# ---------------------------------------------------------------- records
def records(split):
    out = []
    for p in (DATA / f"descriptions_{split}.jsonl", DATA / "splitted_dataset" / f"descriptions_{split}.jsonl"):
        if p.exists():
            break
    for line in open(p, encoding="utf-8"):
        r = json.loads(line)
        text = (r["Description"].get("Caption") or "").strip() or TASK["empty_text"]
        out.append((r["image"], text, r[TASK["labels"]["modality"]], r[TASK["labels"]["location"]]))
    return out


def classes():
    rs = records("train")
    return sorted({r[2] for r in rs}), sorted({r[3] for r in rs})


def vocab_file():
    return os.environ.get("VOCAB", str(HERE.parent.parent / "config/tokenizers/bert-uncased/vocab.txt"))


def tokenizer():
    from tokenizers.implementations import BertWordPieceTokenizer
    from transformers import PreTrainedTokenizerFast
    raw = BertWordPieceTokenizer(vocab_file(), lowercase=True)
    return PreTrainedTokenizerFast(tokenizer_object=raw._tokenizer, pad_token="[PAD]", unk_token="[UNK]",
                                   cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]",
                                   model_max_length=TASK["max_len"])


# ---------------------------------------------------------------- model
def _vision(c, image, attn=None):
    from transformers import ViTConfig, ViTModel
    kw = {"attn_implementation": attn} if attn else {}
    return ViTModel(ViTConfig(hidden_size=c["d"], num_hidden_layers=c["L"], num_attention_heads=c["h"],
                              intermediate_size=4 * c["d"], image_size=image, patch_size=c["patch"], **kw),
                    add_pooling_layer=False)


def _text(c, attn=None):
    kw = {"attn_implementation": attn} if attn else {}
    if c["arch"] == "distilbert":
        from transformers import DistilBertConfig, DistilBertModel
        return DistilBertModel(DistilBertConfig(dim=c["d"], n_layers=c["L"], n_heads=c["h"], hidden_dim=4 * c["d"],
                                                vocab_size=TASK["vocab"], **kw))
    from transformers import BertConfig, BertModel
    return BertModel(BertConfig(hidden_size=c["d"], num_hidden_layers=c["L"], num_attention_heads=c["h"],
                                intermediate_size=4 * c["d"], vocab_size=TASK["vocab"], **kw),
                     add_pooling_layer=False)


class TwoTower(nn.Module):
    """CLS of each backbone -> Linear to D -> encoder over the two tokens, mean -> dropout -> two heads."""

    def __init__(self, scale, role, n_mod, n_loc, attn=None):
        super().__init__()
        c = CFG[scale]
        m, D = c[role], c["fusion_dim"]
        self.vision, self.text = _vision(m["vision"], c["image"], attn), _text(m["text"], attn)
        self.proj_vis, self.proj_txt = nn.Linear(m["vision"]["d"], D), nn.Linear(m["text"]["d"], D)
        layer = nn.TransformerEncoderLayer(D, c["fusion_heads"], 4 * D, c["dropout"], "gelu", batch_first=True)
        self.fusion = nn.TransformerEncoder(layer, c["fusion_layers"], enable_nested_tensor=False)
        self.drop = nn.Dropout(c["dropout"])
        self.head_mod, self.head_loc = nn.Linear(D, n_mod), nn.Linear(D, n_loc)

    def forward(self, pixels, ids, mask):
        img = self.vision(pixel_values=pixels).last_hidden_state[:, 0]
        txt = self.text(input_ids=ids, attention_mask=mask).last_hidden_state[:, 0]
        vi, ti = self.proj_vis(img), self.proj_txt(txt)
        z = self.drop(self.fusion(torch.stack((vi, ti), 1)).mean(1))
        return {"mod": self.head_mod(z), "loc": self.head_loc(z), "img_raw": img, "txt_raw": txt,
                "img_proj": vi, "txt_proj": ti}


class Projections(nn.Module):
    """P_img, P_txt: the teacher's raw features to the student's fusion width; trained with the student."""

    def __init__(self, scale):
        super().__init__()
        t, D = CFG[scale]["teacher"], CFG[scale]["fusion_dim"]
        self.P_img, self.P_txt = nn.Linear(t["vision"]["d"], D), nn.Linear(t["text"]["d"], D)

    def forward(self, img_raw, txt_raw):
        return self.P_img(img_raw), self.P_txt(txt_raw)


# ---------------------------------------------------------------- losses
def task_loss(o, mod, loc):
    return F.cross_entropy(o["mod"].float(), mod) + F.cross_entropy(o["loc"].float(), loc)


def _kl(s, t, T):
    return F.kl_div(F.log_softmax(s.float() / T, -1), F.log_softmax(t.float() / T, -1), reduction="batchmean",
                    log_target=True) * (T * T)


def info_nce(s, t, tau):
    s, t = F.normalize(s.float(), dim=-1), F.normalize(t.float(), dim=-1)
    return F.cross_entropy(s @ t.T / tau, torch.arange(len(s)))


def combined_loss(s, t, pi, pt, mod, loc, gather=None):
    """gather: makes the in-batch contrast see the whole global batch (identity when one process)."""
    h = TRAIN
    kd = _kl(s["mod"], t["mod"], h["T"]) + _kl(s["loc"], t["loc"], h["T"])
    mse = F.mse_loss(s["img_proj"].float(), pi.float()) + F.mse_loss(s["txt_proj"].float(), pt.float())
    a, b, c, d = s["img_proj"], pi, s["txt_proj"], pt
    if gather is not None:
        a, b, c, d = gather(torch.stack((a.float(), b.float(), c.float(), d.float()), 1)).unbind(1)
    nce = 0.5 * (info_nce(a, b, h["tau"]) + info_nce(c, d, h["tau"]))
    return task_loss(s, mod, loc) + h["alpha"] * kd + h["beta"] * mse + h["gamma"] * nce


# ---------------------------------------------------------------- stored initial weights
def weight_path(scale, role, seed=0):
    return WEIGHTS / f"{scale}-{role}-seed{seed}.safetensors"


def make_weights(scale, seed=0):
    from safetensors.torch import save_file
    WEIGHTS.mkdir(exist_ok=True)
    nm, nl = map(len, classes())
    for i, role in enumerate(("teacher", "student")):
        p = weight_path(scale, role, seed)
        if p.exists():
            continue
        torch.manual_seed(1000 * seed + i)
        sd = TwoTower(scale, role, nm, nl).state_dict()
        if role == "student":
            sd.update({f"kd.{k}": v for k, v in Projections(scale).state_dict().items()})
        tmp = p.with_suffix(f".{os.getpid()}.tmp")
        save_file({k: v.contiguous() for k, v in sd.items()}, str(tmp), metadata={"scale": scale, "role": role, "seed": str(seed)})
        os.replace(tmp, p)


def load(scale, role, seed=0, attn=None):
    """The model with the stored weights; for the student also its two KD projections."""
    from safetensors.torch import load_file
    make_weights(scale, seed)
    nm, nl = map(len, classes())
    m = TwoTower(scale, role, nm, nl, attn)
    sd = load_file(str(weight_path(scale, role, seed)))
    kd = {k[3:]: v for k, v in sd.items() if k.startswith("kd.")}
    m.load_state_dict({k: v for k, v in sd.items() if not k.startswith("kd.")})
    if role == "teacher":
        return m
    P = Projections(scale)
    P.load_state_dict(kd)
    return m, P


def macro_f1(y, p, k):
    """Macro F1 over the classes that occur in y or p (the scikit-learn convention)."""
    fs = []
    for c in range(k):
        tp = ((y == c) & (p == c)).sum().item()
        n = (y == c).sum().item() + (p == c).sum().item()
        if n:
            fs.append(2 * tp / n)
    return sum(fs) / len(fs)


# ---------------------------------------------------------------- memory
def rss_mb():
    """(high-water RSS of this process, the same plus its live children's), MB; shared pages count once per process."""
    def hwm(pid):
        try:
            for l in open(f"/proc/{pid}/status"):
                if l.startswith("VmHWM"):
                    return int(l.split()[1]) / 1024
        except OSError:
            pass
        return 0.0
    kids = []
    try:
        for t in os.listdir("/proc/self/task"):
            kids += open(f"/proc/self/task/{t}/children").read().split()
    except OSError:
        pass
    me = hwm("self")
    return me, me + sum(hwm(k) for k in kids)


def _ticks(pid):
    try:
        f = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
        return int(f[11]) + int(f[12])
    except OSError:
        return 0


def cpu_seconds():
    """(busy CPU seconds of the machine, those of this process and its live children)."""
    hz = os.sysconf("SC_CLK_TCK")
    f = [int(x) for x in open("/proc/stat").readline().split()[1:]]
    kids = []
    for t in os.listdir("/proc/self/task"):
        try:
            kids += open(f"/proc/self/task/{t}/children").read().split()
        except OSError:
            pass
    return (sum(f[:3]) + sum(f[5:8])) / hz, (_ticks("self") + sum(map(_ticks, kids))) / hz


def wait_quiet(limit=20):
    """Sleep until the rest of the machine uses under a tenth of one core for a second; at most `limit` seconds."""
    import time
    t = time.time()
    while time.time() - t < limit:
        b = cpu_seconds()[0]
        time.sleep(1)
        if cpu_seconds()[0] - b < 0.1:
            return
