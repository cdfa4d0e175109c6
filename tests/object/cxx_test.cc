// SPDX-License-Identifier: MIT
// The typed macros as a C++17 program uses them.
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <csetjmp>
extern "C" {
#include <cmocka.h>
}

#include <gyre/gyre.h>

namespace {

struct person {
  GYRE_SLOT(person) partner;
  GYRE_SLOT(person) parent;
  int age;
};

gyre_type person_type = [] {
  gyre_type type = {};
  type.name = "person";
  type.size = sizeof(person);
  type.slots = GYRE_SLOTS(person, partner, parent);
  return type;
}();

person *person_new(int age) {
  auto *p = static_cast<person *>(gyre_new(&person_type));
  p->age = age;
  return p;
}

void slots_are_typed(void **) {
  person *a = person_new(1), *b = person_new(2);
  gyre_store(&a->partner, b);
  {
    GYRE_AUTO(person) loaded = gyre_load(&a->partner);
    assert_int_equal(loaded->age, 2);
    assert_int_equal(gyre_refcount(b), 3);
  }
  assert_int_equal(gyre_compare_exchange(&a->partner, b, b), 1);
  person *taken = gyre_take(&a->partner);
  assert_ptr_equal(taken, b);
  assert_null(gyre_swap(&a->parent, taken));
  gyre_clear(&a->parent);
  assert_int_equal(gyre_refcount(b), 1);
  gyre_slot_init(&a->parent, gyre_retain(b));
  gyre_release(b);
  gyre_release(a);
  assert_int_equal(gyre_fini(), 0);
}

void cycles_are_collected(void **) {
  person *a = person_new(1), *b = person_new(2);
  gyre_store(&a->partner, b);
  gyre_store(&b->partner, a);
  gyre_weak *weak = gyre_weak_new(a, nullptr, nullptr);
  gyre_release(a);
  gyre_release(b);
  GYRE_BLOCKING {}
  gyre_safepoint();
  assert_int_equal(gyre_gc_collect(2), 2);
  assert_true(gyre_weak_is_dead(weak));
  gyre_weak_free(weak);
  assert_int_equal(gyre_fini(), 0);
}

} // namespace

int main() {
  const CMUnitTest tests[] = {
      cmocka_unit_test(slots_are_typed),
      cmocka_unit_test(cycles_are_collected),
  };
  return cmocka_run_group_tests(tests, nullptr, nullptr);
}
