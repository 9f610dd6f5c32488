#include "mmkd/command_line/documents.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>

#include "mmkd/command_line/model_arguments.h"
#include "tests/support/temp_folder.h"

namespace mmkd {
namespace {

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

class Documents : public ::testing::Test {
 protected:
  Documents() {
    app_.add_flag("--dry-run", dry_run_, "Do nothing");
    auto* sweep = app_.add_subcommand("sweep", "Many runs");
    auto* plan = sweep->add_subcommand("plan", "What there is to do");
    plan->add_option("-n,--ranks", ranks_, "How many")->capture_default_str();
    plan->add_option("file", file_, "The sweep")->required();
    app_.add_subcommand("eval", "Scores");
    app_.add_option("--secret", file_, "")->group("");
  }

  CLI::App app_{"A tool\nThat does more.\n.not a request"};
  bool dry_run_ = false;
  int ranks_ = 3;
  std::string file_;
};

TEST_F(Documents, AManPageHasEverySubcommandAndOption) {
  const auto page = man_page(app_, "tool");
  for (const char* part : {".TH tool 1", "tool \\- A tool\n", ".SS tool sweep plan", ".B \\-n,\\-\\-ranks",
                           "How many [3]", "\\fIfile\\fR", ".SS tool eval", "\\-\\-dry\\-run", "\n\\&.not a request"})
    EXPECT_TRUE(has(page, part)) << part << "\n" << page;
  EXPECT_FALSE(has(page, "secret"));
}

TEST_F(Documents, BashCompletesWhatMayFollow) {
  const test::TempFolder folder;
  const auto script = folder / "completion";
  std::ofstream(script) << completion(app_, "tool", "bash") << R"(
complete_words() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _tool; echo "${COMPREPLY[*]}"; }
complete_words tool ""
complete_words tool sweep ""
complete_words tool --dry-run sweep plan --r
complete_words tool sweep plan file.yaml -
complete_words tool ev
)";
  std::FILE* pipe = ::popen(("bash " + script.string() + " 2>&1").c_str(), "r");
  ASSERT_NE(pipe, nullptr);
  std::string output;
  char buffer[256];
  while (std::fgets(buffer, sizeof buffer, pipe) != nullptr) output += buffer;
  EXPECT_EQ(::pclose(pipe), 0);
  EXPECT_EQ(output,
            "sweep eval --help -h --dry-run\n"
            "plan --help -h\n"
            "--ranks\n"
            "--help -h --ranks -n\n"
            "eval\n");
}

TEST_F(Documents, OtherShellsGetTheSame) {
  EXPECT_TRUE(has(completion(app_, "tool", "zsh"), "bashcompinit"));
  const auto fish = completion(app_, "tool", "fish");
  EXPECT_TRUE(has(fish, "complete -c tool -n '__fish_use_subcommand' -a sweep\n")) << fish;
  EXPECT_TRUE(has(fish, "'__fish_seen_subcommand_from sweep; and __fish_seen_subcommand_from plan' -l ranks\n"))
      << fish;
}

TEST_F(Documents, ThatAreAskedForEndTheProgramWell) {
  add_document_options(app_, "tool");
  testing::internal::CaptureStdout();
  EXPECT_THROW(app_.parse("--completion bash"), CLI::Success);
  EXPECT_TRUE(has(testing::internal::GetCapturedStdout(), "complete -o default"));
  EXPECT_THROW(app_.parse("--completion csh"), CLI::ParseError);
  EXPECT_FALSE(has(app_.help(), "--completion"));
}

TEST(ModelArguments, TakeNamesOfRolesSplitsAndPrecisions) {
  CLI::App app;
  EvalArguments eval;
  eval.add_to(app);
  app.parse("logs/run --model teacher --split dev --precision bf16 --device cpu --batch-size 8");
  EXPECT_EQ(eval.model.place, "logs/run");
  EXPECT_EQ(eval.model.role, Role::teacher);
  EXPECT_EQ(eval.split, Split::dev);
  EXPECT_EQ(eval.model.precision, Precision::bf16);
  EXPECT_EQ(eval.model.device, Device::cpu);
  EXPECT_EQ(eval.batch_size, 8);
  EXPECT_THROW(app.parse("logs/run --split all"), CLI::ParseError);
}

}  // namespace
}  // namespace mmkd
