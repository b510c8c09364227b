#include "agent/http/outbox.h"

#include <doctest/doctest.h>

#include <limits>
#include <random>
#include <string>

#include "tests/support/fake_stream.h"

using namespace modal;

namespace {

constexpr size_t kAll = std::numeric_limits<size_t>::max();

struct Fixture {
  http::BufferStock stock;
  uint64_t sent = 0;
  http::Outbox out{stock, sent};
  test::FakePeer peer;
  std::unique_ptr<event::Stream> stream = peer.Connect();
};

}  // namespace

TEST_CASE("what is appended goes out with a flush") {
  Fixture f;
  CHECK(f.out.empty());
  CHECK(f.out.Flush(*f.stream));
  f.out.text() += "one ";
  f.out.text() += "two";
  CHECK(f.out.size() == 7);
  CHECK(f.peer.received() == "");
  CHECK(f.out.Flush(*f.stream));
  CHECK(f.peer.received() == "one two");
  CHECK(f.out.empty());
  CHECK(f.sent == 7);
  CHECK(f.out.TakeProgress());
  CHECK_FALSE(f.out.TakeProgress());
}

TEST_CASE("what the stream does not take waits, and nothing is offered until there is room") {
  Fixture f;
  f.peer.TakeOnly(3);
  f.out.text() += "abcdef";
  CHECK(f.out.Flush(*f.stream));
  CHECK(f.out.full());
  CHECK(f.out.size() == 3);
  f.peer.TakeOnly(kAll);
  CHECK(f.out.Flush(*f.stream));
  CHECK(f.peer.received() == "abc");
  f.out.OnWritable();
  CHECK(f.out.Flush(*f.stream));
  CHECK_FALSE(f.out.full());
  CHECK(f.peer.received() == "abcdef");
  CHECK(f.sent == 6);
}

TEST_CASE("a small piece waits for the flush, a large one goes out at once, after what was there") {
  Fixture f;
  CHECK(f.out.Put(*f.stream, "1\r\n", "a", "\r\n"));
  CHECK(f.peer.received() == "");
  const std::string large(5000, 'x');
  CHECK(f.out.Put(*f.stream, "1388\r\n", large, "\r\n"));
  CHECK(f.peer.received() == "1\r\na\r\n1388\r\n" + large + "\r\n");
  CHECK(f.out.empty());
  CHECK_FALSE(f.out.full());
}

TEST_CASE("wherever a large piece is cut, the rest of it follows") {
  const std::string large(5000, 'x');
  const std::string all = "head <" + large + ">tail";
  for (const size_t room : {size_t{0}, size_t{1}, size_t{5}, size_t{6}, size_t{7}, size_t{4000},
                            size_t{5005}, size_t{5006}, size_t{5007}, all.size() - 4}) {
    CAPTURE(room);
    Fixture f;
    f.peer.TakeOnly(room);
    f.out.text() += "head ";
    CHECK(f.out.Put(*f.stream, "<", large, ">"));
    CHECK(f.out.Put(*f.stream, "", "tail", ""));
    CHECK(f.out.full() == (room < all.size() - 4));
    CHECK(f.peer.received() == all.substr(0, room));
    CHECK(f.out.size() == all.size() - room);
    f.peer.TakeOnly(kAll);
    f.out.OnWritable();
    CHECK(f.out.Flush(*f.stream));
    CHECK(f.peer.received() == all);
    CHECK(f.sent == all.size());
  }
}

TEST_CASE("a full outbox keeps large pieces too, in order") {
  Fixture f;
  f.peer.TakeOnly(0);
  f.out.text() += "a";
  CHECK(f.out.Flush(*f.stream));
  const std::string large(5000, 'x');
  CHECK(f.out.Put(*f.stream, "<", large, ">"));
  CHECK(f.out.size() == 5003);
  f.peer.TakeOnly(kAll);
  f.out.OnWritable();
  CHECK(f.out.Flush(*f.stream));
  CHECK(f.peer.received() == "a<" + large + ">");
}

TEST_CASE("a stream that takes little at a time gets all, and what has gone is not kept") {
  Fixture f;
  std::minstd_rand random(7);
  std::string all;
  size_t most = 0;
  f.peer.TakeOnly(0);
  for (int i = 0; i < 300; ++i) {
    const std::string piece(1 + random() % 6000, static_cast<char>('a' + i % 26));
    all += piece;
    CHECK(f.out.Put(*f.stream, "", piece, ""));
    f.peer.TakeOnly(3500);
    f.out.OnWritable();
    CHECK(f.out.Flush(*f.stream));
    most = std::max(most, f.out.held() - f.out.size());
    CHECK(f.peer.received() == all.substr(0, all.size() - f.out.size()));
  }
  CHECK(most <= 64 * 1024);
  f.peer.TakeOnly(kAll);
  f.out.OnWritable();
  CHECK(f.out.Flush(*f.stream));
  CHECK(f.peer.received() == all);
}

TEST_CASE("a broken stream is told of, with the errno") {
  Fixture f;
  f.peer.Break();
  f.out.text() += "a";
  SUBCASE("in a flush") { CHECK_FALSE(f.out.Flush(*f.stream)); }
  SUBCASE("with a large piece") {
    CHECK_FALSE(f.out.Put(*f.stream, "", std::string(5000, 'x'), ""));
  }
  CHECK(f.out.error() == EPIPE);
  CHECK(f.sent == 0);
}

TEST_CASE("what has not gone out can be taken") {
  Fixture f;
  f.peer.TakeOnly(2);
  f.out.text() += "abcdef";
  CHECK(f.out.Flush(*f.stream));
  CHECK(f.out.TakeAll() == "cdef");
  CHECK(f.out.empty());
  CHECK_FALSE(f.out.full());
  f.out.text() += "g";
  f.peer.TakeOnly(kAll);
  CHECK(f.out.Flush(*f.stream));
  CHECK(f.peer.received() == "abg");
}

TEST_CASE("memory goes back to the stock when all has gone out, by whichever way") {
  Fixture f;
  f.out.text() += "abc";
  const char* const memory = f.out.text().data();
  SUBCASE("a flush") { CHECK(f.out.Flush(*f.stream)); }
  SUBCASE("a large piece") {
    CHECK(f.out.Put(*f.stream, "", std::string(5000, 'x'), ""));
    CHECK(f.out.Flush(*f.stream));
  }
  SUBCASE("taken by the owner") { CHECK(f.out.TakeAll() == "abc"); }
  CHECK(f.out.held() == 0);
  const std::string next = f.stock.Take();
  CHECK(next.data() == memory);
  CHECK(next.empty());
}

TEST_CASE("buffers that have grown large, or have nothing to give, are not kept in stock") {
  http::BufferStock stock;
  std::string large(100'000, 'x');
  const char* const memory = large.data();
  stock.GiveBack(std::move(large));
  stock.GiveBack("small");
  const std::string taken = stock.Take();
  CHECK(taken.data() != memory);
  CHECK(taken.capacity() >= http::BufferStock::kNewSize);
  CHECK(taken.capacity() < 100'000);
}
