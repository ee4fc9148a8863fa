#!/usr/bin/env python3
"""GPT-2 BPE encoding on one core: this project's bench_text beside the packages `tokenizers` and `tiktoken`.

  pip install numpy tokenizers tiktoken
  compare.py BENCH_TEXT GPT2_FOLDER TEXT_FOLDER [--rounds 5] [--megabytes 77] [--piece 10000] [--out docs/results]

GPT2_FOLDER has vocab.json and merges.txt. All three encode the files of TEXT_FOLDER, in pieces of about --piece bytes cut
between lines (long texts in one call slow `tokenizers` down), in turn, on one thread, round after round; ids must be equal.
Prints MB (10^6 bytes) a CPU second min, median, max of each, and how many times faster this project is. CPU seconds, since
other work on the machine disturbs them less. --out writes tokenizers.md and .json there. Text is in memory and tokenizers are loaded before the clock starts.
"""
import argparse
import importlib.metadata
import os
import pathlib
import statistics
import subprocess
import tempfile
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"
os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[-1]})  # one core for us and what we start

import json  # noqa: E402

import numpy  # noqa: E402
import tiktoken  # noqa: E402
import tokenizers  # noqa: E402

PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def load_tokenizers(folder):
    t = tokenizers.Tokenizer(tokenizers.models.BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt")))
    t.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    return lambda text: t.encode(text, add_special_tokens=False).ids


def load_tiktoken(folder):
    printable = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    characters = {chr(b): b for b in printable}
    characters.update({chr(256 + i): b for i, b in enumerate(b for b in range(256) if b not in printable)})
    vocab = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
    ranks = {bytes(characters[c] for c in token): i for token, i in vocab.items() if token != "<|endoftext|>"}
    # GPT-2's ids are its merge order; only the 256 single bytes have ids of their own, which never merge.
    return tiktoken.Encoding("gpt2-local", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={"<|endoftext|>": 50256}).encode_ordinary


def pieces(text, size):
    piece = []
    length = 0
    for line in text.splitlines(keepends=True):
        piece.append(line)
        length += len(line)
        if length >= size:
            yield "".join(piece)
            piece, length = [], 0
    if piece:
        yield "".join(piece)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bench", type=pathlib.Path)
    parser.add_argument("gpt2", type=pathlib.Path)
    parser.add_argument("texts", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--megabytes", type=float, default=1e9, help="use only the first files, up to this size")
    parser.add_argument("--piece", type=int, default=10000)
    parser.add_argument("--out", type=pathlib.Path, help="a folder for tokenizers.md and tokenizers.json")
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary) / "texts"
        folder.mkdir()
        texts = []
        total = 0
        for path in sorted(p for p in arguments.texts.rglob("*") if p.is_file()):
            data = path.read_bytes()
            if total + len(data) > arguments.megabytes * 1e6:
                break
            for text in pieces(data.decode("utf-8"), arguments.piece):
                encoded = text.encode("utf-8")
                (folder / f"{len(texts):08}").write_bytes(encoded)
                texts.append(text)
                total += len(encoded)
        print(f"{len(texts)} pieces, {total} bytes")
        rates = {"torpor": [], "tokenizers": [], "tiktoken": []}
        others = {"tokenizers": load_tokenizers(arguments.gpt2), "tiktoken": load_tiktoken(arguments.gpt2)}
        ids_file = pathlib.Path(temporary) / "ids"
        command = [arguments.bench, arguments.gpt2, folder, "1"]
        for round_number in range(arguments.rounds):
            extra = [ids_file] if round_number == 0 else []
            line = subprocess.run(command + extra, check=True, capture_output=True, text=True).stdout
            rates["torpor"].append(total / float(line.split()[2]) / 1e6)
            for name, encode in others.items():
                seconds = 0.0
                equal = True
                offset = 0
                ours = numpy.fromfile(ids_file, dtype=numpy.int32) if round_number == 0 else None
                if ours is not None:
                    tokens = len(ours)
                for text in texts:
                    start = time.process_time()
                    ids = encode(text)
                    seconds += time.process_time() - start
                    if ours is not None:
                        equal &= numpy.array_equal(ours[offset:offset + len(ids)], numpy.array(ids, dtype=numpy.int32))
                        offset += len(ids)
                rates[name].append(total / seconds / 1e6)
                if ours is not None:
                    print(f"ids equal to {name}: {'yes' if equal and offset == len(ours) else 'NO'} ({len(ours)} tokens)")
                    if not equal or offset != len(ours):
                        raise SystemExit(1)
    ratios = {name: [mine / other for mine, other in zip(rates["torpor"], values)] for name, values in rates.items()}
    for name, values in rates.items():
        print(f"{name:10}  MB/CPU s  {spread(values, 1)}   torpor is faster {spread(ratios[name], 2)} times")
    if arguments.out:
        write_results(arguments.out, total, tokens, rates, ratios)


def spread(values, digits):
    return f"min {min(values):.{digits}f}  median {statistics.median(values):.{digits}f}  max {max(values):.{digits}f}"


def write_results(folder, total, tokens, rates, ratios):
    versions = {"tokenizers": tokenizers.__version__, "tiktoken": importlib.metadata.version("tiktoken")}
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    processor = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown")
    result = {"bytes": total, "tokens": tokens, "rounds": len(rates["torpor"]), "processor": processor, "versions": versions,
              "megabytes_per_cpu_second": rates, "ratio": ratios}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizers.json").write_text(json.dumps(result, indent=1) + "\n")
    page = ["# Tokenizers: encoding speed", "",
            f"GPT-2 byte-level BPE of {total / 1e6:.0f} MB of English novels ({tokens:,} tokens) on one core, megabytes (10^6 bytes) a CPU second,",
            f"{len(rates['torpor'])} rounds in turn; the ids of all three are equal. Made by `bench/text/compare.py` (its head says how).",
            f"Processor: {processor}.", "",
            "| | MB/CPU s: min, median, max | how many times faster Torpor is: min, median, max |", "|---|---|---|"]
    for name, values in rates.items():
        def three(numbers, digits):
            return " ".join(f"{f(numbers):.{digits}f}" for f in (min, statistics.median, max))
        times = "" if name == "torpor" else three(ratios[name], 2)
        page.append(f"| {name} {versions.get(name, '')} | {three(values, 1)} | {times} |")
    (folder / "tokenizers.md").write_text("\n".join(page) + "\n")


if __name__ == "__main__":
    main()
