/* The C ABI over the classes: handles, statuses, messages. No exception leaves this file. */
#include <algorithm>
#include <cinttypes>
#include <memory>
#include <new>
#include <optional>
#include <string>

#include "attention.h"
#include "cpu.h"
#include "edgekit.h"
#include "error.h"
#include "measure.h"
#include "memory.h"
#include "model.h"
#include "product.h"
#include "sampler.h"
#include "session.h"
#include "topology.h"
#include "work.h"

struct ek_model {
  std::shared_ptr<const ek::Model> model;
};

struct ek_session {
  ek::Session session;
};

namespace {

thread_local std::string last_error;

template <typename Work>
int guarded(Work work) {
  try {
    work();
    return EK_OK;
  } catch (const ek::Error &error) {
    last_error = error.what();
    return error.status;
  } catch (const std::bad_alloc &) {
    last_error = "not enough memory";
    return EK_NO_MEMORY;
  } catch (const std::exception &error) {
    last_error = error.what();
    return EK_INTERNAL;
  }
}

void need(bool good, const char *what) {
  if (!good) ek::fail(EK_BAD_ARGUMENT, "%s", what);
}

int checked_threads(int threads) {
  if (threads < 0 || threads > ek::kMostThreads)
    ek::fail(EK_BAD_ARGUMENT, "%d threads were asked for; allowed: 0 to %d", threads, ek::kMostThreads);
  return threads ? threads : ek::this_topology().threads;
}

}  // namespace

int ek_abi_version(void) { return EK_ABI_VERSION; }

const char *ek_last_error(void) { return last_error.c_str(); }

const char *ek_kernel_name(void) {
  const char *name = nullptr;
  guarded([&] { name = ek::choose_kernels().name; });
  return name;
}

int ek_model_open(const char *folder, ek_model **model) {
  return guarded([&] {
    need(folder && model, "ek_model_open needs a folder and a place for the model");
    *model = new ek_model{std::make_shared<const ek::Model>(folder)};
  });
}

void ek_model_close(ek_model *model) { delete model; }

int64_t ek_model_vocab_size(const ek_model *model) { return model ? model->model->vocab_size : 0; }

int64_t ek_model_context_length(const ek_model *model) { return model ? model->model->context_length : 0; }

int ek_session_create(ek_model *model, int64_t context, int threads, int kv_type, ek_session **session) {
  return guarded([&] {
    need(model && session, "ek_session_create needs a model and a place for the session");
    threads = checked_threads(threads);
    if (kv_type != EK_KV_FLOAT16 && kv_type != EK_KV_INT8)
      ek::fail(EK_BAD_ARGUMENT, "key-value type %d was asked for; allowed: 0 (float16) and 1 (int8)", kv_type);
    const ek::KvType type = kv_type == EK_KV_INT8 ? ek::KvType::kInt8 : ek::KvType::kFloat16;
    *session = new ek_session{{model->model, ek::choose_kernels(), context, threads, type}};
  });
}

void ek_session_free(ek_session *session) { delete session; }

int64_t ek_session_position(const ek_session *session) { return session ? session->session.position() : 0; }

int64_t ek_session_cache_bytes(const ek_session *session) { return session ? session->session.cache_bytes() : 0; }

int ek_session_evaluate(ek_session *session, const int32_t *tokens, int64_t count, int all, float *logits) {
  return guarded([&] {
    need(session && tokens && logits, "ek_session_evaluate needs a session, tokens and a place for logits");
    session->session.evaluate(tokens, count, all != 0, logits);
  });
}

int ek_session_step(ek_session *worker, ek_session *const *sessions, const int32_t *tokens, int64_t count, float *logits) {
  return guarded([&] {
    need(worker && sessions && tokens && logits, "ek_session_step needs a worker, sessions, tokens and a place for logits");
    if (count < 1 || count > ek::kMostTogether)
      ek::fail(EK_BAD_ARGUMENT, "a step of %" PRId64 " sequences; allowed: 1 to %" PRId64, count, ek::kMostTogether);
    ek::Session *sequences[ek::kMostTogether];
    for (int64_t i = 0; i < count; ++i) {
      need(sessions[i], "ek_session_step needs a session for each token");
      sequences[i] = &sessions[i]->session;
    }
    worker->session.step(sequences, count, tokens, logits);
  });
}

int ek_session_rewind(ek_session *session, int64_t length) {
  return guarded([&] {
    need(session, "ek_session_rewind needs a session");
    session->session.rewind(length);
  });
}

int ek_session_tokens(const ek_session *session, int32_t *tokens, int64_t count) {
  return guarded([&] {
    need(session && tokens, "ek_session_tokens needs a session and a place for the tokens");
    if (count < 0 || count > session->session.position())
      ek::fail(EK_BAD_ARGUMENT, "%" PRId64 " tokens were asked for; the session has %" PRId64, count, session->session.position());
    std::copy_n(session->session.ids().begin(), count, tokens);
  });
}

int ek_session_copy(ek_session *session, const ek_session *source) {
  return guarded([&] {
    need(session && source, "ek_session_copy needs two sessions");
    session->session.copy(source->session);
  });
}

int ek_session_save(const ek_session *session, const char *path) {
  return guarded([&] {
    need(session && path, "ek_session_save needs a session and a path");
    session->session.save(path);
  });
}

int ek_session_load(ek_session *session, const char *path) {
  return guarded([&] {
    need(session && path, "ek_session_load needs a session and a path");
    session->session.load(path);
  });
}

int ek_default_threads(void) {
  int threads = 1; /* should the machine not even have memory for its own description */
  guarded([&] { threads = ek::this_topology().threads; });
  return threads;
}

int ek_host_memory(const char *root, ek_memory_info *memory) {
  return guarded([&] {
    need(memory, "ek_host_memory needs a place for the result");
    thread_local std::optional<ek::HostMemory> found; /* owns the texts that the result points to */
    found = ek::host_memory(root ? root : "");
    if (!found) ek::fail(EK_UNSUPPORTED, "cannot read this host's memory: the system does not report MemTotal and MemAvailable");
    *memory = {static_cast<uint64_t>(found->total), static_cast<uint64_t>(found->available), found->total_source.c_str(),
               found->available_source.c_str()};
  });
}

int ek_host_cores(const char *root, const int32_t *cpus, int64_t count, ek_core_info *cores) {
  return guarded([&] {
    need(cores, "ek_host_cores needs a place for the result");
    need(!cpus || count > 0, "ek_host_cores needs at least one CPU number, or NULL for those this process may run on");
    const ek::Topology found = cpus ? ek::read_topology({cpus, cpus + count}, root ? root : "") : ek::this_topology(root ? root : "");
    *cores = {found.physical_cores, found.cores, found.threads, found.cores_reported};
  });
}

const char *ek_kernel_at(int index, int *runs) {
  const char *name = nullptr;
  guarded([&] {
    const std::vector<const ek::Kernels *> known = ek::known_kernels();
    if (index < 0 || static_cast<size_t>(index) >= known.size()) return;
    const ek::Kernels &kernels = *known[static_cast<size_t>(index)];
    if (runs) *runs = ek::runs_here(kernels);
    name = kernels.name;
  });
  return name;
}

int ek_measure_bandwidth(int threads, int64_t bytes, double *bytes_per_second) {
  return guarded([&] {
    need(bytes_per_second, "ek_measure_bandwidth needs a place for the rate");
    *bytes_per_second = ek::measure_bandwidth(threads ? threads : ek::this_topology().threads, bytes);
  });
}

int ek_measure_kernel(const char *name, int threads, double *multiply_adds_per_second) {
  return guarded([&] {
    need(multiply_adds_per_second, "ek_measure_kernel needs a place for the rate");
    const ek::Kernels &kernels = name ? ek::kernels_named(name) : ek::choose_kernels();
    *multiply_adds_per_second = ek::measure_kernel(kernels, threads ? threads : ek::this_topology().threads);
  });
}

int64_t ek_model_token_bytes(const ek_model *model) { return model ? ek::token_bytes(*model->model) : 0; }

int64_t ek_model_prompt_multiply_adds(const ek_model *model, int64_t tokens) {
  return model && tokens > 0 ? ek::prompt_multiply_adds(*model->model, tokens) : 0;
}

int ek_sample(const float *logits, int64_t n, const ek_sampling *sampling, const uint8_t *seen, uint64_t *random_state,
              int32_t *token) {
  return guarded([&] {
    need(logits && sampling && random_state && token, "ek_sample needs logits, a sampling, a random state and a place for the token");
    *token = ek::sample(logits, n, *sampling, seen, *random_state);
  });
}

int ek_multiply(const char *kernel, const ek_matrix *w, const float *x, int64_t m, int prefill, float *y) {
  return guarded([&] {
    need(w && x && y, "ek_multiply needs a matrix, activations and a place for the product");
    ek::multiply(kernel, *w, x, m, prefill != 0, y);
  });
}

int ek_attend(const float *qkv, int64_t tokens, int64_t heads, int64_t kv_heads, int64_t head_dim, const float *cos,
              const float *sin, int threads, float *y) {
  return guarded([&] {
    need(qkv && cos && sin && y, "ek_attend needs projections, cosines, sines and a place for the result");
    ek::attend_text(ek::choose_kernels(), qkv, tokens, heads, kv_heads, head_dim, cos, sin, checked_threads(threads), y);
  });
}
