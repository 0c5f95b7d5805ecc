"""Makes of a run one whose every name is an attack on whatever shows it."""

import copy
import json

from xbench.manifest import run_folder
from xbench.store import Store, content_key, gallery_key

SCRIPT = "<script>alert(1)</script>"
IMAGE = '"><img src=x onerror=alert(1)>'
END = "</script><script>alert(2)</script>"
NAMES = (SCRIPT, IMAGE, END, "[/bold]", "a_b%c&d", "{{7*7}}", "$\\frac{", "' onmouseover='alert(1)")


def spoil(folder, out):
    """Write a run's whole records to another folder, renamed: explainers, model, data, classes, scores, samples and notes."""
    keys, primary, manifest = run_folder(folder)
    store, made = Store(folder), Store(out)
    names, cells = {}, []
    for key in keys:
        record = store.read(key)
        cell = copy.deepcopy(record.definition)
        if cell["explainer"]:
            text = cell["explainer"]["text"]
            names.setdefault(text, NAMES[len(names) % len(NAMES)] + ("/" if len(names) % 2 else "") + str(len(names)))
            cell["explainer"]["text"] = names[text]
        cell["model"]["text"] = IMAGE + cell["model"]["text"]
        if cell.get("series"):
            cell["series"] = SCRIPT + cell["series"]
        cell["data"]["text"] = SCRIPT
        cell["classes"] = [SCRIPT + str(k) for k in range(len(cell["classes"]))]
        cell["missing"] = {IMAGE: END}
        scores = {score["name"]: score["name"] + IMAGE for metric in cell["metrics"] for score in metric["scores"]}
        for metric in cell["metrics"]:
            for score in metric["scores"]:
                score["name"] = scores[score["name"]]
                score["family"] = SCRIPT
        arrays = {}
        for name, values in record.arrays.items():
            kind, slash, rest = name.partition("/")
            arrays[kind + slash + scores.get(rest, rest) if kind in ("score", "chance", "curve") else name] = values
        new = content_key(cell)
        made.define(new, cell)
        made.commit(new, 0, arrays, END, record.cost, unmeasured={IMAGE: SCRIPT})
        table = store.samples(cell["samples"])
        made.write_samples(cell["samples"], {**table, "ids": [f"{END}{i}" for i in range(len(table["ids"]))]})
        if "gallery/row" in arrays:
            images = gallery_key(cell["samples"], arrays["gallery/row"].tolist())
            made.write_gallery(images, store.gallery(images))
        cells.append(new)
    broken = copy.deepcopy(cell) | {"seed": 99}
    made.define(content_key(broken), broken)
    made.fail(content_key(broken), IMAGE, SCRIPT, END)
    manifest |= {
        "cells": [*cells, content_key(broken)],
        "title": SCRIPT,
        "data": IMAGE,
        "primary": primary + IMAGE,
        "command": [END, IMAGE],
        "notes": [SCRIPT],
        "suite": END,
        "extra": {SCRIPT: IMAGE},
        "settings": [SCRIPT],
        "components": [{"text": IMAGE, "citation": SCRIPT, "bibtex": [END]}],
    }
    (out / "run.json").write_text(json.dumps(manifest))
    return out
