#include "snapshot/tar.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <limits>
#include <utility>

#include "agent/base/json_writer.h"
#include "agent/base/strings.h"

namespace modal::snapshot {
namespace {

constexpr size_t kBlock = 512;
constexpr size_t kLongestPath = 4095;         // PATH_MAX, without its NUL
constexpr size_t kLargestExtended = 1 << 16;  // two paths and some numbers
constexpr uint64_t kMostBytes = std::numeric_limits<int64_t>::max();
constexpr int64_t kSecond = 1'000'000'000;
constexpr uint64_t kMostSeconds = std::numeric_limits<int64_t>::max() / kSecond - 1;

// POSIX.1-2017, pax, "ustar Interchange Format".
struct Header {
  char name[100];
  char mode[8];
  char uid[8];
  char gid[8];
  char size[12];
  char mtime[12];
  char checksum[8];
  char type;
  char link[100];
  char magic[6];
  char version[2];
  char owner[32];
  char group[32];
  char major[8];
  char minor[8];
  char prefix[155];
  char unused[12];
};
static_assert(sizeof(Header) == kBlock);

constexpr char kTypeFile = '0';
constexpr char kTypeOldFile = '\0';
constexpr char kTypeLink = '2';
constexpr char kTypeFolder = '5';
constexpr char kTypeExtended = 'x';
constexpr std::string_view kMagic{"ustar", 6};  // with its NUL
constexpr std::string_view kVersion = "00";

size_t PaddingAfter(uint64_t size) { return (kBlock - size % kBlock) % kBlock; }

bool IsMemberName(std::string_view name) {
  if (name.empty() || name.size() > kLongestPath) return false;
  if (name.find('\0') != std::string_view::npos) return false;
  for (const std::string& component : Split(name, '/')) {
    if (component.empty() || component == "." || component == "..") return false;
  }
  return true;
}

bool IsLinkTarget(std::string_view target) {
  return !target.empty() && target.size() <= kLongestPath &&
         target.find('\0') == std::string_view::npos;
}

Result<void> CheckMember(const TarMember& member) {
  const auto wrong = [&](std::string_view why) {
    return Error(Concat("member ", QuotedName(member.name), ": ", why));
  };
  if (!IsMemberName(member.name)) return wrong("is no name that may stand in an archive");
  if (member.size > kMostBytes) return wrong("is too large");
  if (member.kind != TarMember::Kind::kFile && member.size != 0) {
    return wrong("has contents, and is no file");
  }
  if (member.kind == TarMember::Kind::kLink && !IsLinkTarget(member.link)) {
    return wrong("is a link without a sane target");
  }
  return {};
}

// --- writing -------------------------------------------------------------------------------------

template <size_t N>
constexpr uint64_t MostOctal(const char (&)[N]) {
  return (uint64_t{1} << (3 * (N - 1))) - 1;
}

// Digits, and a NUL at the end.
template <size_t N>
void PutOctal(char (&field)[N], uint64_t value) {
  for (size_t i = N - 1; i-- > 0; value >>= 3) field[i] = static_cast<char>('0' + (value & 7));
}

// As much as fits; without a NUL where it fits just so.
template <size_t N>
void PutText(char (&field)[N], std::string_view text) {
  std::memcpy(field, text.data(), std::min(text.size(), N));
}

// The sum of all bytes, those of the checksum itself counted as spaces.
uint64_t SumOf(const Header& header) {
  const auto* bytes = reinterpret_cast<const unsigned char*>(&header);
  uint64_t sum = 0;
  for (size_t i = 0; i < kBlock; ++i) {
    const bool is_checksum = i >= offsetof(Header, checksum) && i < offsetof(Header, type);
    sum += is_checksum ? ' ' : bytes[i];
  }
  return sum;
}

std::string_view Seal(Header& header) {
  PutText(header.magic, kMagic);
  PutText(header.version, kVersion);
  PutOctal(header.checksum, SumOf(header));
  return {reinterpret_cast<const char*>(&header), kBlock};
}

// "LENGTH key=value\n", where LENGTH counts its own digits too.
void AppendRecord(std::string& records, std::string_view key, std::string_view value) {
  const size_t rest = key.size() + value.size() + 3;
  size_t length = rest + 1;
  while (length != rest + std::to_string(length).size()) {
    length = rest + std::to_string(length).size();
  }
  records += Concat(length, " ", key, "=", value, "\n");
}

std::string TimeText(int64_t ns) {
  int64_t seconds = ns / kSecond;
  int64_t fraction = ns % kSecond;
  std::string sign;
  if (ns < 0) {
    sign = "-";
    seconds = -seconds;
    fraction = -fraction;
  }
  std::string digits = std::to_string(fraction);
  digits.insert(0, 9 - digits.size(), '0');
  return Concat(sign, seconds, ".", digits);
}

// --- reading -------------------------------------------------------------------------------------

template <size_t N>
std::string_view TextOf(const char (&field)[N]) {
  return {field, ::strnlen(field, N)};
}

template <size_t N>
std::optional<uint64_t> OctalOf(const char (&field)[N]) {
  std::string_view text(field, N);
  const size_t begin = text.find_first_not_of(' ');
  if (begin == std::string_view::npos) return 0;
  text.remove_prefix(begin);
  text = text.substr(0, text.find_first_of(std::string_view(" \0", 2)));
  if (text.empty()) return 0;
  uint64_t value = 0;
  const auto [stopped, error] = std::from_chars(text.data(), text.data() + text.size(), value, 8);
  if (error != std::errc() || stopped != text.data() + text.size()) return std::nullopt;
  return value;
}

// "-12.5" as nanoseconds; digits beyond the ninth are cut off.
std::optional<int64_t> ParseTime(std::string_view text) {
  const bool is_negative = text.starts_with('-');
  if (is_negative) text.remove_prefix(1);
  const size_t dot = text.find('.');
  const std::optional<uint64_t> seconds = ParseUnsigned(text.substr(0, dot));
  if (!seconds || *seconds > kMostSeconds) return std::nullopt;
  std::string digits(dot == std::string_view::npos ? "" : text.substr(dot + 1));
  digits.resize(9, '0');
  const std::optional<uint64_t> fraction = ParseUnsigned(digits);
  if (!fraction) return std::nullopt;
  const int64_t ns = static_cast<int64_t>(*seconds) * kSecond + static_cast<int64_t>(*fraction);
  return is_negative ? -ns : ns;
}

// What extended records say instead of the header.
struct Extended {
  std::optional<std::string> path;
  std::optional<std::string> link;
  std::optional<uint64_t> size;
  std::optional<uint64_t> uid;
  std::optional<uint64_t> gid;
  std::optional<int64_t> mtime_ns;
};

Result<void> TakeRecord(std::string_view key, std::string_view value, Extended& extended) {
  const auto number = [&](std::optional<uint64_t>& to) -> Result<void> {
    to = ParseUnsigned(value);
    if (!to) return Error(Concat("extended header: ", key, " is no number"));
    return {};
  };
  if (key == "path") extended.path = std::string(value);
  if (key == "linkpath") extended.link = std::string(value);
  if (key == "size") return number(extended.size);
  if (key == "uid") return number(extended.uid);
  if (key == "gid") return number(extended.gid);
  if (key == "mtime") {
    extended.mtime_ns = ParseTime(value);
    if (!extended.mtime_ns) return Error("extended header: mtime is no time");
  }
  if (key.starts_with("GNU.sparse")) return Error("sparse files are not read");
  return {};  // the standard wants others to be passed over
}

Result<Extended> ParseRecords(std::string_view records) {
  Extended extended;
  while (!records.empty()) {
    const size_t space = records.find(' ');
    if (space == std::string_view::npos) return Error("extended header: is damaged");
    const std::optional<uint64_t> length = ParseUnsigned(records.substr(0, space));
    if (!length || *length > records.size() || *length < space + 2 ||
        records[*length - 1] != '\n') {
      return Error("extended header: is damaged");
    }
    const std::string_view record = records.substr(space + 1, *length - space - 2);
    const size_t equals = record.find('=');
    if (equals == std::string_view::npos) return Error("extended header: is damaged");
    Result<void> taken = TakeRecord(record.substr(0, equals), record.substr(equals + 1), extended);
    if (!taken) return std::move(taken.error());
    records.remove_prefix(*length);
  }
  return extended;
}

std::string NameOf(const Header& header) {
  const std::string name(TextOf(header.name));
  const std::string_view prefix = TextOf(header.prefix);
  return prefix.empty() ? name : Concat(prefix, "/", name);
}

bool IsZero(const Header& header) {
  const auto* bytes = reinterpret_cast<const char*>(&header);
  return std::all_of(bytes, bytes + kBlock, [](char c) { return c == '\0'; });
}

Result<void> CheckHeader(const Header& header) {
  const std::optional<uint64_t> sum = OctalOf(header.checksum);
  if (!sum || *sum != SumOf(header)) return Error("the archive is damaged, or is no tar archive");
  if (std::string_view(header.magic, sizeof header.magic) != kMagic) {
    return Error(Concat("member ", QuotedName(TextOf(header.name)),
                        ": is not written in the ustar or pax format"));
  }
  return {};
}

Result<TarMember> MemberOf(const Header& header, const Extended& extended) {
  TarMember member;
  member.name = extended.path ? *extended.path : NameOf(header);
  const auto wrong = [&](std::string_view why) {
    return Error(Concat("member ", QuotedName(member.name), ": ", why));
  };
  if (header.type == kTypeFile || header.type == kTypeOldFile) {
    member.kind = TarMember::Kind::kFile;
  } else if (header.type == kTypeFolder) {
    member.kind = TarMember::Kind::kFolder;
    if (member.name.ends_with('/')) member.name.pop_back();
  } else if (header.type == kTypeLink) {
    member.kind = TarMember::Kind::kLink;
    member.link = extended.link ? *extended.link : std::string(TextOf(header.link));
  } else {
    return wrong("is neither a file nor a folder nor a symbolic link");
  }

  const std::optional<uint64_t> mode = OctalOf(header.mode);
  const std::optional<uint64_t> uid = extended.uid ? extended.uid : OctalOf(header.uid);
  const std::optional<uint64_t> gid = extended.gid ? extended.gid : OctalOf(header.gid);
  const std::optional<uint64_t> size = extended.size ? extended.size : OctalOf(header.size);
  const std::optional<uint64_t> seconds = OctalOf(header.mtime);
  constexpr uint64_t kMostIds = std::numeric_limits<uid_t>::max();
  if (!mode || !uid || !gid || !size || !seconds || *uid > kMostIds || *gid > kMostIds ||
      *seconds > kMostSeconds) {
    return wrong("has a number that cannot be");
  }
  member.mode = static_cast<mode_t>(*mode & 07777);
  member.uid = static_cast<uid_t>(*uid);
  member.gid = static_cast<gid_t>(*gid);
  member.size = *size;
  // 8^11 seconds are 272 years, 2^63 nanoseconds are 292: but the field may hold twelve digits.
  member.mtime_ns =
      extended.mtime_ns ? *extended.mtime_ns : static_cast<int64_t>(*seconds) * kSecond;
  if (Result<void> checked = CheckMember(member); !checked) return std::move(checked.error());
  return member;
}

}  // namespace

std::string QuotedName(std::string_view name) {
  constexpr size_t kMostShown = 200;
  std::string quoted;
  AppendJsonString(quoted, name.substr(0, kMostShown));
  return quoted;
}

Result<void> TarWriter::Begin(const TarMember& member) {
  if (Result<void> checked = CheckMember(member); !checked) return checked;
  if (Result<void> ended = EndMember(); !ended) return ended;

  const bool is_folder = member.kind == TarMember::Kind::kFolder;
  const std::string stored = is_folder ? member.name + "/" : member.name;
  Header header{};
  std::string records;
  const auto put_number = [&](auto& field, std::string_view key, uint64_t value) {
    if (value <= MostOctal(field)) return PutOctal(field, value);
    PutOctal(field, 0);
    AppendRecord(records, key, std::to_string(value));
  };
  PutText(header.name, stored);
  if (stored.size() > sizeof header.name) AppendRecord(records, "path", stored);
  if (member.kind == TarMember::Kind::kLink) {
    PutText(header.link, member.link);
    if (member.link.size() > sizeof header.link) AppendRecord(records, "linkpath", member.link);
  }
  PutOctal(header.mode, member.mode & 07777);
  put_number(header.uid, "uid", member.uid);
  put_number(header.gid, "gid", member.gid);
  put_number(header.size, "size", member.size);
  const bool is_whole = member.mtime_ns >= 0 && member.mtime_ns % kSecond == 0;
  const uint64_t seconds =
      member.mtime_ns < 0 ? 0 : static_cast<uint64_t>(member.mtime_ns / kSecond);
  PutOctal(header.mtime, std::min(seconds, MostOctal(header.mtime)));
  if (!is_whole || seconds > MostOctal(header.mtime)) {
    AppendRecord(records, "mtime", TimeText(member.mtime_ns));
  }
  header.type = is_folder                               ? kTypeFolder
                : member.kind == TarMember::Kind::kLink ? kTypeLink
                                                        : kTypeFile;

  std::string out;
  if (!records.empty()) {
    Header extended{};
    PutText(extended.name, "PaxHeaders/" + member.name.substr(0, 80));
    PutOctal(extended.mode, 0644);
    PutOctal(extended.uid, 0);
    PutOctal(extended.gid, 0);
    PutOctal(extended.size, records.size());
    PutOctal(extended.mtime, std::min(seconds, MostOctal(extended.mtime)));
    extended.type = kTypeExtended;
    out = Seal(extended);
    out += records;
    out.append(PaddingAfter(records.size()), '\0');
  }
  out += Seal(header);
  name_ = member.name;
  left_ = member.size;
  padding_ = PaddingAfter(member.size);
  return sink_(out);
}

Result<void> TarWriter::Write(std::string_view bytes) {
  if (bytes.size() > left_) {
    return Error(Concat("member ", QuotedName(name_), ": more bytes than were announced"));
  }
  left_ -= bytes.size();
  return sink_(bytes);
}

Result<void> TarWriter::EndMember() {
  if (left_ > 0) {
    return Error(Concat("member ", QuotedName(name_), ": ", left_, " bytes are missing"));
  }
  constexpr std::array<char, kBlock> kZeros{};
  const size_t padding = std::exchange(padding_, 0);
  if (padding == 0) return {};
  return sink_({kZeros.data(), padding});
}

Result<void> TarWriter::Finish() {
  if (Result<void> ended = EndMember(); !ended) return ended;
  constexpr std::array<char, 2 * kBlock> kEnd{};
  return sink_({kEnd.data(), kEnd.size()});
}

Result<std::optional<TarMember>> TarReader::Next() {
  if (ended_) return std::optional<TarMember>();
  if (Result<void> skipped = Skip(); !skipped) return std::move(skipped.error());
  const auto fill = [&](void* to, size_t size) -> Result<void> {
    const Result<size_t> got = source_(static_cast<char*>(to), size);
    if (!got) return got.error();
    if (*got < size) return Error("the archive is cut off");
    return {};
  };

  Extended extended;
  bool is_extended = false;
  for (;;) {
    Header header;
    if (Result<void> filled = fill(&header, kBlock); !filled) return std::move(filled.error());
    if (IsZero(header) && !is_extended) {
      if (Result<void> filled = fill(&header, kBlock); !filled) return std::move(filled.error());
      if (!IsZero(header)) return Error("the archive is damaged at its end");
      ended_ = true;
      return std::optional<TarMember>();
    }
    if (Result<void> checked = CheckHeader(header); !checked) return std::move(checked.error());

    if (header.type != kTypeExtended) {
      Result<TarMember> member = MemberOf(header, extended);
      if (!member) return std::move(member.error());
      name_ = member->name;
      left_ = member->size;
      padding_ = PaddingAfter(member->size);
      return std::optional<TarMember>(*std::move(member));
    }
    const std::optional<uint64_t> size = OctalOf(header.size);
    if (is_extended || !size || *size > kLargestExtended) {
      return Error("extended header: is too large, or stands there twice");
    }
    std::string records(*size + PaddingAfter(*size), '\0');
    if (Result<void> filled = fill(records.data(), records.size()); !filled) {
      return std::move(filled.error());
    }
    records.resize(*size);
    Result<Extended> parsed = ParseRecords(records);
    if (!parsed) return std::move(parsed.error());
    extended = *std::move(parsed);
    is_extended = true;
  }
}

Result<size_t> TarReader::Read(char* to, size_t size) {
  const size_t wanted = static_cast<size_t>(std::min<uint64_t>(size, left_));
  if (wanted == 0) return size_t{0};
  const Result<size_t> got = source_(to, wanted);
  if (!got) return got.error();
  if (*got < wanted) {
    return Error(Concat("member ", QuotedName(name_), ": the archive is cut off"));
  }
  left_ -= wanted;
  return wanted;
}

Result<void> TarReader::Skip() {
  std::array<char, 16 * kBlock> unwanted;
  while (left_ > 0) {
    const Result<size_t> got = Read(unwanted.data(), unwanted.size());
    if (!got) return got.error();
  }
  const size_t padding = std::exchange(padding_, 0);
  const Result<size_t> got = source_(unwanted.data(), padding);
  if (!got) return got.error();
  if (*got < padding) return Error("the archive is cut off");
  return {};
}

}  // namespace modal::snapshot
