#!/usr/bin/env python3
"""Games by MinAtar's rules under remedies against dormant neurons, at several replay ratios: docs/results/redo-minatar.{md,json}.

    bench/rl/sweep.py [--lab build/bin/torpor-lab] [--games breakout,asterix] [--ratios 0.25,1] [--seeds 5] [--steps 40000] [--folder /tmp/sweep] [--write docs/results/redo-minatar]

Each run is one call of `torpor rl`, two at a time on one thread each; those that are in --folder already are not made again.
"""
import argparse
import concurrent.futures
import json
import pathlib
import random
import statistics
import subprocess

ARMS = {
    "none": [],
    "ReDo": ["--recycle", "--tau", "0.1", "--period", "1000"],
    "GraMa": ["--recycle", "--score", "gradient", "--tau", "0.01", "--period", "1000"],
    "continual backprop": ["--recycle", "--continual-backprop", "1e-4"],
    "layer reset": ["--layer-reset", "10000"],
    "weight decay": ["--weight-decay", "1e-5"],
}


def iqm(values):
    values = sorted(values)
    n = len(values)
    low, high = n / 4, n - n / 4
    return sum(max(0.0, min(high, i + 1) - max(low, i)) * v for i, v in enumerate(values)) / (high - low)


def interval(values):
    draw = random.Random(1)
    means = sorted(iqm([draw.choice(values) for _ in values]) for _ in range(2000))
    return means[50], means[1949]


def one(options, game, ratio, arm, seed):
    place = options.folder / f"{game}-{ratio}-{arm.replace(' ', '_')}-{seed}-{options.steps}"
    if not (place / "rl.json").exists():
        subprocess.run([options.lab, "rl", "--env", f"{game}-mini", "--steps", str(options.steps), "--replay-ratio", ratio, "--seed", str(seed), "--threads", "1",
                        "--film", "0", "--checkpoint-every", "1000000", "--quiet", "-o", place, *ARMS[arm]], check=True, capture_output=True, text=True)
        for checkpoint in place.glob("checkpoint-*"):
            checkpoint.unlink()
    result = json.loads((place / "rl.json").read_text())
    run = result["runs"][0]
    tail = run["episodes"][-100:]
    logs = run["log"][-5:]  # the last tenth
    return {"game": game, "ratio": ratio, "arm": arm, "seed": seed, "return": statistics.mean(e[1] for e in tail), "dormant": statistics.mean(x["dormant"] for x in logs),
            "dormant_tenth": statistics.mean(x["dormant_tenth"] for x in logs), "rank": statistics.mean(x["rank"] for x in logs),
            "recycled": sum(x["recycled"] for x in run["log"]), "again": sum(x["again"] for x in run["log"])}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lab", default="build/bin/torpor-lab")
    parser.add_argument("--games", default="breakout,asterix")
    parser.add_argument("--ratios", default="0.25,1")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=40_000)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path("/tmp/sweep"))
    parser.add_argument("--write", type=pathlib.Path, default=pathlib.Path("docs/results/redo-minatar"))
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    # Seeds outermost: what is there after a stop is even.
    work = [(game, ratio, arm, seed) for seed in range(options.seeds) for game in options.games.split(",") for ratio in options.ratios.split(",") for arm in ARMS]
    runs = []
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        for run in pool.map(lambda w: one(options, *w), work):
            runs.append(run)
            print(f"{len(runs):4}/{len(work)} {run['game']:16} {run['ratio']:>5} {run['arm']:20} {run['seed']} return {run['return']:7.2f} dormant {100 * run['dormant']:5.1f} %", flush=True)
    write(options, runs)


def write(options, runs):
    lines = ["# Dormant neurons in games by MinAtar's rules", "",
             f"DQN, {options.steps:,} steps, {options.seeds} seeds: interquartile mean over seeds, and in brackets its 95 % interval by the bootstrap. Return: of the last 100 episodes of training. "
             "Dormant: never active on 64 observations, mean of the last five logs, each just before a recycling. Recycled: neurons in all a run, of 144.", "",
             "Made by `bench/rl/sweep.py`; every run is one call of `torpor rl`.", ""]
    cells = []
    for game in options.games.split(","):
        for ratio in options.ratios.split(","):
            lines += [f"## {game}, {ratio} updates a step", "", "| | return | dormant | a tenth of the mean or less | effective rank | recycled | of those again |", "|---|---|---|---|---|---|---|"]
            for arm in ARMS:
                mine = [r for r in runs if (r["game"], r["ratio"], r["arm"]) == (game, ratio, arm)]
                if not mine:
                    continue
                of = lambda key: iqm([r[key] for r in mine])
                low, high = interval([r["return"] for r in mine])
                dormant_low, dormant_high = interval([r["dormant"] for r in mine])
                recycled, again = sum(r["recycled"] for r in mine), sum(r["again"] for r in mine)
                cells.append({"game": game, "ratio": ratio, "arm": arm, "return": [of("return"), low, high], "dormant": [of("dormant"), dormant_low, dormant_high]})
                lines.append(f"| {arm} | {of('return'):.2f} ({low:.2f} to {high:.2f}) | {100 * of('dormant'):.1f} % ({100 * dormant_low:.1f} to {100 * dormant_high:.1f}) | "
                             f"{100 * of('dormant_tenth'):.1f} % | {of('rank'):.0f} | {recycled / len(mine):.0f} | {f'{100 * again / recycled:.0f} %' if recycled else '–'} |")
            lines.append("")
    options.write.with_suffix(".md").write_text("\n".join(lines))
    options.write.with_suffix(".json").write_text(json.dumps({"steps": options.steps, "seeds": options.seeds, "cells": cells, "runs": runs}, indent=1) + "\n")


if __name__ == "__main__":
    main()
