#!/usr/bin/env python3
"""Dormant feed-forward neurons of small language models, left alone and recycled: docs/results/train-recycle.{md,json}.

    bench/lab/train_recycle.py TEXT HELD_OUT [--lab build/bin/torpor-lab] [--presets relu2-1m] [--steps 600] [--seeds 3] [--folder /tmp/train-recycle]
                               [--write docs/results/train-recycle]

Each run is one call of `torpor train`; those that are in --folder already are not made again.
"""
import argparse
import csv
import json
import pathlib
import statistics
import subprocess

ARMS = {
    "nothing done": [],
    "recycled, a tenth of the mean or less": ["--recycle", "--tau", "0.1", "--period", "100"],
    "recycled, moments alone (as published)": ["--recycle", "--tau", "0.1", "--period", "100", "--optimizer-reset", "moments"],
}


def one(options, preset, arm, seed):
    place = options.folder / f"{preset}-{list(ARMS).index(arm)}-{seed}-{options.steps}"
    if not (place / "train.json").exists():
        subprocess.run([options.lab, "train", "--preset", preset, "--text", options.text, "--held-out", options.held_out, "--steps", str(options.steps), "--seed", str(seed),
                        "--evaluate-every", "50", "--checkpoint-every", "0", "--threads", "1", "--quiet", "-o", place, *ARMS[arm]], check=True, capture_output=True, text=True)
    result = json.loads((place / "train.json").read_text())
    with open(place / "neurons.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    last = rows[-1]["step"]
    return {"preset": preset, "arm": arm, "seed": seed, "bits": result["held_out_bits_per_byte"], "dormant": statistics.mean(float(r["dormant_share"]) for r in rows if r["step"] == last),
            "recycled": result["recycled"], "again": result["recycled_again"], "seconds": result["seconds"]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text")
    parser.add_argument("held_out")
    parser.add_argument("--lab", default="build/bin/torpor-lab")
    parser.add_argument("--presets", default="relu2-1m")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path("/tmp/train-recycle"))
    parser.add_argument("--write", type=pathlib.Path, default=pathlib.Path("docs/results/train-recycle"))
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    runs = []
    for seed in range(1, options.seeds + 1):
        for preset in options.presets.split(","):
            for arm in ARMS:
                runs.append(one(options, preset, arm, seed))
                print(f"{preset} {arm} {seed}: {runs[-1]['bits']:.4f} bits a byte, {100 * runs[-1]['dormant']:.1f} % dormant, {runs[-1]['recycled']} recycled", flush=True)
    lines = ["# Dormant neurons of small language models", "",
             f"`bench/lab/train_recycle.py TEXT HELD_OUT --presets {options.presets} --steps {options.steps} --seeds {options.seeds}`: English novels, the presets of `torpor train`, recycled every 100 steps. Means of {options.seeds} seeds, in brackets their range. Dormant: a tenth of the "
             "block's mean activity or less on the last step's windows, before any recycling.", "",
             "| preset | | held-out bits a byte | against nothing done, same seed | dormant | recycled | of those again |", "|---|---|---|---|---|---|---|"]
    for preset in options.presets.split(","):
        for arm in ARMS:
            mine = [r for r in runs if (r["preset"], r["arm"]) == (preset, arm)]
            plain = {r["seed"]: r["bits"] for r in runs if (r["preset"], r["arm"]) == (preset, "nothing done")}
            spread = lambda values, form: f"{statistics.mean(values):{form}} ({min(values):{form}} to {max(values):{form}})"
            recycled, again = sum(r["recycled"] for r in mine), sum(r["again"] for r in mine)
            change = "–" if arm == "nothing done" else spread([100 * (r["bits"] / plain[r["seed"]] - 1) for r in mine], "+.2f") + " %"
            lines.append(f"| {preset} | {arm} | {spread([r['bits'] for r in mine], '.4f')} | {change} | {spread([100 * r['dormant'] for r in mine], '.1f')} % | {recycled / len(mine):.0f} | "
                         f"{f'{100 * again / recycled:.0f} %' if recycled else '–'} |")
    options.write.with_suffix(".md").write_text("\n".join(lines) + "\n")
    options.write.with_suffix(".json").write_text(json.dumps({"steps": options.steps, "runs": runs}, indent=1) + "\n")


if __name__ == "__main__":
    main()
