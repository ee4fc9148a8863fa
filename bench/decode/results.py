#!/usr/bin/env python3
"""Makes docs/results/decode.{json,md,html}: decode dense and skipping in turn, on random weights of published shapes and on the models of
this project, beside the read bandwidth measured in the same run; sequences decoded together; the ladder of the sparse kernels.

    bench/decode/results.py build/bin/torpor docs/results [--rounds 7]

About ten minutes on an idle machine; weights of up to 8 GB.
"""
import argparse
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BATCHES = (0, 6)  # the cases whose curve over sequences decoded together is measured
CASES = [(["--shape", "gemma2-2b-spark"], 2), (["--shape", "gemma2-2b-spark", "--context", "4096"], 2), (["--shape", "gemma2-2b-spark", "--context", "4096", "--cache", "q8"], 2), (["--shape", "gemma2-2b-spark"], 1),
         (["--shape", "gemma2-2b-spark", "--type", "q8"], 2), (["--shape", "gemma2-2b"], 2), (["--shape", "2304,9216,24"], 2),
         (["--shape", "2304,9216,24"], 1), (["--shape", "2304,9216,24", "--type", "q8"], 2), (["--shape", "2304,9216,24", "--type", "q4"], 2),
         (["models/relu2", "--tokens", "200"], 2), (["models/spark", "--tokens", "200"], 2)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("torpor")
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=7)
    a = parser.parse_args()
    torpor = pathlib.Path(a.torpor).resolve()

    rows = []
    for arguments, threads in CASES:
        together = [] if len(rows) in BATCHES else ["--batches", "none"]
        command = ["bench", *arguments, *together, "--threads", str(threads), "--rounds", str(a.rounds), "--json"]
        # The first case's page, with the roofline, becomes docs/results/decode.html.
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run([torpor, *command, *([] if rows else ["-o", folder])], capture_output=True, text=True, cwd=ROOT)
            if not rows and not done.returncode:
                a.out.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(pathlib.Path(folder) / "report.html", a.out / "decode.html")
        if done.returncode:
            sys.exit(f"torpor {' '.join(command)}: exit code {done.returncode}\n{done.stderr}")
        rows.append({"command": "torpor " + " ".join(command), **json.loads(done.stdout)})
        print(rows[-1]["command"], rows[-1]["speedup"] and f"{rows[-1]['speedup']['median']:.2f}x", flush=True)

    command = ["bench", "--kernels", "--rounds", str(a.rounds), "--json"]
    done = subprocess.run([torpor, *command], capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        sys.exit(f"torpor {' '.join(command)}: exit code {done.returncode}\n{done.stderr}")
    ladder = {"command": "torpor " + " ".join(command), **json.loads(done.stdout)}

    lines = (line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name"))
    processor = next(lines, "unknown processor")
    a.out.mkdir(parents=True, exist_ok=True)
    (a.out / "decode.json").write_text(json.dumps({"command": "bench/decode/results.py build/bin/torpor docs/results",
                                                   "processor": processor, "rows": rows, "kernels": ladder}, indent=1) + "\n")

    def three(spread, digits):
        return " ".join(f"{spread[part]:.{digits}f}" for part in ("min", "median", "max"))

    def share(side):
        return f"{side['share_of_bandwidth']['median']:.0%}"

    out = ["# Decode, dense and skipping", "",
           f"Made by `bench/decode/results.py build/bin/torpor docs/results`; {a.rounds} rounds of each side in turn, one sequence. Processor:",
           f"{processor}. Random weights; ReLU² shapes with 8 % of the neurons active. min, median, max; a share of bandwidth is against plain",
           "reading just before and after each round. The byte limit is the bytes of a dense token over those of a skipping one.",
           "[The first row as a page](decode.html), with the roofline.", "",
           "| model, weights, positions | threads | tokens/s dense | tokens/s skipping | speed-up | byte limit | reached | share of bandwidth: dense, skipping |",
           "|---|---|---|---|---|---|---|---|"]
    parts = ["", "## Where the time goes", "", "Milliseconds a token (median), GB a token.", "",
             "| model, weights, positions | threads | | all | FFN | attention | projections | unembedding | sampling | rest | GB | density |", "|---|---|---|---|---|---|---|---|---|---|---|---|"]
    for row in rows:
        name = f"{row['shape'] or row['model']}, {row['weights']}, {row['context']}{', 8-bit cache' if row['cache'] == 'q8_0' else ''}"
        dense, sparse = row["dense"], row["sparse"]
        if sparse:
            out.append(f"| {name} | {row['threads']} | {three(dense['tokens_per_second'], 2)} | {three(sparse['tokens_per_second'], 2)} | "
                       f"{three(row['speedup'], 2)} | {row['speedup_byte_limit']:.2f} | {row['share_of_byte_limit']:.0%} | {share(dense)}, {share(sparse)} |")
        else:
            out.append(f"| {name} | {row['threads']} | {three(dense['tokens_per_second'], 2)} | | | | | {share(dense)} |")
        for label, side in (("dense", dense), ("skipping", sparse)):
            if side:
                times = side["milliseconds_per_token_by_part"]
                parts.append(f"| {name} | {row['threads']} | {label} | {side['milliseconds_per_token']:.2f} | "
                             + " | ".join(f"{times[p]:.2f}" for p in ("ffn", "attention", "projections", "unembedding", "sampling", "rest"))
                             + f" | {side['bytes_per_token'] * 1e-9:.3f} | {side['density']:.1%} |")
    curves = ["", "## Sequences together", "", "One pass over the neurons that some sequence uses; a cache of 16 positions. Tokens a second of all",
              "sequences (median), the speed-up as min, median, max.", "",
              "| model, weights | sequences | dense | skipping | speed-up | neurons that some sequence uses |", "|---|---|---|---|---|---|"]
    for row in rows:
        for point in row["batches"]:
            curves.append(f"| {row['shape']}, {row['weights']} | {point['sequences']} | {point['dense_tokens_per_second']:.1f} | "
                          f"{point['sparse_tokens_per_second']:.1f} | {three(point['speedup'], 2)} | {point['neurons_united'] or 1:.0%} |")
    steps = ["", "## What each step of the kernels is worth", "",
             f"`{ladder['command']}`: a gated layer of width {ladder['width']} with {ladder['neurons']} neurons, {ladder['density']:.0%} of them active",
             f"and known; {ladder['threads']} threads. The bytes allow {1 / ladder['density']:.1f}x.", "",
             "| weights | step | us a layer | GB/s | of reading | as fast as dense |", "|---|---|---|---|---|---|"]
    for step in ladder["kernels"]:
        steps.append(f"| {step['weights']} | {step['step']} | {step['microseconds']['median']:.0f} | {step['gb_per_s']:.1f} | "
                     f"{step['share_of_bandwidth']['median']:.0%} | {three(step['speedup'], 2)} |")
    (a.out / "decode.md").write_text("\n".join(out + parts + curves + steps) + "\n")


if __name__ == "__main__":
    main()
