/* The few calls of ONNX Runtime's C API that a floor needs, so that no header of it has to be installed.

   The API is one table of functions, which only grows at its end: a function keeps its place in it forever (onnxruntime_c_api.h says
   so, and its library checks it when it is built). So a name and a place are enough. */
#include <stddef.h>
#include <stdint.h>

enum { API_VERSION = 16, ARENA_ALLOCATOR = 1, MEM_TYPE_DEFAULT = 0, TENSOR_OF_FLOAT = 1, LOG_ERROR = 3 };

typedef struct OrtStatus OrtStatus;
typedef struct OrtEnv OrtEnv;
typedef struct OrtSession OrtSession;
typedef struct OrtSessionOptions OrtSessionOptions;
typedef struct OrtMemoryInfo OrtMemoryInfo;
typedef struct OrtValue OrtValue;

typedef struct {
    void *to_2[2];
    const char *(*GetErrorMessage)(const OrtStatus *);
    OrtStatus *(*CreateEnv)(int level, const char *name, OrtEnv **);
    void *to_7[3];
    OrtStatus *(*CreateSession)(const OrtEnv *, const char *path, const OrtSessionOptions *, OrtSession **);
    void *to_9[1];
    OrtStatus *(*Run)(OrtSession *, const void *options, const char *const *inputs, const OrtValue *const *, size_t,
                      const char *const *outputs, size_t, OrtValue **);
    OrtStatus *(*CreateSessionOptions)(OrtSessionOptions **);
    void *to_24[13];
    OrtStatus *(*SetIntraOpNumThreads)(OrtSessionOptions *, int);
    void *to_49[24];
    OrtStatus *(*CreateTensorWithDataAsOrtValue)(const OrtMemoryInfo *, void *data, size_t bytes, const int64_t *shape,
                                                 size_t rank, int type, OrtValue **);
    void *to_69[19];
    OrtStatus *(*CreateCpuMemoryInfo)(int allocator, int type, OrtMemoryInfo **);
} OrtApi;

typedef struct {
    const OrtApi *(*GetApi)(uint32_t version);
    const char *(*GetVersionString)(void);
} OrtApiBase;

const OrtApiBase *OrtGetApiBase(void);
