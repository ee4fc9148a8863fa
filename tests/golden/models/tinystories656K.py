"""Writes tinystories656K.json: token ids of a story of our own, and the loss that transformers gives them.

    TORPOR_DATA=… python tests/golden/models/tinystories656K.py
"""

import json
import os
import pathlib

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

STORY = (
    "Once upon a time there was a small grey mouse who lived under an old oak tree. Every morning the mouse climbed up to "
    "the first branch and looked at the sun. One day a cloud came and hid it. \"Please go away,\" said the mouse, \"I want to "
    "see the sun.\" The cloud was sad. \"I only want to play,\" it said. So the mouse told the cloud a story, and the cloud "
    "laughed so much that it began to rain. The flowers were happy, the frogs sang, and when the rain was over, the sun "
    "came back. \"Thank you,\" said the mouse. \"You are welcome,\" said the cloud, and from that day on they were friends."
)


def main():
    folder = pathlib.Path(os.environ["TORPOR_DATA"]) / "lm" / "tinystories656K"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = [tokenizer.bos_token_id] + tokenizer.encode(STORY, add_special_tokens=False)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0].double()
    loss = torch.nn.functional.cross_entropy(logits[:-1], torch.tensor(ids[1:]))
    result = {"ids": ids, "loss_nats_per_token": loss.item(), "next_token": int(logits[-1].argmax())}
    path = pathlib.Path(__file__).with_suffix(".json")
    path.write_text(json.dumps(result) + "\n")
    print(len(ids), result["loss_nats_per_token"], result["next_token"])


if __name__ == "__main__":
    main()
