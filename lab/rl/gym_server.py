"""Serves one Gymnasium environment to torpor rl: gym_server.py ID SEED STICKY

Lines of JSON tell what the environment is like and where the shared memory lies; then a byte on standard input asks for a reset (r) or for a step (s), and a byte on
standard output says that it is done (k), or that it failed (e), with a line that says why. Numbers go through the memory: 8 of f64 (reward, terminated, truncated),
64 of f64 for the action, then the observation. Atari's games are stepped four frames at a time, of which the last two are shown: two grey pictures.
"""
import json
import mmap
import os
import select
import sys
import time

HEAD = 8 * (8 + 64)
FRAMES = 4  # of Atari's a step


def main():
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # what others print is not for the other side
    name, seed, sticky = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])

    def say(message):
        answers.write((json.dumps(message) + "\n").encode())

    try:
        import gymnasium
        import numpy

        atari = name.startswith("ALE/")
        if atari:
            import ale_py

            gymnasium.register_envs(ale_py)
            env = gymnasium.make(name, frameskip=1, repeat_action_probability=sticky, obs_type="grayscale", max_episode_steps=None).unwrapped
        else:
            env = gymnasium.make(name)
        actions, seen = env.action_space, env.observation_space
        what = {"name": name, "actions": 0, "values": 0, "atari": atari}
        if isinstance(actions, gymnasium.spaces.Discrete):
            what["actions"] = int(actions.n)
        elif isinstance(actions, gymnasium.spaces.Box) and len(actions.shape) == 1 and actions.shape[0] <= 64 and actions.is_bounded():
            what["values"] = int(actions.shape[0])
        else:
            raise ValueError(f"its actions are {actions}; expected Discrete, or a bounded Box of one dimension and at most 64 numbers")
        if isinstance(seen, gymnasium.spaces.Discrete):
            what["shape"], what["bytes"] = [int(seen.n)], False
        elif isinstance(seen, gymnasium.spaces.Box) and len(seen.shape) in (1, 2, 3):
            what["bytes"] = seen.dtype == numpy.uint8 and len(seen.shape) > 1
            what["shape"] = [2, *seen.shape] if atari else [int(x) for x in seen.shape]
        else:
            raise ValueError(f"its observations are {seen}; expected Discrete or a Box of at most three dimensions")
        limit = None if atari else getattr(env.spec, "max_episode_steps", None)
        what["most_steps"] = int(limit or 0)
    except Exception as error:  # whatever it is, the other side is to hear of it
        say({"error": f"{type(error).__name__}: {error}"})
        return 1
    say(what)
    path = b""
    while not path.endswith(b"\n"):  # byte by byte: commands follow
        byte = os.read(0, 1)
        if not byte:
            return 0
        path += byte
    path = path.decode().strip()
    with open(path, "r+b") as file:
        memory = mmap.mmap(file.fileno(), 0)
    numbers = numpy.frombuffer(memory, dtype=numpy.float64, count=8)
    wanted = numpy.frombuffer(memory, dtype=numpy.float64, count=64, offset=64)
    count = int(numpy.prod(what["shape"]))
    shown = numpy.frombuffer(memory, dtype=numpy.uint8 if what["bytes"] else numpy.float32, count=count, offset=HEAD)

    def show(observation):
        if isinstance(seen, gymnasium.spaces.Discrete):
            shown[:] = 0
            shown[int(observation) - int(seen.start)] = 1
        else:
            shown[:] = numpy.asarray(observation).reshape(-1)

    def act():
        if what["actions"]:
            return int(wanted[0]) + int(actions.start)
        part = (wanted[: what["values"]] + 1) / 2  # from -1 to 1
        return (actions.low + part * (actions.high - actions.low)).astype(actions.dtype)

    if atari:  # by the emulator itself: Gymnasium would fetch every frame
        ale, meanings = env.ale, list(env.ale.getMinimalActionSet())
        pictures = shown.reshape(what["shape"])
    first = True
    spins = (os.cpu_count() or 1) > 1
    asked = select.poll()
    asked.register(0, select.POLLIN)
    while True:
        # To be woken takes as long as some frames: the next command often comes sooner than that.
        until = time.perf_counter() + 0.0005
        while spins and not asked.poll(0) and time.perf_counter() < until:
            pass
        command = os.read(0, 1)
        if command in (b"", b"q"):
            return 0
        try:
            if command == b"r":
                observation, _ = env.reset(seed=seed if first else None)
                first = False
                show(numpy.stack([observation, observation]) if atari else observation)
                numbers[:3] = 0
            elif atari:
                action, reward, over = meanings[int(wanted[0])], 0.0, False
                for frame in range(FRAMES):
                    reward += ale.act(action)
                    over = ale.game_over()
                    if frame >= FRAMES - 2 or over:
                        pictures[0][:] = pictures[1]
                        ale.getScreenGrayscale(pictures[1])
                    if over:
                        break
                numbers[0], numbers[1], numbers[2] = reward, over, 0
            else:
                observation, reward, over, cut, _ = env.step(act())
                show(observation)
                numbers[0], numbers[1], numbers[2] = float(reward), over, cut
            answers.write(b"k")
        except Exception as error:
            answers.write(b"e")
            say({"error": f"{type(error).__name__}: {error}"})
            return 1


if __name__ == "__main__":
    sys.exit(main())
