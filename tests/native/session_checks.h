/* Tests a session with a kernel table on a small artifact: it must compute the logits of the scalar table, no matter how its
 * tokens are divided into calls. Included by the tests that have tables. */
#ifndef EDGEKIT_TESTS_SESSION_CHECKS_H
#define EDGEKIT_TESTS_SESSION_CHECKS_H

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "check.h"
#include "small_artifact.h"
#include "src/error.h"
#include "src/session.h"

namespace {

using namespace ek;

std::vector<int32_t> some_ids(int64_t count) {
  Random random{5};
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < count; ++i) ids.push_back(random.below(kVocab));
  return ids;
}

/* The logits (count, vocab) of all ids, evaluated in pieces of these sizes, repeated as needed. */
std::vector<float> logits_of(Session &session, const std::vector<int32_t> &ids, const std::vector<int64_t> &pieces) {
  std::vector<float> logits(ids.size() * kVocab);
  int64_t done = 0;
  for (size_t i = 0; done < static_cast<int64_t>(ids.size()); ++i) {
    const int64_t count = std::min(pieces[i % pieces.size()], static_cast<int64_t>(ids.size()) - done);
    session.evaluate(&ids[static_cast<size_t>(done)], count, true, &logits[static_cast<size_t>(done * kVocab)]);
    done += count;
  }
  return logits;
}

/* The root mean square of the difference, relative to that of the expected numbers. */
double difference(const std::vector<float> &found, const std::vector<float> &expected) {
  double error = 0, size = 0;
  for (size_t i = 0; i < found.size(); ++i) {
    error += std::pow(static_cast<double>(found[i]) - expected[i], 2);
    size += std::pow(static_cast<double>(expected[i]), 2);
  }
  return std::sqrt(error / size);
}

bool near(const char *what, const Kernels &kernels, double found, double allowed) {
  if (found <= allowed) return true;
  std::printf("  %s, %s: off by %g of the logits, allowed %g\n", kernels.name, what, found, allowed);
  return false;
}

/* Sums in another order: some activations are rounded to the other neighbour. */
constexpr double kOrder = 0.01;
/* bfloat16 activations and weights, compared with int8 activations: two unrelated roundings. */
[[maybe_unused]] constexpr double kBf16Logits = 0.03;
constexpr double kInt8Cache = 0.03;

/* The ids of the checks and their logits by the scalar table, computed once. */
struct Reference {
  SmallArtifact artifact;
  std::shared_ptr<const Model> model = artifact.open();
  std::vector<int32_t> ids = some_ids(720);
  std::vector<float> logits;
  int64_t cache_bytes;

  Reference() {
    Session session(model, kScalar, kContext, 2, KvType::kFloat16);
    logits = logits_of(session, ids, {300});
    cache_bytes = session.cache_bytes();
  }
  static const Reference &get() {
    static const Reference reference;
    return reference;
  }
};

/* How the ids are given to a session: pieces around a chunk of prefill and around the 8 rows of decode. The scalar table,
 * which is slow and has other chunks (32), gets fewer, and so do emulated processors. */
#ifdef EDGEKIT_EMULATED
const std::vector<std::vector<int64_t>> kPieces = {{513, 7, 1, 8, 9}};
#else
const std::vector<std::vector<int64_t>> kPieces = {{720}, {512, 208}, {513, 7, 1, 8, 9}, {640, 1, 2, 3, 4}};
#endif
const std::vector<std::vector<int64_t>> kScalarPieces = {{32, 33, 7, 1, 8, 9, 64}};

/* allowed: the largest difference() between the logits and those of the scalar table; int8_allowed: with an int8 cache. */
void check_session(const Kernels &kernels, double allowed, double int8_allowed) {
  const Reference &reference = Reference::get();
  const std::shared_ptr<const Model> model = reference.model;
  const std::vector<int32_t> &ids = reference.ids;
  const std::vector<float> &expected = reference.logits;
  for (const std::vector<int64_t> &pieces : &kernels == &kScalar ? kScalarPieces : kPieces)
    for (int threads : {1, 3}) { /* three threads for two key-value heads split a long context into parts */
      Session session(model, kernels, kContext, threads, KvType::kFloat16);
      CHECK(near("float16 cache", kernels, difference(logits_of(session, ids, pieces), expected), allowed));
    }
  Session small(model, kernels, kContext, 3, KvType::kInt8);
  CHECK(near("int8 cache", kernels, difference(logits_of(small, ids, {513, 7, 1}), expected), int8_allowed));
  CHECK(small.cache_bytes() < reference.cache_bytes * 7 / 10);

  /* The same tokens give the same bits after a rewind, in a copy, and after loading a file. */
  char path[] = "/tmp/edgekit-session-test-XXXXXX";
  const int file = mkstemp(path);
  CHECK(file >= 0);
  ::close(file);
  std::vector<float> first(kVocab), again(kVocab);
  small.rewind(700);
  small.save(path);
  small.evaluate(&ids[700], 5, false, first.data());
  Session copy(model, kernels, 710, 3, KvType::kInt8), loaded(model, kernels, 705, 3, KvType::kInt8);
  small.rewind(700);
  copy.copy(small);
  loaded.load(path);
  unlink(path);
  for (Session *session : {&small, &copy, &loaded}) {
    CHECK(session->position() == 700 && session->ids() == std::vector<int32_t>(ids.begin(), ids.begin() + 700));
    session->evaluate(&ids[700], 5, false, again.data());
    CHECK(again == first);
  }

  /* Sessions of different lengths, one with an int8 cache, continued in steps: the same logits as each one alone. */
  const std::vector<int64_t> lengths = {700, 1, 64, 300, 0};
  std::vector<std::unique_ptr<Session>> apart, together;
  std::vector<Session *> sequences;
  for (const int64_t length : lengths)
    for (std::vector<std::unique_ptr<Session>> *sessions : {&apart, &together}) {
      const KvType type = length == 64 ? KvType::kInt8 : KvType::kFloat16;
      sessions->push_back(std::make_unique<Session>(model, kernels, 720, 1, type));
      if (length) sessions->back()->evaluate(ids.data(), length, false, first.data());
      if (sessions == &together) sequences.push_back(sessions->back().get());
    }
  Session worker(model, kernels, 16, 3, KvType::kFloat16);
  worker.evaluate(ids.data(), 3, false, first.data());
  const auto count = static_cast<int64_t>(lengths.size());
  for (int64_t turn = 0; turn < 3; ++turn) {
    std::vector<float> expected_step(lengths.size() * kVocab), found(lengths.size() * kVocab);
    for (size_t i = 0; i < lengths.size(); ++i) apart[i]->evaluate(&ids[i + 5], 1, false, &expected_step[i * kVocab]);
    Session &does = turn == 1 ? *sequences[3] : worker; /* the worker may be one of the sessions */
    does.step(sequences.data(), count, &ids[5], found.data());
    CHECK(near("a step", kernels, difference(found, expected_step), std::max(allowed, kOrder)));
    const std::vector<int64_t> pieces = {3, 1, 4, 1, 2};
    std::vector<int32_t> piece_ids;
    const auto few = std::min(lengths.size(), pieces.size());
    for (size_t i = 0; i < few; ++i) {
      const int32_t *from = &ids[7 * i];
      piece_ids.insert(piece_ids.end(), from, from + pieces[i]);
      apart[i]->evaluate(from, pieces[i], false, &expected_step[i * kVocab]);
    }
    does.step(sequences.data(), pieces.data(), static_cast<int64_t>(few), piece_ids.data(), found.data());
    CHECK(near("a step of pieces", kernels, difference(found, expected_step), std::max(allowed, kOrder)));
    for (size_t i = 0; i < few; ++i) CHECK(sequences[i]->ids() == apart[i]->ids());
    for (size_t i = 0; i < lengths.size(); ++i) CHECK(together[i]->ids() == apart[i]->ids());
  }
  CHECK(worker.position() == 3);

  /* Guesses are evaluated with the bits of single tokens, and those that follow need not be evaluated again. */
  for (const KvType type : {KvType::kFloat16, KvType::kInt8})
    for (const int64_t length : {61, 505}) { /* from 512 on, three threads split the context into parts */
      constexpr int64_t kAhead = 16;
      const int threads = type == KvType::kFloat16 ? 3 : 1;
      Session single(model, kernels, kContext, threads, type), ahead(model, kernels, kContext, threads, type);
      single.evaluate(ids.data(), length, false, first.data());
      ahead.evaluate(ids.data(), length, false, first.data());
      const std::vector<int32_t> next(ids.begin() + 3, ids.begin() + 3 + kAhead);
      const std::vector<float> one_by_one = logits_of(single, next, {1});
      for (const int64_t count : {int64_t{16}, int64_t{2}, int64_t{5}, int64_t{1}}) {
        std::vector<float> rows(static_cast<size_t>(count * kVocab));
        ahead.rewind(length);
        ahead.evaluate_ahead(next.data(), count, rows.data());
        CHECK(std::memcmp(rows.data(), one_by_one.data(), rows.size() * sizeof(float)) == 0);
        CHECK(ahead.position() == length + 1);
        CHECK(!ahead.confirm(next[1] + 1));
        CHECK(ahead.confirm(next[1]) == (count > 1));
      }
      ahead.rewind(length);
      std::vector<float> rows(kAhead * kVocab);
      ahead.evaluate_ahead(next.data(), 4, rows.data());
      CHECK(ahead.confirm(next[1]) && ahead.position() == length + 2);
      const int64_t changes = ahead.changes();
      ahead.evaluate(&next[2], 1, false, again.data()); /* drops the two guesses */
      CHECK(!ahead.confirm(next[3]) && ahead.changes() == changes);
      CHECK(std::memcmp(again.data(), &one_by_one[2 * kVocab], again.size() * sizeof(float)) == 0);
      ahead.evaluate_ahead(&next[3], 4, rows.data());
      ahead.rewind(length + 3);
      CHECK(!ahead.confirm(next[4]) && ahead.changes() > changes);
    }

  /* Sessions of one model in different threads. */
  std::vector<std::vector<float>> all(3);
  std::vector<std::thread> threads;
  for (std::vector<float> &logits : all)
    threads.emplace_back([&] {
      Session session(model, kernels, 100, 2, KvType::kFloat16);
      logits = logits_of(session, some_ids(60), {20, 1, 1});
    });
  for (std::thread &thread : threads) thread.join();
  CHECK(all[0] == all[1] && all[1] == all[2]);
}

}  // namespace

#endif
