#include "snapshot/page_server.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <deque>
#include <span>
#include <utility>

#include "agent/base/passed_descriptors.h"
#include "agent/base/strings.h"
#include "snapshot/page_sums.h"
#include "snapshot/userfaultfd.h"

namespace modal::snapshot {
namespace {

// What CRIU sends in a process's place when everything is in place (criu/uffd.c); a zombie is
// announced by its negative pid, and has no memory.
constexpr int32_t kRestoreFinished = 0x52535446;

using std::chrono::steady_clock;
using namespace std::chrono_literals;

// So long nothing is touched before everything else is filled; but not for ever.
constexpr steady_clock::duration kCalm = 5ms;
constexpr steady_clock::duration kPatience = 200ms;
// So much at once, while nobody waits: about 70 us.
constexpr uint64_t kAhead = uint64_t{256} << 10;
// What lies this far before the touched page comes first.
constexpr uint64_t kBefore = uint64_t{64} << 10;
// So many pages of memory that was never used are mapped at once: shared zeroes cost nothing.
constexpr uint64_t kZeroPages = 32;
constexpr size_t kEventsAtOnce = 32;
// While a process changes its address space nothing can be filled: look again so soon.
constexpr timespec kSoon{0, 100'000};

timespec Until(steady_clock::time_point when) {
  const auto left = std::max(when - steady_clock::now(), steady_clock::duration::zero());
  return {0, std::chrono::duration_cast<std::chrono::nanoseconds>(left).count()};
}

}  // namespace

// pages-N.img.
class PageServer::PagesFile {
 public:
  static Result<std::shared_ptr<PagesFile>> Open(int images, uint32_t id, uint64_t bytes) {
    const std::string name = PagesName(id);
    Result<std::vector<uint64_t>> sums = ReadPageSums(images, id, bytes);
    if (!sums) return std::move(sums.error());
    UniqueFd file(::openat(images, name.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
    if (!file) return Error::FromErrno(name, errno);
    struct stat facts {};
    if (::fstat(file.get(), &facts) != 0) return Error::FromErrno(name, errno);
    if (!S_ISREG(facts.st_mode) || static_cast<uint64_t>(facts.st_size) != bytes) {
      return Error(Concat(name, ": ", facts.st_size, " bytes instead of ", bytes));
    }
    return std::shared_ptr<PagesFile>(
        new PagesFile(name, std::move(file), bytes, *std::move(sums)));
  }

  const std::string& name() const { return name_; }

  // What lies there, compared with its checksums; good until the next call.
  Result<const char*> Read(uint64_t offset, uint64_t bytes) {
    const uint64_t first = offset / kSumBlock;
    const uint64_t start = first * kSumBlock;
    const uint64_t end = std::min((offset + bytes + kSumBlock - 1) / kSumBlock * kSumBlock, bytes_);
    buffer_.resize(std::max<size_t>(buffer_.size(), end - start));
    for (uint64_t at = start; at < end;) {
      const ssize_t got =
          ::pread(file_.get(), buffer_.data() + (at - start), end - at, static_cast<off_t>(at));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return Error::FromErrno(name_, errno);
      if (got == 0) return Error(name_ + ": shorter than it was");
      at += static_cast<uint64_t>(got);
    }
    const std::string_view all = std::string_view(buffer_).substr(0, end - start);
    for (uint64_t block = first; block * kSumBlock < end; ++block) {
      const std::string_view one = all.substr((block - first) * kSumBlock, kSumBlock);
      if (SumOf(one) != sums_[block]) return Error(name_ + ": is damaged, its checksum differs");
    }
    return buffer_.data() + (offset - start);
  }

 private:
  PagesFile(std::string name, UniqueFd file, uint64_t bytes, std::vector<uint64_t> sums)
      : name_(std::move(name)), file_(std::move(file)), bytes_(bytes), sums_(std::move(sums)) {}

  std::string name_;
  UniqueFd file_;
  uint64_t bytes_;
  std::vector<uint64_t> sums_;
  std::string buffer_;
};

// The memory of one process.
struct PageServer::Space {
  int pid = 0;  // of a forked child: its parent's
  UniqueFd userfaultfd;
  std::shared_ptr<PagesFile> file;
  MissingMemory missing;
  std::vector<MemoryRange> not_inherited;
  // Ranges that memory was moved to. That what had been there before is unmapped may be told late.
  std::vector<MemoryRange> moved_to;
  std::deque<uint64_t> faults;  // that wait
  uint64_t next = 0;            // from where on it is filled
  bool is_gone = false;
};

PageServer::PageServer(UniqueFd listener, UniqueFd folder, int owner)
    : listener_(std::move(listener)),
      folder_(std::move(folder)),
      owner_(owner),
      page_(static_cast<uint64_t>(::sysconf(_SC_PAGESIZE))) {}

PageServer::~PageServer() = default;

Result<void> PageServer::Serve() {
  if (Result<void> accepted = Accept(); !accepted) return accepted;
  while (!is_restored_ || !spaces_.empty()) {
    if (Result<void> waited = Wait(); !waited) return waited;
    for (const std::unique_ptr<Space>& space : spaces_) {
      if (Result<void> answered = AnswerFaults(*space); !answered) return answered;
    }
    if (!is_restored_) continue;
    const Result<void> filled = IsToFillAhead() ? FillAhead() : Result<void>();
    if (!filled) return filled;
    CloseWhatIsDone();
  }
  return {};
}

// CRIU
// ----------------------------------------------------------------------------------------------

Result<void> PageServer::Accept() {
  std::array<pollfd, 2> polls{pollfd{listener_.get(), POLLIN, 0}, pollfd{owner_, 0, 0}};
  while (::poll(polls.data(), polls.size(), -1) < 0) {
    if (errno != EINTR) return Error::FromErrno("poll", errno);
  }
  if (polls[1].revents != 0) return Error("CRIU has not come");
  do {
    criu_.Reset(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  } while (!criu_ && errno == EINTR);
  if (!criu_) return Error::FromErrno("accept", errno);
  listener_.Reset();
  images_.Reset(::openat(folder_.get(), "images", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!images_) return Error::FromErrno("images", errno);
  return {};
}

Result<void> PageServer::OnCriu() {
  int32_t word = 0;
  ssize_t got = 0;
  do {
    got = ::recv(criu_.get(), &word, sizeof word, MSG_WAITALL);
  } while (got < 0 && errno == EINTR);
  if (got != static_cast<ssize_t>(sizeof word)) return Error("CRIU has ended");
  if (word == kRestoreFinished) {
    is_restored_ = true;
    latest_ = steady_clock::now() + kPatience;
    PutOff();
    criu_.Reset();
    return {};
  }
  if (word <= 0) return {};
  Result<UniqueFd> descriptor = ReceiveDescriptor();
  if (!descriptor) return std::move(descriptor.error());
  return Open(word, *std::move(descriptor));
}

Result<UniqueFd> PageServer::ReceiveDescriptor() {
  char byte = 0;
  ReceivedDescriptors received =
      ReceiveWithDescriptors(criu_.get(), std::as_writable_bytes(std::span(&byte, 1)));
  if (received.size <= 0 || received.descriptors.size() != 1) {
    return Error("CRIU has sent no userfaultfd");
  }
  return std::move(received.descriptors[0]);
}

Result<void> PageServer::Open(int pid, UniqueFd userfaultfd) {
  // From now on it is held, whatever comes of it.
  Space& space = *spaces_.emplace_back(std::make_unique<Space>());
  space.pid = pid;
  space.userfaultfd = std::move(userfaultfd);
  const int fd = space.userfaultfd.get();
  if (::fcntl(fd, F_SETFL, O_NONBLOCK) != 0) return Error::FromErrno("userfaultfd", errno);
  const Result<uint64_t> features = FeaturesOf(fd);
  if (!features) return features.error();
  if ((*features & UserfaultfdEvents()) != UserfaultfdEvents()) {
    return Error("CRIU has not asked to be told of forks and the like");
  }
  const std::string name = Concat("pagemap-", pid, ".img");
  Result<std::string> image = ReadImage(images_.get(), name);
  if (!image) return std::move(image.error());
  Result<PageMap> map = ParsePageMap(*image, page_);
  if (!map) return std::move(map.error()).While(name);
  Result<std::string> mappings = ReadImage(images_.get(), Concat("mm-", pid, ".img"));
  if (!mappings) return std::move(mappings.error());
  Result<std::vector<MemoryRange>> not_inherited = ParseNotInherited(*mappings);
  if (!not_inherited) return std::move(not_inherited.error()).While(name);
  space.not_inherited = *std::move(not_inherited);
  if (map->lazy.empty()) return {};
  Result<std::shared_ptr<PagesFile>> file =
      PagesFile::Open(images_.get(), map->pages_id, map->file_bytes);
  if (!file) return std::move(file.error());
  space.file = *std::move(file);
  for (const PageRun& run : map->lazy) space.missing.Add(run);
  return {};
}

// What the processes do
// ------------------------------------------------------------------------------

// Until there is something to do.
Result<void> PageServer::Wait() {
  std::vector<pollfd> polls;
  for (const std::unique_ptr<Space>& space : spaces_) {
    polls.push_back({space->userfaultfd.get(), POLLIN, 0});
  }
  const bool listens = !is_restored_;
  if (listens) polls.push_back({criu_.get(), POLLIN, 0});
  const bool is_filling =
      is_restored_ && std::any_of(spaces_.begin(), spaces_.end(),
                                  [](const auto& space) { return !space->missing.empty(); });
  const bool somebody_waits = std::any_of(spaces_.begin(), spaces_.end(),
                                          [](const auto& space) { return !space->faults.empty(); });
  const timespec until_calm = Until(IsToFillAhead() ? Instant() : calm_);
  const timespec* limit = somebody_waits ? &kSoon : is_filling ? &until_calm : nullptr;
  if (::ppoll(polls.data(), polls.size(), limit, nullptr) < 0) {
    if (errno == EINTR) return {};
    return Error::FromErrno("poll", errno);
  }
  auto ready = polls.begin();
  // A child that appears meanwhile is looked at next time.
  for (auto space = spaces_.begin(); ready != polls.end() && ready->fd != criu_.get(); ++space) {
    if ((ready++)->revents == 0) continue;
    if (Result<void> read = ReadEvents(**space); !read) return read;
  }
  if (listens && polls.back().revents != 0) return OnCriu();
  return {};
}

Result<void> PageServer::ReadEvents(Space& space) {
  std::array<uffd_msg, kEventsAtOnce> events;
  ssize_t got = 0;
  do {
    got = ::read(space.userfaultfd.get(), events.data(), sizeof events);
  } while (got < 0 && errno == EINTR);
  if (got < 0 && errno == EAGAIN) return {};
  if (got < 0) return Error::FromErrno("userfaultfd", errno);
  const size_t count = static_cast<size_t>(got) / sizeof(uffd_msg);
  for (const uffd_msg& event : std::span(events.data(), count)) {
    switch (event.event) {
      case UFFD_EVENT_PAGEFAULT:
        ++counts_.faults;
        space.faults.push_back(event.arg.pagefault.address / page_ * page_);
        break;
      case UFFD_EVENT_FORK: {
        auto child = std::make_unique<Space>();
        child->pid = space.pid;
        child->userfaultfd.Reset(static_cast<int>(event.arg.fork.ufd));
        child->file = space.file;
        child->missing = space.missing;
        child->not_inherited = space.not_inherited;
        child->moved_to = space.moved_to;
        for (const MemoryRange& range : space.not_inherited) child->missing.Remove(range);
        spaces_.push_back(std::move(child));
        break;
      }
      case UFFD_EVENT_REMAP: {
        const auto& remap = event.arg.remap;
        space.missing.Move({remap.from, remap.from + remap.len}, remap.to);
        space.moved_to.push_back({remap.to, remap.to + remap.len});
        break;
      }
      case UFFD_EVENT_REMOVE:
        space.missing.Remove({event.arg.remove.start, event.arg.remove.end});
        break;
      case UFFD_EVENT_UNMAP: {
        const MemoryRange range{event.arg.remove.start, event.arg.remove.end};
        // One thread may have moved memory to where another has just unmapped some, and be heard
        // first. What is not there any more is noticed when it is filled, too.
        const bool is_doubtful =
            std::any_of(space.moved_to.begin(), space.moved_to.end(), [&range](const auto& moved) {
              return moved.start < range.end && range.start < moved.end;
            });
        if (!is_doubtful) space.missing.Remove(range);
        break;
      }
      default:
        return Error(
            Concat("userfaultfd: event ", static_cast<int>(event.event), " that nobody asked for"));
    }
  }
  return {};
}

// Filling
// -------------------------------------------------------------------------------------------

Result<void> PageServer::AnswerFaults(Space& space) {
  while (!space.faults.empty() && !space.is_gone) {
    const uint64_t address = space.faults.front();
    const Result<Progress> answered = Answer(space, address);
    if (!answered) return answered.error();
    if (*answered == Progress::kLater) return {};
    space.faults.pop_front();
    space.next = address - std::min(address, kBefore);
    touched_ = &space;
    is_around_due_ = true;
    PutOff();
  }
  return {};
}

void PageServer::PutOff() { calm_ = std::min(steady_clock::now() + kCalm, latest_); }

bool PageServer::IsToFillAhead() const { return is_around_due_ || steady_clock::now() >= calm_; }

Result<PageServer::Progress> PageServer::Answer(Space& space, uint64_t address) {
  if (space.missing.At(address)) return Fill(space, address, address + page_);
  // It was never used, or it was thrown away: zeroes.
  const int fd = space.userfaultfd.get();
  uint64_t bytes = std::min(space.missing.EndOfHole(address) - address, kZeroPages * page_);
  while (true) {
    const Filled filled = FillWithZeroes(fd, address, bytes);
    if (filled.bytes > 0) return Progress::kDone;
    if (filled.error == EAGAIN) return Progress::kLater;
    if (filled.error == ESRCH || filled.error == ENOSPC) {
      space.is_gone = true;
      return Progress::kGone;
    }
    if (bytes > page_) {  // it ends sooner, or another of them was faster
      bytes = page_;
      continue;
    }
    if (filled.error != EEXIST && filled.error != ENOENT && filled.error != EINVAL) {
      return Error::FromErrno("userfaultfd: zeroes", filled.error);
    }
    WakeAt(fd, address, page_);
    return Progress::kDone;
  }
}

// What is missing there: all of it lies in one piece.
Result<PageServer::Progress> PageServer::Fill(Space& space, uint64_t address, uint64_t end) {
  const int fd = space.userfaultfd.get();
  const std::optional<PageRun> run = space.missing.At(address);
  if (!run) return Progress::kDone;
  end = std::min(end, run->memory.end);
  const Result<const char*> pages = space.file->Read(run->offset, end - address);
  if (!pages) return pages.error();
  uint64_t most = end - address;
  for (uint64_t at = address; at < end;) {
    const uint64_t bytes = std::min(most, end - at);
    const Filled filled = FillWithCopy(fd, at, *pages + (at - address), bytes);
    uint64_t passed = filled.bytes;
    counts_.pages += filled.bytes / page_;
    if (filled.bytes == 0) {
      switch (filled.error) {
        case EAGAIN:  // the process changes its address space: its event comes first
          return Progress::kLater;
        case ESRCH:
        case ENOSPC:
          space.is_gone = true;
          return Progress::kGone;
        case EEXIST:
          WakeAt(fd, at, page_);
          passed = page_;
          break;
        case ENOENT:
        case EINVAL:
          // More than one mapping; or (a page) none that is filled from here any more.
          if (bytes > page_) {
            most = std::max(page_, bytes / 2 / page_ * page_);
            continue;
          }
          WakeAt(fd, at, page_);
          passed = page_;
          break;
        default:
          return Error::FromErrno(space.file->name(), filled.error);
      }
    }
    space.missing.Remove({at, at + passed});
    at += passed;
    most = std::max(most, std::min(kAhead, most * 2));
  }
  return Progress::kDone;
}

// One piece, of whoever has waited last.
Result<void> PageServer::FillAhead() {
  is_around_due_ = false;
  Space* space = touched_;
  if (space == nullptr || space->is_gone || space->missing.empty()) {
    const auto other = std::find_if(spaces_.begin(), spaces_.end(), [](const auto& one) {
      return !one->is_gone && !one->missing.empty();
    });
    if (other == spaces_.end()) return {};
    space = other->get();
  }
  const std::optional<PageRun> run = space->missing.NextFrom(space->next);
  if (!run) return {};
  const uint64_t end = std::min(run->memory.end, run->memory.start + kAhead);
  const Result<Progress> filled = Fill(*space, run->memory.start, end);
  if (!filled) return filled.error();
  if (*filled == Progress::kDone) space->next = end;
  return {};
}

// Who still waits there then finds what is never used, and gets zeroes from the kernel.
void PageServer::CloseWhatIsDone() {
  spaces_.remove_if([this](const std::unique_ptr<Space>& space) {
    const bool is_done = space->is_gone || space->missing.empty();
    if (is_done && touched_ == space.get()) touched_ = nullptr;
    return is_done;
  });
}

}  // namespace modal::snapshot
