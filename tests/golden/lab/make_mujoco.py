#!/usr/bin/env python3
"""Makes mujoco.json: what gymnasium's MuJoCo tasks do for given draws and actions.

    pip install "gymnasium==1.4.0" "mujoco==3.3.0"
    tests/golden/lab/make_mujoco.py
"""
import json
import pathlib
import warnings

import gymnasium
import numpy

HERE = pathlib.Path(__file__).resolve().parent


class Draws:
    """In place of the task's generator; what it drew is noted down."""

    def __init__(self, seed):
        self.random = numpy.random.default_rng(seed)
        self.noted = []

    def note(self, drawn):
        self.noted += [float(x) for x in drawn]
        return drawn

    def uniform(self, low, high, size):
        return self.note(self.random.uniform(low, high, size))

    def standard_normal(self, size):
        return self.note(self.random.standard_normal(size))


def episode(name, seed, steps, strength):
    env = gymnasium.make(name)
    draws = Draws(seed)
    env.unwrapped._np_random = draws
    observation, _ = env.reset()
    random = numpy.random.default_rng(100 + seed)
    trace = {"draws": draws.noted, "actions": [], "rewards": [], "ends": [], "observations": {"0": observation.tolist()}}
    pull = numpy.zeros(env.action_space.shape)
    for t in range(1, steps + 1):
        pull = 0.7 * pull + random.normal(size=pull.shape)
        # In sixteenths, which are the same in every precision.
        action = (numpy.round(numpy.clip(strength * pull, -1, 1) * 16) / 16).astype(numpy.float32)
        observation, reward, terminated, truncated, _ = env.step(action)
        trace["actions"].append(action.tolist())
        trace["rewards"].append(float(reward))
        trace["ends"].append(int(terminated))
        if t in (1, 2, 10, steps // 2, steps) or terminated:
            trace["observations"][str(t)] = [round(x, 9) for x in observation.tolist()]
        if terminated:
            break
    return trace


def main():
    warnings.simplefilter("ignore")  # that v4 is out of date
    goldens = {}
    for task in ("HalfCheetah", "Hopper", "Walker2d", "Ant"):
        for version in ("v4", "v5"):
            name = f"{task}-{version}"
            goldens[name] = [episode(name, 0, 60, 0.2), episode(name, 1, 120, 1)]
            print(name, [(len(e["rewards"]), e["ends"][-1], round(sum(e["rewards"]), 3)) for e in goldens[name]])
    (HERE / "mujoco.json").write_text(json.dumps(goldens) + "\n")


if __name__ == "__main__":
    main()
