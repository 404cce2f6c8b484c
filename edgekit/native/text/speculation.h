/* Speculation: tokens that probably follow are evaluated together with the current one. They come from earlier parts of the text
 * (lookup.h) or, where those say nothing, from a smaller model if there is one (draft.h). If the next tokens turn out to be those,
 * their logits are there already; otherwise the guesses are dropped.
 *
 * All logits have the same bits as without speculation (Session::evaluate_ahead), and only then a token is chosen from them. So
 * neither greedy nor sampled answers change.
 *
 * How many tokens are guessed depends on what several rows cost on this machine, which is measured as they are evaluated, and on
 * how many guesses after matches of this length were right. Guesses that do not pay stop, and are tried again now and then. What
 * wrong guesses may cost is limited to a small part of the time and to what right ones have saved before. */
#ifndef EDGEKIT_TEXT_SPECULATION_H
#define EDGEKIT_TEXT_SPECULATION_H

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "draft.h"
#include "lookup.h"

namespace ek {

class Session;

constexpr int kMostGuesses = 7;

/* Chooses the number of guesses. */
class Stakes {
 public:
  Stakes();
  /* The number of guesses to evaluate behind a match of this length, of `most` that there are: 0 to kMostGuesses. */
  int choose(int64_t match, int64_t most);
  /* What became of them. */
  void learn(int64_t match, int guesses, int right);
  /* How long rows (1 + guesses) took together. */
  void took(int rows, double seconds);

  double cost(int rows) const { return costs_[static_cast<size_t>(rows)]; } /* in evaluations of one row */
  /* A time in evaluations of one row, or `expected` if those have not been measured. */
  double in_rows(double seconds, double expected) const { return one_seconds_ > 0 ? seconds / one_seconds_ : expected; }
  /* For guesses of another kind than those of choose(): whether a loss can be afforded, and what was gained or lost. */
  bool affords(double rows) const { return rows <= balance_; }
  void gained(double rows);

 private:
  static constexpr int kKinds = 4; /* of matches, by their length */
  struct Record {
    double right, tried;
  };
  static int kind_of(int64_t match);

  std::array<Record, kKinds> records_;
  std::array<double, kMostGuesses + 2> costs_{};
  std::array<bool, kMostGuesses + 2> measured_{};
  double one_seconds_ = 0;
  double balance_; /* what guesses may lose, in evaluations of one row */
};

class Speculation {
 public:
  /* Append an id to the session and compute its logits (vocab), with the same bits as session.evaluate(&id, 1, ...). Call it with
   * the same session always. Throws Error as evaluate does; the session is then unchanged. */
  void next(Session &session, int32_t id, float *logits);

  /* Let a session of a smaller model guess, too; its token ids mean the same. nullptr: no longer. */
  void set_draft(std::shared_ptr<Session> draft, const Session &session);

  int64_t guessed() const { return guessed_; }   /* tokens */
  int64_t accepted() const { return accepted_; } /* of these, those that followed */

 private:
  void settle();
  void follow(const Session &session);
  void evaluate(Session &session, int32_t id, float *logits);

  Lookup lookup_;
  Stakes stakes_;
  std::optional<Draft> draft_;
  bool drafted_ = false; /* the guesses are those of the draft */
  std::vector<int32_t> ids_;  /* the id and its guesses */
  std::vector<float> logits_; /* of these, one row after another */
  int64_t match_ = 0, right_ = 0, changes_ = -1, guessed_ = 0;
  std::atomic<int64_t> accepted_{0}; /* may be read at any time */
};

}  // namespace ek

#endif
