#!/usr/bin/env python3
"""Makes docs/results/decode-llama-cpp.{json,md}: decode of this engine beside llama.cpp's, same weights, in turn.

    pip install gguf numpy
    bench/build_llama_cpp FOLDER                                  # once; prints where llama-bench is
    bench/decode/compare.py build/bin/torpor LLAMA_BENCH docs/results [--rounds 5] [--tokens 16] [--formats bf16 q8_0 q4_0]
        [--only dense gemma2-2b-spark gemma3n-e2b]            # the others stay as they were in the JSON

Models of random weights (bench/make_model.py): ungated ReLU² of the size that llama.cpp calls nemotron (2304, 9216, 24 layers,
1.5 billion weights) and SwiGLU (2048, 5632, 22 layers, 1.1 billion). Both programs start from an empty context. In each round each
program runs once; which goes first changes from round to round. A ratio is of the two runs of one round; above 1 this engine is
faster. The share of the read bandwidth is of the median round and the bandwidth that `torpor bench` measured beside it.
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from in_turn import in_turn, llama_bench, machine, output, spread, three  # noqa: E402

SHAPES = {"ReLU², 24 x 2304": ["--architecture", "nemotron", "--d", "2304", "--ff", "9216", "--layers", "24", "--heads", "18", "--kv-heads", "18"],
          "SwiGLU, 22 x 2048": ["--d", "2048", "--ff", "5632", "--layers", "22", "--heads", "32", "--kv-heads", "4"]}
# Models that skip, whose weights torpor bench writes for llama.cpp, or those of a dense model in their place.
SKIPPING = {"gemma2-2b-spark": ["## A Spark model against a dense one of the same size", "",
                                "`torpor bench --shape gemma2-2b-spark --against llama-bench`: Gemma-2-2B's sizes, 256 positions in the cache, 8 % of the",
                                "neurons active; llama.cpp decodes a dense gemma2 with as many weights."],
            "gemma3n-e2b": ["## Gemma 3n", "",
                            "`torpor bench --shape gemma3n-e2b --against llama-bench`: the same weights of E2B's sizes, 256 positions in the cache; 10 of 30",
                            "layers have 5 % of their neurons active, which llama.cpp computes in full."]}


def ours(program, model, tokens, threads):
    """A side of `torpor bench` that computes all neurons."""
    command = [program, "bench", model, "--dense", "--context", 1, "--tokens", tokens, "--threads", threads, "--rounds", 1, "--json"]
    return json.loads(output(command))["dense"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("torpor")
    parser.add_argument("llama_bench")
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--formats", nargs="+", default=["bf16", "q8_0", "q4_0"])
    parser.add_argument("--only", nargs="+", choices=["dense", *SKIPPING], default=["dense", *SKIPPING])
    a = parser.parse_args()

    before = a.out / "decode-llama-cpp.json"
    before = json.loads(before.read_text()) if before.exists() else {"rows": [], "skipping": []}
    rows = [] if "dense" in a.only else before["rows"]
    with tempfile.TemporaryDirectory() as folder:
        for shape, options in SHAPES.items() if "dense" in a.only else []:
            for number_format in a.formats:
                model = pathlib.Path(folder) / "model.gguf"
                subprocess.run([sys.executable, HERE.parent / "make_model.py", model, number_format, *options], check=True)
                for threads in (1, 2):
                    sides, theirs = in_turn(a.rounds, lambda: ours(a.torpor, model, a.tokens, threads),
                                            lambda: llama_bench(a.llama_bench, model, threads, tokens=a.tokens))
                    mine = [side["tokens_per_second"]["median"] for side in sides]
                    bandwidth = statistics.median(s["read_bandwidth_gb_per_s"]["median"] for s in sides)
                    gigabytes = sides[0]["bytes_per_token"] * 1e-9
                    rows.append({"model": shape, "format": number_format, "threads": threads, "torpor": spread(mine),
                                 "llama.cpp": spread(theirs), "ratio": spread([m / t for m, t in zip(mine, theirs)]),
                                 "bytes_per_token": sides[0]["bytes_per_token"], "read_bandwidth_gb_per_s": bandwidth,
                                 "torpor_share_of_bandwidth": statistics.median(mine) * gigabytes / bandwidth,
                                 "llama.cpp_share_of_bandwidth": statistics.median(theirs) * gigabytes / bandwidth})
                    print(f"{shape:18} {number_format:5} {threads} threads: {rows[-1]['ratio']['median']:.2f}x", flush=True)
                model.unlink()

    skipping = [row for row in before["skipping"] if row["shape"] not in a.only]
    for shape in SKIPPING:
        for weights in ("bf16", "q8") if shape in a.only else []:
            for threads in (2, 1):
                command = ["bench", "--shape", shape, "--type", weights, "--threads", threads, "--rounds", a.rounds, "--tokens", a.tokens,
                           "--batches", "none", "--against", a.llama_bench, "--json"]
                bench = json.loads(output([a.torpor, *command]))
                skipping.append({"shape": shape, "format": weights, "threads": threads, "own": bench["speedup"],
                                 "own_share_of_byte_limit": bench["share_of_byte_limit"],
                                 "torpor": bench["sparse"]["tokens_per_second"], **bench["against"]})
                print(f"{shape} {weights} {threads} threads: {bench['against']['sparse_ratio']['median']:.2f}x", flush=True)

    result = {"skipping": skipping, "tokens": a.tokens, "rounds": a.rounds, "machine": machine(), "rows": rows}
    a.out.mkdir(parents=True, exist_ok=True)
    (a.out / "decode-llama-cpp.json").write_text(json.dumps(result, indent=1) + "\n")
    m = result["machine"]
    lines = ["# Decode beside llama.cpp", "",
             f"Tokens a second, {a.tokens} tokens from an empty context; min, median, max of {a.rounds} rounds, both programs in turn, same files.",
             "Made by `bench/decode/compare.py` (its head says how); llama.cpp from the PyPI sdist of llama-cpp-python, built for this",
             f"machine by `bench/build_llama_cpp`. Processor: {m['processor']}; {', '.join(m['instructions'])}.", "",
             "| model (layers x width) | format | threads | Torpor | llama.cpp | ratio: min, median, max | share of read bandwidth: Torpor, llama.cpp |",
             "|---|---|---|---|---|---|---|"]
    for row in rows:
        lines.append(f"| {row['model']} | {row['format']} | {row['threads']} | {three(row['torpor'])} | {three(row['llama.cpp'])} | "
                     f"{three(row['ratio'])} | {row['torpor_share_of_bandwidth']:.0%}, {row['llama.cpp_share_of_bandwidth']:.0%} |")
    for shape, head in SKIPPING.items():
        lines += ["", *head, "Ratios of the same rounds, sampling left out on both sides.", "",
                  "| weights | threads | Torpor skipping | llama.cpp | ratio: min, median, max | Torpor computing all, against llama.cpp | "
                  "skipping against computing all |", "|---|---|---|---|---|---|---|"]
        lines += [f"| {row['format']} | {row['threads']} | {three(row['torpor'])} | {three(row['tokens_per_second'])} | "
                  f"{three(row['sparse_ratio'])} | {three(row['dense_ratio'])} | {three(row['own'])} |"
                  for row in skipping if row["shape"] == shape]
    (a.out / "decode-llama-cpp.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
