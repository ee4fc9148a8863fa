#include "tests/apps/files.h"

#include <cstring>
#include <fstream>

#include "tests/test_support.h"

namespace torpor::testing {

std::string read_all(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  EXPECT_TRUE(in.good()) << path;
  return {std::istreambuf_iterator<char>(in), {}};
}

void write_all(const std::filesystem::path& path, const std::string& content) {
  std::ofstream(path, std::ios::binary) << content;
}

std::filesystem::path tiny_model(const std::filesystem::path& folder) {
  std::filesystem::copy(golden("apps/tiny"), folder, std::filesystem::copy_options::recursive);
  return folder;
}

std::filesystem::path tiny_text() {
  return golden("apps/text.txt");
}

void edit_json(const std::filesystem::path& path, const std::function<void(Json&)>& edit) {
  Json json = Json::parse(read_all(path));
  edit(json);
  write_all(path, json.dump());
}

namespace {

/// u64 little endian: length of the header; header; data.
void split(const std::string& file, std::string& header, std::string& data) {
  std::uint64_t length = 0;
  std::memcpy(&length, file.data(), sizeof length);
  header = file.substr(8, length);
  data = file.substr(8 + length);
}

std::string join(const std::string& header, const std::string& data) {
  const std::uint64_t length = header.size();
  std::string file(8, '\0');
  std::memcpy(file.data(), &length, sizeof length);
  return file + header + data;
}

}  // namespace

void edit_safetensors(const std::filesystem::path& path,
                      const std::function<void(Json& header, std::string& data)>& edit) {
  std::string text, data;
  split(read_all(path), text, data);
  Json header = Json::parse(text);
  edit(header, data);
  write_all(path, join(header.dump(), data));
}

void edit_safetensors_text(const std::filesystem::path& path, const std::function<void(std::string& header)>& edit) {
  std::string header, data;
  split(read_all(path), header, data);
  edit(header);
  write_all(path, join(header, data));
}

}  // namespace torpor::testing
