#!/usr/bin/env python3
"""MuJoCo's tasks in torpor beside Gymnasium's loop in Python, random actions, one core, in turn: a part of docs/results/rl-speed.md.

    pip install "gymnasium==1.4.0" "mujoco==3.3.0"
    bench/rl/mujoco_speed.py [--bench build/bin/bench_rl] [--rounds 5]
"""
import argparse
import json
import statistics
import subprocess
import time

import gymnasium


def python_steps(name, seconds=1.0):
    env = gymnasium.make(name)
    env.reset(seed=0)
    env.action_space.seed(0)
    actions = [env.action_space.sample() for _ in range(1000)]
    start, steps = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        for action in actions[:100]:
            _, _, terminated, truncated, _ = env.step(action)
            if terminated or truncated:
                env.reset()
        steps += 100
    return steps / (time.perf_counter() - start)


def torpor_steps(bench, name):
    out = subprocess.run([bench, f"--benchmark_filter=^environment/{name}$", "--benchmark_min_time=1", "--benchmark_format=json"], check=True, capture_output=True, text=True)
    return json.loads(out.stdout)["benchmarks"][0]["items_per_second"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", default="build/bin/bench_rl")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print("| environment | Gymnasium, steps a second | torpor | ratio: min, median, max |\n|---|---|---|---|")
    for name in ("HalfCheetah-v5", "Hopper-v5", "Walker2d-v5", "Ant-v5"):
        pairs = [(python_steps(name), torpor_steps(options.bench, name)) for _ in range(options.rounds)]
        ratios = sorted(b / a for a, b in pairs)
        print(f"| {name} | {statistics.median(a for a, _ in pairs):,.0f} | {statistics.median(b for _, b in pairs):,.0f} | {ratios[0]:.2f}, {statistics.median(ratios):.2f}, {ratios[-1]:.2f} |", flush=True)


if __name__ == "__main__":
    main()
