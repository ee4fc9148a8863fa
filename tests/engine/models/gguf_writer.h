// The least GGUF writer that tests need: metadata and f32 tensors, version 3, alignment 32. Source: the GGUF
// specification.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

namespace torpor::testing {

class GgufWriter {
 public:
  void add_text(const std::string& key, const std::string& value) {
    begin(key, 8);
    text(keys_, value);
  }
  void add_u32(const std::string& key, std::uint32_t value) {
    begin(key, 4);
    number(keys_, value);
  }
  void add_f32(const std::string& key, float value) {
    begin(key, 6);
    number(keys_, value);
  }
  void add_i32s(const std::string& key, const std::vector<std::int32_t>& values) {
    begin(key, 9);
    number(keys_, std::uint32_t{5});
    number(keys_, static_cast<std::uint64_t>(values.size()));
    for (const auto value : values) number(keys_, value);
  }
  void add_f32s(const std::string& key, const std::vector<float>& values) {
    begin(key, 9);
    number(keys_, std::uint32_t{6});
    number(keys_, static_cast<std::uint64_t>(values.size()));
    for (const auto value : values) number(keys_, value);
  }
  void add_bools(const std::string& key, const std::vector<bool>& values) {
    begin(key, 9);
    number(keys_, std::uint32_t{7});
    number(keys_, static_cast<std::uint64_t>(values.size()));
    for (const bool value : values) number(keys_, static_cast<std::uint8_t>(value ? 1 : 0));
  }
  /// shape: outermost first, as everywhere here.
  void add_tensor(const std::string& name, std::vector<std::uint64_t> shape, const std::vector<float>& values) {
    text(infos_, name);
    number(infos_, static_cast<std::uint32_t>(shape.size()));
    for (auto it = shape.rbegin(); it != shape.rend(); ++it) number(infos_, *it);
    number(infos_, std::uint32_t{0});
    number(infos_, static_cast<std::uint64_t>(data_.size()));
    data_.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
    data_.resize((data_.size() + 31) / 32 * 32);
    ++tensors_;
  }
  std::string bytes() const {
    std::string file = "GGUF";
    number(file, std::uint32_t{3});
    number(file, tensors_);
    number(file, count_);
    file += keys_ + infos_;
    file.resize((file.size() + 31) / 32 * 32);
    return file + data_;
  }

 private:
  template <typename T>
  static void number(std::string& to, T value) {
    to.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  static void text(std::string& to, const std::string& value) {
    number(to, static_cast<std::uint64_t>(value.size()));
    to += value;
  }
  void begin(const std::string& key, std::uint32_t type) {
    text(keys_, key);
    number(keys_, type);
    ++count_;
  }

  std::string keys_, infos_, data_;
  std::uint64_t count_ = 0, tensors_ = 0;
};

}  // namespace torpor::testing
