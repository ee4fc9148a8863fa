#!/usr/bin/env python3
"""Makes environments.json: what gymnasium's and minatar's environments do for given starts and actions.

    pip install "gymnasium==1.4.0" minatar
    tests/golden/lab/make_environments.py
"""
import copy
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


class Draws:
    """numpy's random draws, noted down: numbers as they are, whole ones from 0 on."""

    def __init__(self, seed):
        self.random = numpy.random.RandomState(seed)
        self.noted = []

    def note(self, drawn, low=0):
        self.noted += [round(float(x) - low, 6) for x in numpy.atleast_1d(drawn)]
        return drawn

    def rand(self, *shape):
        return self.note(self.random.rand(*shape))

    def randint(self, low, high=None, size=None):
        return self.note(self.random.randint(low, high, size), 0 if high is None else low)


def survives(game, letters, depth):
    """Whether some actions, the first of them letters[0], keep the game going so long."""
    for letter in letters[:1] if depth == DEPTH else letters:
        ahead = copy.deepcopy(game)
        if not ahead.act(ahead.action_map.index(letter))[1] and (depth == 1 or survives(ahead, letters, depth - 1)):
            return True
    return False


DEPTH = 4


def game(name, episodes, steps, clever):
    """clever(game, draw) names an action by its letter, or None for any."""
    result = []
    for episode in range(episodes):
        env = Environment(name, sticky_action_prob=0.0, difficulty_ramping=True)
        draws = Draws(episode)
        env.env.random = draws
        env.reset()
        draw = random.Random(200 + episode)
        minimal = env.minimal_action_set()
        trace = {"actions": [], "cells": [[int(x) for x in numpy.flatnonzero(env.state().transpose(2, 0, 1))]], "rewards": [], "ends": []}
        for _ in range(steps):
            letters = [env.env.action_map[m] for m in minimal]
            draw.shuffle(letters)
            first = clever(env.env, draw)
            if first is not None and draw.random() < 0.9:
                letters.remove(first)
                letters.insert(0, first)
            if episode % 4 != 3:  # the others die young
                alive = next((x for x in letters if survives(env.env, [x] + [y for y in letters if y != x], DEPTH)), letters[0])
                letters = [alive]
            choice = minimal.index(env.env.action_map.index(letters[0]))
            reward, terminal = env.act(minimal[choice])
            trace["actions"].append(choice)
            trace["rewards"].append(int(reward))
            trace["ends"].append(int(terminal))
            trace["cells"].append([int(x) for x in numpy.flatnonzero(env.state().transpose(2, 0, 1))])
            if terminal:
                break
        count = len(trace["actions"])
        kept = sorted(set(range(0, count + 1, max(1, count // 20))) | {count})
        trace["cells"] = {str(t): trace["cells"][t] for t in kept}
        trace["draws"] = draws.noted
        result.append(trace)
        print(name, episode, count, sum(trace["rewards"]))
    return result


def asterix(game, draw):
    """Flees, and goes for gold."""
    for thing in game.entities:
        if thing is None:
            continue
        x, y, right, gold = thing
        near = abs(x - game.player_x) <= 2
        if not gold and y == game.player_y and near:
            return "u" if game.player_y > 4 else "d"
    for thing in game.entities:
        if thing is not None and thing[3]:
            if thing[1] != game.player_y:
                return "u" if thing[1] < game.player_y else "d"
            return "l" if thing[0] < game.player_x else "r"
    return "n"


def invaders(game, draw):
    if game.e_bullet_map[max(0, 9 - 3):9, game.pos].any():
        return "l" if game.pos > 5 else "r"
    return "f" if game.shot_timer == 0 and game.alien_map[:, game.pos].any() else draw.choice("lrn")


def freeway(game, draw):
    return "u"


def seaquest(game, draw):
    if game.oxygen < 40 and game.diver_count > 0:
        return "u"
    if game.sub_y == 0:
        return "d"
    for enemy in game.e_fish + game.e_subs:
        if enemy[1] == game.sub_y:
            right = enemy[0] > game.sub_x
            if right == bool(game.sub_or) and game.shot_timer == 0:
                return "f"
            return "r" if right else "l"
    for diver in game.divers:
        if diver[1] != game.sub_y:
            return "u" if diver[1] < game.sub_y and game.sub_y > 1 else "d"
        return "l" if diver[0] < game.sub_x else "r"
    return None


def main():
    balance = lambda draw, o, e: int(o[2] + o[3] > 0) if e < 2 and draw.random() < 0.95 else draw.randrange(2)
    swing = lambda draw, o, e: (2 if o[1] >= 0 else 0) if e < 2 else draw.randrange(3)
    pump = lambda draw, o, e: (2 if o[4] >= 0 else 0) if e < 2 else draw.randrange(3)
    golden = {"cartpole": classic("CartPole-v1", 4, balance), "mountain-car": classic("MountainCar-v0", 3, swing),
              "acrobot": classic("Acrobot-v1", 3, pump),
              "pendulum": classic("Pendulum-v1", 2, lambda draw, o, e: draw.uniform(-2.5, 2.5)), "breakout-mini": breakout(8),
              "asterix-mini": game("asterix", 4, 1200, asterix), "space-invaders-mini": game("space_invaders", 4, 900, invaders),
              "freeway-mini": game("freeway", 2, 2600, freeway), "seaquest-mini": game("seaquest", 6, 900, seaquest)}
    (HERE / "environments.json").write_text(json.dumps(golden, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
