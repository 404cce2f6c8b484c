/* The C API as C++17 classes that free what they own and throw edgekit::Error. Header only.
 *
 *   const auto model = std::make_shared<edgekit::Model>("artifact");
 *   edgekit::Session session(model);
 *   edgekit::Request request;
 *   request.messages = {{"user", "What is the capital of France?"}};
 *   const edgekit::Answer answer = session.generate(request, [](const ek_event &event) {
 *     if (event.kind == EK_EVENT_ANSWER) std::cout << std::string_view(event.text, event.bytes) << std::flush;
 *     return true;  // false ends the answer
 *   });
 *
 * edgekit.h and edgekit_text.h describe the functions, errors and threads. `get()` returns a handle for them.
 */
#ifndef EDGEKIT_HPP
#define EDGEKIT_HPP

#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "edgekit_text.h"

namespace edgekit {

/* A function of the C API failed: what() is the text of ek_last_error. Or the library is not the one that the headers belong to. */
class Error : public std::runtime_error {
 public:
  explicit Error(int status) : std::runtime_error(ek_last_error()), status_(status) {}
  Error(int status, const std::string &what) : std::runtime_error(what), status_(status) {}
  int status() const { return status_; } /* an ek_status */

 private:
  int status_;
};

inline void check(int status) {
  if (status != EK_OK) throw Error(status);
}

namespace detail {
template <class Handle, void (*free_handle)(Handle *)>
struct Free {
  void operator()(Handle *handle) const { free_handle(handle); }
};
template <class Handle, void (*free_handle)(Handle *)>
using Owned = std::unique_ptr<Handle, Free<Handle, free_handle>>;
}  // namespace detail

/* An open artifact: its weights and its tokenizer. Any number of threads and sessions may use it. */
class Model {
 public:
  explicit Model(const std::string &folder) {
    if (ek_abi_version() != EK_ABI_VERSION)
      throw Error(EK_UNSUPPORTED, "the library has ABI version " + std::to_string(ek_abi_version()) +
                                      "; this program needs " + std::to_string(EK_ABI_VERSION));
    ek_model *model = nullptr;
    check(ek_model_open(folder.c_str(), &model));
    model_.reset(model);
    ek_text *text = nullptr;
    check(ek_text_open(folder.c_str(), &text));
    text_.reset(text);
  }

  std::int64_t context_length() const { return ek_model_context_length(model_.get()); }

  /* The ids of a text; `flags` is a sum of ek_encode_flags. */
  std::vector<std::int32_t> encode(const std::string &text, int flags = EK_ENCODE_DEFAULT) const {
    std::int64_t count = 0;
    const auto bytes = static_cast<std::int64_t>(text.size());
    check(ek_text_encode(text_.get(), text.data(), bytes, flags, nullptr, 0, &count));
    std::vector<std::int32_t> ids(static_cast<std::size_t>(count));
    check(ek_text_encode(text_.get(), text.data(), bytes, flags, ids.data(), count, &count));
    return ids;
  }

  ek_model *get() const { return model_.get(); }
  ek_text *text() const { return text_.get(); }

 private:
  detail::Owned<ek_model, ek_model_close> model_;
  detail::Owned<ek_text, ek_text_close> text_;
};

struct Message {
  std::string role;    /* "system", "user" or "assistant" */
  std::string content; /* UTF-8 */
  bool whole = false;  /* the content is Answer::text: everything that the model wrote */
};

/* What to generate: an answer to `messages`, or the continuation of `prompt` or of `prompt_ids`. The fields are those of
 * ek_request. */
struct Request {
  std::vector<Message> messages;
  std::string prompt;
  std::vector<std::int32_t> prompt_ids;
  std::optional<ek_sampling> sampling; /* by default the artifact's */
  std::optional<std::uint64_t> seed;   /* by default a fresh one; ek_generate says what it makes repeatable */
  std::int64_t max_tokens = 0;         /* 0: until the model stops or the context is full */
  std::int64_t max_thought_tokens = 0; /* 0: no limit */
  std::vector<std::string> stop_texts; /* without NUL characters */
  std::vector<std::int32_t> stop_ids;
  bool ignore_stops = false; /* the artifact's stop ids and texts do not end the answer */
  ek_loop_guard loop_guard = EK_GUARD_THOUGHT;
  bool no_speculation = false; /* evaluate one token at a time */
};

/* A finished or cancelled answer. The fields are those of ek_completion. */
struct Answer {
  ek_finish finish = EK_FINISH_CANCELLED;
  std::string text; /* everything that the model wrote; add it to the conversation with Message::whole */
  std::vector<std::int32_t> prompt_ids, ids;
  std::int64_t reused_tokens = 0, thought_tokens = 0, loops = 0, accepted_tokens = 0;
  ek_thought_end thought_closed = EK_THOUGHT_OPEN;
  double ttft_s = 0, decode_tok_s = 0;
};

struct SessionOptions {
  std::int64_t context = 0; /* tokens; 0: the model's, but at most 4096 */
  int threads = 0;          /* 0: ek_default_threads */
  ek_kv_type kv_type = EK_KV_FLOAT16;
};

/* One conversation with its KV cache. cancel() may be called from any thread; all other functions from one at a time. */
class Session {
 public:
  using OnEvent = std::function<bool(const ek_event &)>;

  explicit Session(std::shared_ptr<const Model> model, SessionOptions options = {}) : model_(std::move(model)) {
    const std::int64_t longest = model_->context_length();
    const std::int64_t context = options.context ? options.context : longest < 4096 ? longest : 4096;
    ek_session *session = nullptr;
    check(ek_session_create(model_->get(), context, options.threads, options.kv_type, &session));
    session_.reset(session);
  }

  /* Generate an answer; returns when it is finished. `on_event` returns whether to go on. An exception that it throws
   * ends the answer, and is thrown again from here. */
  Answer generate(const Request &request, const OnEvent &on_event = {}) {
    std::vector<ek_message> messages;
    for (const Message &message : request.messages)
      messages.push_back({message.role.c_str(), message.content.data(), length(message.content), message.whole});
    std::vector<const char *> stops;
    for (const std::string &stop : request.stop_texts) stops.push_back(stop.c_str());
    ek_request all{};
    all.size = sizeof all;
    if (!messages.empty()) all.messages = messages.data();
    all.message_count = length(messages);
    if (!request.prompt.empty()) all.prompt = request.prompt.data();
    all.prompt_bytes = length(request.prompt);
    if (!request.prompt_ids.empty()) all.prompt_ids = request.prompt_ids.data();
    all.prompt_id_count = length(request.prompt_ids);
    all.sampling = request.sampling ? &*request.sampling : nullptr;
    all.seed = request.seed.value_or(0);
    all.has_seed = request.seed.has_value();
    all.ignore_stops = request.ignore_stops;
    all.max_tokens = request.max_tokens;
    all.max_thought_tokens = request.max_thought_tokens;
    all.loop_guard = request.loop_guard;
    all.no_speculation = request.no_speculation;
    all.stop_texts = stops.data();
    all.stop_text_count = length(stops);
    all.stop_ids = request.stop_ids.data();
    all.stop_id_count = length(request.stop_ids);
    Call call{on_event, {}, nullptr};
    const int status = ek_generate(session_.get(), model_->text(), &all, Call::receive, &call);
    if (call.thrown) std::rethrow_exception(call.thrown);
    check(status);
    return std::move(call.answer);
  }

  /* Evaluate what the next prompt of this conversation begins with; see ek_prepare. false: it was cancelled. */
  bool prepare(const std::vector<Message> &conversation) {
    std::vector<ek_message> messages;
    for (const Message &message : conversation)
      messages.push_back({message.role.c_str(), message.content.data(), length(message.content), message.whole});
    const int status = ek_prepare(session_.get(), model_->text(), messages.data(), length(messages));
    if (status != EK_CANCELLED) check(status);
    return status == EK_OK;
  }

  /* End the answer that another thread, or the callback, is in, or the preparation. */
  void cancel() { ek_session_cancel(session_.get()); }

  ek_session *get() const { return session_.get(); }

 private:
  struct Call {
    const OnEvent &on_event;
    Answer answer;
    std::exception_ptr thrown;

    static int receive(const ek_event *event, void *context) {
      Call &call = *static_cast<Call *>(context);
      if (call.thrown) return 1;
      try {
        if (event->completion) call.finish(*event->completion);
        return !call.on_event || call.on_event(*event) ? 0 : 1;
      } catch (...) { /* must not pass through C */
        call.thrown = std::current_exception();
        return 1;
      }
    }

    void finish(const ek_completion &done) {
      answer.finish = static_cast<ek_finish>(done.finish);
      answer.text.assign(done.text, static_cast<std::size_t>(done.text_bytes));
      answer.prompt_ids.assign(done.prompt_ids, done.prompt_ids + done.prompt_tokens);
      answer.ids.assign(done.ids, done.ids + done.tokens);
      answer.reused_tokens = done.reused_tokens;
      answer.thought_tokens = done.thought_tokens;
      answer.thought_closed = static_cast<ek_thought_end>(done.thought_closed);
      answer.loops = done.loops;
      answer.accepted_tokens = done.accepted_tokens;
      answer.ttft_s = done.ttft_s;
      answer.decode_tok_s = done.decode_tok_s;
    }
  };

  template <class Array>
  static std::int64_t length(const Array &array) {
    return static_cast<std::int64_t>(array.size());
  }

  std::shared_ptr<const Model> model_;
  detail::Owned<ek_session, ek_session_free> session_;
};

}  // namespace edgekit

#endif  // EDGEKIT_HPP
