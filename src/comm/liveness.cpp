#include "mmkd/comm/liveness.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "mmkd/base/error.h"
#include "mmkd/base/log.h"
#include "mmkd/comm/activity.h"
#include "mmkd/comm/agree.h"
#include "mmkd/comm/network.h"

namespace mmkd {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;
using Json = nlohmann::json;

constexpr auto kConnectTimeout = std::chrono::seconds(60);
constexpr std::size_t kLongestLine = 8192;
constexpr milliseconds kLongestBeat{1000}, kShortestBeat{50};
/// Between the verdict and the end of the job, so that every rank can log it.
constexpr milliseconds kFarewell{300};
/// MPI_Abort may wait for a launcher that is gone.
constexpr auto kAbortTimeout = std::chrono::seconds(3);

std::string in_words(milliseconds duration) {
  return fmt::format("{:.1f} s", static_cast<double>(duration.count()) / 1e3);
}

std::string in_words(const Activity::State& state) {
  std::string text = fmt::format("in phase '{}' at step {}", state.phase, state.step);
  if (!state.collective.empty())
    text += fmt::format(", {} {}", state.waiting ? "waiting in" : "its last collective was", state.collective);
  return text;
}

/// A TCP connection that carries lines of JSON. Sending never waits: what does not fit is dropped, since the next sign
/// of life says more.
class Line {
 public:
  explicit Line(int fd) : fd_(fd) {
    const int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  }
  ~Line() {
    if (fd_ >= 0) close(fd_);
  }
  Line(Line&& other) noexcept : fd_(std::exchange(other.fd_, -1)), buffer_(std::move(other.buffer_)) {}
  Line& operator=(Line&&) = delete;
  Line(const Line&) = delete;
  Line& operator=(const Line&) = delete;

  int fd() const { return fd_; }

  void send(const Json& message) const {
    const std::string text = message.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
    (void)::send(fd_, text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  }

  /// Calls `use` for each whole line that has arrived; false: the other side has closed, or does not speak like us.
  template <class Use>
  bool receive(const Use& use) {
    char piece[4096];
    while (true) {
      const auto size = recv(fd_, piece, sizeof piece, MSG_DONTWAIT);
      if (size < 0 && errno == EINTR) continue;
      if (size < 0) return errno == EAGAIN || errno == EWOULDBLOCK;
      if (size == 0) return false;
      buffer_.append(piece, static_cast<std::size_t>(size));
      for (auto end = buffer_.find('\n'); end != std::string::npos; end = buffer_.find('\n')) {
        const auto message = Json::parse(buffer_.substr(0, end), nullptr, false);
        buffer_.erase(0, end + 1);
        if (!message.is_object()) return false;
        use(message);
      }
      if (buffer_.size() > kLongestLine) return false;
    }
  }

 private:
  int fd_;
  std::string buffer_;
};

std::string new_secret() {
  std::random_device device;
  std::string secret;
  for (int i = 0; i < 4; ++i) secret += fmt::format("{:08x}", device());
  return secret;
}

bool wait_readable(int fd, Clock::time_point until) {
  pollfd entry{.fd = fd, .events = POLLIN, .revents = 0};
  const auto left = std::chrono::duration_cast<milliseconds>(until - Clock::now()).count();
  return left > 0 && poll(&entry, 1, static_cast<int>(left)) > 0;
}

int connect_to(const std::string& host, std::uint16_t port) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) throw Error("opening a socket: {}", std::strerror(errno));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  inet_pton(AF_INET, host.c_str(), &address.sin_addr);
  if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) return fd;
  const int reason = errno;
  close(fd);
  throw Error(
      "rank 0 cannot be reached at {}:{}: {}. Ranks watch over each other by TCP; if hosts have several "
      "networks, name the one that leads to the others by MMKD_INTERFACE.",
      host, port, std::strerror(reason));
}

/// Several signs of life fit into every deadline.
milliseconds beat_for(const LivenessOptions& options) {
  auto deadline = options.dead_after;
  if (options.stalled_after.count() > 0) deadline = std::min(deadline, options.stalled_after);
  return std::clamp(deadline / 5, kShortestBeat, kLongestBeat);
}

/// Another rank as this one sees it.
struct Peer {
  int rank = 0;
  Line line;
  Clock::time_point heard = Clock::now();
  bool gone = false;  // said goodbye
};

/// What is known of the progress of a rank.
struct Progress {
  Activity::State state;
  Clock::time_point changed = Clock::now();
  bool over = false;

  void update(const Activity::State& now) {
    if (now.progress != state.progress) changed = Clock::now();
    state = now;
  }
};

}  // namespace

class Liveness::Monitor {
 public:
  Monitor(const MpiSession& mpi, const LivenessOptions& options)
      : mpi_(mpi), options_(options), beat_(beat_for(options)), progress_(static_cast<std::size_t>(mpi.size())) {
    if (wake_ < 0) throw Error("eventfd: {}", std::strerror(errno));
    hosts_ = mpi.all_gather(mpi.host());
    connect_all();
    thread_ = std::thread([this] { watch(); });
  }

  ~Monitor() {
    for (const auto& peer : peers_) peer.line.send({{"bye", true}});
    stop_ = true;
    eventfd_write(wake_, 1);  // the end of a job shall not wait for the next beat
    thread_.join();
    close(wake_);
  }

 private:
  /// Collective.
  void connect_all() {
    const bool one_host = !mpi_.any(mpi_.local_size() != mpi_.size());
    int listener = -1;
    const auto place = Json::parse(from_rank_zero(mpi_, [&] {
      std::uint16_t port = 0;
      const auto host = listen_address(one_host, options_.network_interface);
      listener = listen_on(host, port);
      return Json{{"host", host}, {"port", port}, {"secret", new_secret()}}.dump();
    }));
    // Rank 0 accepts after the others have connected: the connections wait in the listener's queue.
    on_all_ranks(mpi_, [&] {
      if (mpi_.rank() == 0) return;
      Line line(connect_to(place.at("host"), place.at("port")));
      line.send({{"rank", mpi_.rank()}, {"secret", place.at("secret")}});
      peers_.push_back({.rank = 0, .line = std::move(line)});
    });
    on_rank_zero(mpi_, [&] {
      const auto until = Clock::now() + kConnectTimeout;
      while (std::ssize(peers_) < mpi_.size() - 1) accept_one(listener, place.at("secret"), until);
    });
    if (listener >= 0) close(listener);
  }

  void accept_one(int listener, const std::string& secret, Clock::time_point until) {
    if (!wait_readable(listener, until))
      throw Error("only {} of {} ranks connected to rank 0 in time", peers_.size() + 1, mpi_.size());
    const int fd = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    if (fd < 0) return;
    Line line(fd);
    int rank = -1;
    bool open = true;
    while (open && rank < 0 && wait_readable(fd, std::min(until, Clock::now() + std::chrono::seconds(5)))) {
      open = line.receive([&](const Json& hello) {
        if (hello.value("secret", "") == secret) rank = hello.value("rank", -1);
      });
    }
    const bool known = std::any_of(peers_.begin(), peers_.end(), [&](const Peer& peer) { return peer.rank == rank; });
    if (rank <= 0 || rank >= mpi_.size() || known) return;  // none of us
    peers_.push_back({.rank = rank, .line = std::move(line)});
  }

  void watch() {
    auto last = Clock::now();
    while (!stop_) {
      std::vector<pollfd> fds{{.fd = wake_, .events = POLLIN, .revents = 0}};
      for (const auto& peer : peers_) {
        if (!peer.gone) fds.push_back({.fd = peer.line.fd(), .events = POLLIN, .revents = 0});
      }
      poll(fds.data(), fds.size(), static_cast<int>(beat_.count()));
      const auto now = Clock::now();
      if (now - last > 3 * beat_) forgive(now);  // it was us who did not run
      for (auto& peer : peers_) {
        if (!peer.gone) listen_to(peer);
      }
      if (now - sent_ >= beat_) {
        send_signs();
        sent_ = now;
      }
      judge(now);
      last = now;
    }
  }

  void forgive(Clock::time_point now) {
    for (auto& peer : peers_) peer.heard = now;
    for (auto& progress : progress_) progress.changed = now;
  }

  void listen_to(Peer& peer) {
    const bool open = peer.line.receive([&](const Json& message) {
      peer.heard = Clock::now();
      auto& progress = progress_.at(static_cast<std::size_t>(peer.rank));
      if (message.contains("verdict")) end_job(message.at("verdict").get<std::string>());
      if (message.contains("bye")) peer.gone = progress.over = true;
      if (message.contains("phase")) {
        progress.update({.phase = message.at("phase"),
                         .step = message.at("step"),
                         .collective = message.at("collective"),
                         .waiting = message.at("waiting"),
                         .progress = message.at("progress")});
      }
    });
    if (!open && !peer.gone) condemn(peer.rank, "has ended without a word");
  }

  void send_signs() {
    const auto state = activity().state();
    progress_.at(static_cast<std::size_t>(mpi_.rank())).update(state);
    const Json sign{{"phase", state.phase},
                    {"step", state.step},
                    {"collective", state.collective},
                    {"waiting", state.waiting},
                    {"progress", state.progress}};
    for (const auto& peer : peers_) {
      if (!peer.gone) peer.line.send(sign);
    }
  }

  void judge(Clock::time_point now) {
    for (const auto& peer : peers_) {
      const auto silence = std::chrono::duration_cast<milliseconds>(now - peer.heard);
      if (!peer.gone && silence > options_.dead_after)
        condemn(peer.rank,
                fmt::format("has given no sign of life for {}: it was stopped, or its host or network is down",
                            in_words(silence)));
    }
    if (mpi_.rank() == 0 && options_.stalled_after.count() > 0) judge_progress(now);
  }

  /// On rank 0, which hears of everyone.
  void judge_progress(Clock::time_point now) {
    bool all_wait = true;
    auto youngest = milliseconds::max();
    for (std::size_t rank = 0; rank < progress_.size(); ++rank) {
      const auto& progress = progress_[rank];
      const auto idle = std::chrono::duration_cast<milliseconds>(now - progress.changed);
      if (progress.over) return;
      if (!progress.state.waiting && idle > options_.stalled_after)
        condemn(static_cast<int>(rank), fmt::format("is alive, but nothing has happened there for {}", in_words(idle)));
      all_wait = all_wait && progress.state.waiting;
      youngest = std::min(youngest, idle);
    }
    if (all_wait && youngest > options_.stalled_after) {
      std::string text = fmt::format("every rank has been waiting for the others for {}:", in_words(youngest));
      for (std::size_t rank = 0; rank < progress_.size(); ++rank)
        text += fmt::format("\n  rank {} on {} {}", rank, hosts_[rank], in_words(progress_[rank].state));
      pronounce(text);
    }
  }

  [[noreturn]] void condemn(int rank, const std::string& what) {
    const auto index = static_cast<std::size_t>(rank);
    pronounce(fmt::format("rank {} on {} {}. When it was last heard of it was {}", rank, hosts_[index], what,
                          in_words(progress_[index].state)));
  }

  /// Tells every rank before it ends the job.
  [[noreturn]] void pronounce(const std::string& verdict) {
    for (const auto& peer : peers_) {
      if (!peer.gone) peer.line.send({{"verdict", verdict}});
    }
    end_job(verdict);
  }

  [[noreturn]] void end_job(const std::string& verdict) {
    log::error("{}. The job ends; the same command goes on from the last checkpoint.", verdict);
    log::flush();
    std::this_thread::sleep_for(kFarewell);
    constexpr int code = static_cast<int>(ExitCode::peer_lost);
    std::thread([] {
      std::this_thread::sleep_for(kAbortTimeout);
      std::_Exit(code);
    }).detach();
    mpi_.abort(code);
  }

  const MpiSession& mpi_;
  LivenessOptions options_;
  milliseconds beat_;
  std::vector<std::string> hosts_;
  std::vector<Peer> peers_;         // rank 0: all others; else rank 0 alone
  std::vector<Progress> progress_;  // by rank
  Clock::time_point sent_;
  int wake_ = eventfd(0, EFD_CLOEXEC);
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

Liveness::Liveness(const MpiSession& mpi, const LivenessOptions& options) {
  if (mpi.size() > 1) monitor_ = std::make_unique<Monitor>(mpi, options);
}

Liveness::~Liveness() = default;

}  // namespace mmkd
