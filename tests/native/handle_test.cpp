/* Tests handles: freed ones, their reuse, and use by one call at a time. */
#include "src/handle.h"

#include <sys/wait.h>
#include <unistd.h>

#include <optional>
#include <set>
#include <string>

#include "check.h"
#include "src/error.h"

namespace {

using ek::Kind;

struct Number : ek::HandleOf<int, Kind::kWatch> {};

Number *make(int value) {
  return ek::made<Number>([&](ek::Usage &) { return std::make_shared<int>(value); });
}

std::string refused(const Number *number, bool uses) {
  try {
    ek::object_of(number, Kind::kWatch, uses);
  } catch (const ek::Error &error) {
    return error.what();
  }
  return "";
}

void life() {
  Number *number = make(5);
  CHECK(*ek::pinned(number) == 5);
  {
    const ek::Using<Number> first(*number);
    CHECK(*first == 5 && refused(number, true).find("another call uses this watch") == 0 && refused(number, false).empty());
    ek::free_handle(number, Kind::kWatch);
    CHECK(*first == 5 && number->usage.cancelled()); /* as long as it is used */
  }
  CHECK(refused(number, true) == "this watch was freed; create another one" && number->usage.is_free());
  ek::free_handle(number, Kind::kWatch);
  ek::free_handle(nullptr, Kind::kWatch);
  Number *other = make(6);
  ek::free_handle(other, Kind::kModel); /* of another kind */
  CHECK(*ek::pinned(other) == 6);
  ek::free_handle(other, Kind::kWatch);
}

/* An object that cannot be made leaves nothing behind. */
void failures_to_make() {
  for (int i = 0; i < 3; ++i) {
    bool thrown = false;
    try {
      ek::made<Number>([](ek::Usage &) -> std::shared_ptr<int> { ek::fail(EK_CONTEXT, "no"); });
    } catch (const ek::Error &) {
      thrown = true;
    }
    CHECK(thrown);
  }
}

/* A freed handle is used again after some hundred others, so their number has a limit. */
void check_limit() {
  std::set<Number *> seen;
  for (int i = 0; i < 20000; ++i) {
    Number *number = make(i);
    seen.insert(number);
    CHECK(*ek::pinned(number) == i);
    ek::free_handle(number, Kind::kWatch);
  }
  CHECK(seen.size() > 400 && seen.size() < 1000);
}

void reuse() {
  Number *const old = make(1);
  ek::free_handle(old, Kind::kWatch);
  for (int i = 0; i < 100; ++i) ek::free_handle(make(i), Kind::kWatch);
  CHECK(!refused(old, false).empty());
  check_limit();
}

/* A call of the parent that was using an object never ends in a forked child, whose handles are used again all the same. */
void forked_in_use() {
  Number *number = make(1), *unused = make(2);
  std::optional<ek::Using<Number>> use;
  use.emplace(*number);
  const pid_t child = ::fork();
  if (child == 0) {
    CHECK(refused(number, true) == "this process is a fork, and a call of its parent was using this watch; create another one");
    CHECK(refused(number, false).empty());
    {
      const ek::Using<Number> own(*unused);
      CHECK(refused(unused, true).find("another call uses this watch") == 0);
    }
    ek::free_handle(number, Kind::kWatch);
    check_limit();
    std::fflush(stdout);
    ::_exit(failures ? 1 : 0);
  }
  int status = -1;
  CHECK(::waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
  CHECK(refused(number, true).find("another call uses this watch") == 0);
  use.reset();
  CHECK(*ek::Using<Number>(*number) == 1);
  ek::free_handle(number, Kind::kWatch);
  ek::free_handle(unused, Kind::kWatch);
}

}  // namespace

int main() {
  life();
  failures_to_make();
  reuse();
  forked_in_use();
  return finish("handle_test");
}
