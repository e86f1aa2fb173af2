#include "serve/api_error.h"

#include <boost/json.hpp>

namespace hylas {
namespace {

const char* error_type(int status) {
  if (status == 401) return "authentication_error";
  if (status == 404) return "not_found_error";
  if (status < 500) return "invalid_request_error";
  return status == 503 ? "service_unavailable" : "server_error";
}

boost::json::value field_of(std::string_view message) {
  if (!message.starts_with('`')) return nullptr;
  size_t end = message.find('`', 1);
  if (end == std::string_view::npos) return nullptr;
  return boost::json::string(message.substr(1, end - 1));
}

}  // namespace

int http_status(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInvalid:
    case ErrorCode::kUnsupported:
      return 400;
    case ErrorCode::kNotFound:
      return 404;
    case ErrorCode::kExhausted:
    case ErrorCode::kUnavailable:
      return 503;
    case ErrorCode::kIo:
    case ErrorCode::kCancelled:
      return 500;
  }
  return 500;
}

std::string error_json(int status, std::string_view message) {
  boost::json::object body{
      {"message", message}, {"type", error_type(status)}, {"param", field_of(message)}, {"code", status}};
  return boost::json::serialize(boost::json::object{{"error", std::move(body)}});
}

std::string error_json(const Error& error) { return error_json(http_status(error.code), error.message); }

}  // namespace hylas
