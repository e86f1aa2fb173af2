#include "base/net.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

namespace hylas {
namespace {

TEST(HostPort, ParsesNamesAndAddresses) {
  EXPECT_EQ(parse_host_port("127.0.0.1:30000").value(), (HostPort{"127.0.0.1", 30000}));
  EXPECT_EQ(parse_host_port("node-7.example:1").value(), (HostPort{"node-7.example", 1}));
  EXPECT_EQ(parse_host_port("[::1]:65535").value(), (HostPort{"::1", 65535}));
}

TEST(HostPort, RefusesWhatIsNotOneAndQuotesIt) {
  for (const char* text : {"", "localhost", ":80", "host:", "host:0", "host:65536", "host:-1", "host:80x", "host: 80",
                           "::1:80", "[]:80"}) {
    auto parsed = parse_host_port(text);
    ASSERT_FALSE(parsed.ok()) << text;
    EXPECT_EQ(parsed.error().code, ErrorCode::kInvalid);
    EXPECT_NE(parsed.error().message.find(fmt::format("'{}'", text)), std::string::npos) << parsed.error().message;
  }
}

TEST(HostPort, PrintsAsItIsWritten) {
  for (const char* text : {"localhost:30000", "[fe80::1]:7"}) EXPECT_EQ(to_string(*parse_host_port(text)), text);
}

// Listens on a port that the system picks.
struct Listener {
  int socket_fd = socket(AF_INET, SOCK_STREAM, 0);
  uint16_t port = 0;
  Listener() {
    sockaddr_in address{.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof address;
    EXPECT_EQ(bind(socket_fd, reinterpret_cast<sockaddr*>(&address), size), 0);
    EXPECT_EQ(listen(socket_fd, 1), 0);
    EXPECT_EQ(getsockname(socket_fd, reinterpret_cast<sockaddr*>(&address), &size), 0);
    port = ntohs(address.sin_port);
  }
  ~Listener() { close(socket_fd); }
};

TEST(CheckPortFree, TellsAPortInUseFromAFreeOne) {
  HostPort address{"127.0.0.1", 0};
  {
    Listener listener;
    address.port = listener.port;
    Status taken = check_port_free(address);
    ASSERT_FALSE(taken.ok());
    EXPECT_EQ(taken.error().code, ErrorCode::kIo);
    EXPECT_NE(taken.error().message.find(to_string(address) + " is in use"), std::string::npos)
        << taken.error().message;
  }
  EXPECT_TRUE(check_port_free(address).ok());
}

TEST(CheckPortFree, NamesAnAddressThatIsNotThisMachines) {
  Status refused = check_port_free({"192.0.2.1", 30000});  // a documentation address
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.error().message.find("192.0.2.1:30000"), std::string::npos) << refused.error().message;
}

}  // namespace
}  // namespace hylas
