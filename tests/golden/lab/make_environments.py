#!/usr/bin/env python3
"""Makes environments.json: what gymnasium's and minatar's environments do for given starts and actions.

    pip install "gymnasium==1.4.0" minatar
    tests/golden/lab/make_environments.py
"""
import json
import pathlib
import random

import gymnasium
import numpy
from minatar import Environment

HERE = pathlib.Path(__file__).resolve().parent


def classic(name, episodes, choose):
    env = gymnasium.make(name)
    result = []
    for episode in range(episodes):
        observation, _ = env.reset(seed=episode)
        draw = random.Random(episode)
        trace = {"start": [float(x) for x in env.unwrapped.state], "first": observation.tolist(), "actions": [], "observations": [],
                 "rewards": [], "ends": []}
        while True:
            action = choose(draw, observation, episode)
            observation, reward, terminated, truncated, _ = env.step(action if not isinstance(action, float) else numpy.array([action], dtype=numpy.float32))
            trace["actions"].append(action)
            trace["rewards"].append(float(reward))
            trace["ends"].append("terminated" if terminated else "truncated" if truncated else "")
            trace["observations"].append([float(x) for x in observation])
            if terminated or truncated:
                break
        steps = len(trace["actions"])
        kept = sorted({0, 1, 2, steps // 2, steps - 2, steps - 1} & set(range(steps)))  # else megabytes
        trace["observations"] = {str(t): trace["observations"][t] for t in kept}
        result.append(trace)
    return result


def breakout(episodes):
    result = []
    for episode in range(episodes):
        env = Environment("breakout", sticky_action_prob=0.0, difficulty_ramping=False)
        env.seed(episode)
        env.reset()
        draw = random.Random(100 + episode)
        game = env.env
        trace = {"ball_left": int(game.ball_x == 0), "actions": [], "cells": [[int(x) for x in numpy.flatnonzero(env.state().transpose(2, 0, 1))]],
                 "rewards": [], "ends": []}
        actions = {0: 0, 1: 1, 3: 2}  # nothing, left, right of minatar's six
        for _ in range(600):
            # Mostly behind the ball, so that episodes last and bricks run out.
            follow = 1 if game.ball_x < game.pos else 3 if game.ball_x > game.pos else 0
            action = follow if draw.random() < (0.97 if episode < 4 else 0.5) else draw.choice([0, 1, 3])
            reward, terminal = env.act(action)
            trace["actions"].append(actions[action])
            trace["rewards"].append(int(reward))
            trace["ends"].append(int(terminal))
            trace["cells"].append([int(x) for x in numpy.flatnonzero(env.state().transpose(2, 0, 1))])
            if terminal:
                break
        steps = len(trace["actions"])
        kept = sorted(set(range(0, steps + 1, max(1, steps // 12))) | {steps})
        trace["cells"] = {str(t): trace["cells"][t] for t in kept}
        result.append(trace)
    return result


def main():
    balance = lambda draw, o, e: int(o[2] + o[3] > 0) if e < 2 and draw.random() < 0.95 else draw.randrange(2)
    swing = lambda draw, o, e: (2 if o[1] >= 0 else 0) if e < 2 else draw.randrange(3)
    pump = lambda draw, o, e: (2 if o[4] >= 0 else 0) if e < 2 else draw.randrange(3)
    golden = {"cartpole": classic("CartPole-v1", 4, balance), "mountain-car": classic("MountainCar-v0", 3, swing),
              "acrobot": classic("Acrobot-v1", 3, pump),
              "pendulum": classic("Pendulum-v1", 2, lambda draw, o, e: draw.uniform(-2.5, 2.5)), "breakout-mini": breakout(8)}
    (HERE / "environments.json").write_text(json.dumps(golden, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
