/* Tests the choice of kernels: by EDGEKIT_ISA, by measured speeds, from the file of an earlier process, and by threads and
 * processes at once. Which table is the fastest is not tested. */
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>
#include <thread>

#include "check.h"
#include "src/choice.h"
#include "src/choice_file.h"
#include "src/cpu.h"
#include "src/error.h"

namespace fs = std::filesystem;
using namespace ek;

namespace {

/* The name of the choice if EDGEKIT_ISA is `isa`, or the error message. */
std::string forced(const char *isa) {
  ::setenv("EDGEKIT_ISA", isa, 1);
  try {
    const Choice &choice = choose();
    for (const auto &candidates : choice.candidates)
      for (const MeasuredSpeed &candidate : candidates) CHECK(candidate.rate == 0); /* nothing is measured */
    CHECK(choice.kernels.name == choice.name);
    return choice.name;
  } catch (const Error &error) {
    CHECK(error.status == EK_UNSUPPORTED);
    return error.what();
  }
}

void forced_choices() {
  for (const Kernels *table : known_kernels()) {
    CHECK((forced(table->name) == table->name) == runs_here(*table));
    if (runs_here(*table)) CHECK(choose().parts == parts_of(*table) && &choose() == &choose());
  }
  CHECK(forced("mmx").find("EDGEKIT_ISA is 'mmx', which cannot be used here; this build has ") == 0);
  ::unsetenv("EDGEKIT_ISA");
}

/* The roles of this machine that have a choice. */
bool measured(const std::vector<MeasuredSpeed> &candidates) {
  return candidates.size() > 2 || (candidates.size() == 2 && candidates[1].table != &kScalar);
}

std::vector<double> rates_of(const Choice &choice) {
  std::vector<double> rates;
  for (const auto &candidates : choice.candidates)
    for (const MeasuredSpeed &candidate : candidates) rates.push_back(candidate.rate);
  return rates;
}

bool has_choice(const Choice &choice) {
  for (const auto &candidates : choice.candidates)
    if (measured(candidates)) return true;
  return false;
}

void check_choice(const Choice &choice) {
  for (int role = 0; role < kChosenRoles; ++role) {
    const std::vector<MeasuredSpeed> &candidates = choice.candidates[static_cast<size_t>(role)];
    CHECK(!candidates.empty() && choice.parts[static_cast<size_t>(role)] == fastest(candidates));
    for (const MeasuredSpeed &candidate : candidates)
      CHECK((candidate.rate > 0) == (measured(candidates) && candidate.table != &kScalar));
  }
  CHECK(choice.parts[4] == first_parts(runnable_kernels())[4]);
  CHECK(choice.name == composed_name(choice.parts));
  for (int role = 0; role < kRoles; ++role) CHECK(provides(choice.kernels, static_cast<Role>(role)));
}

void files(const fs::path &folder) {
  const std::string path = choice_path(folder.string());
  check_choice(make_choice(""));
  const Choice first = make_choice(path);
  check_choice(first);
  CHECK(fs::exists(path) == has_choice(first));
  CHECK(rates_of(make_choice(path)) == rates_of(first)); /* read, not measured */

  /* The last table of each role is 10 times as fast as the others. */
  std::vector<MeasuredSpeed> speeds;
  Parts expected = first_parts(runnable_kernels());
  for (const auto &candidates : first.candidates)
    for (const MeasuredSpeed &candidate : candidates)
      if (candidate.rate > 0) {
        const bool last = &candidate == &candidates.back() || (&candidate)[1].table == &kScalar;
        speeds.push_back({candidate.role, candidate.table, last ? 1e12 : 1e11});
        if (last) expected[static_cast<size_t>(candidate.role)] = candidate.table;
      }
  if (!speeds.empty()) CHECK(write_choice(path, speeds));
  const Choice told = make_choice(path);
  check_choice(told);
  CHECK(told.parts == expected);

  if (has_choice(first)) {
    CHECK(::truncate(path.c_str(), 100) == 0);
    check_choice(make_choice(path)); /* measured and written anew */
    CHECK(read_choice(path, speeds));
  }
  check_choice(make_choice("/dev/null/kernels/file.txt")); /* cannot be written */
}

/* Whether a child process that runs `work` ends well. */
template <typename Work>
pid_t child(Work work) {
  std::fflush(stdout);
  const pid_t pid = ::fork();
  if (pid != 0) return pid;
  ::alarm(120); /* a child that waits forever fails */
  ::_exit(work() ? 0 : 1);
}

bool ended_well(pid_t pid) {
  int status = 1;
  return ::waitpid(pid, &status, 0) == pid && status == 0;
}

void processes(const fs::path &folder) {
  const std::string path = choice_path(folder.string());
  pid_t children[4];
  for (pid_t &each : children) each = child([&] { return !make_choice(path).name.empty(); });
  for (const pid_t each : children) CHECK(ended_well(each));
  const Choice choice = make_choice(path);
  check_choice(choice);
  if (has_choice(choice)) CHECK(std::distance(fs::directory_iterator(fs::path(path).parent_path()), {}) == 1);
}

void threads(const fs::path &folder) {
  ::setenv("EDGEKIT_CACHE", folder.c_str(), 1);
  const Choice *found[6];
  std::thread workers[6];
  for (int i = 0; i < 6; ++i) workers[i] = std::thread([&found, i] { found[i] = &choose(); });
#if !defined(__SANITIZE_ADDRESS__) /* gcc 12's forks while other threads hold the locks of its allocator; other builds do not */
  /* A child of the process that measures must not wait for its parent's thread, which it does not have. */
  const pid_t early = child([] { return !choose().name.empty(); });
#endif
  for (std::thread &worker : workers) worker.join();
#if !defined(__SANITIZE_ADDRESS__)
  CHECK(ended_well(early));
#endif
  for (const Choice *each : found) CHECK(each == found[0]);
  check_choice(*found[0]);
  CHECK(&choose() == found[0] && choose_kernels().name == found[0]->name);
  CHECK(ended_well(child([&] { return &choose() == found[0]; })));
}

}  // namespace

int main() {
  const fs::path folder = fs::temp_directory_path() / ("edgekit_choice_" + std::to_string(::getpid()));
  forced_choices();
  files(folder / "files");
  processes(folder / "processes");
  threads(folder / "threads");
  std::printf("%s\n", choose().name.c_str());
  fs::remove_all(folder);
  return finish("choice_test");
}
