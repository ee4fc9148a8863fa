"""Makes tiny/: a small trained model with everything a user's folder has, for the tests of the command line.

    pip install torch transformers safetensors tokenizers
    python tests/golden/apps/make_tiny.py TINYSHAKESPEARE.txt      # about a minute

A llama with ReLU (so that there are exact zeros to find), 2 layers, trained for a moment on Shakespeare (public domain).
tiny/ holds config.json, model.safetensors, tokenizer.json, tokenizer_config.json; beside it are
  text.txt       20 kB that it was not trained on
  expected.json  what transformers says: greedy continuations, and the sum of losses over windows of text.txt
"""

import json
import pathlib
import shutil
import sys

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM

HERE = pathlib.Path(__file__).parent
TINY = HERE / "tiny"
CONTEXT = 64
PROMPTS = ["", "ROMEO:", "The king of"]


def train_tokenizer(text):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=320, special_tokens=["<|endoftext|>"],
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    tokenizer.train_from_iterator([text], trainer)
    return tokenizer


def train_model(ids):
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=320, hidden_size=32, intermediate_size=88, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=CONTEXT, hidden_act="relu", tie_word_embeddings=True,
        bos_token_id=0, eos_token_id=0, attn_implementation="eager"))
    optimizer = torch.optim.AdamW(model.parameters(), lr=6e-3)
    steps = 700
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 6e-3, total_steps=steps)
    for step in range(steps):
        starts = torch.randint(0, len(ids) - CONTEXT, (16,))
        batch = torch.stack([ids[s : s + CONTEXT] for s in starts])
        batch[::4, 0] = 0  # some windows begin with the token that begins a text
        loss = model(batch, labels=batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    print("training loss", loss.item())
    return model.eval()


@torch.no_grad()
def expectations(model, tokenizer, text):
    greedy = []
    for prompt in PROMPTS:
        ids = tokenizer.encode(prompt).ids or [0]
        given = len(ids)
        while len(ids) < CONTEXT:
            logits = model(torch.tensor([ids])).logits[0, -1]
            top = logits.topk(2).values
            assert top[0] - top[1] > 1e-4, "a tie would make the golden text depend on rounding"
            ids.append(int(logits.argmax()))
        greedy.append({"prompt": prompt, "prompt_tokens": given, "tokens": len(ids) - given,
                       "text": tokenizer.decode(ids[given:]), "ids": ids})
    return {"vocab_size": 320, "greedy": greedy, "text_tokens": tokenizer.encode(text).ids}


def main():
    text = pathlib.Path(sys.argv[1]).read_text()
    held_out, rest = text[-20000:], text[:-20000]
    tokenizer = train_tokenizer(rest[:200000])
    torch.set_num_threads(1)
    model = train_model(torch.tensor(tokenizer.encode(rest[:600000]).ids))
    shutil.rmtree(TINY, ignore_errors=True)
    TINY.mkdir()
    model.save_pretrained(TINY)
    (TINY / "generation_config.json").unlink(missing_ok=True)
    tokenizer.save(str(TINY / "tokenizer.json"), pretty=False)
    (TINY / "tokenizer_config.json").write_text(json.dumps(
        {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "add_bos_token": False,
         "tokenizer_class": "PreTrainedTokenizerFast"}, indent=1) + "\n")
    (HERE / "text.txt").write_text(held_out)
    expected = expectations(model, tokenizer, held_out)
    ids = expected.pop("text_tokens")
    # Windows that share nothing: the token that begins a text, then CONTEXT - 1 tokens of it, all of them predicted.
    windows = [[0] + ids[i : i + CONTEXT - 1] for i in range(0, len(ids), CONTEXT - 1)]
    losses = []
    with torch.no_grad():
        for window in windows:
            logits = model(torch.tensor([window])).logits[0].double()
            losses.append(float(torch.nn.functional.cross_entropy(logits[:-1], torch.tensor(window[1:]), reduction="sum")))
    expected["eval"] = {"tokens": len(ids), "bytes": len(held_out.encode()), "window": CONTEXT,
                        "predicted_tokens": sum(len(w) - 1 for w in windows), "loss_nats": sum(losses)}
    (HERE / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")
    for g in expected["greedy"]:
        print(repr(g["prompt"]), "->", repr(g["text"]))
    print(expected["eval"], expected["eval"]["loss_nats"] / expected["eval"]["predicted_tokens"])


main()
