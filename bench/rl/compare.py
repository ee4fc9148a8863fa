#!/usr/bin/env python3
"""torpor rl beside the same agent written with PyTorch in one file, as people write them: environment steps a second.

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install numpy torch gymnasium minatar
    /tmp/venv/bin/python bench/rl/compare.py [--rounds 3] [--steps 20000] [--threads 1] [--lab build/bin/torpor-lab] [--write docs/results/rl-speed]

DQN on Breakout by MinAtar's rules: conv16, dense 128, batch 32, an update every 4 steps, as `torpor rl --env breakout-mini`. The two run in turn; what the
PyTorch program prints as its time is that of the loop alone, and so is ours.
"""
import argparse
import json
import pathlib
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent


def pytorch(steps, threads):
    """One loop: act, step, store, learn. The usual parts of the field's single-file programs."""
    import numpy
    import torch
    from minatar import Environment

    torch.set_num_threads(threads)
    torch.manual_seed(1)
    numpy.random.seed(1)
    random.seed(1)
    env = Environment("breakout", sticky_action_prob=0.0, difficulty_ramping=False)
    env.seed(1)
    actions = env.minimal_action_set()

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = torch.nn.Sequential(torch.nn.Conv2d(4, 16, 3), torch.nn.ReLU(), torch.nn.Flatten(),
                                              torch.nn.Linear(1024, 128), torch.nn.ReLU(), torch.nn.Linear(128, len(actions)))

        def forward(self, x):
            return self.layers(x)

    network, target = Network(), Network()
    target.load_state_dict(network.state_dict())
    optimizer = torch.optim.Adam(network.parameters(), lr=2.5e-4)
    capacity = 100_000
    seen = numpy.zeros((capacity, 4, 10, 10), dtype=numpy.uint8)
    following = numpy.zeros((capacity, 4, 10, 10), dtype=numpy.uint8)
    chosen = numpy.zeros(capacity, dtype=numpy.int64)
    rewards = numpy.zeros(capacity, dtype=numpy.float32)
    done = numpy.zeros(capacity, dtype=numpy.float32)
    look = lambda: env.state().transpose(2, 0, 1).astype(numpy.uint8)
    env.reset()
    state = look()
    start = None
    for step in range(steps + 1000):
        if step == 1000:  # from the first update on
            start = time.perf_counter()
        epsilon = max(0.05, 1 - 0.95 * max(0, step - 1000) / 25_000)
        if random.random() < epsilon:
            action = random.randrange(len(actions))
        else:
            with torch.no_grad():
                action = int(network(torch.as_tensor(state[None], dtype=torch.float32)).argmax(1).item())
        reward, terminal = env.act(actions[action])
        if terminal:
            last = look()
            env.reset()
            now = look()
        else:
            last = now = look()
        at = step % capacity
        seen[at], following[at], chosen[at], rewards[at], done[at] = state, last, action, reward, terminal
        state = now
        if step >= 1000 and step % 4 == 0:
            batch = numpy.random.randint(0, min(step, capacity), 32)
            with torch.no_grad():
                best = target(torch.as_tensor(following[batch], dtype=torch.float32)).max(1).values
                wanted = torch.as_tensor(rewards[batch]) + 0.99 * best * (1 - torch.as_tensor(done[batch]))
            value = network(torch.as_tensor(seen[batch], dtype=torch.float32)).gather(1, torch.as_tensor(chosen[batch])[:, None]).squeeze(1)
            loss = torch.nn.functional.smooth_l1_loss(value, wanted)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if step % 1000 == 0:
            target.load_state_dict(network.state_dict())
    print(json.dumps({"steps_per_second": steps / (time.perf_counter() - start)}))


def ours(lab, steps, threads):
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run([lab, "rl", "--env", "breakout-mini", "--steps", str(steps + 1000), "--threads", str(threads), "--film", "0",
                               "--checkpoint-every", "1000000", "-o", folder, "--json"], capture_output=True, text=True, check=True)
        run = json.loads(done.stdout)["runs"][0]
        return (steps + 1000) / run["seconds"]  # the steps before the first update are in it: a thousand environment steps, a millisecond


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--lab", default="build/bin/torpor-lab")
    parser.add_argument("--write", type=pathlib.Path)
    parser.add_argument("--pytorch", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.pytorch:
        pytorch(options.steps, options.threads)
        return
    theirs, mine = [], []
    for _ in range(options.rounds):
        done = subprocess.run([sys.executable, __file__, "--pytorch", "--steps", str(options.steps), "--threads", str(options.threads)], capture_output=True,
                              text=True, check=True)
        theirs.append(json.loads(done.stdout.splitlines()[-1])["steps_per_second"])
        mine.append(ours(options.lab, options.steps, options.threads))
        print(f"PyTorch {theirs[-1]:7.0f}   torpor {mine[-1]:7.0f}   ratio {mine[-1] / theirs[-1]:.2f}", flush=True)
    ratios = sorted(a / b for a, b in zip(mine, theirs))
    summary = {"threads": options.threads, "rounds": options.rounds, "steps": options.steps, "pytorch_steps_per_second": theirs, "torpor_steps_per_second": mine,
               "ratio": {"min": ratios[0], "median": statistics.median(ratios), "max": ratios[-1]}, "processor": platform.processor() or platform.machine()}
    print(f"ratio min {ratios[0]:.2f} median {statistics.median(ratios):.2f} max {ratios[-1]:.2f}")
    if options.write:
        options.write.with_suffix(".json").write_text(json.dumps(summary, indent=2) + "\n")


if __name__ == "__main__":
    main()
