#include "replay.h"

#include <algorithm>
#include <cmath>

#include "failure.h"
#include "jobs.h"
#include "printer.h"

namespace run {
namespace {

/* As in edgekit/runtime/replay.py, which says where they come from. */
constexpr double kLogitTolerance = 1.5, kTieTolerance = 0.75;

int32_t id_of(const Json &value) {
  const int64_t id = value.whole(-1);
  return id >= 0 && id <= INT32_MAX ? static_cast<int32_t>(id) : -1;
}

std::vector<int32_t> ids(const Json &list) {
  std::vector<int32_t> found;
  for (const Json &id : list.items()) found.push_back(id_of(id));
  return found;
}

/* The position of the first NaN, which is no token's logit; without one, that of the largest logit. */
int32_t choice_of(const std::vector<float> &row) {
  const auto nan = std::find_if(row.begin(), row.end(), [](float logit) { return std::isnan(logit); });
  return nan == row.end() ? largest(row) : static_cast<int32_t>(nan - row.begin());
}

}  // namespace

Golden golden_of(const std::string &folder, const Json &manifest) {
  const Json &golden = manifest["golden"];
  if (golden.is_null()) throw bad_artifact(folder + " has no golden test", "build the artifact again");
  Golden found{ids(golden["prompt_ids"]), ids(golden["continuation_ids"]), {}};
  for (const Json &entry : golden["top_logits"].items())
    found.logits.emplace_back(id_of(entry["id"]), entry["logit"].number(NAN));
  if (found.prompt.empty() || found.continuation.empty() || found.logits.empty())
    throw bad_artifact("the golden test of " + folder + " is incomplete", "build the artifact again");
  return found;
}

Outcome compare_logits(const std::vector<float> &row, const Golden &golden) {
  double worst = 0; /* NaN once a difference is NaN */
  for (const auto &[id, logit] : golden.logits) {
    const bool known = id >= 0 && static_cast<size_t>(id) < row.size();
    const double difference = known ? std::fabs(static_cast<double>(row[static_cast<size_t>(id)]) - logit) : INFINITY;
    if (std::isnan(difference) || difference > worst) worst = difference;
    if (std::isnan(worst)) break;
  }
  return {worst <= kLogitTolerance, "largest difference among " + std::to_string(golden.logits.size()) + " logits is " +
                                        text_of("%.4f", worst) + "; allowed: " + text_of("%.1f", kLogitTolerance)};
}

Outcome compare_tokens(const Golden &golden, std::vector<float> &row, const std::function<void(int32_t token)> &evaluate) {
  const std::string count = std::to_string(golden.continuation.size());
  size_t same = 0;
  for (size_t i = 0; i < golden.continuation.size(); ++i) {
    if (i > 0) evaluate(golden.continuation[i - 1]);
    const int32_t token = golden.continuation[i], choice = choice_of(row);
    same += choice == token;
    const bool known = token >= 0 && static_cast<size_t>(token) < row.size();
    const float lead = known ? row[static_cast<size_t>(choice)] - row[static_cast<size_t>(token)] : INFINITY;
    if (!(static_cast<double>(lead) <= kTieTolerance)) /* also if it is NaN */
      return {false, "token " + std::to_string(i + 1) + " of " + count + " is " + std::to_string(choice) + ", not " +
                         std::to_string(token) + "; its logit is " + text_of("%.4f", static_cast<double>(lead)) + " larger"};
  }
  const size_t ties = golden.continuation.size() - same;
  return {true, std::to_string(same) + " of " + count + " tokens are the same" + (ties ? ", " + std::to_string(ties) + " ties" : "")};
}

}  // namespace run
