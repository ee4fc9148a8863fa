// ggml's tensor types. Internal to core/tensor.
#pragma once

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>

#include "core/base/error.h"
#include "core/tensor/in_quotes.h"
#include "core/tensor/number_format.h"

namespace torpor::gguf {

struct TensorType {
  std::uint32_t number;
  std::string_view name;
  std::optional<NumberFormat> format;  // what it is here, if Torpor reads it
};

inline constexpr TensorType kTensorTypes[] = {
    {0, "F32", NumberFormat::f32},
    {1, "F16", NumberFormat::f16},
    {2, "Q4_0", NumberFormat::q4_0},
    {3, "Q4_1", {}},
    {6, "Q5_0", {}},
    {7, "Q5_1", {}},
    {8, "Q8_0", NumberFormat::q8_0},
    {9, "Q8_1", {}},
    {10, "Q2_K", {}},
    {11, "Q3_K", {}},
    {12, "Q4_K", NumberFormat::q4_k},
    {13, "Q5_K", {}},
    {14, "Q6_K", NumberFormat::q6_k},
    {15, "Q8_K", {}},
    {16, "IQ2_XXS", {}},
    {17, "IQ2_XS", {}},
    {18, "IQ3_XXS", {}},
    {19, "IQ1_S", {}},
    {20, "IQ4_NL", {}},
    {21, "IQ3_S", {}},
    {22, "IQ2_S", {}},
    {23, "IQ4_XS", {}},
    {24, "I8", NumberFormat::i8},
    {25, "I16", NumberFormat::i16},
    {26, "I32", NumberFormat::i32},
    {27, "I64", NumberFormat::i64},
    {28, "F64", NumberFormat::f64},
    {29, "IQ1_M", {}},
    {30, "BF16", NumberFormat::bf16},
    {34, "TQ1_0", {}},
    {35, "TQ2_0", {}},
    {39, "MXFP4", {}},
    {40, "NVFP4", {}},
    {41, "Q1_0", {}},
};

/// Throws BadInput for a type that is unknown or not read, naming it and those that are.
inline NumberFormat format_of(std::uint32_t number, const std::string& where, std::string_view tensor) {
  const auto* type = std::find_if(std::begin(kTensorTypes), std::end(kTensorTypes),
                                  [&](const TensorType& candidate) { return candidate.number == number; });
  if (type == std::end(kTensorTypes))
    throw BadInput("{}: tensor {}: the ggml type {} is unknown. Is the file damaged, or newer than this program?",
                   where, in_quotes(tensor), number);
  if (type->format) return *type->format;
  std::string supported;
  for (const TensorType& candidate : kTensorTypes)
    if (candidate.format) supported += fmt::format("{}{}", supported.empty() ? "" : ", ", candidate.name);
  throw BadInput("{}: tensor {}: {} is not supported; supported: {}. Requantise the model", where, in_quotes(tensor),
                 type->name, supported);
}

}  // namespace torpor::gguf
