#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

// The parity cases: inputs and the outputs that the reference gives for them (tests/parity/README.md).
namespace mmkd::parity {

struct Case {
  std::filesystem::path folder;
  std::string kind, name;
  nlohmann::json config;
  double atol = 0, rtol = 0;
};

/// What a handler found. A known kind whose subject is not built yet says so; that is no pass.
struct Verdict {
  enum class Status { passed, failed, not_built } status = Status::passed;
  std::string detail;  ///< first difference: tensor, index, got, want; or what is not built
  int compared = 0;    ///< tensors or numbers compared; a pass must have compared something
};

/// |got - want| <= atol * max(1, max|want|) + rtol * |want|; shapes are compared by the caller. Updates the verdict.
void compare(const Case& c, const std::string& name, const std::vector<double>& got, const std::vector<double>& want,
             Verdict& verdict);
void fail(Verdict& verdict, const std::string& detail);

// One handler per kind, each in kind_<kind>.cpp.
Verdict check_tokenizer(const Case& c);
Verdict check_image(const Case& c);
Verdict check_metrics(const Case& c);
Verdict check_mcnemar(const Case& c);
Verdict check_optimizer(const Case& c);
Verdict check_lr_schedule(const Case& c);
Verdict check_vision_backbone(const Case& c);
Verdict check_text_backbone(const Case& c);
Verdict check_fusion(const Case& c);
Verdict check_loss(const Case& c);
Verdict check_model(const Case& c);

}  // namespace mmkd::parity
