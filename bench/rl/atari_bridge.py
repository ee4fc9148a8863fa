#!/usr/bin/env python3
"""Steps a second of gym:ALE/Breakout-v5 in torpor, which come over from a Python process, beside ale-py's own loop in Python: four frames a step, two grey pictures.

    TORPOR_PYTHON=/tmp/venv/bin/python /tmp/venv/bin/python bench/rl/atari_bridge.py [--bench build/bin/bench_rl] [--rounds 3]
"""
import argparse
import json
import os
import random
import subprocess
import time

import ale_py
import numpy


def own_loop(seconds=4.0):
    """What a person would write: frames, the brighter of the last two, and no smaller pictures."""
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    ale = ale_py.ALEInterface()
    ale.setFloat("repeat_action_probability", 0.25)
    ale.setInt("random_seed", 1)
    ale.loadROM(ale_py.roms.get_rom_path("breakout"))
    actions = ale.getMinimalActionSet()
    draw = random.Random(1)
    steps, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        action = actions[draw.randrange(len(actions))]
        shown = []
        for frame in range(4):
            ale.act(action)
            if frame >= 2:
                shown.append(ale.getScreenGrayscale())
            if ale.game_over():
                break
        if len(shown) == 2:
            numpy.maximum(shown[0], shown[1])
        if ale.game_over():
            ale.reset_game()
        steps += 1
    return steps / (time.perf_counter() - start)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", default="build/bin/bench_rl")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    ratios = []
    for _ in range(options.rounds):
        theirs = own_loop()
        done = subprocess.run([options.bench, "--benchmark_filter=environment/other", "--benchmark_format=json"], capture_output=True, text=True, check=True,
                              env={**os.environ, "TORPOR_BENCH_ENV": "gym:ALE/Breakout-v5"})
        ours = json.loads(done.stdout)["benchmarks"][0]["items_per_second"]
        ratios.append(theirs / ours)
        print(f"ale-py {theirs:7.0f}   torpor {ours:7.0f} steps a second   time {ratios[-1]:.2f}x", flush=True)
    ratios.sort()
    print(f"time min {ratios[0]:.2f} median {ratios[len(ratios) // 2]:.2f} max {ratios[-1]:.2f}")


if __name__ == "__main__":
    main()
