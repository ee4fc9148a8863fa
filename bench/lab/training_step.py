#!/usr/bin/env python3
"""Makes docs/results/training-step.{json,md}: a training step of `torpor train` beside the same step in eager PyTorch, and two
processes of one thread beside one process of two.

    pip install torch==2.11.0 tensorboard
    bench/lab/training_step.py build/bin/torpor-lab TEXT docs/results [--rounds 5] [--steps 15]

The PyTorch script is the plain one that a user would write: the same network (checked: as many parameters, and the same loss from the
same weights and tokens), scaled_dot_product_attention, fused AdamW, autocast to bf16. In each round every program runs once for some
steps; which goes first changes from round to round. A step's time is the median of a run's steps without the first three; ratios are of
the two runs of a round, above 1 torpor's step is slower.
"""
import argparse
import json
import math
import os
import pathlib
import socket
import statistics
import subprocess
import sys
import tempfile

WARM_UP = 3
HELD_OUT = 8  # windows to compare losses on
PRESETS = ("relu2-5m", "swiglu-5m")


def eager(folder, text, steps, batch):
    """The same training in PyTorch, from the weights and over the windows of a checkpoint folder; prints losses and step times."""
    import time

    import torch
    import torch.nn.functional as F
    from safetensors.torch import load_file

    config = json.loads((pathlib.Path(folder) / "config.json").read_text())
    state = load_file(pathlib.Path(folder) / "model.safetensors")
    d, heads, kv, width = (config[k] for k in ("hidden_size", "num_attention_heads", "num_key_value_heads", "head_dim"))
    context, eps = config["max_position_embeddings"], config["rms_norm_eps"]
    gated = "model.layers.0.mlp.gate_proj.weight" in state

    class Block(torch.nn.Module):
        def __init__(self):
            super().__init__()
            linear = lambda a, b: torch.nn.Linear(a, b, bias=False)
            self.input_layernorm, self.post_attention_layernorm = torch.nn.RMSNorm(d, eps), torch.nn.RMSNorm(d, eps)
            self.self_attn = torch.nn.ModuleDict(dict(q_proj=linear(d, heads * width), k_proj=linear(d, kv * width),
                                                      v_proj=linear(d, kv * width), o_proj=linear(heads * width, d)))
            self.mlp = torch.nn.ModuleDict(dict(up_proj=linear(d, config["intermediate_size"]),
                                                down_proj=linear(config["intermediate_size"], d)))
            if gated:
                self.mlp["gate_proj"] = linear(d, config["intermediate_size"])

        def forward(self, x, cos, sin):
            b, t, _ = x.shape
            y = self.input_layernorm(x)
            q, k, v = (self.self_attn[n + "_proj"](y).view(b, t, h, width).transpose(1, 2) for n, h in (("q", heads), ("k", kv), ("v", kv)))
            turn = lambda z: z * cos + torch.cat((-z[..., width // 2:], z[..., :width // 2]), -1) * sin
            y = F.scaled_dot_product_attention(turn(q), turn(k), v, is_causal=True, enable_gqa=heads != kv)
            x = x + self.self_attn["o_proj"](y.transpose(1, 2).reshape(b, t, heads * width))
            y = self.post_attention_layernorm(x)
            y = F.silu(self.mlp["gate_proj"](y)) * self.mlp["up_proj"](y) if gated else F.relu(self.mlp["up_proj"](y)).square()
            return x + self.mlp["down_proj"](y)

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.embed_tokens = torch.nn.Embedding(config["vocab_size"], d)
            self.layers = torch.nn.ModuleList([Block() for _ in range(config["num_hidden_layers"])])
            self.norm = torch.nn.RMSNorm(d, eps)
            angle = torch.outer(torch.arange(context).float(), config["rope_theta"] ** (-torch.arange(0, width, 2).float() / width))
            self.register_buffer("cos", torch.cat((angle, angle), -1).cos(), persistent=False)
            self.register_buffer("sin", torch.cat((angle, angle), -1).sin(), persistent=False)

        def forward(self, tokens):
            x = self.embed_tokens(tokens)
            for layer in self.layers:
                x = layer(x, self.cos, self.sin)
            return F.linear(self.norm(x), self.embed_tokens.weight)

    model = Model()
    model.load_state_dict({k.removeprefix("model."): v.float() for k, v in state.items()})
    data = torch.frombuffer(bytearray(pathlib.Path(text).read_bytes()), dtype=torch.uint8)
    windows = (len(data) - 1) // context
    rows_at = lambda indices: torch.stack([data[i * context: (i + 1) * context + 1] for i in indices]).long()
    with torch.no_grad():
        rows = rows_at([i * windows // HELD_OUT for i in range(HELD_OUT)])
        bits = F.cross_entropy(model(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten()).item() / math.log(2)
    matrices = [p for p in model.parameters() if p.dim() == 2]
    others = [p for p in model.parameters() if p.dim() != 2]
    optimizer = torch.optim.AdamW([dict(params=matrices, weight_decay=0.1), dict(params=others, weight_decay=0.0)], lr=2e-3, betas=(0.9, 0.95),
                                  fused=True)
    generator = torch.Generator().manual_seed(1)
    losses, seconds = [], []
    for step in range(steps):
        start = time.perf_counter()
        rows = rows_at(torch.randint(0, windows, (batch,), generator=generator).tolist())
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(rows[:, :-1])
        loss = F.cross_entropy(logits.float().flatten(0, 1), rows[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        seconds.append(time.perf_counter() - start)
    print(json.dumps({"seconds": seconds, "losses": losses, "bits_per_byte": bits, "parameters": sum(p.numel() for p in model.parameters())}))


def step_times(folder):
    """From the wall times of the TensorBoard events."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    times = [event.wall_time for event in events.Scalars("train/loss_nats_per_token")]
    return [b - a for a, b in zip(times, times[1:])]


def environment(threads, **more):
    return {**os.environ, "OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "passive", **more}


def torpor(lab, preset, text, steps, processes, threads, folder):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [lab, "train", "--preset", preset, "--text", text, "--steps", str(steps), "--precision", "bf16", "--checkpoint-every", "0",
               "--held-out", text, "--held-out-windows", str(HELD_OUT), "--evaluate-every", "0", "-q", "-o", str(folder)]
    running = []
    for rank in range(processes):
        more = {} if processes == 1 else dict(WORLD_SIZE=str(processes), RANK=str(rank), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
        running.append(subprocess.Popen(command, env=environment(threads, **more), stdout=subprocess.DEVNULL))
    if any([process.wait() for process in running]):
        sys.exit(f"{' '.join(command)} failed")
    return statistics.median(step_times(folder)[WARM_UP:])


def spread(values):
    return f"{statistics.median(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("lab")
    arguments.add_argument("text", help="a file of UTF-8 text, a megabyte or more")
    arguments.add_argument("results")
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--steps", type=int, default=15)
    a = arguments.parse_args()
    rows, details = [], {}
    for preset in PRESETS:
        with tempfile.TemporaryDirectory() as folder:
            start = pathlib.Path(folder) / "start"
            torpor(a.lab, preset, a.text, 2 * WARM_UP, 1, 2, start)
            start_result = json.loads((start / "train.json").read_text())
            times = {"torpor": [], "PyTorch": [], "2 processes": []}

            def measure(kind, name):
                if kind == "PyTorch":
                    done = subprocess.run([sys.executable, __file__, "--eager", start, a.text, str(a.steps), str(start_result["batch"])], env=environment(2),
                                          capture_output=True, text=True)
                    if done.returncode:
                        sys.exit(done.stderr)
                    result = json.loads(done.stdout)
                    assert result["parameters"] == start_result["parameters"], "another network"
                    assert abs(result["bits_per_byte"] / start_result["held_out_bits_per_byte"] - 1) < 1e-4, "another loss from the same weights"
                    assert all(map(math.isfinite, result["losses"])), "it does not train"
                    return statistics.median(result["seconds"][WARM_UP:])
                return torpor(a.lab, preset, a.text, a.steps, *((1, 2) if kind == "torpor" else (2, 1)), pathlib.Path(folder) / name)

            for round_ in range(a.rounds):
                kinds = list(times)
                for kind in kinds[round_ % 3:] + kinds[: round_ % 3]:
                    times[kind].append(measure(kind, f"{kind}-{round_}"))
                print(preset, round_, {kind: round(1000 * values[-1]) for kind, values in times.items()}, flush=True)
        to_torch = [x / y for x, y in zip(times["torpor"], times["PyTorch"])]
        to_one = [x / y for x, y in zip(times["torpor"], times["2 processes"])]
        rows.append(f"| {preset} | " + " | ".join(f"{1000 * statistics.median(times[kind]):.0f}" for kind in times) +
                    f" | {spread(to_torch)} | {spread(to_one)} |")
        details[preset] = {"seconds": times, "torpor_to_pytorch": to_torch, "speed_of_two_processes_to_one": to_one}
    import torch

    cpu = next(line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name"))
    page = f"""# A training step

Made by `bench/lab/training_step.py build/bin/torpor-lab TEXT docs/results --rounds {a.rounds} --steps {a.steps}` on {cpu}, {os.cpu_count()} processors,
PyTorch {torch.__version__}. Milliseconds a step (medians of {a.rounds} rounds): `torpor train` with two threads, the same network in eager PyTorch
with two threads, `torpor train` in two processes of one thread each. bf16 autocast, batch and window of the preset. Ratios are of runs of the
same round: median, least and most.

| preset | torpor | PyTorch | two processes | torpor's time / PyTorch's | speed of two processes / one |
|---|---|---|---|---|---|
""" + "\n".join(rows) + "\n"
    results = pathlib.Path(a.results)
    (results / "training-step.md").write_text(page)
    (results / "training-step.json").write_text(json.dumps({"rounds": a.rounds, "steps": a.steps, "torch": torch.__version__, "presets": details}, indent=1) + "\n")
    print(page)


if sys.argv[1:2] == ["--eager"]:
    eager(sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
else:
    main()
