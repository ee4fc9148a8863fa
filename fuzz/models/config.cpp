// config.json, with the loader behind it on weights that lie in memory: the model runs, or BadInput says why not.
// The weights are those of nine tiny models (d_model 8, 2 layers, vocabulary 6), one of each architecture, all zero
// but for a pattern; the fuzzer finds configurations that fit them, and must not find one that makes the engine read
// beyond them.
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "engine/models/config_huggingface.h"
#include "fuzz/models/run_model.h"

namespace torpor {
namespace {

constexpr const char* kTiny[] = {
    R"({"model_type":"llama","vocab_size":6,"hidden_size":8,"num_hidden_layers":2,"intermediate_size":5,
        "num_attention_heads":2,"num_key_value_heads":1,"max_position_embeddings":9})",
    R"({"model_type":"mistral","vocab_size":6,"hidden_size":8,"num_hidden_layers":2,"intermediate_size":5,
        "num_attention_heads":2,"num_key_value_heads":1,"max_position_embeddings":9,"sliding_window":2})",
    R"({"model_type":"arcee","vocab_size":6,"hidden_size":8,"num_hidden_layers":2,"intermediate_size":5,
        "num_attention_heads":2,"num_key_value_heads":1,"max_position_embeddings":9,"mlp_bias":true})",
    R"({"model_type":"nemotron","vocab_size":6,"hidden_size":8,"num_hidden_layers":2,"intermediate_size":5,
        "num_attention_heads":2,"num_key_value_heads":1,"max_position_embeddings":9})",
    R"({"model_type":"gemma2","vocab_size":6,"hidden_size":8,"num_hidden_layers":2,"intermediate_size":5,
        "num_attention_heads":2,"num_key_value_heads":1,"max_position_embeddings":9,"head_dim":4,"sliding_window":3})",
    R"({"model_type":"gemma3n_text","vocab_size":6,"hidden_size":8,"num_hidden_layers":2,"intermediate_size":5,
        "num_attention_heads":2,"num_key_value_heads":1,"max_position_embeddings":9,"head_dim":4,"sliding_window":3,
        "layer_types":["sliding_attention","sliding_attention"],"num_kv_shared_layers":1,"altup_num_inputs":3,
        "laurel_rank":2,"hidden_size_per_layer_input":3,"vocab_size_per_layer_input":5,
        "activation_sparsity_pattern":[0.6,0.0]})",
    R"({"model_type":"gpt2","vocab_size":6,"n_embd":8,"n_layer":2,"n_inner":5,"n_head":2,"n_positions":9})",
    R"({"model_type":"opt","vocab_size":6,"hidden_size":8,"num_hidden_layers":2,"ffn_dim":5,"num_attention_heads":2,
        "max_position_embeddings":9,"word_embed_proj_dim":4,"do_layer_norm_before":false})",
    R"({"model_type":"spark","vocab_size":6,"hidden_size":8,"num_hidden_layers":2,"intermediate_size":5,
        "num_attention_heads":2,"num_key_value_heads":1,"max_position_embeddings":9,"head_dim":4,
        "hidden_act":"gelu_pytorch_tanh","use_post_norms":true,"ffn_active_neurons":2,"ffn_predictor_size":4,
        "attention_active_keys":2,"attention_predictor_size":2})",
};

/// Every tensor that the architecture table wants for a configuration, filled with small numbers.
TensorArchive make_weights(const ModelConfig& config) {
  TensorArchive archive;
  archive.set_where("model.safetensors");
  const auto add = [&](const std::string& name, std::vector<std::int64_t> shape) {
    std::int64_t elements = 1;
    for (const auto size : shape) elements *= size;
    auto values = std::make_shared<std::vector<float>>(static_cast<std::size_t>(elements));
    for (std::size_t i = 0; i < values->size(); ++i)
      (*values)[i] = static_cast<float>(static_cast<int>(i * 7 % 11) - 5) / 8;
    archive.add({name, NumberFormat::f32, std::move(shape), std::as_bytes(std::span(*values))}, values);
  };
  const Architecture& architecture = architecture_of(config.model_type, "table");
  for (const auto& rule : architecture.tensors) {
    if (rule.huggingface.empty() || (rule.weight != nullptr && !rule.weight(config))) continue;
    const auto out = size_of(rule.out, config), in = size_of(rule.in, config);
    for (const int number : numbers_of(rule, rule.huggingface, config)) {
      const auto [weight, bias] = names_of(rule, false, architecture.prefixes.front(), number);
      using Shape = std::vector<std::int64_t>;
      add(weight, rule.in == Dimension::none ? Shape{out} : rule.transposed ? Shape{in, out} : Shape{out, in});
      if (rule.bias != nullptr && rule.bias(config)) add(bias, {out});
    }
  }
  return archive;
}

const std::map<std::string, TensorArchive>& weights() {
  static const auto* const made = [] {
    auto* archives = new std::map<std::string, TensorArchive>;
    for (const char* text : kTiny) {
      const ModelConfig config = read_huggingface_config(parse_json(text, "tiny"), "tiny");
      archives->emplace(config.model_type, make_weights(config));
    }
    return archives;
  }();
  return *made;
}

}  // namespace
}  // namespace torpor

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace torpor;
  try {
    ModelFiles files;
    files.path = "fuzz";
    files.config_where = "config.json";
    const Json json = parse_json({reinterpret_cast<const char*>(data), size}, files.config_where);
    files.config = read_huggingface_config(json, files.config_where);
    add_generation_config(json, "generation_config.json", files.config);
    files.archive = weights().at(files.config.model_type);
    run_model(files);
  } catch (const BadInput&) {
  }
  return 0;
}
