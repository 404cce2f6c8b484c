#include "choice.h"

#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <system_error>
#include <thread>

#include "choice_file.h"
#include "cpu.h"
#include "error.h"
#include "thread.h"
#include "topology.h"

namespace ek {
namespace {

const Kernels *&part(Parts &parts, Role role) { return parts[static_cast<size_t>(role)]; }

/* Whether there is a choice: two tables besides the scalar one. */
bool is_measured(const std::vector<MeasuredSpeed> &candidates) {
  return candidates.size() > 2 || (candidates.size() == 2 && candidates[1].table != &kScalar);
}

std::array<std::vector<MeasuredSpeed>, kChosenRoles> candidates_here() {
  std::array<std::vector<MeasuredSpeed>, kChosenRoles> candidates;
  for (const Kernels *table : runnable_kernels())
    for (int role = 0; role < kChosenRoles; ++role)
      if (provides(*table, static_cast<Role>(role)))
        candidates[static_cast<size_t>(role)].push_back({static_cast<Role>(role), table, 0});
  return candidates;
}

void measure(std::vector<MeasuredSpeed> &speeds) { measure_speeds(speeds, complete_kernels().front()); }

/* Measures on the cores that the engine uses. */
void measure_on_fast_cores(std::vector<MeasuredSpeed> &speeds) {
  const std::vector<int> cpus = worker_cpus(1);
  if (cpus.empty()) return measure(speeds);
  std::exception_ptr error;
  const auto work = [&] {
    try {
      keep_on(cpus); /* another thread, because the calling one belongs to the application */
      measure(speeds);
    } catch (...) {
      error = std::current_exception();
    }
  };
  try {
    Thread(work).join();
  } catch (const std::system_error &) { /* no more threads */
    measure(speeds);
  }
  if (error) std::rethrow_exception(error);
}

/* The choice that EDGEKIT_ISA forces; null if it names no table that runs here. */
const Choice *forced_choice(const std::string &name) {
  static const auto forced = [] {
    std::vector<std::unique_ptr<const Choice>> each;
    for (const Kernels *table : runnable_kernels()) {
      auto choice = std::make_unique<Choice>();
      choice->candidates = candidates_here();
      choice->parts = parts_of(*table);
      choice->name = table->name;
      choice->kernels = compose(choice->parts, choice->name.c_str());
      each.push_back(std::move(choice));
    }
    return each;
  }();
  for (const auto &choice : forced)
    if (choice->name == name) return choice.get();
  return nullptr;
}

[[noreturn]] void refuse(const char *forced) {
  std::string known, usable;
  for (const Kernels *table : known_kernels()) {
    known += std::string(known.empty() ? "" : ", ") + table->name;
    if (runs_here(*table)) usable += std::string(usable.empty() ? "" : ", ") + table->name;
  }
  fail(EK_UNSUPPORTED, "EDGEKIT_ISA is '%s', which cannot be used here; this build has %s; this processor supports %s", forced,
       known.c_str(), usable.c_str());
}

/* The choice of the process, and the id of the process whose thread is making it. A lock would remain locked in a child that
 * is forked meanwhile; a child that finds the id of its parent makes the choice itself. */
std::atomic<const Choice *> chosen{nullptr};
std::atomic<int64_t> choosing{0};

struct Claim {
  ~Claim() { choosing.store(0, std::memory_order_release); }
};

}  // namespace

Choice make_choice(const std::string &path) {
  Choice choice;
  choice.candidates = candidates_here();
  std::vector<MeasuredSpeed> speeds;
  for (const auto &candidates : choice.candidates)
    for (const MeasuredSpeed &candidate : candidates)
      if (is_measured(candidates) && candidate.table != &kScalar) speeds.push_back(candidate);
  if (!speeds.empty() && (path.empty() || !read_choice(path, speeds))) {
    measure_on_fast_cores(speeds);
    if (!path.empty()) (void)write_choice(path, speeds); /* otherwise the next process measures again */
  }
  choice.parts = first_parts(runnable_kernels());
  for (auto &candidates : choice.candidates) {
    for (MeasuredSpeed &candidate : candidates)
      for (const MeasuredSpeed &speed : speeds)
        if (speed.role == candidate.role && speed.table == candidate.table) candidate.rate = speed.rate;
    part(choice.parts, candidates.front().role) = fastest(candidates);
  }
  choice.name = composed_name(choice.parts);
  choice.kernels = compose(choice.parts, nullptr);
  return choice;
}

const Choice &choose() {
  if (const char *forced = std::getenv("EDGEKIT_ISA"); forced && *forced) {
    if (const Choice *choice = forced_choice(forced)) return *choice;
    refuse(forced);
  }
  const int64_t self = ::getpid();
  for (;;) {
    if (const Choice *choice = chosen.load(std::memory_order_acquire)) return *choice;
    int64_t other = choosing.load(std::memory_order_acquire);
    if (other == self || !choosing.compare_exchange_strong(other, self)) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      continue;
    }
    const Claim claim;
    if (const Choice *choice = chosen.load(std::memory_order_acquire)) return *choice;
    const std::string folder = cache_folder();
    const bool keeps = !folder.empty() && !processor_model().empty(); /* an emulator may not tell the model */
    auto choice = std::make_unique<Choice>(make_choice(keeps ? choice_path(folder) : ""));
    choice->kernels.name = choice->name.c_str();
    chosen.store(choice.get(), std::memory_order_release);
    return *choice.release();
  }
}

}  // namespace ek
