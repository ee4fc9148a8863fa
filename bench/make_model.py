#!/usr/bin/env python3
"""A llama (gated SiLU) or nemotron (ungated ReLU²) model of random weights as a GGUF file, to time shapes whose weights need not be
shipped.

    pip install gguf numpy
    make_model.py OUT.gguf f32|bf16|q8_0|q4_0 [--architecture llama] [--d 768] [--ff 2048] [--layers 12] [--heads 12] [--kv-heads 4] [--vocab 32000]

Both programs read the same file. The weights of a layer are normal numbers of deviation 0.02, the same in each layer.
"""
import argparse

import gguf
import numpy


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("format", choices=["f32", "bf16", "q8_0", "q4_0"])
    parser.add_argument("--architecture", choices=["llama", "nemotron"], default="llama")
    for name, value in (("d", 768), ("ff", 2048), ("layers", 12), ("heads", 12), ("kv-heads", 4), ("vocab", 32000)):
        parser.add_argument(f"--{name}", type=int, default=value)
    a = parser.parse_args()
    head = a.d // a.heads

    writer = gguf.GGUFWriter(a.out, a.architecture)
    gated = a.architecture == "llama"
    writer.add_block_count(a.layers)
    writer.add_context_length(4096)
    writer.add_embedding_length(a.d)
    writer.add_feed_forward_length(a.ff)
    writer.add_head_count(a.heads)
    writer.add_head_count_kv(a.kv_heads)
    writer.add_rope_dimension_count(head)
    (writer.add_layer_norm_rms_eps if gated else writer.add_layer_norm_eps)(1e-5)
    writer.add_vocab_size(a.vocab)
    writer.add_file_type(getattr(gguf.LlamaFileType, {"f32": "ALL_F32"}.get(a.format, f"MOSTLY_{a.format.upper()}")))
    writer.add_tokenizer_model("llama")
    writer.add_token_list([b"<unk>", b"<s>", b"</s>"] + [b"<0x%02X>" % i for i in range(256)] +
                          [b"t%d" % i for i in range(a.vocab - 259)])
    writer.add_token_scores([0.0] * a.vocab)
    writer.add_token_types([2, 3, 3] + [6] * 256 + [1] * (a.vocab - 259))

    normal = (numpy.random.default_rng(0).standard_normal(1 << 22) * 0.02).astype(numpy.float32)
    kind = getattr(gguf.GGMLQuantizationType, a.format.upper())
    encoded = normal.view(numpy.uint8) if a.format == "f32" else gguf.quants.quantize(normal, kind).reshape(-1).view(numpy.uint8)
    per_block, block_bytes = gguf.GGML_QUANT_SIZES[kind]

    def matrix(name, rows, columns):
        writer.add_tensor(name, numpy.resize(encoded, (rows, columns // per_block * block_bytes)),
                          raw_shape=(rows, columns // per_block * block_bytes), raw_dtype=kind)

    def norm(name):
        writer.add_tensor(name + ".weight", numpy.ones(a.d, numpy.float32))
        if not gated:
            writer.add_tensor(name + ".bias", numpy.zeros(a.d, numpy.float32))

    matrix("token_embd.weight", a.vocab, a.d)
    matrix("output.weight", a.vocab, a.d)
    norm("output_norm")
    for layer in range(a.layers):
        block = f"blk.{layer}."
        norm(block + "attn_norm")
        norm(block + "ffn_norm")
        matrix(block + "attn_q.weight", a.d, a.d)
        matrix(block + "attn_k.weight", a.kv_heads * head, a.d)
        matrix(block + "attn_v.weight", a.kv_heads * head, a.d)
        matrix(block + "attn_output.weight", a.d, a.d)
        if gated:
            matrix(block + "ffn_gate.weight", a.ff, a.d)
        matrix(block + "ffn_up.weight", a.ff, a.d)
        matrix(block + "ffn_down.weight", a.d, a.ff)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
