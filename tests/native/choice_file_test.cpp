/* Tests the file of measured speeds: what was written is read, and any other file counts as missing. */
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "check.h"
#include "src/choice_file.h"

namespace fs = std::filesystem;
using namespace ek;

namespace {

const Kernels &newer = *[] {
  static Kernels table{};
  table.name = "newer";
  return &table;
}();

std::vector<MeasuredSpeed> speeds(double first, double second) {
  return {{Role::kDecode, &newer, first}, {Role::kFewRows, &kScalar, second}};
}

bool reads(const fs::path &path, double first, double second) {
  std::vector<MeasuredSpeed> found = speeds(0, 0);
  return read_choice(path.string(), found) && found[0].rate == first && found[1].rate == second;
}

/* Whether the file counts as missing and leaves the rates alone. */
bool ignored(const fs::path &path) {
  std::vector<MeasuredSpeed> found = speeds(1, 2);
  return !read_choice(path.string(), found) && found[0].rate == 1 && found[1].rate == 2;
}

std::string content(const fs::path &path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

void put(const fs::path &path, const std::string &text) { std::ofstream(path) << text; }

void round_trip(const fs::path &folder) {
  const fs::path path = choice_path((folder / "not" / "yet").string());
  CHECK(ignored(path));
  CHECK(write_choice(path.string(), speeds(123456789012, 7)));
  CHECK(reads(path, 123456789012, 7));
  CHECK(write_choice(path.string(), speeds(5, 6)) && reads(path, 5, 6));
  CHECK(std::distance(fs::directory_iterator(path.parent_path()), {}) == 1); /* no temporary file remains */
  CHECK(content(path).find("edgekit kernels 1\nprocessor ") == 0);
  CHECK(content(path).find("\ndecode newer 5\nfew rows scalar 6\nchecksum ") != std::string::npos);
}

void damage(const fs::path &folder) {
  const fs::path path = choice_path(folder.string());
  CHECK(write_choice(path.string(), speeds(5, 6)));
  const std::string good = content(path);
  for (size_t i = 0; i < good.size(); ++i) {
    put(path, good.substr(0, i));
    CHECK(ignored(path));
    std::string other = good;
    other[i] = static_cast<char>(other[i] ^ 1);
    put(path, other);
    CHECK(ignored(path));
  }
  put(path, good + "\n");
  CHECK(ignored(path));
  put(path, std::string(1 << 20, 'x'));
  CHECK(ignored(path));
  put(path, good);
  CHECK(reads(path, 5, 6));
}

/* Files that are not damaged, but not the expected ones: other tables, other roles, impossible rates. */
void foreign(const fs::path &folder) {
  const fs::path path = choice_path(folder.string());
  for (const std::vector<MeasuredSpeed> &other :
       {std::vector<MeasuredSpeed>{}, std::vector<MeasuredSpeed>{{Role::kDecode, &newer, 5}},
        std::vector<MeasuredSpeed>{{Role::kDecode, &newer, 5}, {Role::kFewRows, &newer, 6}},
        std::vector<MeasuredSpeed>{{Role::kDecode, &newer, 5}, {Role::kPrefill, &kScalar, 6}},
        std::vector<MeasuredSpeed>{{Role::kDecode, &newer, 5}, {Role::kFewRows, &kScalar, 6}, {Role::kPrefill, &kScalar, 6}},
        speeds(0, 6), speeds(-3, 6)}) {
    CHECK(write_choice(path.string(), other));
    CHECK(ignored(path));
  }
  fs::remove(path);
  fs::create_directories(path);
  CHECK(ignored(path) && !write_choice(path.string(), speeds(5, 6)));
  fs::remove(path);
  CHECK(::mkfifo(path.c_str(), 0600) == 0);
  CHECK(ignored(path)); /* does not wait for a writer */
  CHECK(write_choice(path.string(), speeds(5, 6)) && reads(path, 5, 6));
}

void folders() {
  ::setenv("HOME", "/home/someone", 1);
  ::setenv("EDGEKIT_CACHE", "/disk/cache", 1);
  ::setenv("XDG_CACHE_HOME", "/elsewhere", 1);
  CHECK(cache_folder() == "/disk/cache");
  ::setenv("EDGEKIT_CACHE", "~/cache", 1);
  CHECK(cache_folder() == "/home/someone/cache");
  ::setenv("EDGEKIT_CACHE", "", 1);
  CHECK(cache_folder() == "/elsewhere/edgekit");
  ::setenv("XDG_CACHE_HOME", "here", 1); /* a relative path counts as none */
  CHECK(cache_folder() == "/home/someone/.cache/edgekit");
  ::unsetenv("XDG_CACHE_HOME");
  CHECK(cache_folder() == "/home/someone/.cache/edgekit");
  ::unsetenv("HOME");
  CHECK(cache_folder().empty());
}

}  // namespace

int main() {
  const fs::path folder = fs::temp_directory_path() / ("edgekit_choice_file_" + std::to_string(::getpid()));
  fs::create_directories(folder);
  round_trip(folder);
  damage(folder);
  foreign(folder);
  put(folder / "file", "");
  CHECK(!write_choice(choice_path((folder / "file").string()), speeds(5, 6)));
  fs::remove_all(folder);
  folders();
  return finish("choice_file_test");
}
