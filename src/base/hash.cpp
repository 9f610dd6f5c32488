#include "mmkd/base/hash.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <openssl/evp.h>
#include <unistd.h>
#include <xxhash.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <vector>

#include "mmkd/base/error.h"

namespace mmkd {

struct Sha256::State {
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  ~State() { EVP_MD_CTX_free(context); }
};

Sha256::Sha256() : state_(std::make_unique<State>()) {
  if (state_->context == nullptr || EVP_DigestInit_ex(state_->context, EVP_sha256(), nullptr) != 1) {
    throw Error("OpenSSL could not start a SHA-256 digest");
  }
}
Sha256::~Sha256() = default;
Sha256::Sha256(Sha256&&) noexcept = default;
Sha256& Sha256::operator=(Sha256&&) noexcept = default;

Sha256& Sha256::update(std::span<const std::byte> bytes) {
  if (EVP_DigestUpdate(state_->context, bytes.data(), bytes.size()) != 1)
    throw Error("OpenSSL could not update a SHA-256 digest");
  return *this;
}

Sha256& Sha256::update(std::string_view text) { return update(std::as_bytes(std::span(text))); }

std::string Sha256::hex() && {
  std::array<unsigned char, 32> digest{};
  if (EVP_DigestFinal_ex(state_->context, digest.data(), nullptr) != 1)
    throw Error("OpenSSL could not finish a SHA-256 digest");
  std::string out;
  out.reserve(64);
  for (const auto byte : digest) fmt::format_to(std::back_inserter(out), "{:02x}", byte);
  return out;
}

std::string sha256_hex(std::string_view text) { return std::move(Sha256().update(text)).hex(); }

std::string sha256_file(const std::filesystem::path& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) throw Error("{}: cannot be opened for reading: {}", path.string(), std::strerror(errno));
  Sha256 digest;
  std::vector<std::byte> buffer(std::size_t{1} << 20);
  for (;;) {
    const auto n = ::read(fd, buffer.data(), buffer.size());
    if (n == 0) break;
    if (n < 0) {
      if (errno == EINTR) continue;
      const int reason = errno;
      ::close(fd);
      throw Error("{}: cannot be read: {}", path.string(), std::strerror(reason));
    }
    digest.update(std::span(buffer).first(static_cast<std::size_t>(n)));
  }
  ::close(fd);
  return std::move(digest).hex();
}

std::uint64_t checksum64(std::span<const std::byte> bytes) { return XXH3_64bits(bytes.data(), bytes.size()); }

std::uint64_t checksum64(std::string_view text) { return XXH3_64bits(text.data(), text.size()); }

std::string to_hex(std::uint64_t value) { return fmt::format("{:016x}", value); }

}  // namespace mmkd
