#!/usr/bin/env python3
"""A profile that looks like a real one, for the tests of the report: usage profile_sample.py [layers] > profile.json

Nothing here is measured. A toy of a network with log-normal contributions gives numbers that agree with each other
(sparsity grows with CETT, shares sum to one), so that charts made from them look like charts of a real model.
profile_sample.json is `profile_sample.py 32`. Only the standard library; the same bytes on every machine.
"""
import json
import math
import random
import sys


def normal_cdf(x):
    return 0.5 * (1 + math.erf(x / math.sqrt(2)))


def rounded(value):
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {k: rounded(v) for k, v in value.items()}
    if isinstance(value, list):
        return [rounded(v) for v in value]
    return value


def layer(index, layers, rng, neurons):
    depth = index / max(layers - 1, 1)
    zeros = 0.55 + 0.35 * math.sin(math.pi * (0.15 + 0.75 * depth)) + rng.uniform(-0.015, 0.015)
    sigma = 1.7 + 0.5 * depth + rng.uniform(-0.05, 0.05)

    # Contributions that are not zero: log-normal. Dropping everything below z leaves an error that follows the share of
    # squared length below z, which for a log-normal is the same curve shifted by 2 sigma.
    def tail(cett):
        z = -6.0
        while z < 6 and math.sqrt(normal_cdf(z - 2 * sigma)) + 0.22 * normal_cdf(z) ** 1.5 < cett:
            z += 0.01
        return normal_cdf(z) if cett > 0 else 0.0

    by_cett = []
    for cett in (0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5):
        share = tail(cett)
        by_cett.append({"cett": cett, "sparsity": zeros + (1 - zeros) * share, "threshold": 0.02 * cett * math.exp(sigma)})
    chosen = 0.2
    sparsity = zeros + (1 - zeros) * tail(chosen)
    last = index == layers - 1 and layers > 4

    edges = list(range(0, -33, -1))
    top = 3.0 * sigma
    share = []
    for j in range(32):
        high, low = -j * math.log(2), -(j + 1) * math.log(2)
        upper = normal_cdf((high + top) / sigma)
        lower = normal_cdf((low + top) / sigma) if j < 31 else 0.0
        share.append((1 - zeros) * (upper - lower))

    frequency_edges = [0, 0.0001, 0.001, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1]
    weights = [0.03 + 0.02 * depth, 0.03, 0.07, 0.12, 0.19, 0.18, 0.15, 0.09, 0.05, 0.03, 0.02, 0.012, 0.009, 0.006, 0.005]
    weights = [w * rng.uniform(0.85, 1.15) for w in weights]
    weights = [w / sum(weights) for w in weights]

    density = 1 - sparsity
    r1_chance = min(0.95, 2.6 * density)
    r5_chance = 1 - (1 - r1_chance) ** 3.2
    gap = 0.34 + 0.12 * depth + rng.uniform(-0.02, 0.02)
    hot = sorted(rng.sample(range(neurons), 5))
    dead = sorted(rng.sample(range(neurons), 5))
    dead_neurons = int(neurons * weights[0] * 0.6)
    return {
        "layer": index, "name": f"model.layers.{index}.mlp", "neurons": neurons,
        "skippable": not last, "reason": "its CETT exceeds the target at every threshold above zero" if last else "",
        "rule": "exact_zeros" if last else "cett", "threshold": 0.0 if last else 0.02 * chosen * math.exp(sigma),
        "cett": 0.0 if last else chosen * rng.uniform(0.975, 1), "density": 1 - zeros if last else density,
        "sparsity": zeros if last else sparsity, "zero_fraction": zeros, "zero_fraction_ci95": [zeros - 0.004, zeros + 0.004],
        "by_cett": by_cett,
        "magnitude_histogram": {"log2_edges": edges, "share": share, "exact_zero_share": zeros},
        "mass_share": {f"top_{p}": normal_cdf(2 * sigma * 0.55 + {5: -1.2, 10: -0.7, 20: 0.1, 50: 1.4}[p]) for p in (5, 10, 20, 50)},
        "dead_neurons": dead_neurons, "hot_neurons": int(neurons * sum(weights[10:])),
        "dormant_neurons_redo_0_025": dead_neurons + int(neurons * weights[1]),
        "hottest": [{"neuron": n, "frequency": 0.999 - 0.01 * k - 0.004 * rng.random()} for k, n in enumerate(hot)],
        "deadest": [{"neuron": n, "frequency": 0.0 if k < 4 else 1.5e-5} for k, n in enumerate(dead)],
        "frequency_histogram": {"edges": frequency_edges, "share": weights},
        "reuse": {"tokens": 65536, "r1": min(0.97, r1_chance + 0.17 - 0.06 * depth), "r1_chance": r1_chance,
                  "r2": min(0.98, 1 - (1 - r1_chance - 0.15 + 0.06 * depth) ** 1.5),
                  "r5": min(0.99, 1 - (1 - r1_chance - 0.12 + 0.05 * depth) ** 3), "r5_chance": min(0.97, r5_chance)},
        "coactivation": {"neurons_sampled": 512, "tokens": 16384, "top": gap + density, "average": density, "gap": gap,
                         "gap_without_hottest": gap * 0.62, "chance_gap": 0.11 + 0.05 * density},
    }


def profile(layers):
    rng = random.Random(7)
    d_model, d_ff, vocabulary = 4096, 11008, 32000
    all_layers = [layer(i, layers, rng, d_ff) for i in range(layers)]
    mean = lambda key: sum(one[key] for one in all_layers) / layers
    sparsity, zeros = mean("sparsity"), mean("zero_fraction")

    def price(s, sharpness):  # relative change of perplexity at a sparsity
        return 0.0006 + 0.0092 * math.exp(sharpness * (s - sparsity))

    curve = []
    for cett in (0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5):
        at = sum(one["by_cett"][0]["sparsity"] + (one["by_cett"][-1]["sparsity"] - one["by_cett"][0]["sparsity"]) * (cett / 0.5) ** 0.55
                 for one in all_layers) / layers
        at = sparsity if cett == 0.2 else at
        curve.append(("cett", cett, cett, at, 0.0 if cett == 0 else price(at, 62)))
    curve.append(("exact_zeros", None, 0, zeros, 0.0))
    for k in (0.4, 0.3, 0.25, 0.2, 0.15, 0.1, 0.06):
        curve.append(("top_k", k, None, 1 - k, price(1 - k, 52) * 1.35))
    for cut in range(6):
        at = zeros + (0.95 - zeros) * cut / 5
        curve.append(("fat", 0.01 * 2 ** cut, None, at, price(at, 43) * 1.8 if cut else 0.0))
    for s in (0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.94):
        curve.append(("cats", s, None, s, price(s, 40) * 2.6))
    loss = 1.7263
    points = []
    for rule, parameter, cett, at, change in curve:
        wide = 0.0012 + 0.25 * change
        points.append({"rule": rule, "parameter": parameter, "cett": cett, "sparsity": at,
                       "loss_nats_per_token": loss + math.log1p(change), "perplexity_ratio": 1 + change,
                       "perplexity_ratio_ci95": [1 + change - wide, 1 + change + wide],
                       "chosen": rule == "cett" and cett == 0.2})
    chosen = next(p for p in points if p["chosen"])
    attention = layers * 4 * d_model * d_model * 2 + vocabulary * d_model * 2
    feed_forward = layers * 3 * d_model * d_ff * 2
    known_set = attention + feed_forward * (1 - sparsity)
    no_predictor = attention + feed_forward * (1 + 2 * (1 - sparsity)) / 3
    dense = attention + feed_forward
    return {
        "schema": "torpor.profile/1",
        "model": {"name": "sample-relu-7b", "model_type": "llama", "parameters": dense // 2 + vocabulary * d_model,
                  "weight_bytes": dense + vocabulary * d_model * 2, "fingerprint": "5f0c9a1be27d4388a6b1d2c3e4f50617",
                  "n_layers": layers, "d_model": d_model, "d_ff": d_ff, "n_heads": 32, "n_kv_heads": 32,
                  "vocab_size": vocabulary, "activation": "relu", "gated": True, "number_format": "bf16"},
        "text": {"source": "novels/held-out.txt", "bytes": 1048576, "tokens": 262144, "fingerprint": "aa11bb22cc33dd44ee55ff6677889900",
                 "calibration_tokens": 131072, "cett_tokens": 8192, "held_out_tokens": 131072, "window": 512,
                 "skipped_first_tokens": 1, "tokens_with_tiny_output": 0},
        "target": {"kind": "budget", "value": 0.01},
        "dense": {"loss_nats_per_token": loss, "loss_nats_per_token_ci95": [loss - 0.012, loss + 0.012], "perplexity": math.exp(loss),
                  "bits_per_byte": loss / math.log(2) / 4},
        "chosen": {"cett": 0.2, "sparsity": sparsity, "sparsity_ci95": [sparsity - 0.0018, sparsity + 0.0018],
                   "exact_zero_sparsity": zeros, "loss_nats_per_token": chosen["loss_nats_per_token"],
                   "perplexity": math.exp(chosen["loss_nats_per_token"]), "perplexity_ratio": chosen["perplexity_ratio"],
                   "perplexity_ratio_ci95": chosen["perplexity_ratio_ci95"], "bytes_per_token_dense": dense,
                   "bytes_per_token_known_set": known_set, "bytes_per_token_no_predictor": no_predictor,
                   "ffn_bytes_per_token_dense": feed_forward, "speedup_byte_limit_known_set": dense / known_set,
                   "speedup_byte_limit_no_predictor": dense / no_predictor, "budget_met": True, "note": ""},
        "curve": points,
        "layers": all_layers,
        "seconds": {"statistics": 412.7, "evaluation_dense": 371.2, "search": 1288.4, "total": 2075.9, "statistics_overhead": 1.11},
        "warnings": ["the last layer keeps its exact zeros only: its output changes too much at any threshold"] if layers > 4 else [],
    }


if __name__ == "__main__":
    print(json.dumps(rounded(profile(int(sys.argv[1]) if len(sys.argv) > 1 else 32)), ensure_ascii=False, separators=(",", ":")))
