#include "core/stream.h"

#include <array>
#include <chrono>
#include <stdexcept>
#include <thread>
#include <vector>

#include "doctest.h"

using namespace foretoken;

static void sleep_ms(int ms) { std::this_thread::sleep_for(std::chrono::milliseconds(ms)); }

TEST_CASE("stream: tasks run in order, also when the queue fills several times over") {
  Stream stream;
  std::vector<int> order;
  const int count = 3 * static_cast<int>(Stream::kCapacity) + 7;
  for (int i = 0; i < count; i++) stream.enqueue([&order, i](Stream&) { order.push_back(i); });
  stream.wait();
  CHECK(stream.idle());
  REQUIRE(order.size() == static_cast<size_t>(count));
  for (int i = 0; i < count; i++) REQUIRE(order[static_cast<size_t>(i)] == i);
}

TEST_CASE("stream: a full queue makes the caller wait for a slot") {
  Stream stream;
  std::atomic<bool> open{false};
  std::atomic<int> runs{0};
  stream.enqueue([&open](Stream&) {
    while (!open) std::this_thread::yield();
  });
  for (uint64_t i = 1; i < Stream::kCapacity; i++) stream.enqueue([&runs](Stream&) { runs++; });
  std::thread opener([&open] {
    sleep_ms(20);
    open = true;
  });
  stream.enqueue([&runs](Stream&) { runs++; });  // the 1,025th: only after the first has run
  CHECK(open);
  stream.wait();
  opener.join();
  CHECK(runs == static_cast<int>(Stream::kCapacity));
}

TEST_CASE("stream: a parked worker wakes, a parked caller too") {
  Stream stream;
  int runs = 0;
  for (int i = 0; i < 3; i++) {
    sleep_ms(5);  // longer than the worker spins
    stream.enqueue([&runs](Stream&) {
      sleep_ms(5);  // longer than the caller spins
      runs++;
    });
    stream.wait();
    CHECK(runs == i + 1);
  }
}

TEST_CASE("stream: the first failure is kept, taken once, and the stream goes on") {
  Stream stream;
  int runs = 0;
  stream.enqueue([](Stream& self) { self.fail({.code = "NOT_FINITE", .text = "first"}); });
  stream.enqueue([](Stream&) { throw std::runtime_error("second"); });
  stream.enqueue([&runs](Stream&) { runs++; });
  stream.wait();
  const Failure failure = stream.take_failure();
  CHECK(failure.code == "NOT_FINITE");
  CHECK(failure.text == "first");
  CHECK(!stream.take_failure());
  CHECK(runs == 1);

  stream.enqueue([](Stream&) { throw std::runtime_error("thrown"); });
  stream.wait();
  CHECK(stream.take_failure().text == "thrown");
}

TEST_CASE("stream: stop skips what is queued, destroys it, and tells the running task") {
  const auto alive = std::make_shared<int>(0);
  int runs = 0;
  {
    Stream stream;
    std::atomic<bool> started{false};
    stream.enqueue([&started](Stream& self) {
      started = true;
      while (!self.cancelled()) std::this_thread::yield();
    });
    for (int i = 0; i < 100; i++) stream.enqueue([alive, &runs](Stream&) { runs++; });
    while (!started) std::this_thread::yield();
    stream.stop();
  }
  CHECK(runs == 0);
  CHECK(alive.use_count() == 1);
}

TEST_CASE("stream: the largest closure that fits is carried unchanged") {
  Stream stream;
  std::array<unsigned char, Stream::kSlotBytes - 2 * sizeof(void*)> bytes{};
  for (size_t i = 0; i < bytes.size(); i++) bytes[i] = static_cast<unsigned char>(i * 31);
  bool equal = false;
  stream.enqueue([bytes, &equal](Stream&) {
    equal = true;
    for (size_t i = 0; i < bytes.size(); i++) equal = equal && bytes[i] == static_cast<unsigned char>(i * 31);
  });
  stream.wait();
  CHECK(equal);
}
