/* JSON values: read from a manifest, written as results. */
#ifndef EDGEKIT_RUN_JSON_H
#define EDGEKIT_RUN_JSON_H

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace run {

/* A value. Fields of an object keep their order; a missing one reads as null. */
class Json {
 public:
  enum class Kind { null, boolean, number, text, list, object };
  using Fields = std::vector<std::pair<std::string, Json>>;

  Json() = default;
  Json(bool value) : kind_(Kind::boolean), number_(value) {}
  Json(double value) : kind_(Kind::number), number_(value) {}
  Json(int value) : Json(static_cast<double>(value)) {}
  Json(int64_t value) : Json(static_cast<double>(value)) {} /* exact up to 2^53 */
  Json(const char *value) : kind_(Kind::text), text_(value) {}
  Json(std::string value) : kind_(Kind::text), text_(std::move(value)) {}
  Json(std::vector<Json> items) : kind_(Kind::list), items_(std::move(items)) {}
  Json(Fields fields) : kind_(Kind::object), fields_(std::move(fields)) {}

  /* Throws std::string, what is wrong and where. A number outside the range of a double is an error. */
  static Json parse(const std::string &text);

  Kind kind() const { return kind_; }
  bool is_null() const { return kind_ == Kind::null; }
  bool is_text() const { return kind_ == Kind::text; }
  bool is_number() const { return kind_ == Kind::number; }
  double number(double otherwise = 0) const { return is_number() ? number_ : otherwise; }
  int64_t whole(int64_t otherwise = 0) const; /* `otherwise` unless it is a whole number that a double holds exactly */
  bool boolean() const { return kind_ == Kind::boolean && number_ != 0; }
  const std::string &text() const { return text_; }
  const std::vector<Json> &items() const { return items_; }
  const Fields &fields() const { return fields_; }
  const Json &operator[](const char *name) const;

  /* UTF-8 on one line. Numbers that are not finite become null, and what is not UTF-8 becomes U+FFFD. */
  std::string dump() const;

 private:
  Kind kind_ = Kind::null;
  double number_ = 0;
  std::string text_;
  std::vector<Json> items_;
  Fields fields_;
};

}  // namespace run

#endif
