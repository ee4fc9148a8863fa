"""Writes stories260K.json: the loss of llama2.c's stories260K on TinyStories, computed by a plain PyTorch forward pass.

    TORPOR_DATA=… python tests/golden/models/stories260K.py

Protocol: of tinystories_1000.json the first 60 stories that are pure ASCII (in the others, quotes are garbled, which the
model never saw), blank lines between paragraphs as one newline (as the model writes them itself), each story alone: BOS +
tokens, at most 512, every token but BOS predicted, the mean over all tokens.
"""

import json
import os
import pathlib
import struct

import numpy as np
import torch

DATA = pathlib.Path(os.environ["TORPOR_DATA"])
MODEL = DATA / "lm" / "stories260K"
STORIES = 60


class Vocabulary:
    """run.c's encode."""

    def __init__(self, path, size):
        data, at = path.read_bytes(), 4
        self.pieces, self.scores, self.ids = [], [], {}
        for i in range(size):
            score, length = struct.unpack_from("<fi", data, at)
            self.pieces.append(data[at + 8:at + 8 + length])
            self.scores.append(score)
            self.ids.setdefault(self.pieces[-1], i)
            at += 8 + length

    def encode(self, text):
        ids = [1, self.ids[b" "]]
        for character in text:
            raw = character.encode()
            ids += [self.ids[raw]] if raw in self.ids else [byte + 3 for byte in raw]
        while True:
            best = None
            for i in range(len(ids) - 1):
                merged = self.ids.get(self.pieces[ids[i]] + self.pieces[ids[i + 1]])
                if merged is not None and (best is None or self.scores[merged] > best[0]):
                    best = (self.scores[merged], i, merged)
            if best is None:
                return ids
            ids[best[1]:best[1] + 2] = [best[2]]


class Llama:
    """The checkpoint, v0, and its forward pass, written out."""

    def __init__(self, path):
        data = path.read_bytes()
        self.dim, hidden, self.layers, self.heads, self.kv_heads, self.vocab, _ = struct.unpack("<7i", data[:28])
        numbers, at = np.frombuffer(data[28:], np.float32).copy(), 0

        def take(*shape):
            nonlocal at
            at += int(np.prod(shape))
            return torch.from_numpy(numbers[at - int(np.prod(shape)):at]).view(shape)

        layers, dim, self.head = self.layers, self.dim, self.dim // self.heads
        kv = self.head * self.kv_heads
        self.embedding, self.attention_norm = take(self.vocab, dim), take(layers, dim)
        self.wq, self.wk, self.wv = take(layers, dim, dim), take(layers, kv, dim), take(layers, kv, dim)
        self.wo, self.ffn_norm = take(layers, dim, dim), take(layers, dim)
        self.gate, self.down, self.up = take(layers, hidden, dim), take(layers, dim, hidden), take(layers, hidden, dim)
        self.norm = take(dim)

    @staticmethod
    def rms(x, weight):
        return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + 1e-5) * weight

    def rope(self, x):
        frequencies = 1 / 10000 ** (torch.arange(0, self.head, 2).float() / self.head)
        angles = torch.outer(torch.arange(len(x)).float(), frequencies)[:, None]
        a, b = x[..., 0::2], x[..., 1::2]
        turned = torch.stack([a * angles.cos() - b * angles.sin(), a * angles.sin() + b * angles.cos()], -1)
        return turned.flatten(-2)

    def logits(self, ids):
        x, n, group = self.embedding[ids], len(ids), self.heads // self.kv_heads
        ahead = torch.triu(torch.ones(n, n, dtype=torch.bool), 1)
        for layer in range(self.layers):
            y = self.rms(x, self.attention_norm[layer])
            q = self.rope((y @ self.wq[layer].T).view(n, self.heads, self.head))
            k = self.rope((y @ self.wk[layer].T).view(n, self.kv_heads, self.head)).repeat_interleave(group, 1)
            v = (y @ self.wv[layer].T).view(n, self.kv_heads, self.head).repeat_interleave(group, 1)
            scores = torch.einsum("qhd,khd->hqk", q, k) / self.head**0.5
            scores = scores.masked_fill(ahead, -torch.inf).softmax(-1)
            x = x + torch.einsum("hqk,khd->qhd", scores, v).reshape(n, self.dim) @ self.wo[layer].T
            y = self.rms(x, self.ffn_norm[layer])
            x = x + (torch.nn.functional.silu(y @ self.gate[layer].T) * (y @ self.up[layer].T)) @ self.down[layer].T
        return self.rms(x, self.norm) @ self.embedding.T


@torch.no_grad()
def main():
    model = Llama(MODEL / "stories260K.bin")
    vocabulary = Vocabulary(MODEL / "tok512.bin", model.vocab)
    stories = json.loads((DATA / "text" / "tinystories_1000.json").read_text())
    total, tokens = 0.0, 0
    for story in [story for story in stories if story.isascii()][:STORIES]:
        ids = vocabulary.encode(story.replace("\n\n", "\n"))[:512]
        logits = model.logits(ids).double()
        total += torch.nn.functional.cross_entropy(logits[:-1], torch.tensor(ids[1:]), reduction="sum").item()
        tokens += len(ids) - 1
    result = {"stories": STORIES, "tokens": tokens, "loss_nats_per_token": total / tokens}
    pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(result) + "\n")
    print(result)


if __name__ == "__main__":
    main()
