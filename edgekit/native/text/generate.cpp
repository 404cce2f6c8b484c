#include "generate.h"

#include <algorithm>
#include <chrono>
#include <cinttypes>
#include <cstdio>
#include <deque>
#include <exception>
#include <optional>

#include "../src/error.h"
#include "../src/sampler.h"
#include "chat.h"
#include "prepare.h"
#include "stream.h"
#include "text_handle.h"
#include "thought.h"
#include "tokenizer.h"
#include "watch.h"

namespace ek {
namespace {

using Clock = std::chrono::steady_clock;

/* A prompt is evaluated in pieces, after which its progress is reported. A piece takes about kPieceSeconds. Rows of
 * kLeastPiece and more have the same kernels, so results do not depend on the pieces: the session evaluates a prompt kBlock rows
 * at a time (32 with the portable kernels), and all pieces but the rest of the prompt are multiples of kLeastPiece. */
constexpr int64_t kLeastPiece = 64, kBlock = 512;
constexpr double kPieceSeconds = 0.1;
/* Tokens that may still come before a thought is closed inside a character, which has at most four bytes. Without a limit, a
 * thought that repeats invalid bytes would never be closed. */
constexpr int kMostWaited = 3;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

/* 64 random bits from the system; not std::random_device, which needs a newer C library than some devices have. */
uint64_t fresh_seed() {
  uint64_t seed = static_cast<uint64_t>(Clock::now().time_since_epoch().count());
  if (std::FILE *file = std::fopen("/dev/urandom", "rb")) {
    uint64_t random = 0;
    if (std::fread(&random, sizeof random, 1, file) == 1) seed = random;
    std::fclose(file);
  }
  return seed;
}

struct Cancelled {};

class Generation {
 public:
  Generation(SessionObject &session, const std::shared_ptr<const Tables> &tables, const ek_request &request, ek_on_event on_event, void *context)
      : started_(Clock::now()), session_(session), tables_(*tables), request_(request), on_event_(on_event), context_(context),
        stream_(tables), stop_texts_(stop_texts()) {}

  void run() {
    prepare();
    int32_t finish = EK_FINISH_CANCELLED;
    try {
      finish = answer();
    } catch (const Cancelled &) {
    } catch (const Error &error) {
      if (error.status != EK_CANCELLED) throw;
    }
    report_done(finish);
  }

 private:
  std::vector<std::string> stop_texts() const {
    if (request_.stop_text_count < 0) fail(EK_BAD_ARGUMENT, "%" PRId64 " stop texts were given; allowed: 0 or more", request_.stop_text_count);
    std::vector<std::string> texts;
    for (uint32_t i = 0; i < tables_.settings.stop_texts && !request_.ignore_stops; ++i) texts.emplace_back(tables_.strings[i]);
    for (int64_t i = 0; i < request_.stop_text_count; ++i) {
      if (!request_.stop_texts || !request_.stop_texts[i]) fail(EK_BAD_ARGUMENT, "stop text %" PRId64 " is NULL", i);
      texts.emplace_back();
      append_replaced(request_.stop_texts[i], texts.back());
    }
    return texts;
  }

  void prepare() {
    const int given = (request_.messages != nullptr) + (request_.prompt != nullptr) + (request_.prompt_ids != nullptr);
    if (given != 1) fail(EK_BAD_ARGUMENT, "a request needs exactly one of messages, prompt and prompt_ids; %d were given", given);
    if (request_.max_tokens < 0) fail(EK_BAD_ARGUMENT, "max_tokens is %" PRId64 "; allowed: 0 (no limit) or more", request_.max_tokens);
    if (request_.prompt_ids) {
      prompt_.assign(request_.prompt_ids, request_.prompt_ids + std::max<int64_t>(request_.prompt_id_count, 0));
    } else {
      WrittenText text;
      if (request_.messages) {
        text = render(tables_, request_.messages, request_.message_count);
        if (tables_.settings.reasoning) splitter_ = spelled_ = ThoughtSplitter(opens_thought(tables_));
      } else {
        text.add(given_text(request_.prompt, request_.prompt_bytes), Writer::kTemplate);
      }
      Encoder(tables_).encode(text, prompt_);
      apply_bos(tables_, tables_.settings.adds_bos, prompt_);
    }
    if (prompt_.empty()) fail(EK_BAD_ARGUMENT, "the prompt is empty; the model needs at least one token to continue");
    const int64_t room = session_.session.context(), size = static_cast<int64_t>(prompt_.size());
    if (size > room)
      fail(EK_CONTEXT, "the prompt has %" PRId64 " tokens; the context holds %" PRId64 ". Shorten it, or create a session with a larger context",
           size, room);
    if (request_.stop_id_count < 0 || (request_.stop_id_count && !request_.stop_ids)) fail(EK_BAD_ARGUMENT, "stop_ids must not be NULL");
    stop_ids_.assign(request_.stop_ids, request_.stop_ids + request_.stop_id_count);
    if (!request_.ignore_stops) stop_ids_.insert(stop_ids_.end(), tables_.stop_ids.begin(), tables_.stop_ids.end());
    sampling_ = request_.sampling ? *request_.sampling : tables_.settings.sampling;
    random_ = request_.has_seed ? request_.seed : fresh_seed();
    const auto vocabulary = static_cast<size_t>(session_.session.model().vocab_size);
    logits_.resize(vocabulary);
    if (sampling_.repetition_penalty != 1) seen_.resize(vocabulary);
    if (splitter_)
      for (const std::string_view tag : {kThinkOpen, kThinkClose})
        if (const int32_t id = added_token_id(tables_, tag); id >= 0) tags_.push_back({id, tag});
    pending_ = prompt_;
    watch_.emplace(request_.max_thought_tokens, request_.loop_guard, in_thought());
  }

  int32_t answer() {
    accepted_before_ = session_.speculation.accepted();
    reuse();
    for (;;) {
      const Clock::time_point start = Clock::now();
      const int32_t token = next_token();
      if (ids_.empty()) {
        ttft_s_ = seconds_since(started_);
      } else {
        decode_s_ += seconds_since(start);
      }
      ids_.push_back(token);
      pending_.push_back(token);
      thought_tokens_ += in_thought();
      report(text_of(token));
      int32_t finish = finished(token);
      if (finish < 0 && watch(token)) finish = EK_FINISH_LOOP;
      if (finish < 0) {
        check_cancelled();
        continue;
      }
      std::string rest;
      stream_.flush(rest);
      std::string last = stop_texts_.push(rest); /* before flush(), which returns what push() holds back */
      last += stop_texts_.flush();
      report(last);
      if (splitter_) {
        std::vector<Piece> pieces;
        splitter_->flush(pieces);
        report_pieces(pieces);
      }
      return stop_texts_.found() ? EK_FINISH_STOP : finish;
    }
  }

  /* Keep the tokens that the session and the prompt have in common. The last one is evaluated again for its logits. */
  void reuse() {
    const std::vector<int32_t> &held = session_.session.ids();
    const auto most = static_cast<int64_t>(std::min(held.size(), prompt_.size() - 1));
    reused_ = std::mismatch(held.begin(), held.begin() + most, prompt_.begin()).first - held.begin();
    session_.session.rewind(reused_);
    const auto prepared = static_cast<int64_t>(session_.prepared.size());
    const bool as_prepared = reused_ < prepared && prepared < static_cast<int64_t>(prompt_.size()) &&
                             common_start(session_.prepared, prompt_) == prepared;
    if (as_prepared) evaluate_pieces(session_.session, prompt_.data() + reused_, prepared - reused_);
    pending_.erase(pending_.begin(), pending_.begin() + (as_prepared ? prepared : reused_));
  }

  int32_t next_token() {
    if (!forced_.empty()) {
      const int32_t token = forced_.front();
      forced_.pop_front();
      return token;
    }
    evaluate_pending();
    if (!seen_.empty() && ids_.empty())
      for (const int32_t id : prompt_) seen_[static_cast<size_t>(id)] = 1;
    watch_->adjust(logits_.data(), static_cast<int64_t>(logits_.size()));
    const int32_t token = sample(logits_.data(), static_cast<int64_t>(logits_.size()), sampling_, seen_.empty() ? nullptr : seen_.data(), random_);
    if (!seen_.empty()) seen_[static_cast<size_t>(token)] = 1;
    return token;
  }

  void evaluate_pending() {
    int64_t piece = kLeastPiece;
    const auto size = static_cast<int64_t>(pending_.size());
    if (size == 1 && !ids_.empty() && !request_.no_speculation) {
      session_.speculation.next(session_.session, pending_[0], logits_.data());
      check_cancelled();
      pending_.clear();
      return;
    }
    for (int64_t done = 0; done < size;) {
      const int64_t block = std::min(kBlock - done % kBlock, size - done);
      const int64_t count = block < piece + kLeastPiece ? block : piece;
      const Clock::time_point start = Clock::now();
      session_.session.evaluate(pending_.data() + done, count, false, logits_.data());
      done += count;
      if (done < size) {
        const double fitting = static_cast<double>(count) * kPieceSeconds / std::max(seconds_since(start), 1e-6);
        piece = std::clamp(static_cast<int64_t>(fitting) / kLeastPiece * kLeastPiece, kLeastPiece, kBlock);
        ek_event event = new_event(EK_EVENT_PROMPT);
        event.prompt_done = session_.session.position();
        event.prompt_total = static_cast<int64_t>(prompt_.size());
        send(event);
      }
      check_cancelled();
    }
    pending_.clear();
  }

  /* The text that becomes final with a token. A thought's tags are text, even if they are special tokens. */
  std::string text_of(int32_t token) {
    if (is_stop(token)) return {};
    std::string text;
    const auto tag = std::find_if(tags_.begin(), tags_.end(), [&](const auto &each) { return each.first == token; });
    if (tag == tags_.end()) {
      stream_.push(token, text);
    } else {
      stream_.flush(text);
      text.append(tag->second);
    }
    if (spelled_) {
      std::vector<Piece> ignored;
      spelled_->push(text, ignored);
    }
    return stop_texts_.push(text);
  }

  /* Whether the tokens so far end inside the thought, also if its tag is held back because a stop text may begin with its end. */
  bool in_thought() const { return spelled_ && spelled_->in_thought(); }

  bool is_stop(int32_t token) const { return std::find(stop_ids_.begin(), stop_ids_.end(), token) != stop_ids_.end(); }

  /* Why the answer ends with this token, or -1. */
  int32_t finished(int32_t token) const {
    if (is_stop(token) || stop_texts_.found()) return EK_FINISH_STOP;
    if (request_.max_tokens && static_cast<int64_t>(ids_.size()) >= request_.max_tokens) return EK_FINISH_LENGTH;
    const int64_t room = session_.session.context() - session_.session.position();
    return static_cast<int64_t>(pending_.size()) > room ? static_cast<int32_t>(EK_FINISH_CONTEXT) : -1;
  }

  /* Close a thought that has used its tokens or loops. true: the answer loops and has to end. */
  bool watch(int32_t token) {
    const ek_watch_action action = watch_->push(token, in_thought());
    if (action == EK_WATCH_GO_ON || action == EK_WATCH_END) return action == EK_WATCH_END;
    if (closed_ != EK_THOUGHT_OPEN) return false;
    if (!stream_.is_whole() && waited_++ < kMostWaited) return false;
    closed_ = action == EK_WATCH_CLOSE_LOOP ? EK_THOUGHT_LOOP : EK_THOUGHT_SPENT;
    WrittenText text;
    text.add(thought_closing(action, text_), Writer::kTemplate);
    std::vector<int32_t> ids;
    Encoder(tables_).encode(text, ids);
    forced_.assign(ids.begin(), ids.end());
    return false;
  }

  void report(const std::string &text) {
    text_.append(text);
    std::vector<Piece> pieces;
    if (splitter_) {
      splitter_->push(text, pieces);
    } else if (!text.empty()) {
      pieces.push_back({text, false});
    }
    report_pieces(pieces);
  }

  void report_pieces(const std::vector<Piece> &pieces) {
    for (const Piece &piece : pieces) {
      ek_event event = new_event(piece.thought ? EK_EVENT_THOUGHT : EK_EVENT_ANSWER);
      event.text = piece.text.c_str();
      event.bytes = static_cast<int64_t>(piece.text.size());
      send(event);
      check_cancelled();
    }
  }

  void report_done(int32_t finish) {
    ek_completion done{};
    done.size = sizeof done;
    done.finish = finish;
    const bool open = splitter_ && splitter_->in_thought();
    done.thought_closed = open ? EK_THOUGHT_OPEN : closed_ ? closed_ : static_cast<int32_t>(EK_THOUGHT_MODEL);
    done.text = text_.c_str();
    done.text_bytes = static_cast<int64_t>(text_.size());
    done.prompt_ids = prompt_.data();
    done.prompt_tokens = static_cast<int64_t>(prompt_.size());
    done.reused_tokens = reused_;
    done.ids = ids_.data();
    done.tokens = static_cast<int64_t>(ids_.size());
    done.thought_tokens = thought_tokens_;
    done.loops = watch_ ? watch_->loops() : 0;
    done.accepted_tokens = session_.speculation.accepted() - accepted_before_;
    done.ttft_s = ttft_s_;
    done.decode_tok_s = ids_.size() > 1 && decode_s_ > 0 ? static_cast<double>(ids_.size() - 1) / decode_s_ : 0;
    ek_event event = new_event(EK_EVENT_DONE);
    event.completion = &done;
    send(event);
  }

  static ek_event new_event(ek_event_kind kind) {
    ek_event event{};
    event.size = sizeof event;
    event.kind = kind;
    event.text = "";
    return event;
  }

  void send(const ek_event &event) {
    if (!on_event_) return;
    try {
      if (on_event_(&event, context_) != 0) session_.session.usage().cancel();
    } catch (const std::exception &error) {
      fail(EK_CALLBACK, "on_event threw an exception: %s", error.what());
    } catch (...) {
      fail(EK_CALLBACK, "on_event threw an exception");
    }
  }

  void check_cancelled() const {
    if (session_.session.usage().cancelled()) throw Cancelled{};
  }

  const Clock::time_point started_;
  SessionObject &session_;
  const Tables &tables_;
  const ek_request &request_;
  ek_on_event on_event_;
  void *context_;
  TextStream stream_;
  StopTexts stop_texts_;
  std::optional<ThoughtSplitter> splitter_, spelled_; /* of the text to report, and of all that the tokens spell */
  std::optional<Watch> watch_;
  std::vector<std::pair<int32_t, std::string_view>> tags_;
  std::vector<int32_t> prompt_, ids_, stop_ids_;
  std::vector<int32_t> pending_; /* ids that follow those in the session */
  std::deque<int32_t> forced_;   /* the next ids, without sampling */
  std::vector<float> logits_;
  std::vector<uint8_t> seen_;
  ek_sampling sampling_{};
  uint64_t random_ = 0;
  std::string text_;
  int64_t reused_ = 0, thought_tokens_ = 0, accepted_before_ = 0;
  int waited_ = 0;
  int32_t closed_ = EK_THOUGHT_OPEN; /* what closed the thought, if it was not the model */
  double ttft_s_ = 0, decode_s_ = 0;
};

}  // namespace

void generate(ek_session &session, const std::shared_ptr<const Tables> &tables, const ek_request &request, ek_on_event on_event,
              void *context) {
  const InUse in_use(session);
  Generation(*in_use, tables, request, on_event, context).run();
}

}  // namespace ek
