#include "json.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "../text/unicode.h"

namespace run {
namespace {

constexpr int kDeepest = 64;

/* RFC 8259, and UTF-8 is passed through as it is. */
class Parser {
 public:
  explicit Parser(const std::string &text) : at_(text.data()), start_(at_), end_(at_ + text.size()) {}

  Json document() {
    Json value = any(0);
    space();
    if (at_ != end_) fail("text after the value");
    return value;
  }

 private:
  [[noreturn]] void fail(const char *what) const { throw std::string(what) + " at byte " + std::to_string(at_ - start_); }

  void space() {
    while (at_ != end_ && std::strchr(" \t\r\n", *at_) && *at_) ++at_;
  }

  bool take(char c) {
    space();
    if (at_ == end_ || *at_ != c) return false;
    ++at_;
    return true;
  }

  bool word(const char *name) {
    const size_t length = std::strlen(name);
    if (static_cast<size_t>(end_ - at_) < length || std::memcmp(at_, name, length)) return false;
    at_ += length;
    return true;
  }

  Json any(int depth) {
    if (depth > kDeepest) fail("too many levels");
    if (take('{')) return object(depth);
    if (take('[')) return list(depth);
    if (take('"')) return string();
    if (word("null")) return {};
    if (word("true")) return true;
    if (word("false")) return false;
    return number();
  }

  Json object(int depth) {
    Json::Fields fields;
    if (take('}')) return fields;
    do {
      if (!take('"')) fail("expected a name");
      std::string name = string();
      if (!take(':')) fail("expected a colon");
      fields.emplace_back(std::move(name), any(depth + 1));
    } while (take(','));
    if (!take('}')) fail("expected a comma or a closing brace");
    return fields;
  }

  Json list(int depth) {
    std::vector<Json> items;
    if (take(']')) return items;
    do items.push_back(any(depth + 1));
    while (take(','));
    if (!take(']')) fail("expected a comma or a closing bracket");
    return items;
  }

  Json number() {
    const char *digits = at_ != end_ && *at_ == '-' ? at_ + 1 : at_;
    if (digits == end_ || *digits < '0' || *digits > '9') fail("expected a value");
    const char *last = at_;
    while (last != end_ && std::strchr("+-.eE0123456789", *last) && *last) ++last;
    const std::string copy(at_, last);
    char *parsed;
    const double value = std::strtod(copy.c_str(), &parsed);
    if (*parsed || !std::isfinite(value)) fail("not a number");
    at_ = last;
    return value;
  }

  std::string string() {
    std::string text;
    for (; at_ != end_; ++at_) {
      if (*at_ == '"') return ++at_, text;
      if (static_cast<unsigned char>(*at_) < 32) break;
      if (*at_ != '\\')
        text += *at_;
      else
        escape(text);
    }
    fail("a string does not end");
  }

  void escape(std::string &text) {
    static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
    if (++at_ == end_) fail("a string does not end");
    if (const char *found = *at_ ? std::strchr(names, *at_) : nullptr) {
      text += values[found - names];
      return;
    }
    if (*at_ != 'u') fail("unknown escape");
    uint32_t code = hex();
    if (code >= 0xd800 && code < 0xdc00 && end_ - at_ > 2 && at_[1] == '\\' && at_[2] == 'u') {
      at_ += 2;
      const uint32_t low = hex();
      code = low >= 0xdc00 && low < 0xe000 ? 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00) : 0xfffd;
    }
    put(code >= 0xd800 && code < 0xe000 ? 0xfffd : code, text);
  }

  /* The four digits behind `at_`, which ends on the last of them. */
  uint32_t hex() {
    uint32_t code = 0;
    for (int i = 0; i < 4; ++i) {
      if (++at_ == end_) fail("a string does not end");
      const char c = *at_;
      const int digit = c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
      if (digit < 0) fail("expected four hexadecimal digits");
      code = code << 4 | static_cast<uint32_t>(digit);
    }
    return code;
  }

  static void put(uint32_t code, std::string &text) {
    const auto byte = [&text](uint32_t value) { text += static_cast<char>(value); };
    if (code < 0x80) return byte(code);
    if (code < 0x800) return byte(0xc0 | code >> 6), byte(0x80 | (code & 63));
    if (code < 0x10000) return byte(0xe0 | code >> 12), byte(0x80 | (code >> 6 & 63)), byte(0x80 | (code & 63));
    byte(0xf0 | code >> 18), byte(0x80 | (code >> 12 & 63)), byte(0x80 | (code >> 6 & 63)), byte(0x80 | (code & 63));
  }

  const char *at_, *start_, *end_;
};

void quote(const std::string &text, std::string &out) {
  std::string valid;
  ek::append_replaced(text, valid);
  out += '"';
  for (const char c : valid) {
    char escaped[8];
    if (c == '"' || c == '\\')
      out += '\\', out += c;
    else if (c == '\n')
      out += "\\n";
    else if (static_cast<unsigned char>(c) < 32)
      std::snprintf(escaped, sizeof escaped, "\\u%04x", c), out += escaped;
    else
      out += c;
  }
  out += '"';
}

/* The shortest text that reads back as the same number. */
std::string shortest(double value) {
  if (!std::isfinite(value)) return "null";
  char text[32];
  for (int digits = 1; digits <= 17; ++digits) {
    std::snprintf(text, sizeof text, "%.*g", digits, value);
    if (std::strtod(text, nullptr) == value) break;
  }
  if (std::strchr(text, 'e') && std::fabs(value) < 1e15 && value == std::floor(value)) std::snprintf(text, sizeof text, "%.0f", value);
  return text;
}

void append(const Json &value, std::string &out) {
  bool first = true;
  const auto comma = [&] { first ? void(first = false) : void(out += ", "); };
  switch (value.kind()) {
    case Json::Kind::null: out += "null"; break;
    case Json::Kind::boolean: out += value.boolean() ? "true" : "false"; break;
    case Json::Kind::number: out += shortest(value.number()); break;
    case Json::Kind::text: quote(value.text(), out); break;
    case Json::Kind::list:
      out += '[';
      for (const Json &item : value.items()) comma(), append(item, out);
      out += ']';
      break;
    case Json::Kind::object:
      out += '{';
      for (const auto &[name, field] : value.fields()) comma(), quote(name, out), out += ": ", append(field, out);
      out += '}';
  }
}

}  // namespace

Json Json::parse(const std::string &text) { return Parser(text).document(); }

int64_t Json::whole(int64_t otherwise) const {
  constexpr double kExact = 9007199254740992.0; /* 2^53 */
  const bool is_whole = is_number() && std::fabs(number_) <= kExact && number_ == std::floor(number_);
  return is_whole ? static_cast<int64_t>(number_) : otherwise;
}

const Json &Json::operator[](const char *name) const {
  static const Json none;
  for (const auto &[field, value] : fields_)
    if (field == name) return value;
  return none;
}

std::string Json::dump() const {
  std::string out;
  append(*this, out);
  return out;
}

}  // namespace run
