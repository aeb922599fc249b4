/* A small Core ML for tests: it loads models in a text format of its own, computes, and misbehaves when told to.
 *
 * A model is a folder with a file standin.txt; "compiling" copies it. One directive a line:
 *
 *     metadata description|version|author|license TEXT      metadata user KEY TEXT
 *     predicted NAME   probabilities NAME   labels TEXT...   integer_labels N...
 *     function NAME                                          what can be loaded beside the default
 *     input|output|state NAME KIND... [optional]             KIND:
 *         array TYPE SHAPE [enumerated SHAPE... | range LOW:HIGH,...]   TYPE f16 f32 f64 i8 i32, SHAPE 2,3; HIGH may be
 *             -1, the end of the signed numbers, or -2, that of all
 *         image FORMAT WIDTH HEIGHT [enumerated W,H... | range LOW:HIGH LOW:HIGH]
 *         int64, double, string, dictionary string|int64, sequence
 *     affine OUT IN A B      OUT = A * IN + B, element by element
 *     accumulate OUT IN S    the state S += IN, OUT = S
 *     invert OUT IN          an image, every byte 255 - it
 *     echo OUT IN            any value
 *     op FUNCTION DEPTH OPERATOR OUTPUT,... PREFERRED|- SUPPORTED,...|- COST|-
 *     layer TYPE OUTPUT,... PREFERRED SUPPORTED,...
 *
 * Faults: see the list below. Every method that the bridge calls begins with ENTER, which checks that the bridge has an
 * autorelease pool and looks whether a fault is wanted. */
#include "standin.h"
#include "CoreVideo.h"
#include <ctype.h>
#include <limits.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* ---- faults ---- */

enum fault {
  FINE,
  ERROR,      /* nil and an NSError */
  SILENT,     /* nil and nothing */
  THROW,      /* an exception */
  WRONG,      /* an answer that makes no sense */
  LATE,       /* the completion handler is kept until standin_release_late() */
  TWICE,      /* the completion handler is called twice, from two threads */
  NEVER,      /* the completion handler is let go of */
  BOTH,       /* a result and an error */
  DEEP,       /* nil and an NSError with a long chain of causes */
  ODD,        /* nil and an NSError whose cause is no error */
  BARE,       /* an exception without a reason */
  THING,      /* something thrown that is no exception */
  NOTHING,    /* nil thrown */
  FAULTS
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
/* Of what is hidden, which the runtime asks for under `lock`, too. */
static pthread_mutex_t hiding = PTHREAD_MUTEX_INITIALIZER;
static struct { char name[96]; int fault; } armed[16];
static char hidden[16][96];
static uint64_t seed;
static NSMutableDictionary *seen;

/* The next calls of `name` fail, until standin_reset(). "CLASS NAME" are those of one class. */
void standin_fault(const char *name, int fault)
{
  pthread_mutex_lock(&lock);
  for (int i = 0; i < 16; i++)
    if (!armed[i].name[0]) { snprintf(armed[i].name, 96, "%s", name); armed[i].fault = fault; break; }
  pthread_mutex_unlock(&lock);
}

/* A class or a method that this "system" lacks. */
void standin_hide(const char *name)
{
  pthread_mutex_lock(&hiding);
  for (int i = 0; i < 16; i++) if (!hidden[i][0]) { snprintf(hidden[i], 96, "%s", name); break; }
  pthread_mutex_unlock(&hiding);
}

int standin_hidden(const char *name)
{
  int found = 0;
  pthread_mutex_lock(&hiding);
  for (int i = 0; i < 16 && hidden[i][0]; i++) found |= !strcmp(hidden[i], name);
  pthread_mutex_unlock(&hiding);
  return found;
}

/* From here on, about one call in 24 fails in some way that the seed decides; 0 ends it. */
void standin_seed(uint64_t value)
{
  pthread_mutex_lock(&lock);
  seed = value;
  pthread_mutex_unlock(&lock);
}

static int fault_of(const char *class, const char *name)
{
  int fault = FINE;
  size_t n = strlen(class);
  pthread_mutex_lock(&lock);
  for (int i = 0; i < 16 && armed[i].name[0]; i++) {
    const char *at = armed[i].name;
    if (n && !strncmp(at, class, n) && at[n] == ' ') at += n + 1;
    if (!strcmp(at, name)) fault = armed[i].fault;
  }
  if (!fault && seed) {
    seed ^= seed << 13; seed ^= seed >> 7; seed ^= seed << 17;
    if ((seed >> 20) % 24 == 0) fault = 1 + (seed >> 40) % (FAULTS - 1);
  }
  pthread_mutex_unlock(&lock);
  return fault;
}

int standin_fault_of(const char *name) { return fault_of("", name); }

void standin_reset(void)
{
  pthread_mutex_lock(&lock);
  memset(armed, 0, sizeof armed);
  seed = 0;
  pthread_mutex_unlock(&lock);
  pthread_mutex_lock(&hiding);
  memset(hidden, 0, sizeof hidden);
  pthread_mutex_unlock(&hiding);
}

/* What the bridge handed over, for tests that ask whether it was the right thing. */
void standin_see(const char *key, NSString *text)
{
  NSAutoreleasePool *pool = [NSAutoreleasePool new];
  pthread_mutex_lock(&lock);
  if (!seen) seen = [NSMutableDictionary new];
  [seen setObject: [[text copy] autorelease] forKey: [NSString stringWithUTF8String: key]];
  pthread_mutex_unlock(&lock);
  [pool release];
}

/* Copies what was seen; the bytes that it has. */
long standin_seen(const char *key, char *text, long size)
{
  NSAutoreleasePool *pool = [NSAutoreleasePool new];
  pthread_mutex_lock(&lock);
  const char *found = [[seen objectForKey: [NSString stringWithUTF8String: key]] UTF8String];
  long n = snprintf(text, size, "%s", found ? found : "");
  pthread_mutex_unlock(&lock);
  [pool release];
  return n;
}

void standin_forget(void)
{
  pthread_mutex_lock(&lock);
  [seen release];
  seen = nil;
  pthread_mutex_unlock(&lock);
}

/* GNUstep's own makes a reason up where there is none. */
@interface BareException : NSException
@end
@implementation BareException
- (NSString *) reason { return nil; }
@end

static int enter(id self, SEL method)
{
  const char *name = sel_getName(method);
  standin_pooled(name);
  if (standin_hidden(name)) standin_violate("a call of %s, which this system lacks", name);
  int fault = fault_of(class_getName(object_getClass(self)), name);
  if (fault == THROW)
    [NSException raise: @"StandInException" format: @"thrown by %s", name];
  if (fault == BARE) @throw [BareException exceptionWithName: @"StandInException" reason: nil userInfo: nil];
  if (fault == THING) @throw @"no exception";
  if (fault == NOTHING) @throw (id)nil;
  return fault;
}

/* An object whose init throws is lost; this one is not, so that the tests can count. */
static int enter_init(id self, SEL method)
{
  @try { return enter(self, method); }
  @catch (id e) { [self release]; @throw; }
}

static int is_nil(int fault) { return fault == ERROR || fault == SILENT || fault == DEEP || fault == ODD; }

#define ENTER int fault __attribute__((unused)) = enter(self, _cmd)
#define ENTER_INIT int fault __attribute__((unused)) = enter_init(self, _cmd)
#define GET(value) do { ENTER; return is_nil(fault) ? nil : (value); } while (0)
#define GET_OR(value, wrong) do { ENTER; return is_nil(fault) ? nil : fault == WRONG ? (wrong) : (value); } while (0)
#define COUNT(value, wrong) do { ENTER; return fault == WRONG ? (wrong) : (value); } while (0)

static NSError *error_of(NSInteger code, NSString *text)
{
  NSError *below = [NSError errorWithDomain: @"NSPOSIXErrorDomain" code: 13
    userInfo: [NSDictionary dictionaryWithObject: @"Permission denied" forKey: NSLocalizedDescriptionKey]];
  NSDictionary *info = [NSDictionary dictionaryWithObjectsAndKeys: text, NSLocalizedDescriptionKey,
    @"because the test says so", NSLocalizedFailureReasonErrorKey,
    @"change the test", NSLocalizedRecoverySuggestionErrorKey, below, @"NSUnderlyingError", nil];
  return [NSError errorWithDomain: @"com.apple.CoreML" code: code userInfo: info];
}

/* The error that comes with a fault, if there is one. */
static NSError *fault_error(int fault, SEL method)
{
  if (fault == ERROR || fault == BOTH)
    return error_of(42, [NSString stringWithFormat: @"failed in %s", sel_getName(method)]);
  if (fault == ODD)
    return [NSError errorWithDomain: @"odd" code: INT_MIN userInfo: [NSDictionary dictionaryWithObjectsAndKeys:
      @"it is odd, as is its cause", NSLocalizedDescriptionKey, @"as is its cause", NSLocalizedFailureReasonErrorKey,
      @"no error", @"NSUnderlyingError", nil]];
  NSError *e = nil;
  for (NSInteger i = 20; fault == DEEP && i-- > 0;)
    e = [NSError errorWithDomain: @"deep" code: i userInfo: [NSDictionary dictionaryWithObjectsAndKeys:
      @"deep", NSLocalizedDescriptionKey, e, @"NSUnderlyingError", nil]];
  return e;
}

/* For methods with an NSError **: whether they have failed already. */
static BOOL fails(int fault, SEL method, NSError **error)
{
  NSError *e = fault_error(fault, method);
  if (e && error) *error = e;
  return is_nil(fault);
}

/* ---- blocks, which GCC's Objective-C lacks ---- */

struct literal { void *isa; int flags, reserved; void (*invoke)(void *, ...); void *descriptor; };
extern void *_Block_copy(const void *);
extern void _Block_release(const void *);
typedef void (*Block)(void);
/* What calls a block expects no exception out of it. */
#define INVOKE(type, b, ...) \
  do { \
    @try { ((void (*) type)((struct literal *)(b))->invoke)((void *)(b), __VA_ARGS__); } \
    @catch (id e) { standin_violate("an exception that leaves a block"); @throw; } \
  } while (0)

/* ---- threads ---- */

extern BOOL GSRegisterCurrentThread(void);
extern void GSUnregisterCurrentThread(void);

static pthread_cond_t idle = PTHREAD_COND_INITIALIZER;
static int running, late, released;

/* `compute`, if there is one, makes the value of what the job keeps: model, inputs, state, options. */
struct job { void *block; id value; NSError *error; int fault; id kept[4]; id (*compute)(id *, NSError **); };

/* Calls a completion handler, which has to bring its own pool. */
static void call_back(struct job *job)
{
  NSAutoreleasePool *pool = [NSAutoreleasePool new];
  long before = standin_pushes();
  int was = standin_internal(0);
  INVOKE((void *, id, NSError *), job->block, job->value, job->error);
  standin_internal(was);
  if (standin_pushes() == before && job->fault != TWICE && job->fault != LATE)
    standin_violate("a completion handler without a pool of its own");
  [pool release];
}

static void *job_main(void *argument)
{
  struct job *job = argument;
  GSRegisterCurrentThread();
  standin_internal(1);
  if (job->fault == LATE) {
    pthread_mutex_lock(&lock);
    late++;
    pthread_cond_broadcast(&idle);
    while (!released) pthread_cond_wait(&idle, &lock);
    pthread_mutex_unlock(&lock);
  }
  NSAutoreleasePool *pool = [NSAutoreleasePool new];
  if (job->compute && !is_nil(job->fault)) {
    NSError *error = nil;
    job->value = [job->compute(job->kept, &error) retain];
    if (error) { [job->error release]; job->error = [error retain]; }
  }
  standin_order();
  for (int i = 0; i < 4; i++) [job->kept[i] release];
  [pool release];
  if (job->fault != NEVER) call_back(job);
  if (job->fault == TWICE) call_back(job);
  pool = [NSAutoreleasePool new];
  /* The last reference to what the bridge made may be the block's. */
  standin_internal(0);
  _Block_release(job->block);
  standin_internal(1);
  standin_order();
  [job->value release];
  [job->error release];
  [pool release];
  free(job);
  GSUnregisterCurrentThread();
  pthread_mutex_lock(&lock);
  running--;
  pthread_cond_broadcast(&idle);
  pthread_mutex_unlock(&lock);
  return NULL;
}

/* Waits until no thread of the stand-in runs. */
void standin_wait(void)
{
  pthread_mutex_lock(&lock);
  while (running) pthread_cond_wait(&idle, &lock);
  released = late = 0;
  pthread_mutex_unlock(&lock);
}

/* Waits for a late completion handler to be there. */
void standin_await_late(void)
{
  pthread_mutex_lock(&lock);
  while (!late) pthread_cond_wait(&idle, &lock);
  pthread_mutex_unlock(&lock);
}

void standin_release_late(void)
{
  pthread_mutex_lock(&lock);
  released = 1;
  pthread_cond_broadcast(&idle);
  pthread_mutex_unlock(&lock);
}

static struct job *new_job(SEL method, int fault, Block block, id value, NSError *error)
{
  if (is_nil(fault)) value = nil;
  if (is_nil(fault) || (fault == BOTH && !error)) error = fault_error(fault, method);
  struct job *job = calloc(1, sizeof *job);
  job->block = _Block_copy((void *)block);
  job->value = [value retain];
  job->error = [error retain];
  job->fault = seed && fault == LATE ? FINE : fault;
  return job;
}

static void start(struct job *job)
{
  pthread_mutex_lock(&lock);
  running++;
  pthread_mutex_unlock(&lock);
  pthread_t thread;
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  if (pthread_create(&thread, &attributes, job_main, job)) abort();
  pthread_attr_destroy(&attributes);
}

static void complete(SEL method, int fault, Block block, id value, NSError *error)
{
  start(new_job(method, fault, block, value, error));
}

/* ---- objects ---- */

/* Everything of the stand-in: what it does when it is made or goes is seen, too. */
@interface StandIn : NSObject
@end
@implementation StandIn
+ (id) allocWithZone: (NSZone *)zone { standin_pooled(class_getName(self)); return [super allocWithZone: zone]; }
- (void) dealloc { standin_pooled(class_getName([self class])); [super dealloc]; }
- (BOOL) respondsToSelector: (SEL)s { return !standin_hidden(sel_getName(s)) && [super respondsToSelector: s]; }
@end

static NSArray *words(NSString *text, NSString *by)
{
  NSMutableArray *kept = [NSMutableArray array];
  NSArray *parts = [text componentsSeparatedByString: by];
  for (NSUInteger i = 0; i < [parts count]; i++)
    if ([[parts objectAtIndex: i] length]) [kept addObject: [parts objectAtIndex: i]];
  return kept;
}

static NSArray *shape_of(NSString *text)
{
  NSArray *parts = words(text, @",");
  NSMutableArray *shape = [NSMutableArray array];
  for (NSUInteger i = 0; i < [parts count]; i++)
    [shape addObject: [NSNumber numberWithLongLong: [[parts objectAtIndex: i] longLongValue]]];
  return shape;
}

static NSInteger product(NSArray *shape)
{
  NSInteger n = 1;
  for (NSUInteger i = 0; i < [shape count]; i++) n *= [[shape objectAtIndex: i] integerValue];
  return n;
}

/* MLMultiArrayDataType */
static NSInteger type_of(NSString *name)
{
  if ([name isEqual: @"f16"]) return 0x10000 | 16;
  if ([name isEqual: @"f32"]) return 0x10000 | 32;
  if ([name isEqual: @"f64"]) return 0x10000 | 64;
  if ([name isEqual: @"i8"]) return 0x20000 | 8;
  return 0x20000 | 32;
}
static size_t size_of(NSInteger type) { return (type & 0xff) / 8; }

static double from_half(uint16_t h)
{
  double m = h & 0x3ff, s = h & 0x8000 ? -1 : 1;
  int e = h >> 10 & 31;
  if (e == 31) return m ? NAN : s * INFINITY;
  return s * (e ? ldexp(1024 + m, e - 25) : ldexp(m, -24));
}
static uint16_t to_half(double x)
{
  uint16_t best = x < 0 ? 0x8000 : 0;
  int e;
  if (x == 0) return best;
  frexp(fabs(x), &e);
  if (e < -13) return best | (uint16_t)rint(ldexp(fabs(x), 24));
  if (e > 16) return best | 0x7c00;
  return best | (uint16_t)(((e + 13) << 10) + rint(ldexp(fabs(x), 11 - e)));
}
static double load(const void *p, NSInteger type)
{
  switch (type) {
  case 0x10000 | 16: { uint16_t h; memcpy(&h, p, 2); return from_half(h); }
  case 0x10000 | 32: { float f; memcpy(&f, p, 4); return f; }
  case 0x10000 | 64: { double f; memcpy(&f, p, 8); return f; }
  case 0x20000 | 8: return *(const int8_t *)p;
  default: { int32_t n; memcpy(&n, p, 4); return n; }
  }
}
static void store(void *p, NSInteger type, double x)
{
  switch (type) {
  case 0x10000 | 16: { uint16_t h = to_half(x); memcpy(p, &h, 2); break; }
  case 0x10000 | 32: { float f = x; memcpy(p, &f, 4); break; }
  case 0x10000 | 64: memcpy(p, &x, 8); break;
  case 0x20000 | 8: *(int8_t *)p = (int8_t)x; break;
  default: { int32_t n = (int32_t)x; memcpy(p, &n, 4); }
  }
}

@interface MLMultiArray : StandIn
{
@public
  uint8_t *start;
  NSInteger type;
  NSArray *shape, *strides;
  void *deallocator;
  BOOL owned, twice;
}
@end

static NSArray *packed(NSArray *shape)
{
  NSMutableArray *strides = [NSMutableArray array];
  NSInteger n = 1;
  for (NSUInteger i = [shape count]; i-- > 0;) {
    [strides insertObject: [NSNumber numberWithLongLong: n] atIndex: 0];
    n *= MAX([[shape objectAtIndex: i] integerValue], 1);
  }
  return strides;
}

/* Where the element `i` lies, in the order of the shape. */
static uint8_t *at(MLMultiArray *a, NSInteger i)
{
  NSInteger offset = 0;
  for (NSUInteger d = [a->shape count]; d-- > 0;) {
    NSInteger n = [[a->shape objectAtIndex: d] integerValue];
    offset += i % n * [[a->strides objectAtIndex: d] integerValue];
    i /= n;
  }
  return a->start + offset * size_of(a->type);
}

static NSInteger span(MLMultiArray *a)
{
  NSInteger last = 0;
  if (!product(a->shape)) return 0;
  for (NSUInteger d = 0; d < [a->shape count]; d++)
    last += ([[a->shape objectAtIndex: d] integerValue] - 1) * [[a->strides objectAtIndex: d] integerValue];
  return (last + 1) * size_of(a->type);
}

static MLMultiArray *new_array(NSArray *shape, NSInteger type)
{
  MLMultiArray *a = [MLMultiArray alloc];
  /* Rows with a gap, as Core ML's own arrays have them. */
  NSMutableArray *strides = [NSMutableArray arrayWithArray: packed(shape)];
  NSInteger row = [shape count] > 1 ? [[shape lastObject] integerValue] : 0, padded = (row + 3) / 4 * 4;
  for (NSUInteger d = 0; row && d + 1 < [shape count]; d++)
    [strides replaceObjectAtIndex: d withObject:
      [NSNumber numberWithLongLong: [[strides objectAtIndex: d] integerValue] / row * padded]];
  a->shape = [shape copy];
  a->strides = [strides copy];
  a->type = type;
  a->owned = YES;
  a->start = span(a) ? calloc(span(a), 1) : NULL;
  return a;
}

@implementation MLMultiArray
- (id) initWithDataPointer: (void *)p shape: (NSArray *)s dataType: (NSInteger)t strides: (NSArray *)st
               deallocator: (Block)block error: (NSError **)error
{
  ENTER_INIT;
  if (fails(fault, _cmd, error)) { [self release]; return nil; }
  if ([s count] != [st count]) {
    if (error) *error = error_of(1, @"shape and strides differ in length");
    [self release];
    return nil;
  }
  standin_see("array", [NSString stringWithFormat: @"%p %@ %@ %lx", p, [s componentsJoinedByString: @","],
    [st componentsJoinedByString: @","], (long)t]);
  start = p; type = t;
  shape = [s copy]; strides = [st copy];
  deallocator = block ? _Block_copy((void *)block) : NULL;
  twice = fault == TWICE;
  return self;
}
- (NSInteger) count { COUNT(product(shape), 7777); }
- (NSInteger) dataType { COUNT(type, 0x30007); }
- (NSArray *) shape
{
  ENTER;
  if (fault == WRONG) return shape_of(@"-3,5");
  return is_nil(fault) ? nil : shape;
}
- (NSArray *) strides
{
  ENTER;
  if (fault == WRONG) return shape_of(@"9223372036854775807,9223372036854775807");
  if (fault == BOTH) return shape_of(@"0,0");
  return is_nil(fault) ? nil : strides;
}
- (void) getBytesWithHandler: (Block)block
{
  ENTER;
  if (is_nil(fault)) return;
  NSInteger available = fault == WRONG ? span(self) - 1 : fault == LATE ? -1 : span(self);
  INVOKE((void *, const void *, NSInteger), block, fault == NEVER ? NULL : start, available);
  if (fault == TWICE) INVOKE((void *, const void *, NSInteger), block, start, available);
}
- (void) getMutableBytesWithHandler: (Block)block
{
  ENTER;
  if (is_nil(fault)) return;
  /* A copy, column by column, that is put back: the strides that come with it are others than the array's. */
  MLMultiArray *lent = new_array(shape, type);
  NSMutableArray *columns = [NSMutableArray array];
  NSInteger count = product(shape), n = 1;
  for (NSUInteger d = 0; d < [shape count]; d++) {
    [columns addObject: [NSNumber numberWithLongLong: n]];
    n *= [[shape objectAtIndex: d] integerValue];
  }
  [lent->strides release];
  lent->strides = [columns copy];
  for (NSInteger i = 0; i < count; i++) memcpy(at(lent, i), at(self, i), size_of(type));
  NSInteger available = fault == WRONG ? span(lent) - 1 : fault == LATE ? -1 : span(lent);
  INVOKE((void *, void *, NSInteger, NSArray *), block, fault == NEVER ? NULL : lent->start, available,
    fault == BOTH ? nil : lent->strides);
  for (NSInteger i = 0; i < count; i++) memcpy(at(self, i), at(lent, i), size_of(type));
  [lent release];
}
- (void) dealloc
{
  if (deallocator) {
    INVOKE((void *, void *), deallocator, start);
    if (twice) INVOKE((void *, void *), deallocator, start);
    _Block_release(deallocator);
  }
  if (owned) free(start);
  [shape release]; [strides release];
  [super dealloc];
}
@end

/* Not what they are called, so that only who uses the constants finds anything. */
NSString *const MLModelDescriptionKey = @"what", *const MLModelVersionStringKey = @"which",
  *const MLModelAuthorKey = @"who", *const MLModelLicenseKey = @"may", *const MLModelCreatorDefinedKey = @"more";

/* What is neither a text nor a number. */
#define NOTHINGS [NSArray arrayWithObject: [NSNull null]]

/* MLFeatureType */
enum { INVALID, INT64, DOUBLE, STRING, IMAGE, ARRAY, DICTIONARY, SEQUENCE, STATE };

@interface MLSequence : StandIn
{
@public
  NSArray *values;
  NSInteger type;
}
@end
static MLSequence *new_sequence(NSArray *values, NSInteger type)
{
  MLSequence *s = [[MLSequence alloc] init];
  s->values = [values copy]; s->type = type;
  return [s autorelease];
}
@implementation MLSequence
+ (MLSequence *) sequenceWithStringArray: (NSArray *)values { GET(new_sequence(values, STRING)); }
+ (MLSequence *) sequenceWithInt64Array: (NSArray *)values { GET(new_sequence(values, INT64)); }
- (NSInteger) type { COUNT(type, 99); }
- (NSArray *) stringValues { GET_OR(type == STRING ? values : nil, NOTHINGS); }
- (NSArray *) int64Values { GET_OR(type == INT64 ? values : nil, NOTHINGS); }
- (void) dealloc { [values release]; [super dealloc]; }
@end

@interface MLFeatureValue : StandIn
{
@public
  NSInteger type;
  id object;
  int64_t integer;
  double number;
}
@end
static MLFeatureValue *new_value(NSInteger type, id object, int64_t integer, double number)
{
  MLFeatureValue *v = [[MLFeatureValue alloc] init];
  v->type = type; v->object = [object retain]; v->integer = integer; v->number = number;
  return [v autorelease];
}
@implementation MLFeatureValue
+ (MLFeatureValue *) featureValueWithMultiArray: (MLMultiArray *)a { GET(new_value(ARRAY, a, 0, 0)); }
+ (MLFeatureValue *) featureValueWithPixelBuffer: (CVPixelBufferRef)b { GET(new_value(IMAGE, (id)b, 0, 0)); }
+ (MLFeatureValue *) featureValueWithInt64: (int64_t)n { GET(new_value(INT64, nil, n, 0)); }
+ (MLFeatureValue *) featureValueWithDouble: (double)n { GET(new_value(DOUBLE, nil, 0, n)); }
+ (MLFeatureValue *) featureValueWithString: (NSString *)s { GET(new_value(STRING, s, 0, 0)); }
+ (MLFeatureValue *) featureValueWithSequence: (MLSequence *)s { GET(new_value(SEQUENCE, s, 0, 0)); }
+ (MLFeatureValue *) featureValueWithDictionary: (NSDictionary *)d error: (NSError **)error
{
  ENTER;
  return fails(fault, _cmd, error) ? nil : new_value(DICTIONARY, d, 0, 0);
}
- (NSInteger) type { COUNT(type, 99); }
- (int64_t) int64Value { ENTER; return integer; }
- (double) doubleValue { ENTER; return number; }
- (NSString *) stringValue { GET(object); }
- (MLMultiArray *) multiArrayValue { GET(object); }
- (NSDictionary *) dictionaryValue { GET_OR(object, [NSDictionary dictionaryWithObject: [NSNull null] forKey: @"a"]); }
- (MLSequence *) sequenceValue { GET(object); }
- (CVPixelBufferRef) imageBufferValue { ENTER; return is_nil(fault) ? NULL : (CVPixelBufferRef)object; }
- (void) dealloc { [object release]; [super dealloc]; }
@end

@protocol MLFeatureProvider
- (NSSet *) featureNames;
- (MLFeatureValue *) featureValueForName: (NSString *)name;
@end

@interface MLDictionaryFeatureProvider : StandIn <MLFeatureProvider>
{
@public
  NSDictionary *values;
}
@end
@implementation MLDictionaryFeatureProvider
- (id) initWithDictionary: (NSDictionary *)d error: (NSError **)error
{
  ENTER_INIT;
  if (fails(fault, _cmd, error)) { [self release]; return nil; }
  values = [d copy];
  return self;
}
- (NSSet *) featureNames { GET_OR([NSSet setWithArray: [values allKeys]], [NSSet setWithArray: NOTHINGS]); }
- (MLFeatureValue *) featureValueForName: (NSString *)name { GET([values objectForKey: name]); }
- (void) dealloc { [values release]; [super dealloc]; }
@end

@interface MLArrayBatchProvider : StandIn
{
@public
  NSArray *all;
}
@end
@implementation MLArrayBatchProvider
- (id) initWithFeatureProviderArray: (NSArray *)a
{
  ENTER_INIT;
  if (is_nil(fault)) { [self release]; return nil; }
  all = [a copy];
  return self;
}
- (NSInteger) count { COUNT([all count], [all count] + 1); }
- (id) featuresAtIndex: (NSInteger)i { GET([all objectAtIndex: i]); }
- (void) dealloc { [all release]; [super dealloc]; }
@end

@interface MLOptimizationHints : StandIn
{
@public
  NSInteger reshape, strategy;
}
@end
@implementation MLOptimizationHints
+ (id) new { ENTER; return is_nil(fault) ? nil : [[self alloc] init]; }
- (void) setReshapeFrequency: (NSInteger)n { ENTER; reshape = n; }
- (void) setSpecializationStrategy: (NSInteger)n { ENTER; strategy = n; }
@end

@interface MLModelConfiguration : StandIn
{
@public
  NSInteger units;
  BOOL low;
  NSString *name, *function;
  MLOptimizationHints *hints;
}
@end
@implementation MLModelConfiguration
- (id) init
{
  ENTER_INIT;
  if (is_nil(fault)) { [self release]; return nil; }
  units = 2;
  return self;
}
- (void) setComputeUnits: (NSInteger)n { ENTER; units = n; }
- (void) setAllowLowPrecisionAccumulationOnGPU: (BOOL)b { ENTER; low = b; }
- (void) setModelDisplayName: (NSString *)s { ENTER; [name release]; name = [s copy]; }
- (void) setFunctionName: (NSString *)s { ENTER; [function release]; function = [s copy]; }
- (void) setOptimizationHints: (MLOptimizationHints *)h { ENTER; [hints release]; hints = [h retain]; }
- (void) dealloc { [name release]; [function release]; [hints release]; [super dealloc]; }
@end

@interface MLPredictionOptions : StandIn
{
@public
  NSDictionary *backings;
}
@end
@implementation MLPredictionOptions
- (id) init
{
  ENTER_INIT;
  if (is_nil(fault)) { [self release]; return nil; }
  return self;
}
- (void) setOutputBackings: (NSDictionary *)d { ENTER; [backings release]; backings = [d copy]; }
- (void) dealloc { [backings release]; [super dealloc]; }
@end

#include "model.inc"
