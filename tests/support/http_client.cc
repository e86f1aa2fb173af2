#include "support/http_client.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <utility>

#include "base/check.h"

namespace hylas::test {

HttpClient::HttpClient(uint16_t port, int receive_buffer_bytes) : socket_(::socket(AF_INET, SOCK_STREAM, 0)) {
  HYLAS_CHECK(socket_ >= 0);
  timeval limit{.tv_sec = 10};
  setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  if (receive_buffer_bytes > 0) {
    setsockopt(socket_, SOL_SOCKET, SO_RCVBUF, &receive_buffer_bytes, sizeof receive_buffer_bytes);
  }
  sockaddr_in address{.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
  HYLAS_CHECK(connect(socket_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0, "cannot connect");
}

HttpClient::~HttpClient() { close(socket_); }

void HttpClient::send(std::string_view bytes) {
  while (!bytes.empty()) {
    ssize_t sent = ::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent <= 0) return;  // the server closed: receive() shows what it said
    bytes.remove_prefix(size_t(sent));
  }
}

bool HttpClient::fill() {
  char buffer[16384];
  ssize_t count = recv(socket_, buffer, sizeof buffer, 0);
  if (count > 0) input_.append(buffer, size_t(count));
  return count > 0;
}

std::string HttpClient::receive_some() {
  if (input_.empty()) fill();
  return std::exchange(input_, {});
}

bool HttpClient::ended() {
  input_.clear();
  while (fill()) input_.clear();
  return true;
}

std::string HttpClient::take_line() {
  while (input_.find("\r\n") == std::string::npos) {
    if (!fill()) return {};
  }
  return take(input_.find("\r\n") + 2);
}

std::string HttpClient::take(size_t bytes) {
  while (input_.size() < bytes && fill()) {
  }
  std::string taken = input_.substr(0, bytes);
  input_.erase(0, taken.size());
  return taken;
}

HttpAnswer HttpClient::receive(bool head_only) {
  HttpAnswer answer;
  for (std::string line = take_line(); !line.empty() && line != "\r\n"; line = take_line()) answer.headers += line;
  if (answer.headers.size() < 12) return answer;
  answer.status = std::stoi(answer.headers.substr(9, 3));
  if (head_only) return answer;
  if (size_t at = answer.headers.find("Content-Length: "); at != std::string::npos) {
    answer.body = take(std::stoul(answer.headers.substr(at + 16)));
  } else if (answer.headers.find("Transfer-Encoding: chunked") != std::string::npos) {
    while (true) {
      std::string size = take_line();
      if (size.empty()) break;
      size_t bytes = std::stoul(size, nullptr, 16);
      answer.body += take(bytes);
      take_line();
      if (bytes == 0) break;
    }
  }
  return answer;
}

HttpAnswer HttpClient::get(std::string_view path) {
  send(fmt::format("GET {} HTTP/1.1\r\nHost: test\r\n\r\n", path));
  return receive();
}

HttpAnswer HttpClient::post(std::string_view path, std::string_view body) {
  send(fmt::format("POST {} HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n{}", path, body.size(), body));
  return receive();
}

}  // namespace hylas::test
