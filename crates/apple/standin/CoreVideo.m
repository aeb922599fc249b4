/* The few functions of Core Video that the bridge calls. A pixel buffer is an object, as Apple's are. */
#include "standin.h"
#include "CoreVideo.h"
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int standin_fault_of(const char *name);
void standin_see(const char *key, NSString *text);

@implementation StandInPixelBuffer
- (void) dealloc
{
  if (locks) standin_violate("pixels that were left locked");
  if (release) release(context, start);
  [super dealloc];
}
@end

CVPixelBufferRef standin_pixel_buffer(size_t width, size_t height, unsigned format, size_t row_bytes)
{
  StandInPixelBuffer *b = [[StandInPixelBuffer alloc] init];
  b->width = width; b->height = height; b->format = format; b->row_bytes = row_bytes;
  b->context = b->start = calloc(height, row_bytes);
  b->release = (CVRelease)free;
  return (CVPixelBufferRef)b;
}

int CVPixelBufferCreateWithBytes(const void *allocator, size_t width, size_t height, unsigned format, void *start,
                                 size_t row_bytes, CVRelease release, void *context, const void *attributes,
                                 CVPixelBufferRef *buffer)
{
  standin_pooled("CVPixelBufferCreateWithBytes");
  int fault = standin_fault_of("CVPixelBufferCreateWithBytes");
  if (fault == 2) return 0; /* SILENT: it says that there is one */
  if (fault) {
    *buffer = (CVPixelBufferRef)(uintptr_t)16; /* what comes with an error is nothing */
    return -6662;
  }
  standin_see("image", [NSString stringWithFormat: @"%zu x %zu of %08x in %zu at %p", width, height, format, row_bytes, start]);
  StandInPixelBuffer *b = [[StandInPixelBuffer alloc] init];
  b->width = width; b->height = height; b->format = format; b->row_bytes = row_bytes;
  b->start = start; b->release = release; b->context = context;
  *buffer = (CVPixelBufferRef)b;
  return 0;
}

void CVPixelBufferRelease(CVPixelBufferRef b)
{
  standin_pooled("CVPixelBufferRelease");
  [(StandInPixelBuffer *)b release];
}

int CVPixelBufferLockBaseAddress(CVPixelBufferRef r, unsigned long flags)
{
  StandInPixelBuffer *b = (StandInPixelBuffer *)r;
  standin_pooled("CVPixelBufferLockBaseAddress");
  if (standin_fault_of("CVPixelBufferLockBaseAddress")) return -6683;
  if (flags != 1) standin_violate("a lock that is not for reading");
  b->locks++;
  return 0;
}

int CVPixelBufferUnlockBaseAddress(CVPixelBufferRef r, unsigned long flags)
{
  StandInPixelBuffer *b = (StandInPixelBuffer *)r;
  if (flags != 1) standin_violate("an unlock that is not for reading");
  b->locks--;
  return 0;
}

const void *CVPixelBufferGetBaseAddress(CVPixelBufferRef r)
{
  StandInPixelBuffer *b = (StandInPixelBuffer *)r;
  if (b->locks <= 0) standin_violate("the address of pixels that are not locked");
  return standin_fault_of("CVPixelBufferGetBaseAddress") ? NULL : b->start;
}

size_t CVPixelBufferGetBytesPerRow(CVPixelBufferRef r)
{
  return standin_fault_of("CVPixelBufferGetBytesPerRow") ? 1 : ((StandInPixelBuffer *)r)->row_bytes;
}
size_t CVPixelBufferGetWidth(CVPixelBufferRef r)
{
  return standin_fault_of("CVPixelBufferGetWidth") ? 0 : ((StandInPixelBuffer *)r)->width;
}
size_t CVPixelBufferGetHeight(CVPixelBufferRef r)
{
  StandInPixelBuffer *b = (StandInPixelBuffer *)r;
  switch (standin_fault_of("CVPixelBufferGetHeight")) {
  case 0: return b->height;
  case 1: return 0;                        /* ERROR */
  case 2: return SIZE_MAX / b->row_bytes;  /* SILENT: more than there is memory */
  default: return ((size_t)1 << 62) + 1;   /* with rows of a multiple of four bytes a product of 0 */
  }
}
unsigned CVPixelBufferGetPixelFormatType(CVPixelBufferRef r)
{
  return standin_fault_of("CVPixelBufferGetPixelFormatType") ? 0x3f3f3f3f : ((StandInPixelBuffer *)r)->format;
}
