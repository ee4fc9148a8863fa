// Building damaged and odd inputs out of good ones.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

#include "core/base/json.h"

namespace torpor::testing {

std::string read_all(const std::filesystem::path& path);
void write_all(const std::filesystem::path& path, const std::string& content);

/// A copy of tests/golden/apps/tiny (config.json, model.safetensors, tokenizer.json) in `folder`; returns it.
std::filesystem::path tiny_model(const std::filesystem::path& folder);
/// A text that the tiny model was not trained on (20 kB).
std::filesystem::path tiny_text();

/// Rewrites one field or more of a JSON file.
void edit_json(const std::filesystem::path& path, const std::function<void(Json&)>& edit);

/// Rewrites a safetensors file: its header as JSON and its data.
void edit_safetensors(const std::filesystem::path& path,
                      const std::function<void(Json& header, std::string& data)>& edit);
/// The same, but with the header as text, so that it can be no JSON at all.
void edit_safetensors_text(const std::filesystem::path& path, const std::function<void(std::string& header)>& edit);

}  // namespace torpor::testing
