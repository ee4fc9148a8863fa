#!/usr/bin/env python3
"""Whether agents solve what they should with the settings that `torpor rl` has by itself: docs/results/rl-tasks.{md,json}.

    bench/rl/tasks.py [--lab build/bin/torpor-lab] [--folder /tmp/tasks] [--write docs/results/rl-tasks]

One call of `torpor rl` a task, seed after seed on one thread; what is in --folder already is not made again.
"""
import argparse
import json
import pathlib
import statistics
import subprocess

# environment, options, seeds, the mean of how many episodes, what it must reach, within how many seconds
TASKS = [("cartpole", [], 20, 100, 475, 60), ("pendulum", [], 5, 10, -200, 300), ("breakout-mini", ["--steps", "1000000"], 5, 100, 8, None)]


def means(episodes, count):
    """(step, mean of the last `count`) from the first time that there are so many."""
    total, out = 0, []
    for i, episode in enumerate(episodes):
        total += episode[1] - (episodes[i - count][1] if i >= count else 0)
        if i + 1 >= count:
            out.append((episode[0], total / count))
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lab", default="build/bin/torpor-lab")
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path("/tmp/tasks"))
    parser.add_argument("--write", type=pathlib.Path, default=pathlib.Path("docs/results/rl-tasks"))
    options = parser.parse_args()
    cpu = next(line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name"))
    lines = ["# What agents solve by themselves", "", f"`bench/rl/tasks.py`, {cpu}, one thread, the settings that `torpor rl --env NAME` has by itself. Reached: the first time that the mean of so many "
             "episodes is at least what is wanted. Median, and in brackets the least and the most of the seeds.", "",
             "| environment | wanted | seeds that reached it | after steps | after seconds | the run's last episodes |", "|---|---|---|---|---|---|"]
    results = []
    for env, more, seeds, count, wanted, seconds in TASKS:
        place = options.folder / env
        if not (place / "rl.json").exists():
            subprocess.run([options.lab, "rl", "--env", env, "--seeds", str(seeds), "--threads", "1", "--film", "0", "-o", place, *more], check=True)
        result = json.loads((place / "rl.json").read_text())
        steps, reached, times, ends = result["options"]["steps"], [], [], []
        for run in result["runs"]:
            curve = means(run["episodes"], count)
            ends.append(curve[-1][1])
            at = next((step for step, mean in curve if mean >= wanted), None)
            if at is not None:
                reached.append(at)
                times.append(run["seconds"] * at / steps)
        results.append({"env": env, "wanted": wanted, "episodes": count, "seeds": len(result["runs"]), "reached_after_steps": reached, "reached_after_seconds": [round(t, 1) for t in times],
                        "last": [round(e, 2) for e in ends]})
        spread = lambda values, form: f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})" if values else "–"
        limit = "" if seconds is None else f" within {seconds} s"
        lines.append(f"| `{' '.join([env, *more])}` | {wanted}, mean of {count} episodes{limit} | {len(reached)} of {len(result['runs'])} | {spread(reached, ',.0f')} | {spread(times, '.0f')} | {spread(ends, '.1f')} |")
    options.write.with_suffix(".md").write_text("\n".join(lines) + "\n")
    options.write.with_suffix(".json").write_text(json.dumps({"cpu": cpu, "tasks": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
