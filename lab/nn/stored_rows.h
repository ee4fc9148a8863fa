// Rows of tensors of any floating type, to work on in f32 (f64 for f64). Internal to lab/nn.
#pragma once

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>
#include <vector>

#include "core/tensor/number_format.h"

namespace torpor::lab::detail {

inline constexpr std::int64_t kRowsWorthAThread = 16;  // least part of at::parallel_for

template <typename Stored>
using RowType = std::conditional_t<std::is_same_v<Stored, double>, double, float>;

template <typename Stored>
inline constexpr bool kConverted = !std::is_same_v<Stored, RowType<Stored>>;

template <typename Stored>
inline constexpr NumberFormat kFormat = std::is_same_v<Stored, c10::BFloat16> ? NumberFormat::bf16 : NumberFormat::f16;

/// The stored row itself, or its numbers in `buffer`.
template <typename Stored>
const RowType<Stored>* row_of(const Stored* stored, std::int64_t n, std::vector<RowType<Stored>>& buffer) {
  if constexpr (kConverted<Stored>) {
    buffer.resize(static_cast<std::size_t>(n));
    to_f32(kFormat<Stored>, reinterpret_cast<const std::byte*>(stored), buffer);
    return buffer.data();
  } else {
    return stored;
  }
}

/// Calls write(row) on the stored row, or on `buffer` whose numbers are then stored.
template <typename Stored, typename Function>
void write_row(Stored* stored, std::int64_t n, std::vector<RowType<Stored>>& buffer, Function write) {
  if constexpr (kConverted<Stored>) {
    buffer.resize(static_cast<std::size_t>(n));
    write(buffer.data());
    from_f32(buffer, kFormat<Stored>, reinterpret_cast<std::byte*>(stored));
  } else {
    write(stored);
  }
}

}  // namespace torpor::lab::detail
