#include "chat.h"

#include <cinttypes>
#include <cstdio>
#include <ctime>
#include <string>

#include "../src/error.h"
#include "text_handle.h"
#include "thought.h"
#include "tokenizer.h"

namespace ek {
namespace {

constexpr const char *kNames[] = {"system", "user", "assistant"};

Role role_of(const ek_message &message, int64_t index) {
  if (!message.role) fail(EK_BAD_ARGUMENT, "message %" PRId64 " has no role", index);
  for (uint32_t role = 0; role < kRoles; ++role)
    if (std::string_view(message.role) == kNames[role]) return static_cast<Role>(role);
  fail(EK_BAD_ARGUMENT, "message %" PRId64 " has the role '%.*s'; allowed: system, user, assistant", index, shown_bytes(message.role, 40),
       message.role);
}

[[noreturn]] void refuse(uint32_t from, uint32_t to) {
  if (from == kEdge) fail(EK_UNSUPPORTED, "this model's chat format does not allow a conversation that begins with a message of the %s", kNames[to]);
  if (to == kEdge)
    fail(EK_UNSUPPORTED, "this model's chat format does not allow an answer after a message of the %s; end with one of the user", kNames[from]);
  fail(EK_UNSUPPORTED, "this model's chat format does not allow a message of the %s after one of the %s", kNames[to], kNames[from]);
}

/* Append what strftime makes of a format at this time, in English whatever the locale. */
void append_time(std::string_view format, const std::tm &now, std::string &out) {
  static const char *const kMonths[] = {"January", "February", "March", "April", "May", "June", "July", "August", "September",
                                        "October", "November", "December"};
  static const char *const kDays[] = {"Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"};
  const auto number = [&](int value, int digits) {
    char text[16];
    std::snprintf(text, sizeof text, "%0*d", digits, value);
    out.append(text);
  };
  const std::string_view month = kMonths[now.tm_mon % 12], day = kDays[now.tm_wday % 7];
  for (size_t i = 0; i < format.size(); ++i) {
    if (format[i] != '%' || i + 1 == format.size()) { out.push_back(format[i]); continue; }
    switch (format[++i]) {
      case 'd': number(now.tm_mday, 2); break;
      case 'm': number(now.tm_mon + 1, 2); break;
      case 'Y': number(now.tm_year + 1900, 4); break;
      case 'y': number(now.tm_year % 100, 2); break;
      case 'b': out.append(month.substr(0, 3)); break;
      case 'B': out.append(month); break;
      case 'a': out.append(day.substr(0, 3)); break;
      case 'A': out.append(day); break;
      case 'H': number(now.tm_hour, 2); break;
      case 'I': number((now.tm_hour + 11) % 12 + 1, 2); break;
      case 'M': number(now.tm_min, 2); break;
      case 'S': number(now.tm_sec, 2); break;
      case 'j': number(now.tm_yday + 1, 3); break;
      case 'p': out.append(now.tm_hour < 12 ? "AM" : "PM"); break;
      default: out.push_back(format[i]); break;
    }
  }
}

/* A joint with the time in place of its formats. */
std::string with_time(std::string_view joint) {
  constexpr std::string_view kStart = "\xEE\x83\xBE", kEnd = "\xEE\x83\xBF";
  std::string out;
  for (size_t start; (start = joint.find(kStart)) != std::string_view::npos;) {
    const size_t end = joint.find(kEnd, start);
    if (end == std::string_view::npos) break;
    const std::time_t seconds = std::time(nullptr);
    std::tm now{};
    localtime_r(&seconds, &now);
    out.append(joint.substr(0, start));
    append_time(joint.substr(start + kStart.size(), end - start - kStart.size()), now, out);
    joint.remove_prefix(end + kEnd.size());
  }
  return out.append(joint);
}

void add_joint(const Tables &tables, uint32_t from, uint32_t to, WrittenText &out) {
  const uint32_t index = kSides * from + to;
  if (!(tables.settings.chat[kJoints] >> index & 1)) refuse(from, to);
  out.add(with_time(tables.strings[tables.settings.stop_texts + index]), Writer::kTemplate);
}

std::string_view trimmed(std::string_view text, uint32_t kinds) {
  const uint32_t left = kinds & 3, right = kinds >> 2 & 3;
  if (left == kTrimSpace) text = without_leading_space(text);
  if (right == kTrimSpace) text = without_trailing_space(text);
  while (left == kTrimNewlines && !text.empty() && text.front() == '\n') text.remove_prefix(1);
  while (right == kTrimNewlines && !text.empty() && text.back() == '\n') text.remove_suffix(1);
  return text;
}

/* An earlier answer without the thought that opens it. */
std::string_view without_thought(const Tables &tables, std::string_view content, bool whole) {
  if (!tables.settings.reasoning) return content;
  const size_t end = thought_end(content, opens_thought(tables), whole);
  if (end == std::string_view::npos) return content;
  return trimmed(content.substr(end), tables.settings.chat[kAfterThought]);
}

}  // namespace

bool opens_thought(const Tables &tables) { return tables.settings.has_chat && tables.settings.chat[kOpensThought]; }

WrittenText render(const Tables &tables, const ek_message *messages, int64_t count) {
  if (!tables.settings.has_chat)
    fail(EK_UNSUPPORTED, "%s has no chat format: the model has no chat template, or one that cannot be expressed without a template "
                         "engine. Give the prompt as text or token ids", kTextFile);
  if (count < 1) fail(EK_BAD_ARGUMENT, "a conversation of %" PRId64 " messages was given; at least 1 is required", count);
  WrittenText out;
  uint32_t previous = kEdge;
  for (int64_t i = 0; i < count; ++i) {
    const Role role = role_of(messages[i], i);
    add_joint(tables, previous, role, out);
    std::string valid;
    append_replaced(given_text(messages[i].content, messages[i].bytes), valid);
    std::string_view content = valid;
    if (role == kAssistant) content = without_thought(tables, content, messages[i].whole != 0);
    out.add(trimmed(content, tables.settings.chat[kTrim + role]), role == kAssistant ? Writer::kAnswer : Writer::kUser);
    previous = role;
  }
  add_joint(tables, previous, kEdge, out);
  return out;
}

}  // namespace ek
