/* Implements include/edgekit.h, the C API for applications, with the C++ classes. No exception leaves this file. */
#include <algorithm>
#include <cinttypes>
#include <cstring>
#include <exception>
#include <new>
#include <optional>
#include <stdexcept>
#include <string_view>

#include "../text/unicode.h"
#include "abi.h"
#include "choice.h"
#include "sampler.h"

using ek::checked_threads;
using ek::guarded;
using ek::need;

namespace {

thread_local char last_error[1024];

}  // namespace

void ek::set_last_error(const char *text) {
  static constexpr std::string_view kReplacement = "\xEF\xBF\xBD";
  size_t size = 0;
  for (std::string_view left = text; !left.empty();) {
    const Utf8Step step = utf8_step(reinterpret_cast<const uint8_t *>(left.data()), left.size());
    const std::string_view shown = step.valid ? left.substr(0, step.length) : kReplacement;
    if (size + shown.size() >= sizeof last_error) break;
    std::memcpy(last_error + size, shown.data(), shown.size());
    size += shown.size();
    left.remove_prefix(step.length);
  }
  last_error[size] = '\0';
}

int ek::status_of_exception() noexcept {
  try {
    throw;
  } catch (const Error &error) {
    set_last_error(error.what());
    return error.status;
  } catch (const std::bad_alloc &) {
    set_last_error("not enough memory");
    return EK_NO_MEMORY;
  } catch (const std::length_error &) {
    set_last_error("not enough memory for something so large");
    return EK_NO_MEMORY;
  } catch (const std::exception &error) {
    set_last_error(error.what());
  } catch (...) {
    set_last_error("an unknown exception");
  }
  return EK_INTERNAL;
}

/* The session, if this process created it. One of its parent is looked at before its use begins: a call of the parent may have been
 * using it, which will never end here. */
const ek_session &ek::InUse::own(const ek_session &session) {
  if (pinned(&session)->session.forked())
    fail(EK_FORKED, "this process is a fork of the one that created the session, and has none of its threads; create another session");
  return session;
}

int ek_abi_version(void) { return EK_ABI_VERSION; }

const char *ek_last_error(void) { return last_error; }

const char *ek_kernel_name(void) {
  const char *name = nullptr;
  guarded([&] { name = ek::choose().name.c_str(); });
  return name;
}

int ek_model_open(const char *folder, ek_model **model) {
  return guarded([&] {
    need(folder && model, "ek_model_open: folder and model must not be NULL");
    *model = ek::made<ek_model>([&](ek::Usage &) { return std::const_pointer_cast<ek::Model>(ek::open_model(folder)); });
  });
}

void ek_model_close(ek_model *model) { ek::free_handle(model, ek::Kind::kModel); }

int64_t ek_model_vocab_size(const ek_model *model) {
  return ek::number_of(model, [](const ek::Model &of) { return of.vocab_size; });
}

int64_t ek_model_context_length(const ek_model *model) {
  return ek::number_of(model, [](const ek::Model &of) { return of.context_length; });
}

int ek_session_create(ek_model *model, int64_t context, int threads, int kv_type, ek_session **session) {
  return guarded([&] {
    need(model && session, "ek_session_create: model and session must not be NULL");
    threads = checked_threads(threads);
    if (kv_type != EK_KV_FLOAT16 && kv_type != EK_KV_INT8)
      ek::fail(EK_BAD_ARGUMENT, "cannot create a session with key-value type %d; allowed: 0 (float16) and 1 (int8)", kv_type);
    const ek::KvType type = kv_type == EK_KV_INT8 ? ek::KvType::kInt8 : ek::KvType::kFloat16;
    const auto opened = ek::pinned(model);
    *session = ek::made<ek_session>([&](ek::Usage &usage) {
      return std::shared_ptr<ek::SessionObject>(
          new ek::SessionObject{{opened, ek::choose_kernels(), context, threads, type, &usage}, {}, {}});
    });
  });
}

void ek_session_free(ek_session *session) { ek::free_handle(session, ek::Kind::kSession); }

int64_t ek_session_position(const ek_session *session) {
  return ek::number_of(session, [](const ek::SessionObject &of) { return of.session.position(); });
}

int64_t ek_session_cache_bytes(const ek_session *session) {
  return ek::number_of(session, [](const ek::SessionObject &of) { return of.session.cache_bytes(); });
}

int ek_session_threads(const ek_session *session, int *wanted) {
  int threads = 0;
  if (wanted) *wanted = 0;
  if (session)
    guarded([&] {
      const ek::ThreadPool &pool = ek::pinned(session)->session.pool();
      threads = pool.running();
      if (wanted) *wanted = pool.wanted();
    });
  return threads;
}

int ek_session_evaluate(ek_session *session, const int32_t *tokens, int64_t count, int all, float *logits) {
  return guarded([&] {
    need(session && tokens && logits, "ek_session_evaluate: session, tokens and logits must not be NULL");
    const ek::InUse in_use(*session);
    in_use->session.evaluate(tokens, count, all != 0, logits);
  });
}

int ek_session_next(ek_session *session, int32_t token, float *logits) {
  return guarded([&] {
    need(session && logits, "ek_session_next: session and logits must not be NULL");
    const ek::InUse in_use(*session);
    in_use->speculation.next(in_use->session, token, logits);
  });
}

int ek_session_set_draft(ek_session *session, ek_session *draft) {
  return guarded([&] {
    need(session, "ek_session_set_draft: session must not be NULL");
    need(session != draft, "ek_session_set_draft: a session cannot be its own draft; create another one");
    const ek::InUse in_use(*session);
    std::shared_ptr<ek::Session> guessing;
    if (draft) {
      const std::shared_ptr<ek::SessionObject> object = ek::pinned(draft);
      guessing = std::shared_ptr<ek::Session>(object, &object->session);
    }
    in_use->speculation.set_draft(std::move(guessing), in_use->session);
  });
}

int64_t ek_session_accepted(const ek_session *session) {
  return ek::number_of(session, [](const ek::SessionObject &of) { return of.speculation.accepted(); });
}

int ek_session_step(ek_session *worker, ek_session *const *sessions, const int32_t *tokens, int64_t count, float *logits) {
  int64_t counts[ek::kMostTogether];
  std::fill(std::begin(counts), std::end(counts), 1);
  return ek_session_step_pieces(worker, sessions, counts, tokens, count, logits);
}

int ek_session_step_pieces(ek_session *worker, ek_session *const *sessions, const int64_t *counts, const int32_t *tokens,
                           int64_t count, float *logits) {
  return guarded([&] {
    need(worker && sessions && counts && tokens && logits,
         "ek_session_step: worker, sessions, counts, tokens and logits must not be NULL");
    if (count < 1 || count > ek::kMostTogether)
      ek::fail(EK_BAD_ARGUMENT,
           "cannot evaluate a step of %" PRId64 " sessions; allowed: 1 to %" PRId64, count, ek::kMostTogether);
    ek::Session *sequences[ek::kMostTogether];
    std::optional<ek::InUse> in_use[ek::kMostTogether];
    const ek::InUse worker_in_use(*worker);
    for (int64_t i = 0; i < count; ++i) {
      need(sessions[i], "ek_session_step: every session must not be NULL");
      if (std::find(sessions, sessions + i, sessions[i]) != sessions + i)
        ek::fail(EK_BAD_ARGUMENT, "session %" PRId64 " is in the step twice", i);
      if (sessions[i] != worker) in_use[i].emplace(*sessions[i]);
      sequences[i] = &(sessions[i] == worker ? worker_in_use : *in_use[i])->session;
    }
    worker_in_use->session.step(sequences, counts, count, tokens, logits);
  });
}

int ek_session_rewind(ek_session *session, int64_t length) {
  return guarded([&] {
    need(session, "ek_session_rewind: session must not be NULL");
    const ek::InUse in_use(*session);
    in_use->session.rewind(length);
  });
}

int ek_session_tokens(const ek_session *session, int32_t *tokens, int64_t count) {
  return guarded([&] {
    need(session && (tokens || count == 0), "ek_session_tokens: session and tokens must not be NULL");
    const ek::InUse in_use(*session);
    if (count < 0 || count > in_use->session.position())
      ek::fail(EK_BAD_ARGUMENT,
           "cannot copy %" PRId64 " token ids; the session has %" PRId64, count, in_use->session.position());
    std::copy_n(in_use->session.ids().begin(), count, tokens);
  });
}

int ek_session_copy(ek_session *session, const ek_session *source) {
  return guarded([&] {
    need(session && source, "ek_session_copy: session and source must not be NULL");
    const ek::InUse in_use(*session);
    if (session == source) return;
    const ek::InUse source_in_use(*source);
    in_use->session.copy(source_in_use->session);
  });
}

int64_t ek_session_block_bytes(const ek_session *session) {
  return ek::number_of(session, [](const ek::SessionObject &of) { return of.session.block_bytes(); });
}

int ek_session_get_block(const ek_session *session, int64_t block, void *bytes) {
  return guarded([&] {
    need(session && bytes, "ek_session_get_block: session and bytes must not be NULL");
    const ek::InUse in_use(*session);
    in_use->session.get_block(block, static_cast<uint8_t *>(bytes));
  });
}

int ek_session_append_block(ek_session *session, const int32_t *tokens, const void *bytes) {
  return guarded([&] {
    need(session && tokens && bytes, "ek_session_append_block: session, tokens and bytes must not be NULL");
    const ek::InUse in_use(*session);
    in_use->session.append_block(tokens, static_cast<const uint8_t *>(bytes));
  });
}

int ek_session_save(const ek_session *session, const char *path) {
  return guarded([&] {
    need(session && path, "ek_session_save: session and path must not be NULL");
    const ek::InUse in_use(*session);
    in_use->session.save(path);
  });
}

int ek_session_load(ek_session *session, const char *path) {
  return guarded([&] {
    need(session && path, "ek_session_load: session and path must not be NULL");
    const ek::InUse in_use(*session);
    in_use->session.load(path);
  });
}

void ek_session_cancel(ek_session *session) {
  if (session) session->usage.cancel(); /* no lock: it may be called by a signal handler */
}

int ek_default_threads(void) {
  int threads = 1; /* if the machine is out of memory */
  guarded([&] { threads = ek::this_topology().threads; });
  return threads;
}

int ek_sample(const float *logits, int64_t n, const ek_sampling *sampling, const uint8_t *seen, uint64_t *random_state,
              int32_t *token) {
  return guarded([&] {
    need(logits && sampling && random_state && token, "ek_sample: logits, sampling, random_state and token must not be NULL");
    *token = ek::sample(logits, n, *sampling, seen, *random_state);
  });
}

int ek_session_sample(ek_session *worker, const float *logits, int64_t count, const ek_sampling *sampling,
                      const uint8_t *const *seen, uint64_t *random_states, int32_t *tokens) {
  return guarded([&] {
    need(worker && logits && sampling && seen && random_states && tokens,
         "ek_session_sample: worker, logits, sampling, seen, random_states and tokens must not be NULL");
    const ek::InUse in_use(*worker);
    in_use->session.sample(logits, count, sampling, seen, random_states, tokens);
  });
}
