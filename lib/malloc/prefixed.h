/* SPDX-License-Identifier: MIT */
/* Included before everything else, it gives the C family other names, declarations in the system's headers
 * included: gyre__family_malloc for malloc. For tests that run beside another malloc. */
#ifndef GYRE_LIB_MALLOC_PREFIXED_H
#define GYRE_LIB_MALLOC_PREFIXED_H

#define malloc gyre__family_malloc
#define calloc gyre__family_calloc
#define realloc gyre__family_realloc
#define reallocarray gyre__family_reallocarray
#define free gyre__family_free
#define free_sized gyre__family_free_sized
#define free_aligned_sized gyre__family_free_aligned_sized
#define cfree gyre__family_cfree
#define posix_memalign gyre__family_posix_memalign
#define aligned_alloc gyre__family_aligned_alloc
#define memalign gyre__family_memalign
#define valloc gyre__family_valloc
#define pvalloc gyre__family_pvalloc
#define malloc_usable_size gyre__family_malloc_usable_size
#define malloc_trim gyre__family_malloc_trim

#endif
