#pragma once
// A blocking HTTP client for tests: raw bytes out, parsed answers in.
#include <cstdint>
#include <string>
#include <string_view>

namespace hylas::test {

struct HttpAnswer {
  int status = 0;       // 0: the connection ended without an answer
  std::string headers;  // with the status line
  std::string body;     // without chunk framing
};

class HttpClient {
 public:
  explicit HttpClient(uint16_t port, int receive_buffer_bytes = 0);
  ~HttpClient();
  HttpClient(const HttpClient&) = delete;

  void send(std::string_view bytes);
  HttpAnswer receive(bool head_only = false);  // the next answer, waiting at most 10 s
  std::string receive_some();                  // what comes next; empty at the end
  bool ended();                                // waits for the server to close
  HttpAnswer get(std::string_view path);
  HttpAnswer post(std::string_view path, std::string_view body);

 private:
  bool fill();
  std::string take_line();
  std::string take(size_t bytes);

  int socket_;
  std::string input_;
};

}  // namespace hylas::test
