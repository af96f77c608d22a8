/* A model bound once to two arrays, by ONNX Runtime's C API on one thread: what both floors run. */
#include "ort.h"

#include <stdio.h>
#include <stdlib.h>

static const OrtApi *ort;
static OrtSession *session;
static OrtValue *x, *y;
static float *input, *output;
static const char *const INPUTS[] = {"x"}, *const OUTPUTS[] = {"y"};

static void check(OrtStatus *status) {
    if (!status) return;
    fprintf(stderr, "%s\n", ort->GetErrorMessage(status));
    exit(1);
}

static OrtValue *bind(float *data, const int64_t *shape, size_t rank) {
    OrtMemoryInfo *memory;
    OrtValue *value;
    size_t count = 1;
    for (size_t i = 0; i < rank; i++) count *= shape[i];
    check(ort->CreateCpuMemoryInfo(ARENA_ALLOCATOR, MEM_TYPE_DEFAULT, &memory));
    check(ort->CreateTensorWithDataAsOrtValue(memory, data, count * sizeof *data, shape, rank,
                                              TENSOR_OF_FLOAT, &value));
    return value;
}

static void open_session(const char *model, const int64_t *shape, size_t rank, int outputs) {
    OrtEnv *env;
    OrtSessionOptions *options;
    size_t count = 1;
    for (size_t i = 0; i < rank; i++) count *= shape[i];
    int64_t answer_shape[] = {1, outputs};
    input = calloc(count, sizeof *input);
    output = calloc(outputs, sizeof *output);
    ort = OrtGetApiBase()->GetApi(API_VERSION);
    if (!ort) {
        fprintf(stderr, "ONNX Runtime %s is too old: the floor needs 1.16\n", OrtGetApiBase()->GetVersionString());
        exit(1);
    }
    check(ort->CreateEnv(LOG_ERROR, "floor", &env));
    check(ort->CreateSessionOptions(&options));
    check(ort->SetIntraOpNumThreads(options, 1));
    check(ort->CreateSession(env, model, options, &session));
    x = bind(input, shape, rank);
    y = bind(output, answer_shape, 2);
}

/* Runs the model on `input` and writes the answer as JSON; its length. */
static int answer(char *text, size_t size, int outputs) {
    check(ort->Run(session, NULL, INPUTS, (const OrtValue *const *)&x, 1, OUTPUTS, 1, &y));
    int n = snprintf(text, size, "{\"y\":[");
    for (int i = 0; i < outputs; i++) n += snprintf(text + n, size - n, i ? ",%.7g" : "%.7g", output[i]);
    return n + snprintf(text + n, size - n, "]}");
}
