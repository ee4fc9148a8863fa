#!/usr/bin/env python3
"""How soon torpor answers: `--version`, and `inspect` on a model of 4 GB (a sparse file with a real header).

    bench/apps/startup.py build/bin/torpor [RUNS]

Prints milliseconds (from fork to exit, read without polling) and the peak of memory, beside the same for /bin/true in turn.
The kernel counts the peak from before the program replaces this one, so no peak is less than Python's own: that of /bin/true.
"""
import json
import os
import struct
import sys
import tempfile
import time

D, FF, VOCAB, LAYERS = 2048, 8192, 64000, 17  # 5.1 GB of f32


def make_model(folder):
    header, at = {}, 0

    def add(name, *shape):
        nonlocal at
        size = 4
        for n in shape:
            size *= n
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + size]}
        at += size

    add("model.embed_tokens.weight", VOCAB, D)
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}."
        for part in "qkvo":
            add(prefix + f"self_attn.{part}_proj.weight", D, D)
        for name, shape in (("gate", (FF, D)), ("up", (FF, D)), ("down", (D, FF))):
            add(prefix + f"mlp.{name}_proj.weight", *shape)
        add(prefix + "input_layernorm.weight", D)
        add(prefix + "post_attention_layernorm.weight", D)
    add("model.norm.weight", D)
    text = json.dumps(header).encode()
    with open(os.path.join(folder, "model.safetensors"), "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        out.truncate(8 + len(text) + at)
    config = {"model_type": "llama", "hidden_size": D, "intermediate_size": FF, "num_hidden_layers": LAYERS,
              "num_attention_heads": 16, "vocab_size": VOCAB, "max_position_embeddings": 4096, "hidden_act": "silu",
              "tie_word_embeddings": True}
    with open(os.path.join(folder, "config.json"), "w") as out:
        json.dump(config, out)
    return at


def run(words):
    """Seconds and peak kilobytes of one run."""
    quiet = [(os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0)]
    start = time.perf_counter()
    child = os.posix_spawn(words[0], words, os.environ, file_actions=quiet)
    _, status, usage = os.wait4(child, 0)
    seconds = time.perf_counter() - start
    if status != 0:
        sys.exit(f"startup: {' '.join(words)} failed with status {status}")
    return seconds, usage.ru_maxrss


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit("usage: bench/apps/startup.py build/bin/torpor [RUNS]")
    program, runs = sys.argv[1], int(sys.argv[2]) if len(sys.argv) == 3 else 50
    with tempfile.TemporaryDirectory() as folder:
        size = make_model(folder)
        commands = {
            "/bin/true": ["/bin/true"],
            "torpor --version": [program, "--version"],
            f"torpor inspect, {size / 1e9:.1f} GB": [program, "inspect", folder],
        }
        found = {name: [] for name in commands}
        for _ in range(runs):  # in turn, so that what else the machine does hits all alike
            for name, words in commands.items():
                found[name].append(run(words))
    print(f"{runs} runs of each, in turn")
    print(f"{'':24}{'min ms':>8}{'median':>8}{'max':>8}{'peak MB':>9}")
    for name, results in found.items():
        ms = sorted(1000 * seconds for seconds, _ in results)
        peak = max(kilobytes for _, kilobytes in results) / 1000
        print(f"{name:24}{ms[0]:8.2f}{ms[len(ms) // 2]:8.2f}{ms[-1]:8.2f}{peak:9.1f}")


if __name__ == "__main__":
    main()
