// Golden models with something done to them, in a folder of the test's own.
#pragma once

#include <cstring>
#include <deque>
#include <functional>
#include <string>
#include <vector>

#include "core/base/atomic_file.h"
#include "core/base/json.h"
#include "core/tensor/safetensors.h"
#include "engine/models/model.h"
#include "tests/test_support.h"

namespace torpor::testing {

/// The tensors of a model, to be changed. Owns what it makes.
class Tensors {
 public:
  explicit Tensors(const std::filesystem::path& folder) : archive_(open_safetensors(folder)) {
    for (const auto& tensor : archive_.tensors()) list.push_back(tensor);
  }
  TensorView& operator[](const std::string& name) {
    for (auto& tensor : list)
      if (tensor.name == name) return tensor;
    ADD_FAILURE() << "no tensor " << name;
    return list.front();
  }
  void remove(const std::string& name) {
    std::erase_if(list, [&](const TensorView& tensor) { return tensor.name == name; });
  }
  void add(const std::string& name, NumberFormat format, std::vector<std::int64_t> shape) {
    std::int64_t elements = 1;
    for (const auto size : shape) elements *= size;
    auto& bytes = owned_.emplace_back(bytes_of(format, elements), std::byte{0});
    list.push_back({name, format, std::move(shape), bytes});
  }
  void set(const std::string& name, std::size_t element, float value) {
    TensorView& tensor = (*this)[name];
    auto& bytes = owned_.emplace_back(tensor.bytes.begin(), tensor.bytes.end());
    std::memcpy(bytes.data() + 4 * element, &value, 4);
    tensor.bytes = bytes;
  }

  std::vector<TensorView> list;

 private:
  TensorArchive archive_;
  std::deque<std::vector<std::byte>> owned_;
};

/// Writes golden model `name`, changed, to `folder`.
inline void write_edited(const std::string& name, const std::filesystem::path& folder,
                         const std::function<void(Tensors&)>& edit,
                         const std::function<void(Json&)>& edit_config = {}) {
  const auto source = golden("models/" + name);
  Tensors tensors(source);
  if (edit) edit(tensors);
  Json config = read_json(source / "config.json");
  if (edit_config) edit_config(config);
  write_file_atomically(folder / "config.json", config.dump());
  write_safetensors(folder / "model.safetensors", tensors.list);
}

}  // namespace torpor::testing
