#include "engine/profile/corpus.h"

#include <algorithm>
#include <cstdio>
#include <system_error>

#include "core/base/atomic_file.h"
#include "core/base/error.h"
#include "core/base/fingerprint.h"
#include "core/base/interrupt.h"
#include "core/base/temporary_file.h"
#include "core/text/unicode.h"

namespace torpor {
namespace fs = std::filesystem;
namespace {

// Text is tokenised in pieces of this size: large enough that a cut between two pieces is rare, small enough to stay in
// the cache.
constexpr std::size_t kPieceBytes = std::size_t{1} << 16;
constexpr std::size_t kReadAround = std::size_t{2} << 20;  // what Linux maps at most beside a page that is touched
constexpr std::size_t kCheckedBytes = std::size_t{4} << 20;

// Tokens are shorter than this many bytes on average in every real vocabulary; only used to size reads.
constexpr std::int64_t kBytesPerToken = 16;

void spool_standard_input(TemporaryFile& file) {
  std::byte buffer[1 << 16];
  while (const std::size_t got = std::fread(buffer, 1, sizeof buffer, stdin)) {
    check_interrupt();
    file.append({buffer, got});
  }
  file.flush();
}

/// The end of a piece that starts at `begin` and is at most `limit` bytes: after the last white space in its second
/// half, so that words stay whole, else before a character that would be cut.
std::size_t piece_end(std::string_view text, std::size_t begin, std::size_t limit) {
  if (text.size() - begin <= limit) return text.size();
  std::size_t end = begin + limit;
  for (std::size_t at = end; at > begin + limit / 2; --at)
    if (text[at - 1] == '\n') return at;
  for (std::size_t at = end; at > begin + limit / 2; --at)
    if (text[at] == ' ') return at;
  while (end > begin + 1 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  return end;
}

/// Fills windows from a stream of pieces of one document.
class WindowCutter {
 public:
  WindowCutter(const Tokenizer& tokenizer, int vocab_size, std::int64_t window)
      : tokenizer_(tokenizer), vocab_size_(vocab_size), window_(window) {
    start();
  }

  /// Appends a piece; calls visit for each window that is full. False: visit asked to stop.
  bool append(std::string_view piece, const std::function<bool(TextWindow)>& visit) {
    for (const TokenId id : tokenizer_.encode(piece, {.add_special = false})) {
      if (id < 0 || id >= vocab_size_)
        throw BadInput(
            "the tokenizer ({}) gives token {}, but the model's vocabulary has {} entries. Is this the model's "
            "tokenizer? Name another with --tokenizer",
            tokenizer_.description(), id, vocab_size_);
      if (!current_.tokens.empty()) current_.bytes += static_cast<std::int64_t>(tokenizer_.token_bytes(id).size());
      current_.tokens.push_back(id);
      if (static_cast<std::int64_t>(current_.tokens.size()) == window_ && !flush(visit)) return false;
    }
    return true;
  }

  /// Hands out what is left, if it predicts anything.
  bool finish(const std::function<bool(TextWindow)>& visit) {
    if (current_.tokens.size() >= 2) return flush(visit);
    start();
    return true;
  }

 private:
  void start() {
    current_ = {};
    current_.tokens.reserve(static_cast<std::size_t>(window_));
    if (const auto bos = tokenizer_.bos()) current_.tokens.push_back(*bos);
  }
  bool flush(const std::function<bool(TextWindow)>& visit) {
    TextWindow full = std::move(current_);
    start();
    return visit(std::move(full));
  }

  const Tokenizer& tokenizer_;
  int vocab_size_;
  std::int64_t window_;
  TextWindow current_;
};

[[noreturn]] void too_short(const TextCorpus& corpus, std::int64_t window, std::int64_t found) {
  throw BadInput(
      "{}: expected a text of at least two windows of {} tokens, found {} tokens. Give a longer text or a smaller "
      "--window",
      corpus.source(), window, found);
}

}  // namespace

void TextCorpus::add(const fs::path& file, Fingerprint& fingerprint) {
  if (fs::is_regular_file(file) && fs::file_size(file) == 0) return;
  auto mapped = MappedFile::open(file);
  const std::string_view text(reinterpret_cast<const char*>(mapped->bytes().data()), mapped->bytes().size());
  // Piece by piece, so that a text of any length never is in memory as a whole.
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = piece_end(text, at, kCheckedBytes);
    const std::string_view piece = text.substr(at, end - at);
    text::check_utf8(piece, file.string(), at, ". Convert the file, e.g. iconv -f latin1 -t utf-8");
    fingerprint.add(piece);
    mapped->release(mapped->bytes().subspan(at, piece.size()));
    at = end;
  }
  documents_.push_back(text);
  bytes_ += static_cast<std::int64_t>(text.size());
  files_.push_back(std::move(mapped));
}

void TextCorpus::release(std::size_t index, std::size_t begin, std::size_t end) const {
  const auto bytes = files_.at(index)->bytes();
  const std::size_t from = begin - std::min(begin, kReadAround), to = std::min(bytes.size(), end + kReadAround);
  if (from < to) files_[index]->release(bytes.subspan(from, to - from));
}

TextCorpus TextCorpus::open(const fs::path& path) {
  TextCorpus corpus;
  Fingerprint fingerprint;
  corpus.source_ = path.string();
  if (path == "-") {
    corpus.source_ = "standard input";
    TemporaryFile spooled("torpor-stdin");
    spool_standard_input(spooled);
    try {
      corpus.add(spooled.path(), fingerprint);
    } catch (const BadInput& error) {
      std::string message = error.what();
      const std::string name = spooled.path().string();
      if (const auto at = message.find(name); at != std::string::npos) message.replace(at, name.size(), corpus.source_);
      throw BadInput("{}", message);
    }
  } else if (fs::is_directory(path)) {
    std::vector<fs::path> files;
    try {
      for (const auto& entry : fs::recursive_directory_iterator(path))
        if (entry.is_regular_file() && entry.path().extension() == ".txt") files.push_back(entry.path());
    } catch (const fs::filesystem_error& error) {
      throw BadInput("{}: expected a folder that can be read, found {}: {}", path.string(), error.path1().string(),
                     error.code().message());
    }
    if (files.empty()) throw BadInput("{}: expected text files (*.txt) in this folder, found none", path.string());
    std::sort(files.begin(), files.end());
    for (const fs::path& file : files) corpus.add(file, fingerprint);
  } else if (!fs::exists(path)) {
    throw BadInput("{}: expected a text file, a folder of .txt files or -, found nothing there", path.string());
  } else {
    corpus.add(path, fingerprint);
  }
  if (corpus.bytes_ == 0) throw BadInput("{}: expected text, found none (0 bytes)", corpus.source_);
  corpus.fingerprint_ = fingerprint.hex();
  return corpus;
}

void for_each_window(const TextCorpus& corpus, const Tokenizer& tokenizer, int vocab_size, std::int64_t window,
                     const std::function<bool(TextWindow)>& visit) {
  if (window < 2) throw InvalidArgument("[for_each_window] expected a window of at least 2 tokens, got {}", window);
  for (std::size_t index = 0; index < corpus.documents().size(); ++index) {
    const std::string_view document = corpus.documents()[index];
    WindowCutter cutter(tokenizer, vocab_size, window);
    for (std::size_t at = 0; at < document.size();) {
      const std::size_t end = piece_end(document, at, kPieceBytes);
      if (!cutter.append(document.substr(at, end - at), visit)) return;
      corpus.release(index, at, end);
      at = end;
    }
    if (!cutter.finish(visit)) return;
  }
}

std::vector<TextWindow> sample_windows(const TextCorpus& corpus, const Tokenizer& tokenizer, int vocab_size,
                                       std::int64_t window, std::int64_t count) {
  if (window < 2 || count < 2)
    throw InvalidArgument("[sample_windows] expected window >= 2 and count >= 2, got {} and {}", window, count);
  std::vector<TextWindow> windows;
  std::int64_t tokens = 0;
  const auto keep_full = [&](TextWindow found) {
    tokens += static_cast<std::int64_t>(found.tokens.size());
    if (static_cast<std::int64_t>(found.tokens.size()) == window) windows.push_back(std::move(found));
    return true;
  };

  if (corpus.bytes() / kBytesPerToken / window < count) {  // small: cut all of it, then thin out evenly
    for_each_window(corpus, tokenizer, vocab_size, window, keep_full);
    const auto found = static_cast<std::int64_t>(windows.size());
    if (found < 2) too_short(corpus, window, tokens);
    if (found <= count) return windows;
    std::vector<TextWindow> chosen;
    for (std::int64_t i = 0; i < count; ++i)
      chosen.push_back(std::move(windows[static_cast<std::size_t>(i * found / count)]));
    return chosen;
  }

  // Large: `count` places evenly spread over the bytes of all documents; a place lends at most its own share of the
  // text.
  const std::int64_t share = corpus.bytes() / count;                  // >= window * kBytesPerToken
  const std::int64_t align = std::min<std::int64_t>(256, share / 4);  // bytes given up to start at a word
  std::int64_t document_start = 0;
  std::int64_t place = 0;
  for (std::size_t index = 0; index < corpus.documents().size(); ++index) {
    const std::string_view document = corpus.documents()[index];
    const auto size = static_cast<std::int64_t>(document.size());
    for (; place < count && place * share < document_start + size; ++place) {
      check_interrupt();
      auto begin = static_cast<std::size_t>(place * share - document_start);
      if (begin > 0)
        begin = piece_end(document, begin, std::min(static_cast<std::size_t>(align), document.size() - begin));
      const std::size_t most = static_cast<std::size_t>(std::min(share - align, window * kBytesPerToken));
      const std::size_t end = piece_end(document, begin, std::min(most, document.size() - begin));
      bool full = false;
      WindowCutter cutter(tokenizer, vocab_size, window);
      for (std::size_t at = begin; at < end && !full;) {
        const std::size_t next = std::min(end, piece_end(document, at, static_cast<std::size_t>(window) * 5));
        cutter.append(document.substr(at, next - at), [&](TextWindow found) {
          keep_full(std::move(found));
          full = true;
          return false;
        });
        at = next;
      }
      corpus.release(index, begin, end);
    }
    document_start += size;
  }
  if (windows.size() < 2) too_short(corpus, window, tokens);
  return windows;
}

}  // namespace torpor
