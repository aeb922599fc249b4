/* What clang's runtime has and GCC's lacks, over GNUstep; and the accounts that the tests read: pools, objects, blocks.
 *
 * The bridge calls these functions, and GNUstep calls its accounts of allocations through its PLT: this library comes first in
 * the order of symbols, so that nothing goes around the accounts. */
#include "standin.h"
#include <dlfcn.h>
#include <execinfo.h>
#include <objc/objc-exception.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- accounts ---- */

static long objects, blocks, violations;
static char violation[400];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static __thread int depth;    /* pools of the bridge on this thread */
static __thread long pushes;  /* pools that it ever pushed */
static __thread int internal; /* the stand-in's own code, which has pools of its own */

void standin_violate(const char *format, ...)
{
  va_list args;
  va_start(args, format);
  pthread_mutex_lock(&lock);
  vsnprintf(violation, sizeof violation, format, args);
  pthread_mutex_unlock(&lock);
  va_end(args);
  __atomic_add_fetch(&violations, 1, __ATOMIC_SEQ_CST);
  fprintf(stderr, "stand-in: %s\n", violation);
  if (getenv("STANDIN_BACKTRACE")) { void *frames[40]; backtrace_symbols_fd(frames, backtrace(frames, 40), 2); }
}

long standin_objects(void) { return __atomic_load_n(&objects, __ATOMIC_SEQ_CST); }
long standin_blocks(void) { return __atomic_load_n(&blocks, __ATOMIC_SEQ_CST); }
long standin_violations(void) { return __atomic_exchange_n(&violations, 0, __ATOMIC_SEQ_CST); }
int standin_depth(void) { return depth; }

void standin_pooled(const char *what)
{
  if (!internal && depth == 0) standin_violate("%s outside of an autorelease pool", what);
}
int standin_internal(int on) { int was = internal; internal = on; return was; }
long standin_pushes(void) { return pushes; }

/* Objects that are dead, so that another release of one is seen instead of followed. */
enum { SLOTS = 1 << 16 };
static void *dead[SLOTS];
static size_t slot(void *o) { return ((uintptr_t)o >> 4) % SLOTS; }
static int is_dead(void *o) { return o && __atomic_load_n(&dead[slot(o)], __ATOMIC_SEQ_CST) == o; }
static void bury(void *o) { __atomic_store_n(&dead[slot(o)], o, __ATOMIC_SEQ_CST); }
static void revive(void *o)
{
  void *expected = o;
  __atomic_compare_exchange_n(&dead[slot(o)], &expected, NULL, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

static void *next(const char *name)
{
  void *found = dlsym(RTLD_NEXT, name);
  if (!found) { fprintf(stderr, "stand-in: no %s\n", name); abort(); }
  return found;
}

/* The function of this name that stands behind ours, looked up once, on whatever thread. */
#define REAL(type, name) ({ \
  static type found_once; \
  type f = __atomic_load_n(&found_once, __ATOMIC_ACQUIRE); \
  if (!f) __atomic_store_n(&found_once, f = (type)next(name), __ATOMIC_RELEASE); \
  f; })

typedef void *(*copier)(const void *);
typedef void (*releaser)(const void *);
typedef const char *(*encoding)(Method);
typedef Class (*finder)(const char *);
typedef BOOL (*responder)(Class, SEL);

/* GNUstep tells of every object that it makes and lets go, whether anybody listens or not. */
void GSDebugAllocationAdd(Class c, id o)
{
  __atomic_add_fetch(&objects, 1, __ATOMIC_SEQ_CST);
  revive(o);
}

void GSDebugAllocationRemove(Class c, id o)
{
  __atomic_sub_fetch(&objects, 1, __ATOMIC_SEQ_CST);
  bury(o);
}

void standin_order(void) { __atomic_add_fetch(&objects, 0, __ATOMIC_SEQ_CST); }

void *_Block_copy(const void *block)
{
  void *copy = REAL(copier, "_Block_copy")(block);
  if (copy) __atomic_add_fetch(&blocks, 1, __ATOMIC_SEQ_CST);
  return copy;
}

void _Block_release(const void *block)
{
  if (block) __atomic_sub_fetch(&blocks, 1, __ATOMIC_SEQ_CST);
  REAL(releaser, "_Block_release")(block);
}

/* ---- the entry points of automatic reference counting ---- */

static int alive(id o, const char *what)
{
  if (!is_dead(o)) return 1;
  standin_violate("%s of a dead object", what);
  return 0;
}

id objc_retain(id o) { return o && alive(o, "retain") ? [o retain] : o; }
void objc_release(id o)
{
  if (!o || !alive(o, "release")) return;
  standin_pooled("release");
  standin_order();
  [o release];
}
id objc_autorelease(id o)
{
  if (!o || !alive(o, "autorelease")) return o;
  standin_pooled("autorelease");
  return [o autorelease];
}
id objc_retainAutoreleasedReturnValue(id o) { return objc_retain(o); }
id objc_autoreleaseReturnValue(id o) { return objc_autorelease(o); }
id objc_retainAutorelease(id o) { return objc_autorelease(objc_retain(o)); }

void *objc_autoreleasePoolPush(void)
{
  depth++;
  pushes++;
  return [[NSAutoreleasePool alloc] init];
}

void objc_autoreleasePoolPop(void *pool)
{
  standin_order();
  [(NSAutoreleasePool *)pool release];
  depth--;
}

/* ---- the runtime ---- */

/* GCC writes "^rv" where clang writes "r^v", and "^?" for a block, which is "@?": objc2 reads clang's. */
const char *method_getTypeEncoding(Method method)
{
  static struct entry { const char *from; char *to; struct entry *next; } *known;
  const char *from = REAL(encoding, "method_getTypeEncoding")(method);
  if (!from || !(strstr(from, "^r") || strstr(from, "^?"))) return from;
  pthread_mutex_lock(&lock);
  struct entry *e = known;
  while (e && e->from != from) e = e->next;
  if (!e) {
    e = malloc(sizeof *e);
    e->from = from;
    char *out = e->to = malloc(strlen(from) + 1);
    for (const char *at = from; *at; at++) {
      if (*at != '^') { *out++ = *at; continue; }
      while (at[1] == 'r') at++;
      *out++ = at[1] == '?' ? '@' : '^';
    }
    *out = 0;
    e->next = known;
    known = e;
  }
  pthread_mutex_unlock(&lock);
  return e->to;
}

/* Older systems: what is hidden is not found. */
Class objc_getClass(const char *name)
{
  return standin_hidden(name) ? Nil : REAL(finder, "objc_getClass")(name);
}

BOOL class_respondsToSelector(Class c, SEL selector)
{
  return standin_hidden(sel_getName(selector)) ? NO : REAL(responder, "class_respondsToSelector")(c, selector);
}
