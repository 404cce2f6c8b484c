/* What edgekit-run can do. Each function throws Failure, and returns the exit code. */
#ifndef EDGEKIT_RUN_JOBS_H
#define EDGEKIT_RUN_JOBS_H

#include <memory>

#include "edgekit.h"
#include "edgekit_text.h"
#include "json.h"
#include "options.h"

namespace run {

/* One answer, or a conversation. */
int answer(const Options &options);
int bench(const Options &options);
int smoke(const Options &options);

struct Release {
  void operator()(ek_model *model) const { ek_model_close(model); }
  void operator()(ek_session *session) const { ek_session_free(session); }
  void operator()(ek_text *text) const { ek_text_close(text); }
};
template <typename Handle>
using Owned = std::unique_ptr<Handle, Release>;

/* The version of edgekit. */
const char *version();

Owned<ek_model> open_model(const std::string &folder);
Owned<ek_session> open_session(ek_model *model, const Options &options, int64_t context, ek_kv_type kv_type);
const char *kernel_name();
const char *name_of(ek_kv_type type);
int64_t threads_of(const Options &options);

/* Seconds to the first token of a prompt from an empty cache, then to `count` tokens after it, generated greedily. */
struct Round {
  double ttft_s, decode_s;
};
Round time_round(ek_session *session, const std::vector<int32_t> &prompt, int64_t count, std::vector<float> &logits);

/* The position of the largest logit, the first of equals. */
int32_t largest(const std::vector<float> &logits);

}  // namespace run

#endif
