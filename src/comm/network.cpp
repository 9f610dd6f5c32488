#include "mmkd/comm/network.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <string_view>
#include <vector>

#include "mmkd/base/error.h"

namespace mmkd {
namespace {

struct Interface {
  std::string name, address;
  bool loopback = false;
};

// IPv4 interfaces that are up, in the system's order.
std::vector<Interface> interfaces() {
  ifaddrs* list = nullptr;
  if (getifaddrs(&list) != 0) throw Error("listing the network interfaces: {}", std::strerror(errno));
  const std::unique_ptr<ifaddrs, void (*)(ifaddrs*)> owner(list, freeifaddrs);
  std::vector<Interface> found;
  for (const ifaddrs* entry = list; entry != nullptr; entry = entry->ifa_next) {
    const bool ipv4 = entry->ifa_addr != nullptr && entry->ifa_addr->sa_family == AF_INET;
    if (!ipv4 || (entry->ifa_flags & IFF_UP) == 0) continue;
    std::array<char, INET_ADDRSTRLEN> text{};
    const auto* address = reinterpret_cast<const sockaddr_in*>(entry->ifa_addr);
    inet_ntop(AF_INET, &address->sin_addr, text.data(), text.size());
    found.push_back({entry->ifa_name, text.data(), (entry->ifa_flags & IFF_LOOPBACK) != 0});
  }
  return found;
}

bool is_virtual(std::string_view name) {
  for (const std::string_view prefix : {"docker", "veth", "virbr", "br-", "cni", "podman"})
    if (name.starts_with(prefix)) return true;
  return false;
}

}  // namespace

int listen_on(const std::string& host, std::uint16_t& port) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) throw Error("opening a socket: {}", std::strerror(errno));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  socklen_t length = sizeof address;
  const bool ok = inet_pton(AF_INET, host.c_str(), &address.sin_addr) == 1 &&
                  bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0 && listen(fd, SOMAXCONN) == 0 &&
                  getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) == 0;
  if (!ok) {
    const int reason = errno;
    close(fd);
    throw Error("listening on {}: {}", host, std::strerror(reason));
  }
  port = ntohs(address.sin_port);
  return fd;
}

std::string listen_address(bool one_host, const std::string& network_interface) {
  if (one_host && network_interface.empty()) return "127.0.0.1";
  std::string seen;
  for (const auto& candidate : interfaces()) {
    const bool chosen = network_interface.empty() ? !candidate.loopback && !is_virtual(candidate.name)
                                                  : candidate.name == network_interface;
    if (chosen) return candidate.address;
    seen += fmt::format("{}{} ({})", seen.empty() ? "" : ", ", candidate.name, candidate.address);
  }
  throw Error("no network interface {} with an IPv4 address is up here; there are: {}",
              network_interface.empty() ? "to other hosts" : network_interface, seen.empty() ? "none" : seen);
}

}  // namespace mmkd
