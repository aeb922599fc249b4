// The contract between MilwrightSwift.swift and the Rust in ../src/swift, and the only thing that both know.
// `scripts/apple/swift_contract.py` compares the three.
//
// Memory:
//  * What is handed to a function (texts, tensors, shapes) is valid until that function returns. The exception is the
//    data of inputs: see `milwright_swift_predict`.
//  * What is handed to a callback (texts, tensors, errors) is valid until that callback returns. The exception are
//    objects: they come with a reference that the callee owns.
//  * Objects are models, states and tasks. Each is given up with `milwright_swift_release`, once, on any thread.
//  * Nothing else is allocated on one side and freed on the other.
//
// Callbacks:
//  * Every function that takes a callback calls it exactly once, before or after it returns, on any thread.
//  * `context` is a number that is given back; it need not be a pointer.
//  * Either the result or the error is there. A callback must not unwind.

#ifndef MILWRIGHT_SWIFT_H
#define MILWRIGHT_SWIFT_H

#include <stdint.h>

#ifndef __clang__
#define _Nonnull
#define _Nullable
#endif

// Changes with every change of this file.
#define MILWRIGHT_SWIFT_ABI 1

// Codes of the domain `milwright.swift`. Errors of other domains are Core ML's.
#define MILWRIGHT_SWIFT_DOMAIN "milwright.swift"
#define MILWRIGHT_SWIFT_UNSUPPORTED 1 // the system is too old
#define MILWRIGHT_SWIFT_INVALID 2     // an argument makes no sense
#define MILWRIGHT_SWIFT_PROTOCOL 3    // Core ML answered what it must not answer
#define MILWRIGHT_SWIFT_CANCELLED 4   // the task was cancelled

// Of devices.
#define MILWRIGHT_SWIFT_CPU 1
#define MILWRIGHT_SWIFT_GPU 2
#define MILWRIGHT_SWIFT_NEURAL_ENGINE 3

// Texts are UTF-8 and end with a zero byte.
typedef struct milwright_swift_error {
    const char *_Nonnull domain;
    int64_t code;
    const char *_Nonnull message;
    const char *_Nullable reason;
    const char *_Nullable recovery;
} milwright_swift_error;

typedef struct milwright_swift_configuration {
    int32_t compute_units; // MLComputeUnits
    const char *_Nullable function;
    const char *_Nullable display_name;
    int32_t low_precision_accumulation; // 0 or 1
    int32_t reshapes;                   // MLOptimizationHints.ReshapeFrequency; -1 leaves it alone
    int32_t specialization;             // MLOptimizationHints.SpecializationStrategy; -1 leaves it alone
} milwright_swift_configuration;

typedef struct milwright_swift_tensor {
    const char *_Nonnull name;
    int32_t element; // MLMultiArrayDataType
    int32_t rank;
    const int64_t *_Nullable shape;   // `rank` numbers, as are the strides
    const int64_t *_Nullable strides; // in elements
    void *_Nullable data;
    int64_t bytes; // from `data` on
    uint64_t owner; // of inputs: for `release`; otherwise 0
} milwright_swift_tensor;

typedef struct milwright_swift_device {
    int32_t kind; // 0 is one that is not known here
    int64_t cores; // of the Neural Engine
} milwright_swift_device;

typedef void (*milwright_swift_loaded)(uint64_t context, void *_Nullable model,
                                       const milwright_swift_error *_Nullable error);
typedef void (*milwright_swift_predicted)(uint64_t context, const milwright_swift_tensor *_Nullable outputs,
                                          int64_t count, const milwright_swift_error *_Nullable error);
typedef void (*milwright_swift_accessed)(uint64_t context, const milwright_swift_tensor *_Nullable array,
                                         const milwright_swift_error *_Nullable error);
typedef void (*milwright_swift_owner_release)(uint64_t owner);

// MILWRIGHT_SWIFT_ABI of the Swift side. Everything else is called only if it is the caller's.
int32_t milwright_swift_abi(void);

// Writes up to `capacity` devices, and returns how many there are; -1 before macOS 14.
int64_t milwright_swift_devices(milwright_swift_device *_Nullable devices, int64_t capacity);

// Loads a compiled model. The callback gets a model. macOS 12.
void milwright_swift_load(const char *_Nonnull path, const milwright_swift_configuration *_Nonnull configuration,
                          uint64_t context, milwright_swift_loaded _Nonnull done);

// A new state of a model, all zero. Like `milwright_swift_load`, but the callback is called before it returns.
// macOS 15.
void milwright_swift_new_state(void *_Nonnull model, uint64_t context, milwright_swift_loaded _Nonnull done);

// Calls with the array of a state, which may be read and written until the callback returns. The callback is called
// before this returns. macOS 15.
void milwright_swift_access_state(void *_Nonnull state, const char *_Nonnull name, uint64_t context,
                                  milwright_swift_accessed _Nonnull access);

// Runs the model once; `state` is one of the same model, or null. Returns a task. macOS 14, with a state macOS 15.
//
// `data` of inputs stays valid and unchanged until `release` has been called with its owner, which happens exactly
// once for each input, also after an error: when Core ML has let go of the array. With `tensors`, which is 0 or 1, they
// go through MLTensor instead, which copies them; macOS 15.
void *_Nonnull milwright_swift_predict(void *_Nonnull model, void *_Nullable state,
                                       const milwright_swift_tensor *_Nullable inputs, int64_t count, int32_t tensors,
                                       uint64_t context, milwright_swift_predicted _Nonnull done,
                                       milwright_swift_owner_release _Nonnull release);

// Asks a prediction to stop. Its callback is called anyway.
void milwright_swift_cancel(void *_Nonnull task);

// Gives up a reference to a model, a state or a task. Predictions under way keep what they need.
void milwright_swift_release(void *_Nonnull object);

#endif
