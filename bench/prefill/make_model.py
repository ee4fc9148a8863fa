#!/usr/bin/env python3
"""A llama model of random weights as a GGUF file, to time shapes whose weights need not be shipped.

    pip install gguf numpy
    make_model.py OUT.gguf f32|bf16 [--d 768] [--ff 2048] [--layers 12] [--heads 12] [--kv-heads 4] [--vocab 32000]

Both programs read the same file. The weights of a layer are normal numbers of deviation 0.02, the same in each layer.
"""
import argparse

import gguf
import numpy


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("format", choices=["f32", "bf16"])
    for name, value in (("d", 768), ("ff", 2048), ("layers", 12), ("heads", 12), ("kv-heads", 4), ("vocab", 32000)):
        parser.add_argument(f"--{name}", type=int, default=value)
    a = parser.parse_args()
    head = a.d // a.heads

    writer = gguf.GGUFWriter(a.out, "llama")
    writer.add_block_count(a.layers)
    writer.add_context_length(4096)
    writer.add_embedding_length(a.d)
    writer.add_feed_forward_length(a.ff)
    writer.add_head_count(a.heads)
    writer.add_head_count_kv(a.kv_heads)
    writer.add_rope_dimension_count(head)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(a.vocab)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32 if a.format == "f32" else gguf.LlamaFileType.MOSTLY_BF16)
    writer.add_tokenizer_model("llama")
    writer.add_token_list([b"<unk>", b"<s>", b"</s>"] + [b"<0x%02X>" % i for i in range(256)] +
                          [b"t%d" % i for i in range(a.vocab - 259)])
    writer.add_token_scores([0.0] * a.vocab)
    writer.add_token_types([2, 3, 3] + [6] * 256 + [1] * (a.vocab - 259))

    normal = (numpy.random.default_rng(0).standard_normal(1 << 22) * 0.02).astype(numpy.float32)

    def matrix(name, rows, columns):
        values = numpy.resize(normal, (rows, columns))
        if a.format == "f32":
            writer.add_tensor(name, values)
        else:
            halves = (values.view(numpy.uint32) >> 16).astype(numpy.uint16)
            writer.add_tensor(name, halves.view(numpy.uint8), raw_shape=(rows, 2 * columns),
                              raw_dtype=gguf.GGMLQuantizationType.BF16)

    def norm(name):
        writer.add_tensor(name, numpy.ones(a.d, numpy.float32))

    matrix("token_embd.weight", a.vocab, a.d)
    matrix("output.weight", a.vocab, a.d)
    norm("output_norm.weight")
    for layer in range(a.layers):
        block = f"blk.{layer}."
        norm(block + "attn_norm.weight")
        norm(block + "ffn_norm.weight")
        matrix(block + "attn_q.weight", a.d, a.d)
        matrix(block + "attn_k.weight", a.kv_heads * head, a.d)
        matrix(block + "attn_v.weight", a.kv_heads * head, a.d)
        matrix(block + "attn_output.weight", a.d, a.d)
        matrix(block + "ffn_gate.weight", a.ff, a.d)
        matrix(block + "ffn_up.weight", a.ff, a.d)
        matrix(block + "ffn_down.weight", a.d, a.ff)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
