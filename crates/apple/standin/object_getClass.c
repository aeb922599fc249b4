/* GCC's header has it as an inline function, so that it needs a file without that header. */
void *object_getClass(void **object) { return object ? *object : 0; }
