/* Inside of the stand-in; see CoreML.m. */
#define _GNU_SOURCE
#import <Foundation/Foundation.h>
#include <objc/runtime.h>
#include <pthread.h>

/* Something that the bridge must not do. The tests fail when there is any. */
void standin_violate(const char *format, ...);
/* Says so unless the bridge has a pool on this thread. */
void standin_pooled(const char *what);
/* Whether what runs on this thread is the stand-in itself; the old value. */
int standin_internal(int on);
/* Pools that the bridge has pushed on this thread. */
long standin_pushes(void);
/* Called before an object is released. GNUstep's counts are atomic, but ThreadSanitizer does not see that: this is seen, and so
   is what happens when the last one lets go. */
void standin_order(void);
/* Whether a class or a selector is to be missing. */
int standin_hidden(const char *name);
