"""Environments that behave, or do not: gymnasium.make("faulty_environments:Counts-v0")."""
import os
import time

import gymnasium
import numpy


class Base(gymnasium.Env):
    action_space = gymnasium.spaces.Discrete(3, start=5)
    observation_space = gymnasium.spaces.Box(-10, 1000, (2,), numpy.float32)

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        print("not for the other side")
        return numpy.array([0, self.np_random.integers(100)], numpy.float32), {}

    def step(self, action):
        self.steps += 1
        return self.look(action), self.reward(), self.steps == 5, False, {}

    def look(self, action):
        return numpy.array([self.steps, action], numpy.float32)

    def reward(self):
        return 0.5


class Dies(Base):
    def reward(self):
        os.write(2, b"out of luck\n")
        os._exit(3)


class Hangs(Base):
    def reward(self):
        time.sleep(1000)


class Raises(Base):
    def reward(self):
        raise RuntimeError("no such thing")


class Nan(Base):
    def look(self, action):
        return numpy.array([numpy.nan, 0], numpy.float32)


class NanReward(Base):
    def reward(self):
        return float("nan")


class Moves(Base):
    action_space = gymnasium.spaces.Box(numpy.array([0, -4], numpy.float32), numpy.array([10, 4], numpy.float32))

    def look(self, action):
        return action


class Shows(Base):
    observation_space = gymnasium.spaces.Box(0, 255, (3, 4, 2), numpy.uint8)

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return numpy.arange(24, dtype=numpy.uint8).reshape(3, 4, 2), {}


class Odd(Base):
    action_space = gymnasium.spaces.MultiBinary(3)


for name, kind in list(globals().items()):
    if isinstance(kind, type) and issubclass(kind, Base):
        gymnasium.register(("Counts" if kind is Base else name) + "-v0", kind, disable_env_checker=True, order_enforce=False)
