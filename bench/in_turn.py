"""What the scripts that measure this engine beside llama.cpp share: two sides that run in turn, and how they are written down."""
import json
import pathlib
import statistics
import subprocess
import sys


def output(arguments):
    """What a program prints; the end of this one if it fails."""
    done = subprocess.run(list(map(str, arguments)), capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, arguments))}: exit code {done.returncode}\n{done.stderr}")
    return done.stdout


def llama_bench(program, model, threads, *, prompt=0, tokens=0):
    """Tokens a second of llama-bench: of reading a prompt, or of writing."""
    lines = output([program, "-m", model, "-p", prompt, "-n", tokens, "-t", threads, "-r", 1, "-o", "jsonl"])
    return float(json.loads(lines.strip().splitlines()[-1])["avg_ts"])


def in_turn(rounds, *sides):
    """What each side, a function, returns in each round; which goes first changes from round to round."""
    results = [[] for _ in sides]
    for r in range(rounds):
        turns = list(zip(results, sides))
        for result, side in turns if r % 2 == 0 else reversed(turns):
            result.append(side())
    return results


def spread(values):
    return {"min": min(values), "median": statistics.median(values), "max": max(values)}


def three(spread, digits=2):
    """Minimum, median and maximum, for a table."""
    return " ".join(f"{spread[part]:.{digits}f}" for part in ("min", "median", "max"))


def machine():
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown processor")
    flags = next((line for line in lines if line.startswith("flags")), "").split()
    best = [flag for flag in ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16") if flag in flags]
    return {"processor": name, "instructions": best}
