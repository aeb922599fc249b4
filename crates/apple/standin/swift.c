// milwright_swift.h in C, instead of MilwrightSwift.swift: for the tests of the Rust side, where there is no Swift.
//
// A model is a text file, or a folder with a file `standin.txt`, as in CoreML.swift, with more faults, which Swift cannot be made to have:
//
//   scale K, state N, configuration TEXT
//   hints R S         the hints of the configuration as they have to arrive
//   takes E R B T     element type, rank, bytes of the first input and the route, as they have to arrive
//   fault F
//     error, load, late, hang, text, missing   as there
//     inline     calls back before the prediction returns
//     nothing    calls back with neither result nor error
//     unloaded   the same, when loading
//     both       calls back with a result and an error
//     twice      calls back twice, when loading, too; then once more, with a number that was never given
//     silent     makes a state without a callback
//     mute       accesses a state without a callback
//     null       returns no task
//     negative, short, shapeless, rank, type, huge, overlap, nameless, count, under, less, dataless, gaps   outputs that
//                make no sense
//     spread     an output with gaps between its elements
//     echo       the output is the input, of whatever type

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../swift/milwright_swift.h"

enum { FLOAT32 = 0x10020 };

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int64_t alive, running, late;
static int32_t abi = MILWRIGHT_SWIFT_ABI;
static int64_t devices_there = 3;
static bool released;

static void count(int64_t *what, int64_t by) {
    pthread_mutex_lock(&mutex);
    *what += by;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&mutex);
}

// What the tests call. Inputs that have not been given back are objects, too.

int64_t swift_standin_objects(void) {
    pthread_mutex_lock(&mutex);
    // A prediction that has called back is still tidying up.
    while (running > 0) pthread_cond_wait(&changed, &mutex);
    int64_t objects = alive;
    pthread_mutex_unlock(&mutex);
    return objects;
}

// Another version of the Swift side, or another number of devices: -1 on older systems.
void swift_standin_system(int32_t version, int64_t devices) {
    abi = version;
    devices_there = devices;
}

// Waits until a late prediction waits.
void swift_standin_await_late(void) {
    pthread_mutex_lock(&mutex);
    while (late == 0) pthread_cond_wait(&changed, &mutex);
    late--;
    pthread_mutex_unlock(&mutex);
}

void swift_standin_release_late(void) {
    pthread_mutex_lock(&mutex);
    released = true;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&mutex);
}

// Objects, counted and with a count of references.

typedef struct object {
    enum { MODEL = 0x4d4f444c, STATE = 0x53544154, TASK = 0x5441534b } kind;
    int64_t references;
    float scale;      // of models
    int64_t size;     // of a model's states, or -1
    char fault[16];   // of models
    char takes[64];   // of models
    struct object *of; // of states: the model
    float *values;    // of states
    bool cancelled;   // of tasks
} object;

static object *make(int kind) {
    object *made = calloc(1, sizeof *made);
    made->kind = kind;
    made->references = 1;
    count(&alive, 1);
    return made;
}

static object *retain(object *object) {
    if (object) count(&object->references, 1);
    return object;
}

void milwright_swift_release(void *pointer) {
    object *object = pointer;
    pthread_mutex_lock(&mutex);
    bool last = --object->references == 0;
    pthread_mutex_unlock(&mutex);
    if (!last) return;
    if (object->of) milwright_swift_release(object->of);
    free(object->values);
#ifdef SEED_LEAK // For scripts/apple/swift.sh: valgrind has to see it.
    if (object->kind == TASK) object = NULL;
#endif
    free(object);
    count(&alive, -1);
}

static object *as(void *pointer, int kind) {
    object *object = pointer;
    if ((int)object->kind != kind) {
        fprintf(stderr, "swift.c: an object of another kind\n");
        abort();
    }
    return object;
}

static bool has_fault(const object *model, const char *fault) { return strcmp(model->fault, fault) == 0; }

// Errors.

static const milwright_swift_error FAULT = {"com.apple.CoreML", 3, "a fault of the test", "because the test says so",
                                            "change the test"};

static milwright_swift_error own(int64_t code, const char *message) {
    return (milwright_swift_error){MILWRIGHT_SWIFT_DOMAIN, code, message, NULL, NULL};
}

static milwright_swift_error core_ml(const char *message) {
    milwright_swift_error error = FAULT;
    error.message = message;
    return error;
}

// The functions of the header.

int32_t milwright_swift_abi(void) { return abi; }

int64_t milwright_swift_devices(milwright_swift_device *devices, int64_t capacity) {
    const milwright_swift_device all[] = {
        {MILWRIGHT_SWIFT_CPU, 0}, {MILWRIGHT_SWIFT_GPU, 0}, {MILWRIGHT_SWIFT_NEURAL_ENGINE, 16}, {0, 0}};
    for (int64_t i = 0; i < devices_there && i < capacity; i++) devices[i] = all[i < 3 ? i : 3];
    return devices_there;
}

typedef struct {
    char *path;
    char configuration[256];
    char hints[64];
    uint64_t context;
    milwright_swift_loaded done;
} loading;

static void *load(void *pointer) {
    loading *loading = pointer;
    char message[512];
    char inside[4096];
    snprintf(inside, sizeof inside, "%s/standin.txt", loading->path);
    FILE *file = fopen(inside, "r");
    if (!file) file = fopen(loading->path, "r");
    if (!file) {
        snprintf(message, sizeof message, "not a model: %s", loading->path);
        milwright_swift_error error = core_ml(message);
        loading->done(loading->context, NULL, &error);
    } else {
        object *model = make(MODEL);
        model->scale = 1;
        model->size = -1;
        char line[256], wanted[256] = "", hints[64] = "";
        while (fgets(line, sizeof line, file)) {
            sscanf(line, "scale %f", &model->scale);
            sscanf(line, "state %ld", &model->size);
            sscanf(line, "fault %15s", model->fault);
            sscanf(line, "configuration %255[^\n]", wanted);
            sscanf(line, "hints %63[^\n]", hints);
            sscanf(line, "takes %63[^\n]", model->takes);
        }
        fclose(file);
        bool misfit = (*wanted && strcmp(wanted, loading->configuration) != 0) ||
                      (*hints && strcmp(hints, loading->hints) != 0);
        if (misfit || has_fault(model, "load")) {
            milwright_swift_error error = misfit ? core_ml(loading->configuration) : FAULT;
            loading->done(loading->context, NULL, &error);
        } else if (has_fault(model, "unloaded")) {
            loading->done(loading->context, NULL, NULL);
        } else {
            bool twice = has_fault(model, "twice");
            if (twice) retain(model);
            loading->done(loading->context, retain(model), NULL);
            if (twice) {
                loading->done(loading->context, model, NULL);
                loading->done(loading->context, NULL, &FAULT);
            }
        }
        milwright_swift_release(model);
    }
    free(loading->path);
    free(loading);
    count(&running, -1);
    return NULL;
}

static void start(void *(*body)(void *), void *argument) {
    count(&running, 1);
    pthread_t thread;
    if (pthread_create(&thread, NULL, body, argument) != 0) abort();
    pthread_detach(thread);
}

void milwright_swift_load(const char *path, const milwright_swift_configuration *configuration, uint64_t context,
                          milwright_swift_loaded done) {
    loading *made = calloc(1, sizeof *made);
    made->path = strdup(path);
    made->context = context;
    made->done = done;
    snprintf(made->configuration, sizeof made->configuration, "%d %s %s %d %d %d", configuration->compute_units,
             configuration->function ? configuration->function : "-",
             configuration->display_name ? configuration->display_name : "-", configuration->low_precision_accumulation,
             configuration->reshapes > 0, configuration->specialization > 0);
    snprintf(made->hints, sizeof made->hints, "%d %d", configuration->reshapes, configuration->specialization);
    start(load, made);
}

void milwright_swift_new_state(void *pointer, uint64_t context, milwright_swift_loaded done) {
    object *model = as(pointer, MODEL);
    if (has_fault(model, "silent")) return;
    if (has_fault(model, "error")) {
        milwright_swift_error error = own(MILWRIGHT_SWIFT_UNSUPPORTED, "a state needs macOS 15 or newer");
        done(context, NULL, &error);
        return;
    }
    object *state = make(STATE);
    state->of = retain(model);
    state->size = model->size;
    // Every second one is a gap.
    state->values = calloc(model->size > 0 ? 2 * (size_t)model->size : 1, sizeof(float));
    done(context, state, NULL);
}

void milwright_swift_access_state(void *pointer, const char *name, uint64_t context, milwright_swift_accessed access) {
    object *state = as(pointer, STATE);
    if (has_fault(state->of, "mute")) return;
    if (state->size < 0 || strcmp(name, "s") != 0) {
        milwright_swift_error error = own(MILWRIGHT_SWIFT_INVALID, "there is no such state");
        access(context, NULL, &error);
        return;
    }
    int64_t two = 2;
    milwright_swift_tensor tensor = {name, FLOAT32, 1, &state->size, &two, state->values, (2 * state->size - 1) * 4, 0};
    access(context, &tensor, NULL);
}

typedef struct {
    object *model, *state, *task;
    milwright_swift_tensor *inputs;
    int64_t count;
    uint64_t context;
    milwright_swift_predicted done;
    milwright_swift_owner_release release;
    int32_t tensors;
} prediction;

static void answer(prediction *p) {
    object *model = p->model;
    if (*model->takes) {
        char given[64];
        snprintf(given, sizeof given, "%d %d %ld %d", p->inputs[0].element, p->inputs[0].rank, p->inputs[0].bytes, p->tensors);
        milwright_swift_error error = core_ml(given);
        if (strcmp(given, model->takes) != 0) return p->done(p->context, NULL, 0, &error);
    }
    for (int64_t i = 0; i < p->count; i++) {
        uintptr_t size = (uintptr_t)(p->inputs[i].element & 0xff) / 8;
        milwright_swift_error error = core_ml("an input is not aligned");
        if ((uintptr_t)p->inputs[i].data % size != 0) return p->done(p->context, NULL, 0, &error);
    }
    if (has_fault(model, "echo")) {
        milwright_swift_tensor out = p->inputs[0];
        out.name = "y";
        return p->done(p->context, &out, 1, NULL);
    }
    if (has_fault(model, "late")) {
        pthread_mutex_lock(&mutex);
        late++;
        pthread_cond_broadcast(&changed);
        while (!released) pthread_cond_wait(&changed, &mutex);
        released = false;
        pthread_mutex_unlock(&mutex);
    }
    if (has_fault(model, "hang")) {
        pthread_mutex_lock(&mutex);
        late++;
        pthread_cond_broadcast(&changed);
        while (!p->task->cancelled) pthread_cond_wait(&changed, &mutex);
        pthread_mutex_unlock(&mutex);
        milwright_swift_error error = own(MILWRIGHT_SWIFT_CANCELLED, "the prediction was cancelled");
        p->done(p->context, NULL, 0, &error);
        return;
    }
    if (has_fault(model, "error")) return p->done(p->context, NULL, 0, &FAULT);
    if (has_fault(model, "nothing")) return p->done(p->context, NULL, 0, NULL);
    milwright_swift_error error = {0};
    if (has_fault(model, "text")) error = own(MILWRIGHT_SWIFT_UNSUPPORTED, "the output `y` is no array");
    else if (has_fault(model, "missing")) error = own(MILWRIGHT_SWIFT_PROTOCOL, "Core ML gave no value of `y`");
    else if (p->state && p->state->of != model) error = own(MILWRIGHT_SWIFT_INVALID, "the state is of another model");
    else if (p->count == 0 || strcmp(p->inputs[0].name, "x") != 0) error = core_ml("there is no input x");
    else if (p->inputs[0].element != FLOAT32) error = core_ml("x is fp32");
    else if (p->count > 1) error = core_ml("there is an unknown input");
    if (error.domain) return p->done(p->context, NULL, 0, &error);

    milwright_swift_tensor x = p->inputs[0];
    int64_t elements = 1, strides[64];
    for (int32_t i = x.rank - 1; i >= 0; i--) {
        strides[i] = elements;
        elements *= x.shape[i];
    }
    float *y = calloc(elements > 0 ? 2 * (size_t)elements : 1, sizeof *y);
    bool spread = has_fault(model, "spread");
    for (int64_t n = 0; n < elements; n++) {
        int64_t rest = n, at = 0;
        for (int32_t i = x.rank - 1; i >= 0; i--) {
            at += rest % x.shape[i] * x.strides[i];
            rest /= x.shape[i];
        }
        float value;
        memcpy(&value, (const char *)x.data + at * 4, sizeof value);
        y[spread ? 2 * n : n] = p->state && n < p->state->size ? (p->state->values[2 * n] += value) : model->scale * value;
    }
    milwright_swift_tensor out = {"y", FLOAT32, x.rank, x.shape, strides, elements > 0 ? y : NULL, elements * 4, 0};
    if (spread || has_fault(model, "gaps"))
        for (int32_t i = 0; i < x.rank; i++) strides[i] *= 2;
    if (spread) out.bytes = (2 * elements - 1) * 4;
    // Without their signs the sizes fit, and a part of what overlaps does.
    const int64_t negative[] = {1, -2}, huge[] = {INT64_MAX, 4}, more[] = {4, 4}, zero[] = {0, 0};
    int64_t outputs = 1;
    if (has_fault(model, "negative")) out.shape = negative;
    if (has_fault(model, "huge")) out.shape = huge;
    if (has_fault(model, "overlap")) out.shape = more, out.strides = zero;
    if (has_fault(model, "short")) out.bytes--;
    if (has_fault(model, "less")) out.bytes = -1;
    if (has_fault(model, "dataless")) out.data = NULL;
    if (has_fault(model, "under")) out.rank = -1;
    if (has_fault(model, "shapeless")) out.shape = NULL;
    if (has_fault(model, "rank")) out.rank = 1000000;
    if (has_fault(model, "type")) out.element = 7;
    if (has_fault(model, "nameless")) out.name = NULL;
    if (has_fault(model, "count")) outputs = -1;
    p->done(p->context, &out, outputs, has_fault(model, "both") ? &FAULT : NULL);
    if (has_fault(model, "twice")) {
        p->done(p->context, &out, 1, NULL);
        p->done(p->context, NULL, 0, &FAULT);
        p->done(UINT64_MAX, &out, 1, NULL);
    }
    free(y);
}

static void finish(prediction *p) {
    for (int64_t i = 0; i < p->count; i++) {
        p->release(p->inputs[i].owner);
        if (has_fault(p->model, "twice")) p->release(p->inputs[i].owner);
        free((void *)p->inputs[i].name);
        free((void *)p->inputs[i].shape);
        free((void *)p->inputs[i].strides);
        count(&alive, -1);
    }
    free(p->inputs);
    milwright_swift_release(p->model);
    if (p->state) milwright_swift_release(p->state);
    milwright_swift_release(p->task);
    free(p);
}

static void *predict(void *pointer) {
    answer(pointer);
    finish(pointer);
    count(&running, -1);
    return NULL;
}

static void *copy(const void *from, size_t size) {
    void *to = malloc(size > 0 ? size : 1);
    if (size > 0) memcpy(to, from, size);
    return to;
}

void *milwright_swift_predict(void *model, void *state, const milwright_swift_tensor *inputs, int64_t given,
                              int32_t tensors, uint64_t context, milwright_swift_predicted done,
                              milwright_swift_owner_release release) {
    prediction *p = calloc(1, sizeof *p);
    *p = (prediction){retain(as(model, MODEL)), state ? retain(as(state, STATE)) : NULL, make(TASK), NULL, given,
                      context, done, release, tensors};
    // Names and shapes are valid during this call only.
    p->inputs = copy(inputs, (size_t)given * sizeof *inputs);
    for (int64_t i = 0; i < given; i++) {
        size_t size = (size_t)inputs[i].rank * sizeof(int64_t);
        p->inputs[i].name = strdup(inputs[i].name);
        p->inputs[i].shape = copy(inputs[i].shape, size);
        p->inputs[i].strides = copy(inputs[i].strides, size);
        count(&alive, 1);
    }
    object *task = has_fault(p->model, "null") ? NULL : retain(p->task);
    if (has_fault(p->model, "inline")) {
        answer(p);
        finish(p);
    } else {
        start(predict, p);
    }
    return task;
}

void milwright_swift_cancel(void *pointer) {
    object *task = as(pointer, TASK);
    pthread_mutex_lock(&mutex);
    task->cancelled = true;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&mutex);
}
