#include "mmkd/comm/mpi_session.h"

#include <gtest/gtest.h>

#include <set>

#include "mmkd/base/error.h"
#include "tests/mpi/ranks.h"

namespace mmkd {
namespace {

using test::session;

// Differs in every byte and between ranks.
std::string pattern(int rank, std::size_t bytes) {
  std::string text(bytes, '\0');
  for (std::size_t i = 0; i < bytes; ++i)
    text[i] = static_cast<char>((i * 131U + i / 251U + static_cast<std::size_t>(rank) * 17U) & 0xFFU);
  return text;
}

TEST(MpiSession, KnowsItsPlaceAmongTheRanks) {
  EXPECT_TRUE(session().launched());
  EXPECT_GE(session().rank(), 0);
  EXPECT_LT(session().rank(), session().size());
  EXPECT_EQ(session().local_rank(), session().rank());  // one host
  EXPECT_EQ(session().local_size(), session().size());
  EXPECT_FALSE(session().host().empty());
}

TEST(MpiSession, RanksAreAllDifferent) {
  const auto ranks = session().all_gather(std::to_string(session().rank()));
  const std::set<std::string> different(ranks.begin(), ranks.end());
  EXPECT_EQ(static_cast<int>(different.size()), session().size());
}

TEST(MpiSession, BroadcastGivesEveryoneTheBytesOfTheRoot) {
  for (int root = 0; root < session().size(); ++root) {
    auto bytes = session().rank() == root ? pattern(root, 1000) : std::string("something else");
    session().broadcast(bytes, root);
    EXPECT_EQ(bytes, pattern(root, 1000));
  }
}

TEST(MpiSession, BroadcastOfNothingEmptiesWhatWasThere) {
  std::string bytes = session().rank() == 0 ? "" : "left over";
  session().broadcast(bytes, 0);
  EXPECT_EQ(bytes, "");
}

TEST(MpiSession, TransfersLargerThanOneMessageArriveWhole) {
  const std::size_t large = 3 * test::kMaxMessageBytes + 7;
  auto bytes = session().rank() == 0 ? pattern(0, large) : std::string();
  session().broadcast(bytes, 0);
  EXPECT_TRUE(bytes == pattern(0, large));

  const auto parts = session().all_gather(pattern(session().rank(), large));
  for (int rank = 0; rank < session().size(); ++rank)
    EXPECT_TRUE(parts.at(static_cast<std::size_t>(rank)) == pattern(rank, large)) << "part of rank " << rank;
}

TEST(MpiSession, GatherKeepsRankOrderAndDifferentSizes) {
  const int root = session().size() - 1;
  const auto size_of = [](int rank) { return static_cast<std::size_t>(rank) * 1000U; };  // nothing from rank 0
  const auto parts = session().gather(pattern(session().rank(), size_of(session().rank())), root);
  if (session().rank() != root) {
    EXPECT_TRUE(parts.empty());
    return;
  }
  ASSERT_EQ(static_cast<int>(parts.size()), session().size());
  for (int rank = 0; rank < session().size(); ++rank)
    EXPECT_EQ(parts[static_cast<std::size_t>(rank)], pattern(rank, size_of(rank)));
}

TEST(MpiSession, AnyIsTrueWhereverOneRankSaysSo) {
  EXPECT_FALSE(session().any(false));
  for (int speaker = 0; speaker < session().size(); ++speaker) EXPECT_TRUE(session().any(session().rank() == speaker));
}

TEST(MpiSession, RefusesARootThatDoesNotExist) {
  std::string bytes;
  EXPECT_THROW(session().broadcast(bytes, session().size()), Error);
  EXPECT_THROW(session().gather(bytes, -1), Error);
}

}  // namespace
}  // namespace mmkd
