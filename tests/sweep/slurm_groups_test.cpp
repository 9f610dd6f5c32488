#include <gtest/gtest.h>

#include "mmkd/sweep/slurm.h"

namespace mmkd {
namespace {

using Refs = std::vector<std::vector<SlurmJobRef>>;
using Texts = std::vector<std::string>;
using Indices = std::vector<std::int64_t>;

TEST(SlurmGroups, NodesThatWaitForNothingAreOneArray) {
  const auto groups = group_nodes({4, 5, 6}, Refs(3));
  ASSERT_EQ(groups.size(), 1u);
  EXPECT_EQ(groups[0].nodes, (std::vector<std::size_t>{4, 5, 6}));
  EXPECT_EQ(groups[0].indices, (Indices{0, 1, 2}));
  EXPECT_TRUE(groups[0].dependencies.empty());
}

TEST(SlurmGroups, ASingleNodeIsNoArray) {
  const auto groups = group_nodes({4}, {{{"12", -1}, {"13", 2}}});
  ASSERT_EQ(groups.size(), 1u);
  EXPECT_TRUE(groups[0].indices.empty());
  EXPECT_EQ(groups[0].dependencies, (Texts{"afterok:12", "afterok:13_2"}));
}

TEST(SlurmGroups, NodesThatWaitForTheSameJobAreOneArray) {
  const auto groups = group_nodes({1, 2}, {{{"12", 3}}, {{"12", 3}}});
  ASSERT_EQ(groups.size(), 1u);
  EXPECT_EQ(groups[0].dependencies, Texts{"afterok:12_3"});
  EXPECT_EQ(groups[0].indices, (Indices{0, 1}));
}

TEST(SlurmGroups, NodesThatEachWaitForATaskOfOneArrayFollowItTaskByTask) {
  const auto groups = group_nodes({1, 2, 3}, {{{"12", 0}}, {{"12", 4}}, {{"12", 2}}});
  ASSERT_EQ(groups.size(), 1u);
  EXPECT_EQ(groups[0].dependencies, Texts{"aftercorr:12"});
  EXPECT_EQ(groups[0].indices, (Indices{0, 4, 2}));
}

TEST(SlurmGroups, NodesThatWaitForTasksInAnIrregularWayGoTogetherWhereTheyWaitForTheSame) {
  const auto groups = group_nodes({1, 2, 3}, {{{"12", 0}}, {{"12", 0}}, {{"12", 1}}});
  ASSERT_EQ(groups.size(), 2u);
  EXPECT_EQ(groups[0].nodes, (std::vector<std::size_t>{1, 2}));
  EXPECT_EQ(groups[0].dependencies, Texts{"afterok:12_0"});
  EXPECT_EQ(groups[0].indices, (Indices{0, 1}));
  EXPECT_EQ(groups[1].dependencies, Texts{"afterok:12_1"});
  EXPECT_TRUE(groups[1].indices.empty());
}

TEST(SlurmGroups, NodesThatFollowTwoArraysTaskByTaskNeedTheSameIndicesInBoth) {
  const auto same = group_nodes({1, 2}, {{{"12", 0}, {"13", 0}}, {{"12", 1}, {"13", 1}}});
  ASSERT_EQ(same.size(), 1u);
  EXPECT_EQ(same[0].dependencies, (Texts{"aftercorr:12", "aftercorr:13"}));
  const auto crossed = group_nodes({1, 2}, {{{"12", 0}, {"13", 1}}, {{"12", 1}, {"13", 0}}});
  ASSERT_EQ(crossed.size(), 2u);
  EXPECT_EQ(crossed[1].dependencies, (Texts{"afterok:12_1", "afterok:13_0"}));
}

TEST(SlurmGroups, NodesOfDifferentJobsAreApart) {
  const auto groups = group_nodes({1, 2, 3, 4}, {{{"12", -1}}, {}, {{"12", -1}}, {}});
  ASSERT_EQ(groups.size(), 2u);
  EXPECT_EQ(groups[0].nodes, (std::vector<std::size_t>{1, 3}));
  EXPECT_EQ(groups[0].dependencies, Texts{"afterok:12"});
  EXPECT_EQ(groups[1].nodes, (std::vector<std::size_t>{2, 4}));
}

TEST(SlurmGroups, ArraysAreNoLongerThanClustersTake) {
  std::vector<std::size_t> nodes(2500);
  for (std::size_t i = 0; i < nodes.size(); ++i) nodes[i] = i;
  const auto groups = group_nodes(nodes, Refs(nodes.size()));
  ASSERT_EQ(groups.size(), 3u);
  EXPECT_EQ(groups[0].nodes.size(), 1000u);
  EXPECT_EQ(groups[2].nodes.size(), 500u);
  EXPECT_EQ(groups[2].indices.back(), 499);
}

}  // namespace
}  // namespace mmkd
