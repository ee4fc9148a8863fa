#!/usr/bin/env python3
"""Makes docs/results/profile.{json,md}: `torpor profile` on the two public models of the data folder and on a GGUF file
made from one of them, on the first and on all thousand stories; the cost of the statistics; memory against the text's length.

    TORPOR_DATA=… bench/profile/results.py build/bin/torpor docs/results [PYTHON_WITH_GGUF]

The third argument names a Python that has gguf, numpy and safetensors, to make the GGUF file; without it that row is left out.
"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

TORPOR, OUT = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2])
DATA = pathlib.Path(os.environ["TORPOR_DATA"])
ROOT = pathlib.Path(__file__).resolve().parents[2]


def run(arguments):
    """(JSON, peak of memory in MB, read from the process itself: what wait() tells counts from before it replaced this one)"""
    with tempfile.TemporaryFile() as out:
        process = subprocess.Popen([TORPOR, *arguments], stdout=out)
        peak = 0
        while process.poll() is None:
            try:
                status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
                if "Name:\ttorpor" in status and "VmHWM:" in status:
                    peak = max(peak, int(status.split("VmHWM:")[1].split()[0]))
            except (FileNotFoundError, ProcessLookupError):
                pass
            time.sleep(0.02)
        if process.returncode:
            sys.exit(f"{arguments}: exit code {process.returncode}")
        out.seek(0)
        return json.loads(out.read()), peak / 1024


def share(x):
    return f"{100 * x:.1f} %"


def change(ratio):
    return f"{100 * (ratio - 1):+.2f} %"


def main():
    rows, memory = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        stories = json.loads((DATA / "text" / "tinystories_1000.json").read_text())
        texts = {}
        for count in (100, 1000):
            texts[count] = folder / f"stories-{count}.txt"
            texts[count].write_text("\n\n".join(stories[:count]) + "\n")
        models = [("tinystories656K", [DATA / "lm/tinystories656K"]),
                  ("stories260K", [DATA / "lm/stories260K/stories260K.bin", "--tokenizer", DATA / "lm/stories260K/tok512.bin"])]
        if len(sys.argv) > 3:
            gguf = folder / "tinystories656K.gguf"
            subprocess.run([sys.argv[3], ROOT / "examples/llama_to_gguf.py", DATA / "lm/tinystories656K", gguf], check=True,
                           stdout=subprocess.DEVNULL)
            models.append(("tinystories656K.gguf", [gguf]))
        for model, arguments in models:
            for count in texts:
                p, peak = run(["profile", *arguments, "--text", texts[count], "--budget", "1%", "--json", "-q"])
                rows.append({"model": model, "stories": count, "calibration_tokens": p["text"]["calibration_tokens"],
                             "held_out_tokens": p["text"]["held_out_tokens"], **{k: p["chosen"][k] for k in (
                                 "cett", "sparsity", "sparsity_ci95", "exact_zero_sparsity", "perplexity_ratio",
                                 "perplexity_ratio_ci95", "bytes_per_token_dense", "bytes_per_token_known_set",
                                 "bytes_per_token_no_predictor")},
                             "perplexity_dense": p["dense"]["perplexity"], "perplexity": p["chosen"]["perplexity"],
                             "statistics_overhead": p["seconds"]["statistics_overhead"], "seconds": p["seconds"]["total"],
                             "peak_memory_mb": peak, "curve": [{k: c.get(k) for k in ("rule", "sparsity", "perplexity_ratio")}
                                                               for c in p["curve"]]})
                print(model, count, share(rows[-1]["sparsity"]), change(rows[-1]["perplexity_ratio"]), flush=True)
        text = texts[1000].read_bytes()
        for times in (1, 10, 80):
            long = folder / "long.txt"
            with long.open("wb") as file:
                for _ in range(times):
                    file.write(text)
            _, peak = run(["profile", *models[0][1], "--text", long, "--cett", "0.04", "--no-baselines", "--json", "-q"])
            memory.append({"text_mb": len(text) * times / 1e6, "peak_memory_mb": peak})
    command = "TORPOR_DATA=… bench/profile/results.py build/bin/torpor docs/results PYTHON_WITH_GGUF"
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "profile.json").write_text(json.dumps({"command": command, "rows": rows, "memory": memory}, indent=1) + "\n")
    lines = ["# torpor profile on small public models", "", f"Made by `{command}`. Two processors, f32 weights, TinyStories, budget +1 % "
             "perplexity, default settings. The intervals are at 95 %.", "",
             "| model | stories | neurons left out | exact zeros | perplexity | change | bytes a token, dense → known set / no predictor |"
             " statistics, × evaluation | s |", "|---|---|---|---|---|---|---|---|---|"]
    for r in rows:
        low, high = r["perplexity_ratio_ci95"]
        lines.append(f"| {r['model']} | {r['stories']} | {share(r['sparsity'])} | {share(r['exact_zero_sparsity'])} | "
                     f"{r['perplexity_dense']:.3f} → {r['perplexity']:.3f} | {change(r['perplexity_ratio'])} ({change(low)} to "
                     f"{change(high)}) | {r['bytes_per_token_dense'] / 1e6:.2f} MB → {r['bytes_per_token_known_set'] / 1e6:.2f} / "
                     f"{r['bytes_per_token_no_predictor'] / 1e6:.2f} MB | {r['statistics_overhead']:.2f} | {r['seconds']:.1f} |")
    lines += ["", "Both models are gated with SiLU: no neuron is exactly zero, and about four tenths of them can be left out for one per cent. The "
              "Sparsing Law reports six tenths for SiLU at the same price (CETT-PPL-1 %, activation ratios of 38 to 41 %), for models a thousand times larger and "
              "trained to their limit, and over nine tenths for ReLU.", "",
              "*Statistics, × evaluation*: time of a pass that collects the statistics over that of plain evaluation, a token. CETT costs a "
              "second down projection for each token that is sampled for it: about 8192 of the calibration tokens, of a short text about every eighth. "
              "The wanted limit is 1.3.", "", "## Memory against the text's length", "",
              "| text | peak of memory |", "|---|---|"]
    lines += [f"| {m['text_mb']:.1f} MB | {m['peak_memory_mb']:.0f} MB |" for m in memory]
    lines += ["", "The text is mapped and checked piece by piece, and sampled; pages that were read are given back.", ""]
    (OUT / "profile.md").write_text("\n".join(lines))


main()
