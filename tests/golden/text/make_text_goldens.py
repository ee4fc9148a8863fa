#!/usr/bin/env python3
"""Makes the small tokenizers of this folder and what the reference packages do with them.

  pip install tokenizers==0.23.3 sentencepiece==0.2.3
  TORPOR_DATA=… make_text_goldens.py

Trains on the sentences below: byte-level BPE with GPT-2's and with Llama 3's pattern, character BPE with byte fallback in
the two ways that Llama tokenizers come as tokenizer.json, SentencePiece unigram and BPE. For each, and for the tokenizers of
the data folder where it is there, ids and decoded text of the strings in cases.json, by the package that the format comes
from. Only ids of data that is not ours are kept.
"""
import io
import json
import os
import pathlib

import sentencepiece
import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

HERE = pathlib.Path(__file__).parent
DATA = pathlib.Path(os.environ.get("TORPOR_DATA", "/nonexistent"))

SENTENCES = """The quick brown fox jumps over the lazy dog, and then the dog sleeps.
Every network wastes most of its neurons most of the time.
A neuron that never fires is dormant; a neuron that always fires isn't much better.
We measured 128 layers, 4096 neurons each: 87.5% were inactive on average!
She said, "I can't believe it's already 2024," and we'll see what they've done.
Über die Brücke fährt ein Zug; café, naïve, coöperate, Ångström.
Мы измерили, сколько нейронов молчит. Она сказала: да.
神经网络大部分时间都在休息。我们测量了它。
ニューラルネットワークは眠っている。
for (int i = 0; i < n; ++i) { sum += x[i] * w[i]; }
    indented code    with   runs of  spaces
👍 emoji 🎉 and 👩‍💻 are text too.
""".splitlines()

LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"

CASES = [
    "", " ", "  ", "   ", "\n", "\n\n", "\t", " \n ", "a", " a", "a ", "  a  ", "Hello", " Hello", "Hello world",
    "Hello, world!", "The quick brown fox jumps over the lazy dog.", "neurons most of the time", "isn't we'll THEY'VE I'M i'd",
    "it\u017fs '\u017f", "''s ''t 'x", "1 12 123 1234 12345", "3.14159e-10", "x=1;y=2", "!!!???...", "a\nb\r\nc\rd",
    "tabs\tand\t\ttabs", "trailing spaces   ", "   leading spaces", "mid   dle    runs", " \n \n\n  x", "line\n   indented\n\n\nend",
    "Über Brücke café naïve", "e\u0301 combining a\u0308\u0323", "\u1100\u1161\u11a8 \uac01", "нейронов молчит", "神经网络", "我们 测量 了它。",
    "ニューラル", "กขค ไทย", "हिन्दी में", "العربية", "👍", "👩‍💻🎉", "🏳️‍🌈 flags 🇩🇪", "mixed 神经 and нейрон 42%", "\u00a0nbsp\u00a0\u00a0x",
    "\u2003em space\u2003", "\u3000全角", "zero\u200bwidth\u200d", "\ufeffbom", "\u0000nul\u0001", "\u007f del", "\u0085next line",
    "½ ² ٣ Ⅷ ①", "ﬁ ligature ﬀ", "İstanbul ıİ", "\u2581marker\u2581", "▁ ▁▁ x▁y", "a" * 40, "ab" * 40, "日" * 20, "word " * 12,
    "<s> </s> <unk> <0x0A> <|endoftext|>", "<|endoftext|>", "a<|endoftext|>b", "x <|begin|> y <|end|>z", "x<sp> y <sp>z", "<one>x <one> y<one>",
    "nonspecial<extra>text <extra> ", "{\"json\": [1, 2, null]}", "for (int i = 0; i < n; ++i) {\n\tsum += x[i];\n}", "https://example.org/a?b=c&d=%20",
    "\U0010ffff\U000e0001", "\u180ex\u180e \u180e", "x\u2028y\u2029z", "A'S 'Re'VE 'LL", "ÀÉÎ ǅ ʰ ª",
    "<|start_story|>once", "x <|start_story|> once <|end_story|>", "Once upon a time, there was a girl. She said: \"Hi!\"",
]

ADDED = [
    AddedToken("<|begin|>", special=True, normalized=False),
    AddedToken("<|end|>", special=True, normalized=False, rstrip=True),
    AddedToken("<sp>", special=True, normalized=False, lstrip=True, rstrip=True),
    AddedToken("<one>", special=False, normalized=False, single_word=True),
    AddedToken("<extra>", special=False, normalized=True),
]


def train(tokenizer, size, alphabet=(), specials=()):
    tokenizer.train_from_iterator(
        SENTENCES * 3,
        trainers.BpeTrainer(vocab_size=size, show_progress=False, initial_alphabet=list(alphabet), special_tokens=list(specials)))


def byte_gpt2():
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.decoder = decoders.ByteLevel()
    t.post_processor = processors.ByteLevel(trim_offsets=False)
    train(t, 450, pre_tokenizers.ByteLevel.alphabet())
    t.add_special_tokens(["<|endoftext|>"])
    return t


def byte_llama3():
    t = Tokenizer(models.BPE(ignore_merges=True))
    t.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(LLAMA3), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    t.decoder = decoders.ByteLevel()
    train(t, 450, pre_tokenizers.ByteLevel.alphabet())
    t.add_tokens(ADDED)
    t.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(single="<|begin|> $A <|end|>", special_tokens=[("<|begin|>", t.token_to_id("<|begin|>")), ("<|end|>", t.token_to_id("<|end|>"))])])
    return t


def byte_mixed():
    """Less common parts: NFC, digits one by one, a prefix space, a pattern that only PCRE2 runs, all split behaviours."""
    t = Tokenizer(models.BPE())
    t.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace(Regex(r"\s\s+"), "  "), normalizers.Lowercase()])
    t.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(r"[\r\n]+"), "removed"),
        pre_tokenizers.Split(Regex(r"\p{Han}{1,2}"), "merged_with_previous"),
        pre_tokenizers.Split("n", "merged_with_next"),
        pre_tokenizers.Split(Regex(r"\s"), "contiguous"),
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=True)])
    t.decoder = decoders.ByteLevel()
    train(t, 400, pre_tokenizers.ByteLevel.alphabet())
    return t


def llama_style(metaspace):
    """Character BPE with byte fallback: as converted from SentencePiece, by normalizer (old) or by Metaspace (new)."""
    t = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    strip = [decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    if not metaspace:
        t.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    t.decoder = decoders.Sequence([decoders.Replace("▁", " ")] + strip)
    # Words for training only: without a pre-tokenizer the trainer would merge over spaces.
    t.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first")
    train(t, 520, specials=["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)])
    raw = json.loads(t.to_str())
    raw["pre_tokenizer"] = None
    raw["added_tokens"] = [a for a in raw["added_tokens"] if a["content"] in ("<unk>", "<s>", "</s>")]
    t = Tokenizer.from_str(json.dumps(raw))
    if metaspace:
        t.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=False)
    t.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return t


def metaspace_split():
    """Metaspace as pre-tokenizer and as decoder, unknown characters without byte tokens."""
    t = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=False))
    t.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always", split=True)
    t.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    t.train_from_iterator([s for s in SENTENCES if s.isascii()] * 3,
                          trainers.BpeTrainer(vocab_size=200, show_progress=False, special_tokens=["<unk>", "<s>"]))
    return t


def golden_of(t):
    rows = []
    for text in CASES:
        t.encode_special_tokens = False
        parsed = t.encode(text)
        t.encode_special_tokens = True
        plain = t.encode(text, add_special_tokens=False).ids
        rows.append({"framed_parsed": parsed.ids, "plain": plain, "decoded": t.decode(plain), "decoded_parsed": t.decode(parsed.ids)})
    return rows


def compact(rows, keys):
    return [[row[k] for k in keys] for row in rows]


def sentencepiece_model(kind):
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES * 3), model_writer=out, model_type=kind, vocab_size=480 if kind == "bpe" else 420, byte_fallback=True,
        character_coverage=0.98, normalization_rule_name="identity" if kind == "bpe" else "nmt_nfkc", add_dummy_prefix=True,
        remove_extra_whitespaces=kind != "bpe", num_threads=1, minloglevel=2, hard_vocab_limit=False, user_defined_symbols=["<extra>"])
    return out.getvalue()


def sentencepiece_golden(path):
    p = sentencepiece.SentencePieceProcessor(model_file=str(path))
    return [{"plain": p.encode(text), "decoded": p.decode(p.encode(text))} for text in CASES]


def write(name, value):
    with open(HERE / name, "w", encoding="utf-8") as f:
        json.dump(value, f, ensure_ascii=True, separators=(",", ":"))
        f.write("\n")


def main():
    write("cases.json", CASES)
    keys = ["framed_parsed", "plain", "decoded", "decoded_parsed"]
    goldens = {}
    for name, t in {"byte_gpt2": byte_gpt2(), "byte_llama3": byte_llama3(), "byte_mixed": byte_mixed(), "llama_normalizer": llama_style(False),
                    "llama_metaspace": llama_style(True), "metaspace_split": metaspace_split()}.items():
        (HERE / f"{name}.json").write_text(t.to_str(pretty=False) + "\n", encoding="utf-8")
        goldens[f"{name}.json"] = compact(golden_of(t), keys)
    for kind in ("unigram", "bpe"):
        path = HERE / f"sentencepiece_{kind}.model"
        path.write_bytes(sentencepiece_model(kind))
        goldens[path.name] = compact(sentencepiece_golden(path), ["plain", "decoded"])
    data = {}
    if DATA.exists():
        t = Tokenizer.from_file(str(DATA / "lm/tinystories656K/tokenizer.json"))
        data["lm/tinystories656K/tokenizer.json"] = compact(golden_of(t), ["framed_parsed", "plain"])
        t = Tokenizer(models.BPE.from_file(str(DATA / "tokenizers/gpt2/vocab.json"), str(DATA / "tokenizers/gpt2/merges.txt")))
        t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        t.decoder = decoders.ByteLevel()
        t.add_special_tokens(["<|endoftext|>"])
        data["tokenizers/gpt2/vocab.json"] = compact(golden_of(t), ["framed_parsed", "plain"])
        data["tokenizers/llama2/tokenizer.model"] = compact(sentencepiece_golden(DATA / "tokenizers/llama2/tokenizer.model"), ["plain"])
        write("data_goldens.json", data)
    write("goldens.json", goldens)


if __name__ == "__main__":
    main()
