"""check_page.py MMKD MMKD_PACK SOURCE: the page of `mmkd report` in a real browser."""

import base64
import csv
import json
import pathlib
import random
import subprocess
import sys
import tempfile

from browser import Browser, find_chromium

SKIPPED = 77
HOSTILE = "</script><img src=x onerror=alert(1)>"
CLASSES = {"shape": ["circle", "cross", "square", "triangle"], "site": ["abdomen", "ankle", "elbow", "neck", "wrist"]}

failures = []


def check(condition, what):
    print(f"{'ok' if condition else 'FAILED'}: {what}", flush=True)
    if not condition:
        failures.append(what)


# ------------------------------------------------------------------ runs to report on


def tower(family, size):
    return {"family": family, "hidden_size": size, "num_hidden_layers": 1, "num_attention_heads": 2}


def configuration(source, work, fusion, seed):
    vision = dict(tower("vit", 32), image_size=64, patch_size=8)
    model = {"vision": vision, "text": tower("bert", 32), "tokenizer": str(source / "config/tokenizers/bert-uncased/vocab.txt"),
             "fusion_layers": 1, "fusion_dim": 32, "fusion_heads": 2}
    return {"data": {"type": "table", "root": str(work / "data"), "max_length": 32, "tasks": list(CLASSES),
                     "table": {"train": "train.jsonl", "dev": "dev.jsonl", "test": "test.jsonl"}},
            "teacher": model, "student": model, "training": {"seed": seed}, "fusion": {"type": fusion},
            "loss": {"type": "combined"}, "artifacts": {"root": str(work / "artifacts")},
            "logging": {"log_dir": str(work / "logs/run")}}


def scores(split, level, rng):
    return {f"{split}_{task}_f1": level + rng.uniform(-0.05, 0.05) for task in CLASSES}


def confusion(classes, rng):
    return [[rng.randrange(30, 40) if i == k else rng.randrange(0, 9) for k in range(len(classes))] for i in range(len(classes))]


def details(split, rng):
    return {split: {"split": split, "tasks": [{"task": task, "classes": classes, "confusion": confusion(classes, rng)}
                                              for task, classes in CLASSES.items()]}}


def studies(level, rng):
    calibration = {task: {"temperature": 1.3, "before": {"ece": 0.2, "nll": 0.9}, "after": {"ece": 0.1, "nll": 0.8}} for task in CLASSES}
    test = {task: {"only_teacher_right": 9, "only_student_right": 4, "p_exact": 0.2668, "p_chi2_corrected": 0.2673} for task in CLASSES}
    routes = {"test": {"shares": {"image": 0.2, "text": 0.3, "joint": 0.5}, "expected_energy": 3.1}}
    perturbed = {name: {"mean_f1": level - rng.uniform(0, 0.3)} for name in ("mismatched_text", "noise_0.1", "no_image", "no_text")}
    return {"size": {"student": {"mb_fp32": rng.uniform(5, 9), "flops_per_sample": 1.2e7}, "teacher": {"mb_fp32": 40.0, "flops_per_sample": 9e7}},
            "calibration": {"student": calibration, "teacher": calibration}, "mcnemar": test, "routing": {"student": routes},
            "agreement": {task: 0.8 for task in CLASSES}, "robustness": {"student": perturbed}}


def result(config, level, digest, rng, seed):
    history = [dict(scores("dev", level * (1 - 0.5 ** epoch), rng), epoch=epoch, train_loss=8.0 / epoch) for epoch in range(1, 7)]
    models = {role: {"vision": f"vit-{size}", "text": f"bert-{size}", "params_millions": size / 10} for role, size in (("teacher", 96), ("student", 32))}
    return {"config": config, "seed": seed, "fusion": config["fusion"], "loss": config["loss"], "models": models,
            "metrics": {"train": {"history": history}, "dev": scores("dev", level, rng), "test": scores("test", level - 0.02, rng), "best_epoch": 6,
                        "teacher": {"dev": scores("dev", 0.9, rng), "test": scores("test", 0.88, rng)}},
            "data": {"digest": digest, "tasks": [{"label": task, "key": task, "classes": classes} for task, classes in CLASSES.items()]},
            "details": {"student": {**details("test", rng), **details("dev", rng)}, "teacher": details("test", rng)}, "studies": studies(level, rng),
            "keys": {"teacher": "t", "student": f"s{seed}"}, "timing": {
                "seconds": {"teacher": 60.0 if seed == 0 else 0.1, "student": 20.0}, "reused": {"teacher": seed != 0, "student": False},
                "latency": {"student": {"median_ms": rng.uniform(0.4, 1), "p90_ms": 1.2, "runs": 20}, "teacher": {"median_ms": 2.0, "p90_ms": 2.2, "runs": 20}}}}


def write_predictions(file, rows, rng):
    header = ["id"]
    for task, classes in CLASSES.items():
        header += [f"{task}_true", f"{task}_pred"] + [f"{task}_p_{one}" for one in classes]
    with open(file, "w", newline="") as out:
        table = csv.writer(out)
        table.writerow(header)
        for row in rows:
            cells = [row["id"]]
            for task, classes in CLASSES.items():
                predicted = row[task] if rng.random() < 0.8 else rng.choice(classes)
                cells += [row[task], predicted] + [f"{0.7 if one == predicted else 0.3 / (len(classes) - 1):.6f}" for one in classes]
            table.writerow(cells)


def make_runs(pack, source, work):
    """Runs over packed data: two of several seeds, one of a single one, all with every study."""
    subprocess.run([pack, "demo-data", work / "data"], check=True, stdout=subprocess.DEVNULL)
    config_file = work / "config.yaml"  # JSON is YAML
    config_file.write_text(json.dumps(configuration(source, work, "simple", 0)))
    subprocess.run([pack, config_file], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    manifest, = (work / "artifacts/pack").glob("*/manifest.json")
    digest = json.loads(manifest.read_text())["digest"]
    rows = [json.loads(line) for line in (work / "data/test.jsonl").read_text().splitlines()]
    rng = random.Random(1)
    for name, fusion, level, seeds in (("gated", "gated", 0.7, [0, 1, 10]), ("film", "film", 0.8, [0, 1]), (HOSTILE.replace("/", "∕"), "shomr", 0.6, [0])):
        for seed in seeds:
            folder = work / "logs" / name / (f"seed-{seed}" if len(seeds) > 1 else ".")
            folder.mkdir(parents=True)
            (folder / "results.json").write_text(json.dumps(result(configuration(source, work, fusion, seed), level, digest, rng, seed)))
            write_predictions(folder / "predictions_test.csv", rows, rng)


# ------------------------------------------------------------------ what the page must do

SECTIONS = ["summary", "curves", "seeds", "cost", "confusion", "samples", "teacher", "calibration", "routing", "robustness", "config", "timings"]

# Canvases whose pixels are all alike.
BLANK = """[...document.querySelectorAll('canvas')].filter((canvas) => {
  const pixels = new Uint32Array(canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.buffer);
  return pixels.every((pixel) => pixel === pixels[0]);
}).length"""


def open_page(browser, page):
    browser.open(page.as_uri())
    browser.wait_until("document.documentElement.dataset.ready === 'true'")
    # Charts follow the size of their places one frame later.
    browser.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))")


def complaints(browser):
    said = []
    for event in browser.events:
        if event["method"] == "Runtime.exceptionThrown":
            said.append(event["params"]["exceptionDetails"]["exception"].get("description", "exception"))
        if event["method"] == "Runtime.consoleAPICalled" and event["params"]["type"] in ("error", "warning", "assert"):
            said.append(str(event["params"]["args"]))
        if event["method"] == "Log.entryAdded" and event["params"]["entry"]["level"] in ("error", "warning"):
            said.append(event["params"]["entry"]["text"])
    return said


def requests(browser):
    return {event["params"]["request"]["url"] for event in browser.events if event["method"] == "Network.requestWillBeSent"}


def check_content(browser, page):
    check(browser.evaluate("[...document.querySelectorAll('section')].map((one) => one.id)") == SECTIONS, "every section is there, in its order")
    check(browser.evaluate("document.querySelectorAll('#contents a').length") == len(SECTIONS), "the navigation lists them")
    check(browser.evaluate("document.querySelectorAll('.plot canvas').length") == 4, "four charts")
    check(browser.evaluate(BLANK) == 0, "all of them are drawn")
    check(browser.evaluate("[...document.querySelectorAll('.plot canvas')].every((one) => one.getAttribute('role') === 'img' && one.getAttribute('aria-label').length > 20)"), "charts say in words what they show")
    check(browser.evaluate("[...document.querySelectorAll('figure')].every((one) => one.querySelectorAll('details tbody tr').length >= 3)"), "and have their numbers as a table")
    check(browser.evaluate("document.querySelectorAll('.cards img').length") == 12, "twelve pictures")
    check(browser.evaluate("[...document.querySelectorAll('.cards img')].every((one) => one.src.startsWith('data:image/jpeg') && one.naturalWidth > 0 && one.alt)"), "which are decoded, and have an alternative text")
    check(browser.evaluate("document.querySelectorAll('.cards p').length") == 12, "texts beside them")
    check(browser.evaluate("/right/.test(document.querySelector('.cards').textContent) && /wrong/.test(document.querySelector('.cards').textContent)"), "right and wrong are words")
    check(browser.evaluate("document.querySelectorAll('img[src=\"x\"]').length") == 0, "a hostile name makes no element")
    outside = {url for url in requests(browser) if not url.startswith("data:") and url != page.as_uri()}
    check(not outside, f"no request leaves the page {outside or ''}")


def check_sorting(browser):
    names = "[...document.querySelectorAll('#summary-table tbody th')].map((one) => one.textContent)"
    before = browser.evaluate(names)
    button = "document.querySelectorAll('#summary-table thead button')"
    column = browser.evaluate(f"[...{button}].findIndex((one) => one.textContent.startsWith('Dev'))")
    values = f"[...document.querySelectorAll('#summary-table tbody tr')].map((row) => Number(row.cells[{column}].dataset.value))"
    browser.evaluate(f"{button}[{column}].click()")
    down = browser.evaluate(values)
    check(down == sorted(down, reverse=True), "a click sorts numbers, the highest first")
    check(browser.evaluate(f"{button}[{column}].closest('th').getAttribute('aria-sort')") == "descending", "aria-sort says so")
    check("descending" in browser.evaluate("document.getElementById('sorted').textContent"), "so does the status line")
    browser.evaluate(f"{button}[{column}].focus()")
    browser.call("Input.dispatchKeyEvent", type="keyDown", key="Enter", code="Enter", windowsVirtualKeyCode=13, text="\r")
    browser.call("Input.dispatchKeyEvent", type="keyUp", key="Enter", code="Enter", windowsVirtualKeyCode=13)
    check(browser.evaluate(values) == sorted(down), "the Enter key turns the order round")
    browser.evaluate(f"{button}[0].click()")
    check(browser.evaluate(names) == sorted(before), "names are sorted, the first first")
    check(browser.evaluate("document.querySelectorAll('#summary-table [aria-sort]').length") == 1, "one column is the sorted one")


def change(browser, label, value):
    browser.evaluate(f"""(() => {{
      const box = [...document.querySelectorAll('label')].find((one) => one.firstChild.textContent === {json.dumps(label)}).querySelector('select');
      box.value = {json.dumps(value)};
      box.dispatchEvent(new Event('change'));
    }})()""")


def check_choices(browser):
    matrix = "document.querySelector('.matrix').textContent"
    before = browser.evaluate(matrix)
    change(browser, "Model", "teacher")
    check(browser.evaluate(matrix) != before, "another model has another confusion matrix")
    check(browser.evaluate("[...document.querySelectorAll('.matrix thead th')].slice(1, -1).map((one) => one.textContent)") == CLASSES["shape"], "with the names of the classes")
    canvas = "document.querySelector('#cost canvas').toDataURL()"
    before = browser.evaluate(canvas)
    change(browser, "Cost", "latency_ms")
    check(browser.evaluate(canvas) != before, "another cost has another chart")
    curves = "document.querySelector('#curves .plot canvas').toDataURL()"
    before = browser.evaluate(curves)
    browser.evaluate("document.querySelector('#curves input').click()")
    check(browser.evaluate(curves) != before, "a run can be taken out of the learning curves")
    cards = "document.querySelector('.cards').textContent"
    before = browser.evaluate(cards)
    change(browser, "Predictions of", "2")
    check(browser.evaluate(cards) != before, "another run says other things about the samples")


def check_schemes(browser, page):
    pictures = {}
    for scheme in ("light", "dark"):
        browser.scheme(scheme)
        open_page(browser, page)
        check(browser.evaluate(BLANK) == 0, f"charts are drawn in the {scheme} scheme")
        pictures[scheme] = browser.evaluate("[getComputedStyle(document.body).backgroundColor, document.querySelector('#cost canvas').toDataURL()]")
    check(pictures["light"][0] != pictures["dark"][0], "the dark scheme has another background")
    check(pictures["light"][1] != pictures["dark"][1], "and other charts")
    browser.scheme("light")
    browser.wait_until(f"document.querySelector('#cost canvas').toDataURL() === {json.dumps(pictures['light'][1])}")
    check(True, "charts follow a change of the scheme")


def check_widths(browser, page):
    for width in (320, 390, 1280):
        browser.size(width, 900)
        open_page(browser, page)
        wide = browser.evaluate("document.documentElement.scrollWidth")
        check(wide <= width, f"{width} pixels: the page does not scroll sideways ({wide})")
        check(browser.evaluate("[...document.querySelectorAll('.scroll')].every((one) => one.scrollWidth <= one.clientWidth + 1 || one.tabIndex === 0)"), f"{width} pixels: what scrolls inside can be reached by keyboard")


def check_print(browser, page):
    open_page(browser, page)
    pdf = base64.b64decode(browser.call("Page.printToPDF", preferCSSPageSize=True)["data"])
    check(pdf.startswith(b"%PDF"), "the page prints")
    check(browser.evaluate(BLANK) == 0, "charts are still there after printing")


def check_without_scripts(browser, page):
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    browser.open(page.as_uri())
    text = browser.evaluate("document.body.innerText")
    check("gated" in text and "±" in text, "the table of the runs is readable without JavaScript")
    check("need JavaScript" in text, "and the page says what is missing")
    browser.call("Emulation.setScriptExecutionDisabled", value=False)


def main():
    mmkd, pack, source = (pathlib.Path(one) for one in sys.argv[1:4])
    chromium = find_chromium()
    if chromium is None:
        print("skipped: needs chromium (launch/setup.sh --tests)")
        sys.exit(SKIPPED)
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        make_runs(pack, source, work)
        page = work / "report.html"
        subprocess.run([mmkd, "report", work / "logs", "--out", page, "--title", f"A {HOSTILE} title"], check=True)
        browser = Browser(chromium)
        try:
            browser.size(1280, 900)
            open_page(browser, page)
            check_content(browser, page)
            check_sorting(browser)
            check_choices(browser)
            check(not complaints(browser), f"the console is silent {complaints(browser) or ''}")
            check_schemes(browser, page)
            check_widths(browser, page)
            check_print(browser, page)
            check(not complaints(browser), f"the console is still silent {complaints(browser) or ''}")
            check_without_scripts(browser, page)
        finally:
            browser.close()
    if failures:
        sys.exit(f"{len(failures)} of the checks failed")


main()
