/* The floor of the serial jobs: whole reads, strtof, a ring, ONNX Runtime's C API every HOP lines, JSON by libmosquitto.
   serial MODEL TTY TOPIC_OUT PORT FIELDS SIZE HOP OUTPUTS */
#define _DEFAULT_SOURCE
#include "session.h"
#include <fcntl.h>
#include <mosquitto.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

static volatile sig_atomic_t stop;

static void on_term(int number) {
    (void)number;
    stop = 1;
}

int main(int count, char **arguments) {
    if (count != 9) return 2;
    int fields = atoi(arguments[5]), size = atoi(arguments[6]), hop = atoi(arguments[7]), outputs = atoi(arguments[8]);
    size_t row_bytes = fields * sizeof(float);
    float *ring = calloc(2 * size, row_bytes); /* each row twice, so that every window lies in one piece */
    open_session(arguments[1], (int64_t[]){1, size, fields}, 3, outputs);
    signal(SIGTERM, on_term);
    mosquitto_lib_init();
    struct mosquitto *client = mosquitto_new(NULL, true, NULL);
    if (mosquitto_connect(client, "127.0.0.1", atoi(arguments[4]), 60)) return 1;
    int tty = open(arguments[2], O_RDWR | O_NOCTTY | O_NONBLOCK);
    struct termios mode;
    if (tty < 0 || tcgetattr(tty, &mode)) return 1;
    cfmakeraw(&mode);
    tcsetattr(tty, TCSANOW, &mode);
    static char buffer[65536];
    size_t have = 0;
    long lines = 0;
    struct pollfd ready[] = {{tty, POLLIN, 0}, {mosquitto_socket(client), POLLIN, 0}};
    while (!stop) {
        poll(ready, 2, 200);
        ssize_t got = read(tty, buffer + have, sizeof buffer - 1 - have);
        if (got > 0) {
            have += got;
            buffer[have] = 0;
            char *at = buffer, *end;
            while ((end = memchr(at, '\n', buffer + have - at))) {
                float *row = ring + lines % size * fields;
                for (int i = 0; i < fields; i++) {
                    char *next;
                    row[i] = strtof(at, &next);
                    at = next + 1;
                }
                at = end + 1;
                memcpy(row + size * fields, row, row_bytes);
                lines++;
                if (lines < size || (lines - size) % hop) continue;
                memcpy(input, ring + lines % size * fields, size * row_bytes);
                char text[512];
                mosquitto_publish(client, NULL, arguments[3], answer(text, sizeof text, outputs), text, 0, 0);
            }
            have -= at - buffer;
            memmove(buffer, at, have);
        }
        mosquitto_loop(client, 0, 1);
    }
    return 0;
}
