/* Tests mapped and copied files, and the handler of SIGBUS: what it takes, and what it leaves to the handler of the application. */
#include "src/mapped_file.h"

#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <memory>
#include <string>
#include <thread>

#include "check.h"
#include "src/error.h"

namespace {

using ek::MappedFile;
using ek::ReadGuard;

volatile uint8_t sink;

struct File {
  char path[40] = "/tmp/edgekit-mapped-file-test-XXXXXX";
  explicit File(size_t size) {
    CHECK(::close(mkstemp(path)) == 0);
    std::ofstream(path, std::ios::binary) << std::string(size, 'x');
  }
  ~File() { unlink(path); }
};

std::string said_by(const MappedFile &file) {
  try {
    file.check();
  } catch (const ek::Error &error) {
    CHECK(error.status == EK_BAD_FILE);
    return error.what();
  }
  return "";
}

bool contains(const std::string &text, const char *words) { return text.find(words) != std::string::npos; }

struct sigaction current() {
  struct sigaction found {};
  CHECK(::sigaction(SIGBUS, nullptr, &found) == 0);
  return found;
}

void lost_pages() {
  const File name(200000), second(200000);
  MappedFile file(name.path), other(second.path);
  const ReadGuard guard;
  CHECK(file.data()[150000] == 'x' && said_by(file).empty());
  CHECK(::truncate(name.path, 70000) == 0);
  CHECK(file.data()[0] == 'x' && !file.is_lost() && contains(said_by(file), "it was cut from 200000 to 70000 bytes"));
  std::thread([&] { CHECK(file.data()[150000] == 0); }).join();
  CHECK(file.is_lost() && file.data()[0] == 'x' && file.data()[199999] == 0);
  CHECK(::truncate(name.path, 200000) == 0);
  CHECK(contains(said_by(file), "a part of it could not be read"));
  CHECK(said_by(other).empty() && other.data()[199999] == 'x');
}

void copies() {
  const File name(100000);
  const MappedFile file(name.path, MappedFile::kCopied);
  CHECK(::truncate(name.path, 0) == 0);
  CHECK(file.data()[99999] == 'x' && said_by(file).empty() && !file.is_lost() && file.identity().size == 100000);
}

/* The parts of the list of mappings are used again. */
void many_files() {
  const File name(5000);
  for (int i = 0; i < 100; ++i) {
    const ReadGuard guard;
    std::unique_ptr<MappedFile> first(new MappedFile(name.path)), second(new MappedFile(name.path));
    CHECK(first->data()[0] == 'x' && second->data()[4999] == 'x');
    if (i % 2) first.reset();
    const MappedFile third(name.path);
    CHECK(!third.is_lost());
  }
  const File cut(50000);
  const MappedFile file(cut.path);
  CHECK(::truncate(cut.path, 0) == 0);
  const ReadGuard guard;
  CHECK(file.data()[30000] == 0 && file.is_lost());
}

sigjmp_buf jump;
volatile sig_atomic_t caught = 0;

void catch_it(int) {
  caught = caught + 1;
  siglongjmp(jump, 1);
}

void catch_it_with_information(int signal, siginfo_t *information, void *context) {
  caught = context && information->si_signo == signal ? caught + 10 : -1000;
  siglongjmp(jump, 1);
}

/* Memory whose file is empty, and that does not belong to this library. */
struct Foreign {
  File file{0};
  const volatile uint8_t *data;
  Foreign() {
    std::FILE *opened = std::fopen(file.path, "rb");
    data = static_cast<const uint8_t *>(::mmap(nullptr, 4096, PROT_READ, MAP_SHARED, fileno(opened), 0));
    std::fclose(opened);
    CHECK(data != MAP_FAILED);
  }
  ~Foreign() { ::munmap(const_cast<uint8_t *>(data), 4096); }
};

void other_signals_are_left_to_the_application() {
  const Foreign foreign;
  struct sigaction own {};
  own.sa_handler = catch_it;
  CHECK(::sigaction(SIGBUS, &own, nullptr) == 0);
  {
    const ReadGuard guard, second;
    if (!sigsetjmp(jump, 1)) sink = foreign.data[10];
    CHECK(caught == 1);
    if (!sigsetjmp(jump, 1)) ::raise(SIGBUS);
    CHECK(caught == 2);
  }
  CHECK(current().sa_handler == catch_it);
  own.sa_sigaction = catch_it_with_information;
  own.sa_flags = SA_SIGINFO;
  CHECK(::sigaction(SIGBUS, &own, nullptr) == 0);
  {
    const ReadGuard guard;
    if (!sigsetjmp(jump, 1)) sink = foreign.data[10];
    CHECK(caught == 12);
  }
  CHECK(current().sa_sigaction == catch_it_with_information);
  own = {};
  own.sa_handler = SIG_IGN;
  CHECK(::sigaction(SIGBUS, &own, nullptr) == 0);
  {
    const ReadGuard guard;
    ::raise(SIGBUS); /* ignored */
  }
  CHECK(current().sa_handler == SIG_IGN);
  own.sa_handler = SIG_DFL;
  CHECK(::sigaction(SIGBUS, &own, nullptr) == 0);
}

/* Without a handler of the application, the process ends as it does without this library. */
void default_action() {
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) /* they have handlers */
  const Foreign foreign;
  for (int kind = 0; kind < 3; ++kind) {
    const pid_t child = ::fork();
    if (child == 0) {
      ::alarm(20);
      struct sigaction action {};
      action.sa_handler = kind == 2 ? SIG_IGN : SIG_DFL; /* a fault cannot be ignored */
      ::sigaction(SIGBUS, &action, nullptr);
      const ReadGuard guard;
      if (kind == 1) ::raise(SIGBUS);
      sink = foreign.data[0];
      ::_exit(0);
    }
    int status = 0;
    CHECK(::waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
  }
#endif
}

/* A handler that the application installs during a guard stays. */
void replaced_handler() {
  struct sigaction own {}, before {};
  own.sa_handler = catch_it;
  {
    const ReadGuard guard;
    CHECK(::sigaction(SIGBUS, &own, &before) == 0);
  }
  CHECK(current().sa_handler == catch_it);
  {
    const ReadGuard guard; /* the application's handler may call that of the library */
    CHECK(current().sa_handler == catch_it);
  }
  CHECK(::sigaction(SIGBUS, &before, nullptr) == 0);
  const File name(50000);
  const MappedFile file(name.path);
  CHECK(::truncate(name.path, 0) == 0);
  {
    const ReadGuard guard;
    CHECK(file.data()[30000] == 0 && file.is_lost());
  }
  CHECK(current().sa_handler == SIG_DFL || current().sa_flags & SA_SIGINFO);
}

}  // namespace

int main() {
  lost_pages();
  copies();
  many_files();
  other_signals_are_left_to_the_application();
  default_action();
  replaced_handler();
  return finish("mapped_file_test");
}
