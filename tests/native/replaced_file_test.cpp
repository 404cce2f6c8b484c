/* Tests files that get their names when they are complete: permissions, links, writers that meet or are killed. */
#include "src/replaced_file.h"

#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "check.h"
#include "src/error.h"

namespace fs = std::filesystem;

namespace {

using ek::ReplacedFile;

struct Folder {
  fs::path path;
  Folder() {
    char name[] = "/tmp/edgekit-replaced-test-XXXXXX";
    CHECK(mkdtemp(name) != nullptr);
    path = name;
  }
  ~Folder() { fs::remove_all(path); }
  std::string operator/(const char *name) const { return (path / name).string(); }
  std::vector<std::string> names() const {
    std::vector<std::string> found;
    for (const auto &entry : fs::directory_iterator(path)) found.push_back(entry.path().filename().string());
    std::sort(found.begin(), found.end());
    return found;
  }
};

std::string content(const std::string &path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void put(const std::string &path, const char *text) { std::ofstream(path, std::ios::binary) << text; }

void write(const ReplacedFile &file, const char *text) { CHECK(std::fputs(text, file.stream()) >= 0); }

bool save(const std::string &path, const char *text) {
  ReplacedFile file(path);
  write(file, text);
  return file.finish();
}

int mode(const std::string &path) {
  struct stat status {};
  CHECK(::stat(path.c_str(), &status) == 0);
  return status.st_mode & 0777;
}

std::string refused(const std::string &path) {
  try {
    const ReplacedFile file(path);
  } catch (const ek::Error &error) {
    CHECK(error.status == EK_BAD_FILE);
    return error.what();
  }
  return "";
}

void permissions() {
  const Folder folder;
  const std::string path = folder / "state";
  CHECK(save(path, "one") && content(path) == "one" && mode(path) == 0600);
  for (const int kept : {0640, 0600, 0444}) {
    CHECK(::chmod(path.c_str(), static_cast<mode_t>(kept)) == 0);
    CHECK(save(path, "two") && content(path) == "two" && mode(path) == kept);
  }
  CHECK(folder.names() == std::vector<std::string>{"state"});
}

void links() {
  const Folder folder;
  fs::create_directory(folder / "deep");
  fs::create_symlink("deep/state", folder / "relative");
  fs::create_symlink(folder / "relative", folder / "absolute");
  for (const char *name : {"relative", "absolute"}) { /* the first time it leads to nothing */
    CHECK(save(folder / name, name) && content(folder / "deep/state") == name && fs::is_symlink(folder / name));
  }
  CHECK(fs::is_regular_file(fs::symlink_status(folder / "deep/state")));
  fs::create_symlink("round", folder / "round");
  CHECK(refused(folder / "round").find("cannot open") == 0 && fs::is_symlink(folder / "round"));
}

void unfinished() {
  const Folder folder;
  put(folder / "state", "old");
  {
    const ReplacedFile file(folder / "state");
    write(file, "new");
    CHECK(content(folder / "state") == "old");
  }
  CHECK(content(folder / "state") == "old" && folder.names() == std::vector<std::string>{"state"});
  CHECK(refused(folder / "no/state").find("No such file or directory") != std::string::npos);
  CHECK(!refused("").empty() && !refused(folder / "no/").empty());
  fs::create_directory(folder / "taken");
  CHECK(!save(folder / "taken", "x") && folder.names() == (std::vector<std::string>{"state", "taken"}));
}

void writers_that_meet() {
  const Folder folder;
  const std::string path = folder / "state";
  ReplacedFile first(path), second(path);
  write(first, "the first, which is longer");
  write(second, "the second");
  CHECK(second.finish() && content(path) == "the second");
  CHECK(first.finish() && content(path) == "the first, which is longer");
  CHECK(folder.names() == std::vector<std::string>{"state"});
}

/* What a killed writer leaves is removed by the next one of the same path; what somebody writes, or has another name, is not. */
void killed_writers() {
  const Folder folder;
  const pid_t child = ::fork();
  if (child == 0) {
    const ReplacedFile file(folder / "state");
    write(file, "half");
    ::kill(::getpid(), SIGKILL);
  }
  int status = 0;
  CHECK(::waitpid(child, &status, 0) == child && WIFSIGNALED(status));
  CHECK(folder.names().size() == 1 && folder.names()[0].find(".state.saving-") == 0);
  for (const char *name : {".saving-abcdef", ".another.saving-abcdef", "state.saving-abcdef", ".state.saving-abcdefg", ".state.part"}) put(folder / name, "");
  fs::create_directory(folder / ".folder.saving-abcdef");
  fs::create_symlink("nowhere", folder / ".link.saving-abcdef");
  const std::vector<std::string> others{".another.saving-abcdef", ".folder.saving-abcdef", ".link.saving-abcdef", ".saving-abcdef", ".state.part", ".state.saving-abcdefg",
                                        "state.saving-abcdef"};
  CHECK(save(folder / "living", "x") && folder.names().size() == others.size() + 2);
  ReplacedFile living(folder / "state");
  CHECK(folder.names().size() == others.size() + 2); /* its own file is there, the killed writer's is not */
  CHECK(save(folder / "state", "x") && living.finish());
  std::vector<std::string> expected = others;
  expected.insert(expected.end(), {"living", "state"});
  std::sort(expected.begin(), expected.end());
  CHECK(folder.names() == expected);
}

void long_names() {
  const Folder folder;
  for (const char *character : {"a", "\xC3\xA9", "\xE2\x82\xAC"})
    for (size_t size = 230; size <= 255; ++size) {
      std::string name(size % std::string(character).size(), 'b');
      while (name.size() < size) name += character;
      CHECK(save(folder / name.c_str(), "x") && content(folder / name.c_str()) == "x");
      fs::remove(folder / name.c_str());
    }
  CHECK(refused(folder / std::string(256, 'a').c_str()).empty()); /* only the last name is too long */
  CHECK(!save(folder / std::string(256, 'a').c_str(), "x") && folder.names().empty());
}

}  // namespace

int main() {
  permissions();
  long_names();
  links();
  unfinished();
  writers_that_meet();
  killed_writers();
  return finish("replaced_file_test");
}
