/* A pixel buffer of the stand-in. */
typedef struct __CVBuffer *CVPixelBufferRef;
typedef void (*CVRelease)(void *context, const void *start);

@interface StandInPixelBuffer : NSObject
{
@public
  size_t width, height, row_bytes;
  unsigned format;
  void *start, *context;
  CVRelease release;
  int locks;
}
@end

/* A zeroed one, which the caller releases. */
CVPixelBufferRef standin_pixel_buffer(size_t width, size_t height, unsigned format, size_t row_bytes);
