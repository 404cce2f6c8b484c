/* A smaller model that guesses tokens for speculation (speculation.h): it continues the text greedily, as far as that probably pays.
 *
 * Whether a guess is right depends on how sure the draft model is: on the distance of its two largest logits. A record is kept for
 * each of some ranges of it. What a token of the draft model costs is measured, in evaluations of one row of the other model. */
#ifndef EDGEKIT_TEXT_DRAFT_H
#define EDGEKIT_TEXT_DRAFT_H

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace ek {

class Session;
class Stakes;

class Draft {
 public:
  /* session: of a model whose token ids mean the same; used by guess() only. target: the session it guesses for. */
  Draft(std::shared_ptr<Session> session, const Session &target);

  /* What stands before this position is the prompt, which the draft model reads in addition to the other model. Later text that it
   * has not read yet is part of the cost of its guesses. */
  void prompt(int64_t length) { prompt_ = length; }

  /* Append at most `most` guesses of what follows the target's ids and `id`; none if that would not pay. Throws Error: EK_BUSY if
   * another call uses the draft's session, EK_CANCELLED if the call of the target is, and as evaluate does. */
  void guess(const Session &target, int32_t id, int64_t most, Stakes &stakes, std::vector<int32_t> &out);
  /* What became of the last guesses. */
  void learn(int right, Stakes &stakes);

 private:
  static constexpr int kKinds = 5; /* of guesses, by the distance of the two largest logits */
  struct Record {
    double right, tried;
    double chance() const { return right / tried; }
  };
  bool pays(int64_t most, double lag, const Stakes &stakes) const;
  void skip();
  bool read(const Session &target, int32_t id, Stakes &stakes);
  int kind_of_best(int32_t &best) const;
  void evaluate(const int32_t *ids, int64_t count);

  const std::shared_ptr<Session> held_;
  Session &session_;
  std::array<Record, kKinds> records_;
  std::vector<int> kinds_; /* of the last guesses */
  std::vector<float> logits_;
  int64_t prompt_ = 0;
  double mean_;       /* the chance of a guess, on average */
  double cost_;       /* of a token, in evaluations of one row of the target */
  double spent_ = 0;  /* on the last guesses, in the same unit */
  double rows_cost_ = 0;
};

}  // namespace ek

#endif
