"""Reads what write_weights wrote with torch, safetensors and transformers, and compares."""
import importlib.util
import json
import sys
from pathlib import Path

for package in ("torch", "safetensors", "transformers", "PIL"):
    if importlib.util.find_spec(package) is None:
        print(f"skipped: this Python has no {package}")
        sys.exit(0)

import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import (
    AutoConfig,
    AutoTokenizer,
    BertModel,
    DeiTModel,
    DistilBertModel,
    MobileBertModel,
    MobileNetV2ImageProcessorPil,
    MobileNetV2Model,
    MobileViTImageProcessorPil,
    MobileViTModel,
    ViTImageProcessorPil,
    ViTModel,
)

TOLERANCE = 1e-5


def check_saved_model(folder):
    state = torch.load(folder / "model.pth", weights_only=True)
    assert type(state) is dict, type(state)
    assert list(state) == ["b.query", "a.key", "a.transposed", "scalar", "half", "count"], list(state)
    stored = load_file(folder / "model.safetensors")
    assert stored.keys() == state.keys()
    for name, tensor in stored.items():
        assert tensor.dtype == state[name].dtype and tensor.shape == state[name].shape, name
        assert torch.equal(tensor, state[name]), name
    assert state["half"].dtype == torch.bfloat16 and state["count"].dtype == torch.int64
    assert state["a.transposed"].shape == (4, 6) and state["scalar"].item() == 2.5
    assert torch.equal(state["a.transposed"].T[2:4], state["b.query"])
    with safe_open(folder / "model.safetensors", framework="pt") as file:
        metadata = file.metadata()
    assert metadata["format"] == "pt" and metadata["mmkd_version"] == "0.0.0"
    assert json.loads(metadata["tasks"])[0] == {"label": "Modality", "classes": ["CT", "M\u00dc"]}


def load(model_class, folder, **options):
    model, info = model_class.from_pretrained(folder, output_loading_info=True, **options)
    for problem, keys in info.items():
        assert not keys, (problem, keys)
    return model.eval()


def relative(got, want):
    """Absolute for values below one."""
    return (got - want).abs() / want.abs().clamp(min=1)


def first_row(hidden):
    return hidden[:, 0]


def mean_of_map(hidden):
    return hidden.mean(dim=(2, 3))


def check_outputs(model, folder, inputs, real_tokens=None, feature=first_row):
    want = load_file(folder / "outputs.safetensors")
    with torch.no_grad():
        got = model(**{name: want[name] for name in inputs}).last_hidden_state
    difference = relative(got, want["last_hidden_state"])
    if real_tokens is not None:  # rows of padding have no meaning
        difference = difference[want[real_tokens]]
    assert got.shape == want["last_hidden_state"].shape
    assert difference.max() <= TOLERANCE, difference.max()
    assert relative(feature(got), want["features"]).max() <= TOLERANCE


def check_vision_tower(folder, model_class, processor_class=ViTImageProcessorPil, feature=first_row, **options):
    model = load(model_class, folder / "vision", **options)
    check_outputs(model, folder, ["pixel_values"], feature=feature)
    want = load_file(folder / "outputs.safetensors")
    processor = processor_class.from_pretrained(folder / "vision")
    got = processor(Image.fromarray(want["picture"].numpy()), return_tensors="pt")["pixel_values"][0]
    assert torch.allclose(got, want["picture_pixels"], atol=TOLERANCE), (got - want["picture_pixels"]).abs().max()


def check_text_tower(folder, model_class, **options):
    model = load(model_class, folder / "text", **options)
    check_outputs(model, folder, ["input_ids", "attention_mask"], "attention_mask")
    tokenizer = AutoTokenizer.from_pretrained(folder / "text")
    assert tokenizer.model_max_length == 24
    for line in json.loads((folder / "tokens.json").read_text()):
        assert tokenizer(line["text"])["input_ids"] == line["ids"], line["text"]


def main(folder):
    check_saved_model(folder)
    check_vision_tower(folder / "vit", ViTModel, add_pooling_layer=False)
    check_vision_tower(folder / "deit", DeiTModel, add_pooling_layer=False)
    check_vision_tower(folder / "mobilevit", MobileViTModel, MobileViTImageProcessorPil, mean_of_map)
    check_vision_tower(folder / "mobilenet_v2", MobileNetV2Model, MobileNetV2ImageProcessorPil, mean_of_map)
    check_text_tower(folder / "bert", BertModel, add_pooling_layer=False)
    check_text_tower(folder / "mobilebert", MobileBertModel, add_pooling_layer=False)
    check_text_tower(folder / "distilbert", DistilBertModel)
    for family in ("vit", "deit", "mobilevit", "mobilenet_v2"):
        assert AutoConfig.from_pretrained(folder / family / "vision").model_type == family
    print("weights: read by torch, safetensors and transformers")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
