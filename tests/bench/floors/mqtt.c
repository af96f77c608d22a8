/* The floor of the MQTT jobs: libmosquitto in, ONNX Runtime's C API on arrays bound once, JSON out, one thread.
   mqtt MODEL TOPIC_IN TOPIC_OUT PORT INPUTS OUTPUTS raw|json QOS */
#include "session.h"
#include <mosquitto.h>
#include <signal.h>
#include <string.h>

static int inputs, outputs, is_json, qos;
static const char *topic_out;
static volatile sig_atomic_t stop;

static void on_term(int number) {
    (void)number;
    stop = 1;
}

static void on_connect(struct mosquitto *client, void *topic_in, int code) {
    (void)code;
    mosquitto_subscribe(client, NULL, topic_in, qos);
}

static void on_message(struct mosquitto *client, void *topic_in, const struct mosquitto_message *message) {
    (void)topic_in;
    if (is_json) {
        const char *at = strchr(message->payload, '[');
        if (!at) return;
        for (int i = 0; i < inputs; i++) {
            char *end;
            input[i] = strtof(at + 1, &end);
            at = end;
        }
    } else {
        if (message->payloadlen != inputs * (int)sizeof *input) return;
        memcpy(input, message->payload, message->payloadlen);
    }
    char text[512];
    mosquitto_publish(client, NULL, topic_out, answer(text, sizeof text, outputs), text, qos, 0);
}

int main(int count, char **arguments) {
    if (count != 9) return 2;
    topic_out = arguments[3];
    inputs = atoi(arguments[5]);
    outputs = atoi(arguments[6]);
    is_json = !strcmp(arguments[7], "json");
    qos = atoi(arguments[8]);
    open_session(arguments[1], (int64_t[]){1, inputs}, 2, outputs);
    signal(SIGTERM, on_term);
    mosquitto_lib_init();
    struct mosquitto *client = mosquitto_new(NULL, true, arguments[2]);
    mosquitto_connect_callback_set(client, on_connect);
    mosquitto_message_callback_set(client, on_message);
    mosquitto_int_option(client, MOSQ_OPT_TCP_NODELAY, 1);
    mosquitto_max_inflight_messages_set(client, 0);
    if (mosquitto_connect(client, "127.0.0.1", atoi(arguments[4]), 60)) return 1;
    while (!stop && !mosquitto_loop(client, 200, 1)) {
    }
    return 0;
}
