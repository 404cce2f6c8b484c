/* edgekit-run --smoke: the checks of `edgekit smoke`, and the same receipt. */
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <ctime>

#include "failure.h"
#include "host.h"
#include "jobs.h"
#include "links.h"
#include "manifest.h"
#include "output_file.h"
#include "printer.h"
#include "replay.h"

namespace run {
namespace {

/* As in edgekit/deploy/smoke.py and deploy/speed_checks.py, which say where they come from. */
constexpr double kMemoryTolerance = 0.10, kOwnBytes = 32e6, kSustainedShare = 0.9;
constexpr int kReceiptVersion = 1, kFailed = 62;

/* The plan with the times and speeds of this engine, which it also has if it is for another one. The limits of a plan hold for its own
 * engine. As in edgekit/deploy/planned.py. */
Json planned_for_native(const Json &plan) {
  const std::string &engine = plan["engine"].text();
  if (engine.empty() || engine == "native") return plan;
  Json::Fields found{{"device", plan["device"]}, {"prompt_tokens", plan["prompt_tokens"]}, {"load_s", plan["load_s"]}};
  for (const Json &each : plan["engines"].items()) {
    if (each["engine"].text() != "native") continue;
    found.emplace_back("ttft_s", each["ttft_s"]);
    found.emplace_back("decode_tok_s", each["decode_tok_s"]);
    break;
  }
  return found;
}

enum class Verdict { pass, warn, fail };

const char *name_of(Verdict verdict) {
  static const char *const names[] = {"pass", "warn", "fail"};
  return names[static_cast<int>(verdict)];
}

/* The time of the machine's clock, in UTC. */
std::string created() {
  const std::time_t seconds = std::time(nullptr);
  std::tm parts{};
  char text[32];
  ::gmtime_r(&seconds, &parts);
  return std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts) ? text : "";
}

/* docs/receipt.md describes the fields; edgekit/deploy/receipt.py reads them. */
class Receipt {
 public:
  Receipt(const Options &options, const Json &manifest)
      : kv_type(kv_type_of(manifest, options.kv_type)), options_(options), manifest_(manifest), name_(name_of(manifest)), sha256_(manifest_sha256(options.artifact)) {}

  void check(const char *name, Verdict verdict, const std::string &detail) {
    checks_.push_back(Json::Fields{
        {"name", name}, {"passed", verdict != Verdict::fail}, {"verdict", name_of(verdict)}, {"detail", detail}});
    worst_ = std::max(worst_, verdict);
    if (verdict == Verdict::fail) failed_ += (failed_.empty() ? "" : "; ") + std::string(name) + ": " + detail;
  }
  void check(const char *name, bool passed, const std::string &detail) {
    check(name, passed ? Verdict::pass : Verdict::fail, detail);
  }

  /* A load that fails takes the place of all that was checked and measured since the files, as in Python's receipt. */
  void fail_load(const std::string &detail) {
    checks_.resize(1);
    worst_ = Verdict::pass;
    failed_.clear();
    load_s = ttft_s = decode_tok_s = 0;
    peak = prompt = sustained = Json();
    check("load", false, detail);
  }

  const std::string &failed() const { return failed_; }
  const std::vector<Json> &checks() const { return checks_; }
  const std::string &name() const { return name_; }

  Json to_json() const {
    Json predicted, as_predicted;
    const Json plan = planned_for_native(manifest_["plan"]);
    const Json &speed = plan["decode_tok_s"];
    if (!speed.is_null() && decode_tok_s > 0) {
      predicted = Json::Fields{{"device", plan["device"]}, {"low", speed["low"]}, {"mid", speed["mid"]}, {"high", speed["high"]}};
      as_predicted = speed["low"].number() <= decode_tok_s && decode_tok_s <= speed["high"].number();
    }
    const bool ran = decode_tok_s > 0;
    const auto known = [&](Json value) { return ran ? value : Json(); };
    return Json::Fields{{"passed", failed_.empty()},
                        {"verdict", name_of(worst_)},
                        {"receipt_version", kReceiptVersion},
                        {"program", "edgekit-run"},
                        {"edgekit_version", version()},
                        {"created", created()},
                        {"artifact", name_},
                        {"manifest_sha256", sha256_},
                        {"host", describe_host()},
                        {"device", options_.device.empty() ? Json() : Json(options_.device)},
                        {"engine", kernel.empty() ? "" : "native"},
                        {"kernel", kernel},
                        {"threads", known(threads_of(options_))},
                        {"context", known(context)},
                        {"kv_type", known(run::name_of(kv_type))},
                        {"checks", checks_},
                        {"load_s", known(load_s)},
                        {"ttft_s", known(ttft_s)},
                        {"decode_tok_s", known(decode_tok_s)},
                        {"peak_rss_bytes", peak},
                        {"prompt", prompt},
                        {"sustained", sustained},
                        {"predicted", predicted},
                        {"contradictions", {}},
                        {"as_predicted", as_predicted}};
  }

  const ek_kv_type kv_type;
  std::string kernel;
  int64_t context = 0;
  double load_s = 0, ttft_s = 0, decode_tok_s = 0;
  Json peak, prompt, sustained;

 private:
  const Options &options_;
  const Json &manifest_;
  std::string name_, sha256_, failed_;
  std::vector<Json> checks_;
  Verdict worst_ = Verdict::pass;
};

void check_golden(Receipt &receipt, ek_session *session, const Golden &golden, std::vector<float> &row) {
  check(ek_session_evaluate(session, golden.prompt.data(), static_cast<int64_t>(golden.prompt.size()), 0, row.data()));
  const Outcome logits = compare_logits(row, golden);
  receipt.check("golden_logits", logits.passed, logits.detail);
  const Outcome tokens =
      compare_tokens(golden, row, [&](int32_t token) { check(ek_session_evaluate(session, &token, 1, 0, row.data())); });
  receipt.check("golden_tokens", tokens.passed, tokens.detail);
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

/* A time or a speed against the plan's interval and the budget. Only a budget that was set for the build must be met.
 *
 *   worse  whether a figure is worse than a limit */
void check_against_plan(Receipt &receipt, const char *name, const Json &plan, const char *figure, double found, const std::string &text,
                        const char *unit, const char *limit, bool (*worse)(double found, double limit)) {
  const Json &planned = plan[figure], &budget = plan["budget"][figure];
  if (planned.is_null() && budget.is_null()) return;
  const auto with_unit = [unit](const Json &value) { return text_of("%.3g ", value.number()) + unit; };
  std::string detail = text;
  bool late = false, missed = false;
  if (!planned.is_null()) {
    late = worse(found, planned[limit].number());
    detail += "; planned " + with_unit(planned["mid"]) + ", at " + (std::string(limit) == "low" ? "least " : "most ") + with_unit(planned[limit]);
  }
  if (budget["value"].is_number()) {
    missed = worse(found, budget["value"].number());
    detail += "; budget " + with_unit(budget["value"]);
  }
  const bool must = missed && budget["asked"].boolean();
  receipt.check(name, must ? Verdict::fail : late || missed ? Verdict::warn : Verdict::pass, detail);
}

/* The length of the plan's prompt; 0 if there is no plan of one. */
int64_t planned_prompt(const Json &manifest) {
  return manifest["plan"]["prompt_tokens"].is_null() ? 0 : count_of(manifest, "plan", "prompt_tokens");
}

/* The first token of a prompt of the plan's length, which repeats the golden one, and the other times against the plan. */
void check_speed(Receipt &receipt, const Json &plan, ek_session *session, int64_t context, const Golden &golden, std::vector<float> &row) {
  const auto tokens = static_cast<size_t>(std::min(plan["prompt_tokens"].whole(), context));
  const auto below = [](double found, double limit) { return found < limit; };
  const auto above = [](double found, double limit) { return found > limit; };
  if (tokens) {
    std::vector<int32_t> prompt(tokens);
    for (size_t i = 0; i < tokens; ++i) prompt[i] = golden.prompt[i % golden.prompt.size()];
    const double ttft_s = time_round(session, prompt, 0, row).ttft_s;
    receipt.prompt = Json::Fields{{"tokens", static_cast<int64_t>(tokens)}, {"ttft_s", ttft_s}};
    check_against_plan(receipt, "ttft", plan, "ttft_s", ttft_s, text_of("%.3g s for ", ttft_s) + std::to_string(tokens) + " tokens", "s",
                       "high", above);
  }
  check_against_plan(receipt, "decode", plan, "decode_tok_s", receipt.decode_tok_s, text_of("%.3g tok/s", receipt.decode_tok_s), "tok/s",
                     "low", below);
  double slowest = 0;
  std::string storage;
  for (const auto &[name, seconds] : plan["load_s"].fields())
    if (seconds.number() > slowest) slowest = seconds.number(), storage = name;
  if (slowest > 0)
    receipt.check("load_time", receipt.load_s <= slowest ? Verdict::pass : Verdict::warn,
                  text_of("%.3g s", receipt.load_s) + text_of("; planned at most %.3g s from ", slowest) + storage);
}

/* Decodes for some seconds, always at the same contexts: only the machine can change the speed. */
void check_sustained(Receipt &receipt, double seconds, ek_session *session, int64_t context, const Golden &golden, std::vector<float> &row) {
  const int64_t room = std::min<int64_t>(64, context - static_cast<int64_t>(golden.prompt.size()));
  std::vector<double> ends; /* seconds of decode after each token */
  double spent = 0;
  while (spent < seconds && room > 0) {
    check(ek_session_rewind(session, 0));
    check(ek_session_evaluate(session, golden.prompt.data(), static_cast<int64_t>(golden.prompt.size()), 0, row.data()));
    for (int64_t i = 0; i < room && spent < seconds; ++i) {
      const int32_t token = largest(row);
      const double started = now();
      check(ek_session_evaluate(session, &token, 1, 0, row.data()));
      spent += now() - started;
      ends.push_back(spent);
    }
  }
  const auto first = std::count_if(ends.begin(), ends.end(), [&](double end) { return end <= spent / 3; });
  const auto last = std::count_if(ends.begin(), ends.end(), [&](double end) { return end > spent * 2 / 3; });
  if (spent <= 0) return;
  const double first_tok_s = static_cast<double>(std::max<int64_t>(first, 1)) / (spent / 3), last_tok_s = static_cast<double>(last) / (spent / 3);
  receipt.sustained = Json::Fields{{"seconds", spent}, {"tokens", static_cast<int64_t>(ends.size())}, {"first_tok_s", first_tok_s},
                                   {"last_tok_s", last_tok_s}};
  receipt.check("sustained", last_tok_s >= kSustainedShare * first_tok_s ? Verdict::pass : Verdict::warn,
                text_of("%.3g tok/s in the last third of ", last_tok_s) + text_of("%.3g s, ", spent) +
                    text_of("%.0f %% of ", 100 * last_tok_s / first_tok_s) + text_of("%.3g tok/s in the first; expected at least ", first_tok_s) +
                    text_of("%.0f %%", 100 * kSustainedShare));
}

void check_files(Receipt &receipt, const std::string &folder, const Json &manifest) {
  try {
    refuse_links(folder);
  } catch (const Failure &failure) {
    receipt.check("files", false, failure.message);
    return;
  }
  std::string problems;
  for (const std::string &problem : differences(folder, manifest)) problems += (problems.empty() ? "" : "; ") + problem;
  double size = 0;
  for (const auto &[name, entry] : manifest["files"].fields()) size += entry["size_bytes"].number();
  receipt.check("files", problems.empty(),
                problems.empty() ? std::to_string(manifest["files"].fields().size()) + " files, " + format_bytes(size)
                                 : folder + " differs from its edgekit.json: " + problems);
}

/* Warns if a part of the model runs with the portable kernels. */
void check_placement(Receipt &receipt) {
  const bool portable = receipt.kernel.find("scalar") != std::string::npos;
  receipt.check("placement", portable ? Verdict::warn : Verdict::pass,
                portable ? "the portable kernels are used, which have no vector instructions" : "every part has a fast kernel");
}

/* The positions to open: those that were requested; otherwise the planned ones, or more if the golden test takes more. */
int64_t positions_for(const Options &options, const Json &manifest, const Golden &golden) {
  const int64_t planned = context_of(manifest, options.context);
  if (options.context) return planned;
  return context_of(manifest, std::max(planned, static_cast<int64_t>(golden.prompt.size() + golden.continuation.size())));
}

/* Whether this machine is said to be the plan's device. If it is said to be another one, a line on stderr says what that means. */
bool is_planned_device(const Options &options, const Json &manifest) {
  const Json &planned = manifest["plan"]["device"];
  if (options.device.empty() || options.device == planned.text()) return !options.device.empty();
  const std::string of = planned.is_text() ? "for " + planned.text() : "for no device";
  std::fprintf(stderr, "note: %s\n", printable("the plan is " + of + ", not for " + options.device + ", so no times are compared with it").c_str());
  return false;
}

/* Runs the checks; if files or load fails, the test ends there. */
void run_checks(Receipt &receipt, const Options &options, const Json &manifest, const Golden &golden) {
  check_files(receipt, options.artifact, manifest);
  if (!receipt.failed().empty()) return;
  try {
    const double started = now();
    const Owned<ek_model> model = open_model(options.artifact);
    receipt.context = positions_for(options, manifest, golden);
    const Owned<ek_session> session = open_session(model.get(), options, receipt.context, receipt.kv_type);
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
    check_memory(receipt, manifest, session.get(), receipt.context);
    if (is_planned_device(options, manifest))
      check_speed(receipt, planned_for_native(manifest["plan"]), session.get(), receipt.context, golden, row);
    check_placement(receipt);
    if (options.sustain_s > 0) check_sustained(receipt, options.sustain_s, session.get(), receipt.context, golden, row);
  } catch (const Failure &failure) {
    receipt.fail_load(failure.message);
  }
}

void print(const Receipt &receipt) {
  for (const Json &each : receipt.checks())
    std::printf("%s  %-14s  %s\n", each["verdict"].text() == "fail" ? "FAIL" : each["verdict"].text().c_str(), each["name"].text().c_str(), each["detail"].text().c_str());
  if (receipt.ttft_s > 0)
    std::printf("\nload %.0f ms, first token %.0f ms, decode %.1f tok/s, peak memory %s\n", receipt.load_s * 1000,
                receipt.ttft_s * 1000, receipt.decode_tok_s, format_bytes(receipt.peak.number()).c_str());
}

}  // namespace

int smoke(const Options &options) {
  const Json manifest = read_manifest(options.artifact);
  const Golden golden = golden_of(options.artifact, manifest);
  planned_prompt(manifest);
  OutputFile out(options.out, "the receipt");
  Receipt receipt(options, manifest);
  run_checks(receipt, options, manifest, golden);
  const Json result = receipt.to_json();
  const std::string unwritten = out.write(result.dump() + "\n");
  const bool passed = receipt.failed().empty();
  const Failure failure =
      passed ? bad_artifact(unwritten)
             : Failure{kFailed, "smoke_test", receipt.name() + " failed its smoke test; " + receipt.failed(), unwritten};
  const bool fails = !passed || !unwritten.empty();
  if (options.json) {
    Json::Fields fields = result.fields();
    if (fails)
      fields.emplace_back("error", Json::Fields{{"kind", failure.kind}, {"message", failure.message}, {"hint", failure.hint}});
    std::printf("%s\n", Json(fields).dump().c_str());
    return fails ? failure.exit_code : 0;
  }
  print(receipt);
  if (fails) throw failure;
  return 0;
}

}  // namespace run
