#!/usr/bin/env python3
"""Makes docs/results/prefill.{json,md}: prefill of this engine beside llama.cpp's, same files, tokens and threads, in turn.

    pip install gguf numpy
    bench/build_llama_cpp FOLDER                       # once; prints where llama-bench is
    bench/prefill/compare.py build/bin/bench_prefill LLAMA_BENCH docs/results [--rounds 9] [--tokens 512]

Models of random weights, in f32, bf16, q8_0 and q4_0: 12 layers of width 768, and 4 layers of width 2048 (bench/make_model.py). In each round
each program runs once with a pass before its clock starts; which goes first changes from round to round. A ratio is of the
two runs of one round; above 1 this engine is faster.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from in_turn import in_turn, llama_bench, machine, output, spread, three  # noqa: E402

SHAPES = {"12 x 768": [], "4 x 2048": ["--d", "2048", "--ff", "5632", "--layers", "4", "--heads", "32", "--kv-heads", "4"]}


def ours(program, model, tokens, threads, exact=False):
    return float(output([program, model, "--tokens", tokens, "--threads", threads, "--rounds", 1, "--exact", int(exact)]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bench_prefill")
    parser.add_argument("llama_bench")
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--tokens", type=int, default=512)
    a = parser.parse_args()

    rows = []
    with tempfile.TemporaryDirectory() as name:
        for shape, options in SHAPES.items():
            for number_format in ("f32", "bf16", "q8_0", "q4_0"):
                model = pathlib.Path(name) / "model.gguf"
                subprocess.run([sys.executable, HERE.parent / "make_model.py", model, number_format, *options], check=True)
                for threads in (1, 2):
                    mine, theirs = in_turn(a.rounds, lambda: ours(a.bench_prefill, model, a.tokens, threads),
                                           lambda: llama_bench(a.llama_bench, model, threads, prompt=a.tokens))
                    ratios = [m / t for m, t in zip(mine, theirs)]
                    rows.append({"model": shape, "format": number_format, "threads": threads, "torpor": spread(mine),
                                 "llama.cpp": spread(theirs), "ratio": spread(ratios)})
                    print(f"{shape:9} {number_format:5} {threads} threads: {rows[-1]['ratio']['median']:.2f}x", flush=True)
                model.unlink()

    # Spark against a dense model of the same size, both of this engine: four layers of Gemma-2-2B's sizes.
    sparks = []
    for products, tokens in [(p, t) for p in ("f32", "bf16") for t in (512, 4096)]:
        spark, dense = in_turn(max(3, a.rounds // 3), *[lambda shape=shape: ours(a.bench_prefill, f"shape:{shape}:bf16:4", tokens, 2, products == "f32")
                                                        for shape in ("gemma2-2b-spark", "gemma2-2b")])
        sparks.append({"products": products, "tokens": tokens, "spark": spread(spark), "dense": spread(dense), "ratio": spread([s / d for s, d in zip(spark, dense)])})
        print(f"Spark, {products} products, {tokens} tokens: {sparks[-1]['ratio']['median']:.2f}x", flush=True)

    result = {"sparks": sparks, "tokens": a.tokens, "rounds": a.rounds, "machine": machine(), "rows": rows}
    a.out.mkdir(parents=True, exist_ok=True)
    (a.out / "prefill.json").write_text(json.dumps(result, indent=1) + "\n")
    m = result["machine"]
    lines = ["# Prefill beside llama.cpp", "",
             f"Tokens a second for a prompt of {a.tokens} random tokens; min, median, max of {a.rounds} rounds, both programs in turn.",
             "Made by `bench/prefill/compare.py` (its head says how); llama.cpp from the PyPI sdist of llama-cpp-python, built for this",
             f"machine by `bench/build_llama_cpp`. Processor: {m['processor']}; {', '.join(m['instructions'])}.", "",
             "| model (layers x width) | format | threads | Torpor | llama.cpp | ratio: min, median, max |", "|---|---|---|---|---|---|"]
    for row in rows:
        lines.append(f"| {row['model']} | {row['format']} | {row['threads']} | {three(row['torpor'], 0)} | {three(row['llama.cpp'], 0)} | "
                     f"{three(row['ratio'])} |")
    bf16 = "avx512_bf16" in m["instructions"]
    lines += ["", "Both programs multiply bf16 weights with x rounded to bf16 where the processor can" +
              (", as here." if bf16 else ", which this one cannot: here they are f32.") +
              " Quantised weights are multiplied as bf16 numbers too by",
              "Torpor, and by llama.cpp as integers with x rounded to 8 bits."]
    lines += ["", "## Spark", "", "Four layers of Gemma-2-2B's sizes in bf16, two threads: a Spark model beside a dense one with as many weights, both of this engine.",
              "The predictor multiplies all neurons. Of the others each token reads its own alone, or all are computed where that is faster: with bf16",
              "products from 12 % active on, with AMX from 6.5 %. Its attention weighs the kept keys alone in both.", "",
              "| products | tokens | Spark | dense | ratio: min, median, max |", "|---|---|---|---|---|"]
    for row in sparks:
        lines.append(f"| {row['products']} | {row['tokens']} | {three(row['spark'], 0)} | {three(row['dense'], 0)} | {three(row['ratio'])} |")
    (a.out / "prefill.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
