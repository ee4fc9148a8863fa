"""Makes the golden files of core/tensor with the PyPI packages torch, safetensors and gguf.

    python tests/golden/tensor/make.py

The same input always gives the same files. Written with torch 2.11.0, safetensors 0.8.0, gguf 0.19 and numpy 2.4.
"""

import json
import pathlib
import zlib

import gguf
import numpy as np
import safetensors.torch
import torch
from gguf import GGMLQuantizationType as Type

HERE = pathlib.Path(__file__).parent


def crc(array):
    """CRC-32 over the bytes, with every NaN replaced by one pattern: NaN payloads are nobody's contract."""
    return zlib.crc32(np.ascontiguousarray(array).tobytes())


def bits_to_f32(bits):
    return torch.from_numpy(bits.astype(np.uint32).view(np.float32).copy())


def f32_patterns():
    """2^21 patterns of f32: spread over all, and exact ties for f16 and for bf16."""
    spread = (np.arange(1 << 20, dtype=np.uint64) * 2654435761 % (1 << 32)).astype(np.uint32)
    half_ties = (spread[: 1 << 19] & np.uint32(0xFFFFE000)) | np.uint32(0x1000)
    brain_ties = (spread[1 << 19 :] & np.uint32(0xFFFF0000)) | np.uint32(0x8000)
    return np.concatenate([spread, half_ties, brain_ties])


def block_patterns():
    """2^18 numbers from -1 to 1, each block of 32 scaled by a power of two; the last block is zero."""
    i = np.arange(1 << 18, dtype=np.uint64)
    values = (i * 2654435761 % (1 << 32)).astype(np.uint32).view(np.int32).astype(np.float32) * np.float32(2.0**-31)
    values = values.reshape(-1, 32) * np.exp2(np.arange((1 << 18) // 32) % 11 - 5).astype(np.float32)[:, None]
    values[-1] = 0
    return values.reshape(-1).astype(np.float32)


def conversions():
    """What torch makes of all 16-bit patterns and of many f32 ones, as check sums."""
    every = torch.from_numpy(np.arange(1 << 16, dtype=np.uint16).view(np.int16).copy())
    result = {}
    for name, dtype in (("f16", torch.float16), ("bf16", torch.bfloat16)):
        wide = every.view(dtype).float().numpy().copy()
        wide[np.isnan(wide)] = 0
        result[f"{name}_to_f32_crc32"] = crc(wide)
        values = bits_to_f32(f32_patterns())
        narrow = values.to(dtype).view(torch.int16).numpy().copy()
        narrow[torch.isnan(values).numpy()] = 0
        result[f"f32_to_{name}_crc32"] = crc(narrow)
    for name, kind in (("q8_0", Type.Q8_0), ("q4_0", Type.Q4_0)):
        result[f"f32_to_{name}_crc32"] = crc(gguf.quants.quantize(block_patterns(), kind))
    (HERE / "conversions.json").write_text(json.dumps(result, indent=2) + "\n")


def all_dtypes():
    """One tensor of each type, a scalar, empty ones and names that need escapes; torch's own order of names."""
    i = np.arange(12)
    tensors = {
        "bool": torch.tensor([True, False, True]),
        "u8": torch.tensor([0, 1, 255], dtype=torch.uint8),
        "i8": torch.tensor([-128, 0, 127], dtype=torch.int8),
        "i16": torch.tensor([-32768, 5, 32767], dtype=torch.int16),
        "u16": torch.tensor([0, 5, 65535], dtype=torch.uint16),
        "f16": torch.tensor([[1.5, -2.0], [65504.0, 6e-8]], dtype=torch.float16),
        "bf16": torch.tensor([[1.5], [-2.0], [3.0e38]], dtype=torch.bfloat16),
        "i32": torch.tensor([-(2**31), 7, 2**31 - 1], dtype=torch.int32),
        "u32": torch.tensor([0, 7, 2**32 - 1], dtype=torch.uint32),
        "f32": torch.from_numpy((i * 0.25 - 1).astype(np.float32).reshape(3, 4)),
        "f64": torch.tensor([0.1, -1e300], dtype=torch.float64),
        "i64": torch.tensor([-(2**63), 2**63 - 1], dtype=torch.int64),
        "u64": torch.tensor([0, 2**64 - 1], dtype=torch.uint64),
        "scalar": torch.tensor(42.0),
        "empty": torch.zeros(0, 5),
        'ключ "quoted" \\ \n tab\t': torch.ones(1),
    }
    safetensors.torch.save_file(tensors, HERE / "all_dtypes.safetensors", metadata={"format": "pt"})


def random_blocks(rng, quantisation, count):
    """Random blocks with scales of a sane size: any bytes are a valid block, but random scales would be NaN or huge."""
    _, size = gguf.GGML_QUANT_SIZES[quantisation]
    blocks = rng.integers(0, 256, (count, size), dtype=np.uint8)
    scale_at = {Type.Q8_0: [0], Type.Q4_0: [0], Type.Q4_K: [0, 2], Type.Q6_K: [208]}[quantisation]
    for at in scale_at:
        scales = (rng.standard_normal(count) * 0.02).astype(np.float16)
        scales[0] = np.float16(6e-8)  # a subnormal one
        blocks[:, at : at + 2] = scales.view(np.uint8).reshape(count, 2)
    return blocks


def quantised():
    """Tensors in each block format beside what the gguf package makes of them, and metadata of every type."""
    rng = np.random.default_rng(3)
    writer = gguf.GGUFWriter(HERE / "quantised.gguf", "test")
    writer.add_uint8("v.u8", 200)
    writer.add_int8("v.i8", -100)
    writer.add_uint16("v.u16", 60000)
    writer.add_int16("v.i16", -30000)
    writer.add_uint32("v.u32", 4_000_000_000)
    writer.add_int32("v.i32", -2_000_000_000)
    writer.add_uint64("v.u64", 2**64 - 1)
    writer.add_int64("v.i64", -(2**63))
    writer.add_float32("v.f32", 1.5)
    writer.add_float64("v.f64", 0.1)
    writer.add_bool("v.bool", True)
    writer.add_string("v.string", "grüße\n")
    writer.add_array("v.strings", ["a", "", "ключ"])
    writer.add_array("v.ints", [1, -2, 3])
    writer.add_array("v.floats", [0.5, -0.25])
    writer.add_array("v.bools", [True, False])
    writer.add_array("v.nested", [[1, 2], [3, 4, 5]])
    writer.add_custom_alignment(64)
    for quantisation, rows, width in ((Type.Q8_0, 3, 64), (Type.Q4_0, 3, 64), (Type.Q4_K, 3, 256), (Type.Q6_K, 3, 256)):
        name = quantisation.name.lower()
        block, size = gguf.GGML_QUANT_SIZES[quantisation]
        raw = random_blocks(rng, quantisation, rows * width // block).reshape(rows, width // block * size)
        writer.add_tensor(name, raw, raw_dtype=quantisation)
        writer.add_tensor(f"{name}.f32", gguf.quants.dequantize(raw, quantisation).astype(np.float32))
    for quantisation in (Type.Q8_0, Type.Q4_0):
        values = rng.standard_normal((2, 96)).astype(np.float32)
        raw = gguf.quants.quantize(values, quantisation)
        name = f"normal.{quantisation.name.lower()}"
        writer.add_tensor(name, raw, raw_dtype=quantisation)
        writer.add_tensor(f"{name}.f32", gguf.quants.dequantize(raw, quantisation).astype(np.float32))
    writer.add_tensor("f16", np.arange(6, dtype=np.float16).reshape(1, 2, 3))
    writer.add_tensor("i32", np.array([-1, 2], dtype=np.int32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    conversions()
    all_dtypes()
    quantised()
