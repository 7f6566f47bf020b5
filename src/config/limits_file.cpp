#include "ratelimiter/config/limits_file.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <optional>
#include <sstream>
#include <utility>

#include <absl/container/flat_hash_map.h>
#include <fmt/format.h>
#include <yaml-cpp/depthguard.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include "diagnostics.h"
#include "limit_reader.h"
#include "overlap_index.h"
#include "ratelimiter/base/regular_file.h"
#include "ratelimiter/base/text.h"
#include "yaml_field.h"

namespace ratelimiter {
namespace {

using std::string_view_literals::operator""sv;

constexpr std::size_t kMaxFileBytes = std::size_t{16} << 20U;
constexpr std::array kFileKeys = {"hash_by"sv, "limits"sv};

// Control characters that YAML does not allow.
bool IsControl(char c) {
  return (c >= 0 && c < ' ' && c != '\t' && c != '\n' && c != '\r') || c == '\x7F';
}

// Reports the first byte that is not text. False: there is one.
//
// yaml-cpp takes some control characters for the end of the file.
bool CheckText(std::string_view yaml, Diagnostics& diagnostics) {
  if (yaml.starts_with("\xFF\xFE") || yaml.starts_with("\xFE\xFF")) {
    diagnostics.Add({}, "the file begins with a byte order mark of UTF-16; accepted: UTF-8");
    return false;
  }
  const std::string_view valid = ValidUtf8Prefix(yaml, yaml.size());
  std::size_t bad = 0;
  while (bad < valid.size() && !IsControl(valid[bad])) ++bad;
  if (bad == yaml.size()) return true;
  const std::string_view before = yaml.substr(0, bad);
  const auto line = static_cast<std::size_t>(std::ranges::count(before, '\n'));
  diagnostics.Add(
      {line + 1, bad - (before.rfind('\n') + 1) + 1},
      fmt::format("unexpected byte 0x{:02X}; accepted: UTF-8 without control characters",
                  static_cast<unsigned char>(yaml[bad])));
  return false;
}

// Skips a document, and notes where it begins.
class Skimmer : public YAML::EventHandler {
 public:
  SourceLocation begin() const { return begin_; }

  void OnDocumentStart(const YAML::Mark& mark) override { begin_ = LocationOf(mark); }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& /*mark*/, YAML::anchor_t /*anchor*/) override {}
  void OnAlias(const YAML::Mark& /*mark*/, YAML::anchor_t /*anchor*/) override {}
  void OnScalar(const YAML::Mark& /*mark*/, const std::string& /*tag*/, YAML::anchor_t /*anchor*/,
                const std::string& /*value*/) override {}
  void OnSequenceStart(const YAML::Mark& /*mark*/, const std::string& /*tag*/,
                       YAML::anchor_t /*anchor*/, YAML::EmitterStyle::value /*style*/) override {}
  void OnSequenceEnd() override {}
  void OnMapStart(const YAML::Mark& /*mark*/, const std::string& /*tag*/, YAML::anchor_t /*anchor*/,
                  YAML::EmitterStyle::value /*style*/) override {}
  void OnMapEnd() override {}

 private:
  SourceLocation begin_;
};

// The file's only document. nullopt: an error was reported.
std::optional<YAML::Node> Load(std::string_view yaml, Diagnostics& diagnostics) {
  const std::string text(yaml);
  std::istringstream stream(text);
  YAML::Parser parser(stream);
  Skimmer skimmer;
  if (!parser.HandleNextDocument(skimmer)) {
    diagnostics.Add({}, "the file is empty; accepted: a map with limits");
    return std::nullopt;
  }
  // Not LoadAll, which loops for ever over a ',' after a document.
  if (parser.HandleNextDocument(skimmer)) {
    diagnostics.Add(skimmer.begin(), "the file has a second document; accepted: one");
    return std::nullopt;
  }
  return YAML::Load(text);
}

std::optional<HashBy> ReadHashBy(const YamlField* field) {
  if (field == nullptr) return HashBy::kUser;
  constexpr std::string_view kForm = "user, global";
  const auto text = field->Text(kForm);
  if (!text.has_value()) return std::nullopt;
  if (*text == "user") return HashBy::kUser;
  if (*text == "global") return HashBy::kGlobal;
  field->Reject(kForm);
  return std::nullopt;
}

// The limits with distinct names and valid conditions, and their locations.
struct ReadLimits {
  std::vector<Limit> limits;
  std::vector<SourceLocation> locations;
};

ReadLimits ReadAll(const YamlField& field) {
  ReadLimits read;
  const auto list = field.List("limits", "a limit", kMaxLimits);
  if (!list.has_value()) return read;
  if (list->empty()) field.Report("limits is an empty list", "1 limit and more");
  absl::flat_hash_map<std::string, SourceLocation> names;
  std::size_t overrides_left = kMaxOverrides;
  for (const YamlField& item : *list) {
    if (item.diagnostics().full()) return read;
    auto limit = ReadLimit(item, overrides_left);
    if (!limit.has_value()) continue;
    const auto [name, is_new] = names.try_emplace(limit->name, item.location());
    if (!is_new) {
      item.Report(fmt::format("the name {} is also that of the limit at line {}",
                              Quoted(limit->name), name->second.line),
                  "each name once");
      continue;
    }
    read.limits.push_back(*std::move(limit));
    read.locations.push_back(item.location());
  }
  return read;
}

// Rejects limits of one call whose keys could be on different nodes of a Redis Cluster.
void CheckOverlaps(const ReadLimits& read, Diagnostics& diagnostics) {
  OverlapIndex by_user(read.limits);
  OverlapIndex shared(read.limits);
  for (std::size_t i = 0; i < read.limits.size(); ++i) {
    const Limit& limit = read.limits[i];
    const Limit* const other = (limit.by.user ? shared : by_user).First(limit);
    (limit.by.user ? by_user : shared).Add(limit);
    if (other == nullptr) continue;
    const SourceLocation where =
        read.locations[static_cast<std::size_t>(other - read.limits.data())];
    diagnostics.Add(
        read.locations[i],
        fmt::format("limit \"{}\" {} by user, limit \"{}\" at line {} {}, and a request "
                    "may be subject to both, whose keys may then lie on different nodes; "
                    "accepted: hash_by global, or paths or attributes that keep the two "
                    "apart",
                    limit.name, limit.by.user ? "counts" : "does not count", other->name,
                    where.line, limit.by.user ? "does not" : "does"));
  }
}

std::shared_ptr<const LimitSet> Read(const YAML::Node& document, Diagnostics& diagnostics,
                                     Diagnostics& warnings) {
  const YamlField file("the file", LocationOf(document.Mark()), document, diagnostics);
  const auto fields = file.Map(kFileKeys);
  if (!fields.has_value()) return nullptr;
  const YamlField* const hash_field = fields->Find("hash_by");
  const std::optional<HashBy> hash_by = ReadHashBy(hash_field);
  const YamlField* const limits_field = fields->Find("limits");
  if (limits_field == nullptr) {
    file.Report("there are no limits", "limits, a list");
    return nullptr;
  }
  ReadLimits read = ReadAll(*limits_field);
  if (hash_by == HashBy::kUser) CheckOverlaps(read, diagnostics);
  if (hash_by == HashBy::kGlobal) {
    warnings.Add(hash_field->location(),
                 "hash_by is global, so that one node of a Redis Cluster holds all buckets and "
                 "decides all calls, about 100,000 a second at the most (docs/use/limits.md); "
                 "accepted: this, or hash_by user, which spreads users over all nodes");
  }
  auto limits =
      std::make_shared<const LimitSet>(std::move(read.limits), hash_by.value_or(HashBy::kUser));
  if (limits->most_per_call() > kMaxLimitsPerCall) {
    limits_field->Report(
        fmt::format("a request may be subject to {} limits", limits->most_per_call()),
        fmt::format("at most {}", kMaxLimitsPerCall));
  }
  return limits;
}

}  // namespace

LimitsFile ParseLimits(std::string_view yaml, std::string_view name) {
  Diagnostics diagnostics;
  Diagnostics warnings;
  std::shared_ptr<const LimitSet> limits;
  if (yaml.size() > kMaxFileBytes) {
    diagnostics.Add({}, "the file is larger than 16 MiB; accepted: up to that");
  } else if (CheckText(yaml, diagnostics)) {
    try {
      if (const auto document = Load(yaml, diagnostics); document.has_value()) {
        limits = Read(*document, diagnostics, warnings);
      }
    } catch (const YAML::DeepRecursion& error) {
      diagnostics.Add(LocationOf(error.mark),
                      "lists or maps are nested too deep; accepted: as documented");
    } catch (const YAML::Exception& error) {
      diagnostics.Add(LocationOf(error.mark),
                      fmt::format("this is not YAML: {}; accepted: YAML", error.msg));
    }
  }
  if (diagnostics.size() > 0) limits = nullptr;
  return {.limits = std::move(limits),
          .errors = diagnostics.Lines(name),
          .warnings = warnings.Lines(name)};
}

LimitsFile ReadLimitsFile(const std::string& path) {
  absl::StatusOr<std::string> yaml = ReadRegularFile(path, kMaxFileBytes);
  if (!yaml.ok()) {
    return {.errors = {fmt::format("{}; accepted: a regular file of up to 16 MiB",
                                   std::string(yaml.status().message()))}};
  }
  LimitsFile limits = ParseLimits(*yaml, path);
  limits.text = *std::move(yaml);
  return limits;
}

std::shared_ptr<const LimitSet> DefaultLimits(const BucketSpec& spec) {
  std::vector<Limit> limits;
  limits.push_back({.name = "default", .spec = spec});
  return std::make_shared<const LimitSet>(std::move(limits), HashBy::kUser);
}

}  // namespace ratelimiter
