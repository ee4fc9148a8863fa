"""Makes tests/golden/models/lab_*: checkpoints that `torpor train` wrote, with the logits that transformers computes from them.

    pip install torch transformers safetensors
    python tests/golden/lab/make_checkpoints.py build/bin/torpor-lab TEXT
    python tests/golden/lab/make_checkpoints.py --check models/relu2    # only whether transformers loads a folder, and what it makes of it

So the folder is known to load in PyPI transformers with every weight used, and the engine and lab/ have to give the same logits from
it (tests/engine/decode, tests/lab/nn). Each is a network of size tiny after 20 steps, as bf16; the logits are computed in f32.
"""

import pathlib
import shutil
import subprocess
import sys
import tempfile

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

MODELS = pathlib.Path(__file__).parent.parent / "models"
PRESETS = {"lab_arcee": "relu2-tiny", "lab_llama": "swiglu-tiny", "lab_gemma2": "geglu-tiny"}


def load(folder):
    """The model in f32, and that nothing was missing, left over or made up."""
    model, report = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        assert not report[kind], f"{folder}: {kind}: {report[kind]}"
    if model.config.model_type == "gemma2":  # the embedding scale is rounded to the weights' format
        scale = model.model.embed_tokens.embed_scale
        model.model.embed_tokens.embed_scale = scale.to(torch.bfloat16).float()
    return model.eval()


def logits(model, ids):
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0].float()


if sys.argv[1] == "--check":
    for folder in sys.argv[2:]:
        model = load(folder)
        ids = torch.randint(3, model.config.vocab_size, (64,), generator=torch.Generator().manual_seed(1)).tolist()
        print(f"{folder}: {type(model).__name__}, {sum(p.numel() for p in model.parameters()):,} parameters, "
              f"mean logit {logits(model, ids).mean():.6f}")
    sys.exit()

lab, text = sys.argv[1:3]
for name, preset in PRESETS.items():
    target = MODELS / name
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([lab, "train", "--preset", preset, "--text", text, "--window", "96", "--steps", "20", "--warm-up", "2", "-q", "-o", folder],
                       check=True, stdout=subprocess.DEVNULL)
        for file in ("config.json", "model.safetensors"):
            shutil.copy(pathlib.Path(folder) / file, target / file)
    ids = torch.randint(0, 256, (64,), generator=torch.Generator().manual_seed(7)).to(torch.int32)
    save_file({"ids": ids, "logits": logits(load(target), ids.tolist())}, target / "expected.safetensors")
    print(name, preset)
