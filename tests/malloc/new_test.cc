// SPDX-License-Identifier: MIT
// C++'s operators: all forms, std::bad_alloc, the new-handler, and objects that die with their thread.
// Runs with GYRE_CONF=limit:256M (BUILD).
#include <csetjmp>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstdio>
extern "C" {
#include <cmocka.h>
}

#include <malloc.h>

#include <map>
#include <memory>
#include <new>
#include <string>
#include <thread>
#include <vector>

namespace {

// Not constants to the compiler.
volatile std::size_t huge = SIZE_MAX / 2;
volatile std::size_t much = std::size_t{200} << 20; // once, under the limit; not twice

// The block is the library's: it knows its size, and free() takes it.
void check(void *block, std::size_t size, std::size_t alignment = 16) {
  assert_non_null(block);
  assert_int_equal(reinterpret_cast<std::uintptr_t>(block) % alignment, 0);
  assert_true(malloc_usable_size(block) >= size);
}

void all_forms_allocate_and_free(void **) {
  for (std::size_t size : {0u, 1u, 16u, 100u, 5000u, 70000u, 1000000u}) {
    void *block;
    check(block = ::operator new(size), size);
    ::operator delete(block);
    check(block = ::operator new(size), size);
    ::operator delete(block, size);
    check(block = ::operator new[](size), size);
    ::operator delete[](block);
    check(block = ::operator new[](size), size);
    ::operator delete[](block, size);
    check(block = ::operator new(size, std::nothrow), size);
    ::operator delete(block, std::nothrow);
    check(block = ::operator new[](size, std::nothrow), size);
    ::operator delete[](block, std::nothrow);
    for (std::size_t alignment : {8u, 64u, 4096u, 1u << 20}) {
      auto a = static_cast<std::align_val_t>(alignment);
      check(block = ::operator new(size, a), size, alignment);
      ::operator delete(block, a);
      check(block = ::operator new(size, a), size, alignment);
      ::operator delete(block, size, a);
      check(block = ::operator new[](size, a), size, alignment);
      ::operator delete[](block, a);
      check(block = ::operator new[](size, a), size, alignment);
      ::operator delete[](block, size, a);
      check(block = ::operator new(size, a, std::nothrow), size, alignment);
      ::operator delete(block, a, std::nothrow);
      check(block = ::operator new[](size, a, std::nothrow), size, alignment);
      ::operator delete[](block, a, std::nothrow);
    }
  }
}

template <typename F> bool throws_bad_alloc(F &&allocate) {
  try {
    (void)allocate();
  } catch (const std::bad_alloc &) {
    return true;
  }
  return false;
}

void a_failure_throws_bad_alloc(void **) {
  auto a = std::align_val_t{64};
  assert_true(throws_bad_alloc([] { return ::operator new(huge); }));
  assert_true(throws_bad_alloc([] { return ::operator new[](huge); }));
  assert_true(throws_bad_alloc([a] { return ::operator new(huge, a); }));
  assert_true(throws_bad_alloc([a] { return ::operator new[](huge, a); }));
  static const char *volatile seen; // or the compiler may do without the vector
  assert_true(throws_bad_alloc([] {
    std::vector<char> vector(huge);
    seen = vector.data();
    return *seen;
  }));
}

void a_failure_is_null_without_exceptions(void **) {
  auto a = std::align_val_t{64};
  assert_null(::operator new(huge, std::nothrow));
  assert_null(::operator new[](huge, std::nothrow));
  assert_null(::operator new(huge, a, std::nothrow));
  assert_null(::operator new[](huge, a, std::nothrow));
}

int calls;
void *reserve;

void free_reserve_or_throw() {
  calls++;
  if (reserve == nullptr) throw std::bad_alloc();
  ::operator delete(reserve);
  reserve = nullptr;
}

void give_up_after_three() {
  if (++calls == 3) std::set_new_handler(nullptr);
}

// The first allocation takes most of what the limit allows; the handler gives it back.
void the_handler_makes_room(void **) {
  std::set_new_handler(free_reserve_or_throw);
  for (int form = 0; form < 4; form++) {
    auto a = std::align_val_t{128};
    calls = 0;
    reserve = ::operator new(much);
    void *block = form == 0   ? ::operator new(much)
                  : form == 1 ? ::operator new(much, a)
                  : form == 2 ? ::operator new(much, std::nothrow)
                              : ::operator new(much, a, std::nothrow);
    check(block, much);
    assert_int_equal(calls, 1);
    assert_null(reserve);
    ::operator delete(block);
  }
  std::set_new_handler(nullptr);
}

void the_handler_is_asked_until_there_is_none(void **) {
  calls = 0;
  std::set_new_handler(give_up_after_three);
  assert_true(throws_bad_alloc([] { return ::operator new(huge); }));
  assert_int_equal(calls, 3);
  std::set_new_handler(nullptr);
}

void what_a_handler_throws_ends_in_nothrow(void **) {
  auto a = std::align_val_t{64};
  reserve = nullptr;
  calls = 0;
  std::set_new_handler(free_reserve_or_throw);
  assert_null(::operator new(huge, std::nothrow));
  assert_null(::operator new[](huge, std::nothrow));
  assert_null(::operator new(huge, a, std::nothrow));
  assert_null(::operator new[](huge, a, std::nothrow));
  assert_int_equal(calls, 4);
  assert_true(throws_bad_alloc([] { return ::operator new(huge); }));
  std::set_new_handler(nullptr);
}

thread_local std::map<std::string, std::vector<std::string>> words;

void objects_die_with_their_thread(void **) {
  for (int round = 0; round < 50; round++) {
    std::vector<std::thread> threads;
    std::vector<std::unique_ptr<std::string>> results(4);
    for (auto &result : results)
      threads.emplace_back([&result] {
        for (int i = 0; i < 500; i++)
          words[std::to_string(i % 20)].push_back(std::string(static_cast<std::size_t>(i), 'x'));
        result = std::make_unique<std::string>(words["7"].back());
      });
    for (auto &thread : threads)
      thread.join();
    for (auto &result : results)
      assert_int_equal(result->size(), 487);
  }
}

} // namespace

int main() {
  const CMUnitTest tests[] = {
      cmocka_unit_test(all_forms_allocate_and_free),
      cmocka_unit_test(a_failure_throws_bad_alloc),
      cmocka_unit_test(a_failure_is_null_without_exceptions),
      cmocka_unit_test(the_handler_makes_room),
      cmocka_unit_test(the_handler_is_asked_until_there_is_none),
      cmocka_unit_test(what_a_handler_throws_ends_in_nothrow),
      cmocka_unit_test(objects_die_with_their_thread),
  };
  return cmocka_run_group_tests_name("new", tests, nullptr, nullptr);
}
