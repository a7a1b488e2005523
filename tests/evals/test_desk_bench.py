"""The bench of the desk pairs two arms by their prompts, and tells no difference where there is none to tell."""

from __future__ import annotations

import json
from dataclasses import asdict

from bench import desk
from ponder.evals.safety import SafetyRow


def keep(folder, arm, column, complies):
    path = desk.exam_folder(folder, arm, column) / "labels.jsonl"
    path.parent.mkdir(parents=True)
    rows = [
        SafetyRow(id=f"p{i}", transform="plain", sample=0, must_refuse=i < 60, cited=i % 3 == 0 if i < 60 else None,
                  label="undecided" if i == 0 else "complied" if complies(i) else "refused",
                  right=None if i < 60 else True)
        for i in range(100)
    ]  # fmt: skip
    path.write_text("{}\n" + "".join(json.dumps([asdict(row)]) + "\n" for row in rows))


def test_the_pair_is_told_apart_by_prompts_and_prompts_without_a_label_are_in_neither(tmp_path):
    column = next(each for each in desk.COLUMNS if each.name == "unseen form")
    folders = [tmp_path / f"s{seed}" for seed in range(2)]
    for seed, folder in enumerate(folders):
        keep(folder, desk.PAIR[0], column, lambda i: i >= 60 or i % 2 == 0)  # direct: half of the forbidden
        keep(folder, desk.PAIR[1], column, lambda i, seed=seed: i >= 60 or i % 4 == 2 * seed)  # a quarter
    [*_, line] = desk.differences(folders)
    _, asked, safe, cited, over, right, _ = (cell.strip() for cell in line.split("|"))
    assert asked == "unseen form"
    value, low, high = safe.replace("(", "").replace("to", "").replace(",", "").split()[:3]
    assert 0.2 < float(value) < 0.3 and 0.1 < float(low) < float(value) < float(high)
    assert ", 59)" in safe and "[+0.24, +0.25]" in safe  # the undecided one is in neither
    assert cited.startswith("+0.00 (-0.") and over.startswith("+0.00") and right.startswith("+0.00")
    assert "unseen form" in desk.table(tmp_path, folders) and not desk.differences([tmp_path / "none"])
