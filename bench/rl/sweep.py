#!/usr/bin/env python3
"""Environments under remedies against dormant neurons, at several replay ratios: docs/results/redo-minatar.{md,json,svg} and others.

    bench/rl/sweep.py [--lab build/bin/torpor-lab] [--envs breakout-mini,asterix-mini] [--arms none,ReDo] [--ratios 0.25,1] [--seeds 5] [--steps 40000]
                      [--folder /tmp/sweep] [--write docs/results/redo-minatar] [--title "Dormant neurons in games by MinAtar's rules"] [-- more options of torpor rl]

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
    "GraMa": ["--recycle", "--score", "gradient", "--tau", "0.1", "--period", "1000"],
    "continual backprop": ["--recycle", "--continual-backprop", "1e-4"],
    "layer reset": ["--layer-reset", "2500"],
    "weight decay": ["--weight-decay", "1e-5"],
}
COLOURS = ["#6b7280", "#2a5da8", "#d67829", "#3a8f5c", "#9a4fa3", "#b8a02e"]


def iqm(values):
    values = sorted(values)
    n = len(values)
    low, high = n / 4, n - n / 4
    return sum(max(0.0, min(high, i + 1) - max(low, i)) * v for i, v in enumerate(values)) / (high - low)


def interval(values):
    draw = random.Random(1)
    means = sorted(iqm([draw.choice(values) for _ in values]) for _ in range(2000))
    return means[50], means[1949]


def one(options, env, ratio, arm, seed):
    place = options.folder / f"{env}-{ratio}-{arm.replace(' ', '_')}-{seed}-{options.steps}"
    if not (place / "rl.json").exists():
        ratio_options = [] if ratio == "default" else ["--replay-ratio", ratio]
        subprocess.run([options.lab, "rl", "--env", env, "--steps", str(options.steps), *ratio_options, "--seed", str(seed), "--threads", "1",
                        "--film", "0", "--checkpoint-every", "1000000", "--quiet", "-o", place, *ARMS[arm], *options.more], check=True, capture_output=True, text=True)
        for checkpoint in place.glob("checkpoint-*"):
            checkpoint.unlink()
    result = json.loads((place / "rl.json").read_text())
    run = result["runs"][0]
    tail = run["episodes"][-options.episodes:]
    logs = run["log"][-5:]  # the last tenth
    return {"env": env, "ratio": ratio, "arm": arm, "seed": seed, "return": statistics.mean(e[1] for e in tail), "dormant": statistics.mean(x["dormant"] for x in logs),
            "dormant_tenth": statistics.mean(x["dormant_tenth"] for x in logs), "rank": statistics.mean(x["rank"] for x in logs),
            "recycled": sum(x["recycled"] for x in run["log"]), "again": sum(x["again"] for x in run["log"]), "seconds": run["seconds"]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lab", default="build/bin/torpor-lab")
    parser.add_argument("--envs", default="breakout-mini,asterix-mini,space-invaders-mini,freeway-mini,seaquest-mini")
    parser.add_argument("--arms", default=",".join(ARMS))
    parser.add_argument("--ratios", default="0.25,1", help="updates a step, or default")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=40_000)
    parser.add_argument("--episodes", type=int, default=100, help="of the end, whose mean is the return")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path("/tmp/sweep"))
    parser.add_argument("--write", type=pathlib.Path, default=pathlib.Path("docs/results/redo-minatar"))
    parser.add_argument("--title", default="Dormant neurons in games by MinAtar's rules")
    parser.add_argument("more", nargs="*", help="options of torpor rl for every run")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    options.envs, options.arms, options.ratios = (value.split(",") for value in (options.envs, options.arms, options.ratios))
    # Seeds outermost: what is there after a stop is even.
    work = [(env, ratio, arm, seed) for seed in range(options.seeds) for env in options.envs for ratio in options.ratios for arm in options.arms]
    runs = []
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        for run in pool.map(lambda w: one(options, *w), work):
            runs.append(run)
            print(f"{len(runs):4}/{len(work)} {run['env']:20} {run['ratio']:>7} {run['arm']:20} {run['seed']} return {run['return']:8.2f} dormant {100 * run['dormant']:5.1f} %", flush=True)
    write(options, runs)


def name_of(env, ratio):
    return env if ratio == "default" else f"{env}, {ratio} updates a step"


def chart(options, cells):
    """Bars of dormant shares with their intervals, a group for each environment and ratio: SVG."""
    groups = [(env, ratio) for env in options.envs for ratio in options.ratios]
    most = max(0.02, max(c["dormant_tenth"][2] for c in cells))
    tick = next(t for t in (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.25) if most <= 5 * t or t == 0.25)
    ticks = -int(-most // tick)
    top = tick * ticks
    bar, height, left = 16, 220, 46
    group = max([bar * len(options.arms) + 26] + [6.2 * len(env.removesuffix("-mini")) + 12 for env in options.envs])
    width = max(left + len(groups) * group + 10, 430)
    y = lambda share: 30 + height * (1 - share / top)
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height + 110}" font-family="sans-serif" font-size="11"><rect width="100%" height="100%" fill="#fff"/>']
    for i in range(ticks + 1):
        share = tick * i
        parts.append(f'<line x1="{left}" x2="{width - 10}" y1="{y(share):.1f}" y2="{y(share):.1f}" stroke="#ddd"/><text x="{left - 6}" y="{y(share) + 4:.1f}" text-anchor="end">{100 * share:.3g} %</text>')
    for g, (env, ratio) in enumerate(groups):
        x = left + g * group + (group - bar * len(options.arms)) / 2
        for k, arm in enumerate(options.arms):
            value, low, high = next(c["dormant_tenth"] for c in cells if (c["env"], c["ratio"], c["arm"]) == (env, ratio, arm))
            at = x + k * bar
            parts.append(f'<rect x="{at:.1f}" y="{y(value):.1f}" width="{bar - 3}" height="{max(0.5, y(0) - y(value)):.1f}" fill="{COLOURS[list(ARMS).index(arm)]}"><title>{env} {ratio} {arm}: {100 * value:.1f} %</title></rect>'
                         f'<line x1="{at + (bar - 3) / 2:.1f}" x2="{at + (bar - 3) / 2:.1f}" y1="{y(low):.1f}" y2="{y(high):.1f}" stroke="#111"/>')
        middle = x + bar * len(options.arms) / 2
        parts.append(f'<text x="{middle:.1f}" y="{height + 48}" text-anchor="middle">{env.removesuffix("-mini")}</text>')
        if ratio != "default":
            parts.append(f'<text x="{middle:.1f}" y="{height + 62}" text-anchor="middle" fill="#555">{ratio} a step</text>')
    at = left
    for arm in options.arms:
        parts.append(f'<rect x="{at}" y="{height + 80}" width="11" height="11" fill="{COLOURS[list(ARMS).index(arm)]}"/><text x="{at + 15}" y="{height + 90}">{arm}</text>')
        at += 30 + 7 * len(arm)
    parts.append(f'<text x="{left}" y="16" font-weight="bold">Neurons with a tenth of their layer\'s mean activity or less</text></svg>')
    options.write.with_suffix(".svg").write_text("\n".join(parts) + "\n")


def write(options, runs):
    recycled_of = "" if not any(r["recycled"] for r in runs) else " Recycled: neurons in all a run."
    command = f"bench/rl/sweep.py --envs {','.join(options.envs)} --arms '{','.join(options.arms)}' --ratios {','.join(options.ratios)} --seeds {options.seeds} --steps {options.steps}"
    if options.episodes != 100:
        command += f" --episodes {options.episodes}"
    lines = [f"# {options.title}", "", f"![Dormant neurons]({options.write.name}.svg)", "",
             f"{options.steps:,} steps, {f'{options.seeds} seeds: interquartile mean over seeds, and in brackets its 95 % interval by the bootstrap' if options.seeds > 1 else 'one seed'}. Return: of the last {options.episodes} episodes of training. "
             f"Dormant: never active on the probe, mean of the last five logs, each just before a recycling.{recycled_of}", "",
             f"Made by `{command}{' -- ' + ' '.join(options.more) if options.more else ''}`; every run is one call of `torpor rl`.", ""]
    cells = []
    for env in options.envs:
        for ratio in options.ratios:
            lines += [f"## {name_of(env, ratio)}", "", "| | return | dormant | a tenth of the mean or less | effective rank | recycled | of those again |", "|---|---|---|---|---|---|---|"]
            for arm in options.arms:
                mine = [r for r in runs if (r["env"], r["ratio"], r["arm"]) == (env, ratio, arm)]
                cell = {"env": env, "ratio": ratio, "arm": arm}
                for key in ("return", "dormant", "dormant_tenth"):
                    values = [r[key] for r in mine]
                    cell[key] = [iqm(values), *interval(values)]
                recycled, again = sum(r["recycled"] for r in mine), sum(r["again"] for r in mine)
                cells.append(cell)
                percent = lambda key: "{:.1f} % ({:.1f} to {:.1f})".format(*(100 * v for v in cell[key]))
                lines.append(f"| {arm} | {'{:.2f} ({:.2f} to {:.2f})'.format(*cell['return'])} | {percent('dormant')} | {percent('dormant_tenth')} | "
                             f"{iqm([r['rank'] for r in mine]):.0f} | {recycled / len(mine):.0f} | {f'{100 * again / recycled:.0f} %' if recycled else '–'} |")
            seconds = [r["seconds"] for r in runs if (r["env"], r["ratio"]) == (env, ratio)]
            lines += ["", f"{options.steps / statistics.median(seconds):,.0f} steps a second, the median run (other work may have shared the machine).", ""]
    chart(options, cells)
    options.write.with_suffix(".md").write_text("\n".join(lines))
    options.write.with_suffix(".json").write_text(json.dumps({"steps": options.steps, "seeds": options.seeds, "cells": cells, "runs": runs}, indent=1) + "\n")


if __name__ == "__main__":
    main()
