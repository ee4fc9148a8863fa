#include "core/tensor/llama2c.h"

#include <cstdlib>
#include <cstring>

#include "core/base/error.h"

namespace torpor {
namespace {

constexpr std::uint32_t kMagic = 0x616B3432;  // "ak42": versions 1 and 2
constexpr std::int32_t kMostLayers = 4096;    // far beyond any model; bounds the list of tensors of a hostile file
constexpr std::int32_t kMostOther =
    100'000'000;  // each size; keeps the sums below far from 2^63 (checked all the same)

// Walks through the file, tensor by tensor. First only to add sizes up, then to hand out views.
class Walk {
 public:
  std::uint64_t floats = 0;
  bool overflow = false;

  /// The floats at which a tensor of this shape starts; moves behind it.
  std::uint64_t take(std::uint64_t rows, std::uint64_t columns, std::uint64_t layers = 1) {
    const std::uint64_t start = floats;
    std::uint64_t size = 0;
    overflow |= __builtin_mul_overflow(rows, columns, &size) || __builtin_mul_overflow(size, layers, &size) ||
                __builtin_add_overflow(floats, size, &floats) || floats > (UINT64_MAX >> 3);
    return start;
  }
};

Llama2cHeader read_header(std::span<const std::byte> file, const std::string& where) {
  std::int32_t fields[7];
  if (file.size() < sizeof fields)
    throw BadInput("{}: expected a llama2.c checkpoint with a header of {} bytes, found a file of {}", where,
                   sizeof fields, file.size());
  std::memcpy(fields, file.data(), sizeof fields);
  if (static_cast<std::uint32_t>(fields[0]) == kMagic)
    throw BadInput("{}: expected a llama2.c checkpoint of version 0, found version {}. Export it with --version 0",
                   where, fields[1]);
  constexpr const char* kNames[] = {"dim", "hidden_dim", "n_layers", "n_heads", "n_kv_heads", "vocab_size", "seq_len"};
  for (int i = 0; i < 7; ++i) {
    const std::int64_t value = i == 5 ? std::abs(std::int64_t{fields[i]}) : fields[i];
    const std::int32_t most = i == 2 ? kMostLayers : kMostOther;
    if (value < 1 || value > most)
      throw BadInput("{}: expected {} from 1 to {} at byte {}, found {}. Is this a llama2.c checkpoint?", where,
                     kNames[i], most, 4 * i, fields[i]);
  }
  Llama2cHeader header{fields[0], fields[1],           fields[2], fields[3],
                       fields[4], std::abs(fields[5]), fields[6], fields[5] > 0};
  if (header.dim % header.n_heads != 0)
    throw BadInput("{}: expected dim to be a multiple of n_heads, found {} and {}", where, header.dim, header.n_heads);
  if (header.n_heads % header.n_kv_heads != 0)
    throw BadInput("{}: expected n_heads to be a multiple of n_kv_heads, found {} and {}", where, header.n_heads,
                   header.n_kv_heads);
  if (header.head_dim() % 2 != 0)
    throw BadInput("{}: expected an even head size dim / n_heads for rotary embeddings, found {}", where,
                   header.head_dim());
  return header;
}

}  // namespace

Llama2cCheckpoint parse_llama2c(std::span<const std::byte> file, std::shared_ptr<const void> owner,
                                const std::string& where) {
  const Llama2cHeader h = read_header(file, where);
  const auto size = [](std::int32_t value) { return static_cast<std::uint64_t>(value); };
  const std::uint64_t layers = size(h.n_layers), dim = size(h.dim), hidden = size(h.hidden_dim), kv = size(h.kv_dim());

  Walk walk;
  const std::uint64_t embedding = walk.take(size(h.vocab_size), dim);
  const std::uint64_t attention_norm = walk.take(1, dim, layers);
  const std::uint64_t query = walk.take(dim, dim, layers);
  const std::uint64_t key = walk.take(kv, dim, layers);
  const std::uint64_t value = walk.take(kv, dim, layers);
  const std::uint64_t output = walk.take(dim, dim, layers);
  const std::uint64_t ffn_norm = walk.take(1, dim, layers);
  const std::uint64_t gate = walk.take(hidden, dim, layers);  // w1
  const std::uint64_t down = walk.take(dim, hidden, layers);  // w2
  const std::uint64_t up = walk.take(hidden, dim, layers);    // w3
  const std::uint64_t final_norm = walk.take(1, dim);
  walk.take(size(h.seq_len), size(h.head_dim()));  // tables of cosines and sines that old versions stored: skipped
  const std::uint64_t classifier = h.tied ? embedding : walk.take(size(h.vocab_size), dim);

  constexpr std::uint64_t kHeaderBytes = 28;
  if (walk.overflow || walk.floats * 4 + kHeaderBytes != file.size())
    throw BadInput(
        "{}: dim {}, hidden_dim {}, n_layers {}, n_heads {}, n_kv_heads {}, vocab_size {} ({}), seq_len {} take {} "
        "bytes, the file has {}. Is this a complete llama2.c checkpoint?",
        where, h.dim, h.hidden_dim, h.n_layers, h.n_heads, h.n_kv_heads, h.vocab_size, h.tied ? "tied" : "not tied",
        h.seq_len, walk.overflow ? std::string("more than 2^63") : fmt::format("{}", walk.floats * 4 + kHeaderBytes),
        file.size());

  Llama2cCheckpoint checkpoint{h, {}};
  checkpoint.tensors.set_where(where);
  const auto add = [&](std::string name, std::uint64_t start, std::vector<std::int64_t> shape,
                       std::uint64_t layer = 0) {
    const auto elements = static_cast<std::uint64_t>(*element_count(shape));
    const auto bytes = file.subspan(kHeaderBytes + 4 * (start + layer * elements), 4 * elements);
    checkpoint.tensors.add({std::move(name), NumberFormat::f32, std::move(shape), bytes}, owner);
  };
  add("model.embed_tokens.weight", embedding, {h.vocab_size, h.dim});
  for (std::uint64_t layer = 0; layer < layers; ++layer) {
    const std::string prefix = fmt::format("model.layers.{}.", layer);
    add(prefix + "input_layernorm.weight", attention_norm, {h.dim}, layer);
    add(prefix + "self_attn.q_proj.weight", query, {h.dim, h.dim}, layer);
    add(prefix + "self_attn.k_proj.weight", key, {h.kv_dim(), h.dim}, layer);
    add(prefix + "self_attn.v_proj.weight", value, {h.kv_dim(), h.dim}, layer);
    add(prefix + "self_attn.o_proj.weight", output, {h.dim, h.dim}, layer);
    add(prefix + "post_attention_layernorm.weight", ffn_norm, {h.dim}, layer);
    add(prefix + "mlp.gate_proj.weight", gate, {h.hidden_dim, h.dim}, layer);
    add(prefix + "mlp.down_proj.weight", down, {h.dim, h.hidden_dim}, layer);
    add(prefix + "mlp.up_proj.weight", up, {h.hidden_dim, h.dim}, layer);
  }
  add("model.norm.weight", final_norm, {h.dim});
  if (!h.tied) add("lm_head.weight", classifier, {h.vocab_size, h.dim});
  return checkpoint;
}

Llama2cCheckpoint open_llama2c(const std::filesystem::path& path) {
  auto mapped = MappedFile::open(path);
  const auto bytes = mapped->bytes();
  return parse_llama2c(bytes, std::move(mapped), path.string());
}

}  // namespace torpor
