#!/usr/bin/env python3
"""A llama (gated SiLU) or nemotron (ungated ReLU²) model of random weights as a GGUF file, to time shapes whose weights need not be
shipped.

    pip install gguf numpy
    make_model.py OUT.gguf f32|bf16|q8_0|q4_0|q4_k|q6_k [--architecture llama] [--d 768] [--ff 2048] [--layers 12] [--heads 12] [--kv-heads 4] [--vocab 32000]

Both programs read the same file. The weights of a layer are normal numbers of deviation 0.02, the same in each layer; of q4_k and
q6_k, which gguf does not make, even ones of that deviation.
"""
import argparse

import gguf
import numpy


def even_blocks(kind, count):
    """Blocks of q4_k or q6_k whose weights are random whole numbers times one scale, 0.02 on the average."""
    rng = numpy.random.default_rng(0)
    if kind == "q6_k":  # 128 bytes of low nibbles, 64 of high pairs, 16 int8 scales, f16 d: d * 16 * (0 … 63 - 32)
        blocks = rng.integers(0, 256, (count, 210), numpy.uint8)
        blocks[:, 192:208] = 16
        blocks[:, 208:] = numpy.frombuffer(numpy.float16(0.02 / 18.5 / 16).tobytes(), numpy.uint8)
        return blocks.reshape(-1)
    blocks = rng.integers(0, 256, (count, 144), numpy.uint8)  # f16 d, f16 dmin, 12 bytes of scales and minima, all 32; nibbles
    blocks[:, :4] = numpy.frombuffer((numpy.array([1, 7.5]) * (0.02 / 4.6 / 32)).astype(numpy.float16).tobytes(), numpy.uint8)
    blocks[:, 4:12] = 160
    blocks[:, 12:16] = 0
    return blocks.reshape(-1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("format", choices=["f32", "bf16", "q8_0", "q4_0", "q4_k", "q6_k"])
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
    writer.add_file_type(getattr(gguf.LlamaFileType, {"f32": "ALL_F32", "q4_k": "MOSTLY_Q4_K_M"}.get(a.format, f"MOSTLY_{a.format.upper()}")))
    writer.add_tokenizer_model("llama")
    writer.add_token_list([b"<unk>", b"<s>", b"</s>"] + [b"<0x%02X>" % i for i in range(256)] +
                          [b"t%d" % i for i in range(a.vocab - 259)])
    writer.add_token_scores([0.0] * a.vocab)
    writer.add_bos_token_id(1)
    writer.add_token_types([2, 3, 3] + [6] * 256 + [1] * (a.vocab - 259))

    normal = (numpy.random.default_rng(0).standard_normal(1 << 22) * 0.02).astype(numpy.float32)
    kind = getattr(gguf.GGMLQuantizationType, a.format.upper())
    encoded = (normal.view(numpy.uint8) if a.format == "f32" else even_blocks(a.format, 1 << 14) if a.format.endswith("_k") else
               gguf.quants.quantize(normal, kind).reshape(-1).view(numpy.uint8))
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
