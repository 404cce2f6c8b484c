/* edgekit-run --smoke: the checks of `edgekit smoke`, and the same receipt. */
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "failure.h"
#include "host.h"
#include "jobs.h"
#include "manifest.h"

namespace run {
namespace {

/* As in edgekit/quality/replay.py and edgekit/deploy/smoke.py, which say where they come from. */
constexpr double kLogitTolerance = 1.5, kTieTolerance = 0.75, kMemoryTolerance = 0.10, kOwnBytes = 32e6;
constexpr int kReceiptVersion = 1, kFailed = 62;

struct Golden {
  std::vector<int32_t> prompt, continuation;
  std::vector<std::pair<int32_t, double>> logits;
};

std::vector<int32_t> ids(const Json &list) {
  std::vector<int32_t> found;
  for (const Json &id : list.items()) found.push_back(static_cast<int32_t>(id.number(-1)));
  return found;
}

Golden golden_of(const std::string &folder, const Json &manifest) {
  const Json &golden = manifest["golden"];
  if (golden.is_null()) throw bad_artifact(folder + " has no golden test", "build the artifact again");
  Golden found{ids(golden["prompt_ids"]), ids(golden["continuation_ids"]), {}};
  for (const Json &entry : golden["top_logits"].items())
    found.logits.emplace_back(static_cast<int32_t>(entry["id"].number(-1)), entry["logit"].number(NAN));
  if (found.prompt.empty() || found.continuation.empty() || found.logits.empty())
    throw bad_artifact("the golden test of " + folder + " is incomplete", "build the artifact again");
  return found;
}

class Receipt {
 public:
  explicit Receipt(const Json &manifest) : manifest_(manifest), name_(name_of(manifest)) {}

  void check(const char *name, bool passed, const std::string &detail) {
    checks_.push_back(Json::Fields{{"name", name}, {"passed", passed}, {"detail", detail}});
    if (!passed) failed_ += (failed_.empty() ? "" : "; ") + std::string(name) + ": " + detail;
  }

  const std::string &failed() const { return failed_; }
  const std::vector<Json> &checks() const { return checks_; }
  const std::string &name() const { return name_; }

  Json to_json() const {
    Json predicted, as_predicted;
    const Json &plan = manifest_["plan"], &speed = plan["decode_tok_s"];
    if (!speed.is_null() && plan["engine"].text() == "native" && decode_tok_s > 0) {
      Json::Fields fields{{"device", plan["device"]}};
      fields.insert(fields.end(), speed.fields().begin(), speed.fields().end());
      predicted = fields;
      as_predicted = speed["low"].number() <= decode_tok_s && decode_tok_s <= speed["high"].number();
    }
    const auto seconds = [](double value) { return value > 0 ? Json(value) : Json(); };
    return Json::Fields{{"passed", failed_.empty()},
                        {"receipt_version", kReceiptVersion},
                        {"artifact", name_},
                        {"engine", kernel.empty() ? "" : "native"},
                        {"kernel", kernel},
                        {"checks", checks_},
                        {"load_s", seconds(load_s)},
                        {"ttft_s", seconds(ttft_s)},
                        {"decode_tok_s", seconds(decode_tok_s)},
                        {"peak_rss_bytes", peak},
                        {"predicted", predicted},
                        {"host", describe_host()},
                        {"as_predicted", as_predicted}};
  }

  std::string kernel;
  double load_s = 0, ttft_s = 0, decode_tok_s = 0;
  Json peak;

 private:
  const Json &manifest_;
  std::string name_, failed_;
  std::vector<Json> checks_;
};

std::string text_of(const char *format, double value) {
  char text[64];
  std::snprintf(text, sizeof text, format, value);
  return text;
}

void check_logits(Receipt &receipt, const std::vector<float> &row, const Golden &golden) {
  double worst = 0;
  for (const auto &[id, logit] : golden.logits) {
    const bool known = id >= 0 && static_cast<size_t>(id) < row.size();
    const double difference = known ? std::fabs(static_cast<double>(row[static_cast<size_t>(id)]) - logit) : INFINITY;
    if (!(difference <= worst)) worst = difference; /* also if it is NaN */
  }
  receipt.check("golden_logits", worst <= kLogitTolerance,
                "largest difference among " + std::to_string(golden.logits.size()) + " logits is " + text_of("%.4f", worst) +
                    "; allowed: " + text_of("%.1f", kLogitTolerance));
}

/* Given the recorded tokens before it, every choice is the recorded one or has nearly the same logit. */
void check_golden(Receipt &receipt, ek_session *session, const Golden &golden, std::vector<float> &row) {
  check(ek_session_evaluate(session, golden.prompt.data(), static_cast<int64_t>(golden.prompt.size()), 0, row.data()));
  check_logits(receipt, row, golden);
  const std::string count = std::to_string(golden.continuation.size());
  size_t same = 0;
  for (size_t i = 0; i < golden.continuation.size(); ++i) {
    if (i > 0) check(ek_session_evaluate(session, &golden.continuation[i - 1], 1, 0, row.data()));
    const int32_t token = golden.continuation[i], choice = largest(row);
    same += choice == token;
    const bool known = token >= 0 && static_cast<size_t>(token) < row.size();
    const float lead = known ? row[static_cast<size_t>(choice)] - row[static_cast<size_t>(token)] : INFINITY;
    if (!(static_cast<double>(lead) <= kTieTolerance)) {
      receipt.check("golden_tokens", false,
                    "token " + std::to_string(i + 1) + " of " + count + " is " + std::to_string(choice) + ", not " +
                        std::to_string(token) + "; its logit is " + text_of("%.4f", static_cast<double>(lead)) + " larger");
      return;
    }
  }
  const size_t ties = golden.continuation.size() - same;
  receipt.check("golden_tokens", true,
                std::to_string(same) + " of " + count + " tokens are the same" + (ties ? ", " + std::to_string(ties) + " ties" : ""));
}

void check_memory(Receipt &receipt, const Json &manifest, ek_session *session, int64_t context) {
  if (receipt.peak.is_null()) return;
  const Json &plan = manifest["plan"];
  const Json &own = plan["engine_bytes"]["native"], &planned = own.is_null() ? plan["memory_bytes"]["total"] : own;
  if (planned.is_null()) return;
  const int64_t unused = ek_session_cache_bytes(session) * (context - ek_session_position(session)) / context;
  const double filled = receipt.peak.number() + static_cast<double>(unused);
  receipt.check("memory", filled <= planned.number() * (1 + kMemoryTolerance) + kOwnBytes,
                format_bytes(filled) + " (" + format_bytes(receipt.peak.number()) + " measured, " +
                    format_bytes(static_cast<double>(unused)) + " for the unused context) of " +
                    format_bytes(planned.number()) + " planned");
}

void check_files(Receipt &receipt, const std::string &folder, const Json &manifest) {
  std::string problems;
  for (const std::string &problem : differences(folder, manifest)) problems += (problems.empty() ? "" : "; ") + problem;
  double size = 0;
  for (const auto &[name, entry] : manifest["files"].fields()) size += entry["size_bytes"].number();
  receipt.check("files", problems.empty(),
                problems.empty() ? std::to_string(manifest["files"].fields().size()) + " files, " + format_bytes(size)
                                 : folder + " differs from its edgekit.json: " + problems);
}

/* Runs the checks; if files or load fails, the test ends there. */
void run_checks(Receipt &receipt, const Options &options, const Json &manifest, const Golden &golden) {
  check_files(receipt, options.artifact, manifest);
  if (!receipt.failed().empty()) return;
  try {
    const double started = now();
    const Owned<ek_model> model = open_model(options.artifact);
    const int64_t context = context_of(manifest, options.context);
    const Owned<ek_session> session = open_session(model.get(), options, context);
    const double load_s = now() - started;
    receipt.kernel = kernel_name();
    std::vector<float> row(static_cast<size_t>(ek_model_vocab_size(model.get())));
    receipt.check("load", true,
                  receipt.kernel + ", " + std::to_string(threads_of(options)) + " threads, " + text_of("%.2f s", load_s));
    check_golden(receipt, session.get(), golden, row);
    const Round timed = time_round(session.get(), golden.prompt, static_cast<int64_t>(golden.continuation.size()), row);
    receipt.load_s = load_s;
    receipt.ttft_s = timed.ttft_s;
    receipt.decode_tok_s = static_cast<double>(golden.continuation.size()) / timed.decode_s;
    receipt.peak = peak_rss_bytes();
    check_memory(receipt, manifest, session.get(), context);
  } catch (const Failure &failure) {
    receipt.check("load", false, failure.message);
  }
}

void write_receipt(const Json &receipt, const std::string &path) {
  FILE *file = std::fopen(path.c_str(), "wb");
  const bool written = file && std::fprintf(file, "%s\n", receipt.dump().c_str()) > 0;
  if (!file || std::fclose(file) != 0 || !written) throw bad_artifact("cannot write the receipt " + path);
}

}  // namespace

int smoke(const Options &options) {
  const Json manifest = read_manifest(options.artifact);
  const Golden golden = golden_of(options.artifact, manifest);
  Receipt receipt(manifest);
  run_checks(receipt, options, manifest, golden);
  Json result = receipt.to_json();
  if (!options.out.empty()) write_receipt(result, options.out);
  const Failure failure{kFailed, "smoke_test", receipt.name() + " failed its smoke test; " + receipt.failed(), ""};
  if (options.json) {
    Json::Fields fields = result.fields();
    if (!receipt.failed().empty())
      fields.emplace_back("error", Json::Fields{{"kind", failure.kind}, {"message", failure.message}, {"hint", failure.hint}});
    std::printf("%s\n", Json(fields).dump().c_str());
    return receipt.failed().empty() ? 0 : kFailed;
  }
  for (const Json &each : receipt.checks())
    std::printf("%s  %-14s  %s\n", each["passed"].boolean() ? "pass" : "FAIL", each["name"].text().c_str(), each["detail"].text().c_str());
  if (receipt.ttft_s > 0)
    std::printf("\nload %.0f ms, first token %.0f ms, decode %.1f tok/s, peak memory %s\n", receipt.load_s * 1000,
                receipt.ttft_s * 1000, receipt.decode_tok_s, format_bytes(receipt.peak.number()).c_str());
  if (!receipt.failed().empty()) throw failure;
  return 0;
}

}  // namespace run
