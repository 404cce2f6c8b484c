/* Opens models and sessions, and times rounds; for all jobs. */
#include <algorithm>
#include <cstdio>

#include "failure.h"
#include "host.h"
#include "jobs.h"

#ifndef EDGEKIT_VERSION
#define EDGEKIT_VERSION "unknown"
#endif

namespace run {
namespace {

constexpr int64_t kMostThreads = 1024; /* ek_session_create */

}  // namespace

const char *version() { return EDGEKIT_VERSION; }

Owned<ek_model> open_model(const std::string &folder) {
  ek_model *model = nullptr;
  check(ek_model_open(folder.c_str(), &model));
  return Owned<ek_model>(model);
}

Owned<ek_session> open_session(ek_model *model, const Options &options, int64_t context, ek_kv_type kv_type) {
  if (options.threads > kMostThreads)
    throw Failure{70, "engine", std::to_string(options.threads) + " threads were requested; allowed: 1 to " + std::to_string(kMostThreads), ""};
  ek_session *session = nullptr;
  check(ek_session_create(model, context, static_cast<int>(options.threads), kv_type, &session));
  int wanted = 0;
  const int started = ek_session_threads(session, &wanted);
  if (started < wanted)
    std::fprintf(stderr, "warning: the system started only %d of %d threads, so the model is slower\n", started, wanted);
  return Owned<ek_session>(session);
}

const char *kernel_name() {
  const char *name = ek_kernel_name();
  if (!name) throw Failure{70, "engine", ek_last_error(), ""};
  return name;
}

const char *name_of(ek_kv_type type) { return type == EK_KV_INT8 ? "int8" : "float16"; }

int64_t threads_of(const Options &options) { return options.threads ? options.threads : ek_default_threads(); }

int32_t largest(const std::vector<float> &logits) {
  return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

Round time_round(ek_session *session, const std::vector<int32_t> &prompt, int64_t count, std::vector<float> &logits) {
  check(ek_session_rewind(session, 0));
  const double started = now();
  check(ek_session_evaluate(session, prompt.data(), static_cast<int64_t>(prompt.size()), 0, logits.data()));
  int32_t token = largest(logits);
  const double first = now();
  for (int64_t i = 0; i < count; ++i) {
    check(ek_session_evaluate(session, &token, 1, 0, logits.data()));
    token = largest(logits);
  }
  return {first - started, now() - first};
}

}  // namespace run
